//! Functions with functions as arguments, beyond those that DataFusion has as Spark means them.
//!
//! All but `aggregate` and `array_sort` evaluate the lambda once, over the elements of all rows side by side.

mod list;
mod map;

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, Int32Array, ListArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take_arrays;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::session::conf_ref;
use crate::types::{array, canonical};

/// Adds the functions to a registry.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in FUNCTIONS {
        let aliases = function.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
        let udf = HigherOrderUDF::new_from_impl(Function { function: *function, aliases });
        registry.register_higher_order_function(Arc::new(udf))?;
    }
    Ok(())
}

/// The types of the lambdas' parameters, from the types of the values.
type Parameters = fn(&[DataType]) -> Result<Vec<Vec<DataType>>>;
/// The type of the result, from the types of the values and of what the lambdas give.
type Returns = fn(&[DataType], &[DataType]) -> Result<DataType>;
type Eval = fn(&Call<'_>) -> Result<ArrayRef>;

#[derive(Clone, Copy)]
struct Definition {
    names: &'static [&'static str],
    parameters: Parameters,
    returns: Returns,
    eval: Eval,
}

const FUNCTIONS: &[Definition] = &[
    Definition {
        names: &["transform"],
        parameters: |values| Ok(vec![vec![element(values, 0)?, DataType::Int32]]),
        returns: |_, results| Ok(array(one(results)?)),
        eval: list::transform,
    },
    Definition {
        names: &["filter"],
        parameters: |values| Ok(vec![vec![element(values, 0)?, DataType::Int32]]),
        returns: |values, _| Ok(array(element(values, 0)?)),
        eval: list::filtered,
    },
    Definition {
        names: &["forall"],
        parameters: |values| Ok(vec![vec![element(values, 0)?]]),
        returns: |_, _| Ok(DataType::Boolean),
        eval: list::forall,
    },
    Definition {
        names: &["zip_with"],
        parameters: |values| Ok(vec![vec![element(values, 0)?, element(values, 1)?]]),
        returns: |_, results| Ok(array(one(results)?)),
        eval: list::zip_with,
    },
    Definition {
        names: &["map_filter"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, _| entry(values, 0).map(|(key, value)| crate::types::map(key, value)),
        eval: map::map_filter,
    },
    Definition {
        names: &["transform_keys"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, results| Ok(crate::types::map(one(results)?, entry(values, 0)?.1)),
        eval: |call| map::map_of_lambda(call, |(_, values), result| (result, values)),
    },
    Definition {
        names: &["transform_values"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, results| Ok(crate::types::map(entry(values, 0)?.0, one(results)?)),
        eval: |call| map::map_of_lambda(call, |(keys, _), result| (keys, result)),
    },
    Definition {
        names: &["map_zip_with"],
        parameters: |values| {
            let ((key, left), (_, right)) = (entry(values, 0)?, entry(values, 1)?);
            Ok(vec![vec![key, left, right]])
        },
        returns: |values, results| Ok(crate::types::map(entry(values, 0)?.0, one(results)?)),
        eval: map::map_zip_with,
    },
    Definition {
        names: &["aggregate", "reduce"],
        parameters: |values| {
            let start = values.get(1).cloned().ok_or_else(|| arity("aggregate"))?;
            Ok(vec![vec![start.clone(), element(values, 0)?], vec![start]])
        },
        returns: |values, results| {
            let start = values.get(1).cloned().ok_or_else(|| arity("aggregate"))?;
            match results {
                [merged, ..] if canonical(merged) != start && *merged != DataType::Null => Err(Error::user(format!(
                    "the function of `aggregate` gives `{}`, but starts from `{}`",
                    crate::types::type_name(merged),
                    crate::types::type_name(&start)
                ))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
                .with_help("Cast the start value to the type of the result.")),
                [_, finished] => Ok(canonical(finished)),
                _ => Ok(start),
            }
        },
        eval: list::aggregate,
    },
    Definition {
        names: &["array_sort", "array_sort_by"],
        parameters: |values| element(values, 0).map(|element| vec![vec![element.clone(), element]]),
        returns: |values, _| Ok(array(element(values, 0)?)),
        eval: list::array_sort,
    },
];

fn arity(name: &str) -> Error {
    Error::user(format!("`{name}` got too few arguments")).with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")
}

fn one(results: &[DataType]) -> Result<DataType> {
    results.first().map(canonical).ok_or_else(|| Error::user("a function argument is missing"))
}

fn wrong_type(expected: &str, found: Option<&DataType>) -> Error {
    let found = found.map_or_else(|| "nothing".to_owned(), |found| format!("`{}`", crate::types::type_name(found)));
    Error::user(format!("expected {expected}, got {found}")).with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

fn element(values: &[DataType], i: usize) -> Result<DataType> {
    match values.get(i) {
        Some(DataType::List(item)) => Ok(item.data_type().clone()),
        Some(DataType::Null) => Ok(DataType::Null),
        other => Err(wrong_type("an array", other)),
    }
}

fn entry(values: &[DataType], i: usize) -> Result<(DataType, DataType)> {
    match values.get(i) {
        Some(DataType::Map(entries, _)) => match entries.data_type() {
            DataType::Struct(fields) => Ok((fields[0].data_type().clone(), fields[1].data_type().clone())),
            other => Err(wrong_type("a map", Some(other))),
        },
        other => Err(wrong_type("a map", other)),
    }
}

/// One call: values as arrays, lambdas to be evaluated.
struct Call<'a> {
    values: Vec<ArrayRef>,
    lambdas: Vec<&'a LambdaArgument>,
    result: &'a DataType,
    /// Whether equal keys of a map are no error.
    last_key_wins: bool,
}

impl Call<'_> {
    fn value(&self, i: usize) -> Result<&ArrayRef> {
        self.values.get(i).ok_or_else(|| arity("a function"))
    }

    /// A lambda over `arguments`; row `i` of them belongs to the row `rows[i]` of the call.
    fn evaluate(&self, lambda: usize, arguments: &[ArrayRef], rows: &UInt32Array) -> Result<ArrayRef> {
        let lambda = self.lambdas.get(lambda).ok_or_else(|| arity("a function"))?;
        let closures: Vec<_> = arguments.iter().map(|argument| move || Ok(Arc::clone(argument))).collect();
        let references: Vec<&dyn Fn() -> DataFusionResult<ArrayRef>> =
            closures.iter().map(|closure| closure as &dyn Fn() -> DataFusionResult<ArrayRef>).collect();
        let result = lambda.evaluate(&references, |captured| Ok(take_arrays(captured, rows, None)?))?;
        Ok(result.into_array(rows.len())?)
    }
}

/// The rows that the elements of a list or map belong to, and their positions in its values.
struct Elements {
    rows: UInt32Array,
    positions: Int32Array,
    at: UInt32Array,
    lengths: Vec<usize>,
}

impl Elements {
    fn of(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>) -> Self {
        let (mut rows, mut positions, mut at, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (row, window) in offsets.windows(2).enumerate() {
            let range = if nulls.is_some_and(|nulls| nulls.is_null(row)) { 0..0 } else { window[0]..window[1] };
            lengths.push(range.len());
            for (position, index) in range.enumerate() {
                rows.push(row as u32);
                positions.push(position as i32);
                at.push(index as u32);
            }
        }
        Self { rows: rows.into(), positions: positions.into(), at: at.into(), lengths }
    }

    fn offsets(&self) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(self.lengths.iter().copied())
    }
}

fn list_of(values: ArrayRef, offsets: OffsetBuffer<i32>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
}

static SIGNATURE: LazyLock<HigherOrderSignature> =
    LazyLock::new(|| HigherOrderSignature::variadic_any(Volatility::Immutable));

struct Function {
    function: Definition,
    aliases: Vec<String>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HigherOrder({})", self.function.names[0])
    }
}

/// A name has one function: there is nothing else to compare.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.function.names == other.function.names
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.names.hash(state);
    }
}

impl HigherOrderUDFImpl for Function {
    fn name(&self) -> &str {
        self.function.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &HigherOrderSignature {
        &SIGNATURE
    }

    fn coerce_value_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        Ok(types.iter().map(canonical).collect())
    }

    fn lambda_parameters(
        &self,
        _: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> DataFusionResult<LambdaParametersProgress> {
        let values = fields.iter().filter_map(|field| match field {
            ValueOrLambda::Value(field) => Some(canonical(field.data_type())),
            ValueOrLambda::Lambda(_) => None,
        });
        let parameters = (self.function.parameters)(&values.collect::<Vec<_>>())?;
        let field = |data_type: DataType| Arc::new(Field::new("", data_type, true));
        let lambdas = fields.iter().filter(|field| matches!(field, ValueOrLambda::Lambda(_))).count();
        Ok(LambdaParametersProgress::Complete(
            parameters.into_iter().take(lambdas).map(|types| types.into_iter().map(field).collect()).collect(),
        ))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let (mut values, mut results) = (Vec::new(), Vec::new());
        for field in args.arg_fields {
            match field {
                ValueOrLambda::Value(field) => values.push(canonical(field.data_type())),
                ValueOrLambda::Lambda(field) => results.push(field.data_type().clone()),
            }
        }
        Ok(Arc::new(Field::new("", (self.function.returns)(&values, &results)?, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let (mut values, mut lambdas) = (Vec::new(), Vec::new());
        for arg in &args.args {
            match arg {
                ValueOrLambda::Value(value) => values.push(value.to_array(args.number_rows)?),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        let result = args.return_type();
        if values.iter().any(|value| *value.data_type() == DataType::Null) {
            return Ok(ColumnarValue::Array(new_null_array(result, args.number_rows)));
        }
        let last_key_wins = conf_ref(&args.config_options).is_some_and(SparkConf::last_map_key_wins);
        let evaluated =
            (self.function.eval)(&Call { values, lambdas, result, last_key_wins }).map_err(DataFusionError::from)?;
        if evaluated.data_type() == result {
            return Ok(ColumnarValue::Array(evaluated));
        }
        Ok(ColumnarValue::Array(arrow::compute::cast(&evaluated, result)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_spark;

    #[tokio::test]
    async fn over_arrays() {
        check_spark(&[
            ("transform(array(1, 2), x -> x + 1)", "[2, 3]"),
            ("transform(array(10, 20), (x, i) -> x + i)", "[10, 21]"),
            ("filter(array(1, 2, 3), x -> x > 1)", "[2, 3]"),
            ("filter(array(5, 6, 7), (x, i) -> i <> 1)", "[5, 7]"),
            ("forall(array(1, 2), x -> x > 0)", "true"),
            ("forall(array(1, NULL), x -> x > 0)", "NULL"),
            ("forall(array(1, NULL, -1), x -> x > 0)", "false"),
            ("zip_with(array(1, 2), array(10), (a, b) -> coalesce(a, 0) + coalesce(b, 0))", "[11, 2]"),
            ("aggregate(array(1, 2, 3), 0, (a, x) -> a + x)", "6"),
            ("aggregate(array(1, 2, 3), 0, (a, x) -> a + x, a -> a * 10)", "60"),
            ("reduce(CAST(array() AS ARRAY<INT>), 7, (a, x) -> a + x)", "7"),
            ("aggregate(CAST(NULL AS ARRAY<INT>), 7, (a, x) -> a + x)", "NULL"),
            ("array_sort(array(1, 3, 2), (a, b) -> b - a)", "[3, 2, 1]"),
        ])
        .await;
    }

    #[tokio::test]
    async fn over_maps() {
        check_spark(&[
            ("map_filter(map('a', 1, 'b', 2), (k, v) -> v > 1)", "{b -> 2}"),
            ("map(array(1), array(2))", "{[1] -> [2]}"),
            ("CAST(map() AS MAP<STRING, INT>)", "{}"),
            ("transform_keys(map('a', 1), (k, v) -> concat(k, 'x'))", "{ax -> 1}"),
            ("transform_values(map('a', 1), (k, v) -> v + 1)", "{a -> 2}"),
            ("map_zip_with(map('a', 1), map('a', 2, 'b', 3), (k, x, y) -> coalesce(x, 0) + y)", "{a -> 3, b -> 3}"),
        ])
        .await;
    }
}
