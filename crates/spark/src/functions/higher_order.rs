//! Functions with functions as arguments, beyond those that DataFusion has as Spark means them.
//!
//! All but `aggregate` and `array_sort` evaluate the lambda once, over the elements of all rows side by side.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, UInt32Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, filter, interleave, take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use super::map::assembled;
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
        eval: transform,
    },
    Definition {
        names: &["filter"],
        parameters: |values| Ok(vec![vec![element(values, 0)?, DataType::Int32]]),
        returns: |values, _| Ok(array(element(values, 0)?)),
        eval: filtered,
    },
    Definition {
        names: &["forall"],
        parameters: |values| Ok(vec![vec![element(values, 0)?]]),
        returns: |_, _| Ok(DataType::Boolean),
        eval: forall,
    },
    Definition {
        names: &["zip_with"],
        parameters: |values| Ok(vec![vec![element(values, 0)?, element(values, 1)?]]),
        returns: |_, results| Ok(array(one(results)?)),
        eval: zip_with,
    },
    Definition {
        names: &["map_filter"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, _| entry(values, 0).map(|(key, value)| crate::types::map(key, value)),
        eval: map_filter,
    },
    Definition {
        names: &["transform_keys"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, results| Ok(crate::types::map(one(results)?, entry(values, 0)?.1)),
        eval: |call| map_of_lambda(call, |(_, values), result| (result, values)),
    },
    Definition {
        names: &["transform_values"],
        parameters: |values| entry(values, 0).map(|(key, value)| vec![vec![key, value]]),
        returns: |values, results| Ok(crate::types::map(entry(values, 0)?.0, one(results)?)),
        eval: |call| map_of_lambda(call, |(keys, _), result| (keys, result)),
    },
    Definition {
        names: &["map_zip_with"],
        parameters: |values| {
            let ((key, left), (_, right)) = (entry(values, 0)?, entry(values, 1)?);
            Ok(vec![vec![key, left, right]])
        },
        returns: |values, results| Ok(crate::types::map(entry(values, 0)?.0, one(results)?)),
        eval: map_zip_with,
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
        eval: aggregate,
    },
    Definition {
        names: &["array_sort", "array_sort_by"],
        parameters: |values| element(values, 0).map(|element| vec![vec![element.clone(), element]]),
        returns: |values, _| Ok(array(element(values, 0)?)),
        eval: array_sort,
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

/// The elements of the first argument with what the lambda gives for each.
fn over_list(call: &Call<'_>) -> Result<(ListArray, Elements, ArrayRef, ArrayRef)> {
    let list = call.value(0)?.as_list::<i32>().clone();
    let elements = Elements::of(list.offsets(), list.nulls());
    let values = take(list.values(), &elements.at, None)?;
    let positions: ArrayRef = Arc::new(elements.positions.clone());
    let results = call.evaluate(0, &[Arc::clone(&values), positions], &elements.rows)?;
    Ok((list, elements, values, results))
}

fn transform(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, _, results) = over_list(call)?;
    list_of(results, elements.offsets(), list.nulls().cloned())
}

/// The lengths of the rows once only the elements that `kept` marks are left.
fn kept_lengths(elements: &Elements, kept: &BooleanArray) -> Vec<usize> {
    let mut lengths = vec![0; elements.lengths.len()];
    for (row, keep) in elements.rows.values().iter().zip(kept) {
        lengths[*row as usize] += usize::from(keep == Some(true));
    }
    lengths
}

fn filtered(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, values, results) = over_list(call)?;
    let kept = results.as_boolean();
    let offsets = OffsetBuffer::from_lengths(kept_lengths(&elements, kept));
    list_of(filter(&values, kept)?, offsets, list.nulls().cloned())
}

/// False if the condition is false for one element, else NULL if it is NULL for one, else true.
fn forall(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, _, results) = over_list(call)?;
    let mut all: Vec<Option<bool>> = (0..list.len()).map(|row| list.is_valid(row).then_some(true)).collect();
    for (row, holds) in elements.rows.values().iter().zip(results.as_boolean()) {
        let so_far = &mut all[*row as usize];
        *so_far = match (*so_far, holds) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, _) | (_, None) => None,
            _ => Some(true),
        };
    }
    Ok(Arc::new(BooleanArray::from(all)))
}

/// The shorter array is filled up with NULL.
fn zip_with(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.value(0)?.as_list::<i32>(), call.value(1)?.as_list::<i32>());
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let (mut rows, mut lengths, mut from_left, mut from_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..left.len() {
        let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let (l, r) = (left.value_length(row) as usize, right.value_length(row) as usize);
        let length = if null { 0 } else { l.max(r) };
        lengths.push(length);
        for position in 0..length {
            let at = |list: &ListArray, own: usize| {
                (position < own).then(|| (list.value_offsets()[row] as usize + position) as u32)
            };
            rows.push(row as u32);
            from_left.push(at(left, l));
            from_right.push(at(right, r));
        }
    }
    let arguments = [
        take(left.values(), &UInt32Array::from(from_left), None)?,
        take(right.values(), &UInt32Array::from(from_right), None)?,
    ];
    let results = call.evaluate(0, &arguments, &UInt32Array::from(rows))?;
    list_of(results, OffsetBuffer::from_lengths(lengths), nulls)
}

/// The entries of the first argument with what the lambda gives for each.
fn over_map(call: &Call<'_>) -> Result<(MapArray, Elements, [ArrayRef; 2], ArrayRef)> {
    let map = call.value(0)?.as_map().clone();
    let elements = Elements::of(map.offsets(), map.nulls());
    let entries = [take(map.keys(), &elements.at, None)?, take(map.values(), &elements.at, None)?];
    let results = call.evaluate(0, &entries, &elements.rows)?;
    Ok((map, elements, entries, results))
}

fn map_filter(call: &Call<'_>) -> Result<ArrayRef> {
    let (map, elements, [keys, values], results) = over_map(call)?;
    let kept = results.as_boolean();
    let (keys, values) = (filter(&keys, kept)?, filter(&values, kept)?);
    assembled(call.result, (keys, values), kept_lengths(&elements, kept), map.nulls().cloned(), false)
}

fn map_of_lambda(
    call: &Call<'_>,
    pair: fn((ArrayRef, ArrayRef), ArrayRef) -> (ArrayRef, ArrayRef),
) -> Result<ArrayRef> {
    let (map, elements, [keys, values], results) = over_map(call)?;
    let pair = pair((keys, values), results);
    assembled(call.result, pair, elements.lengths, map.nulls().cloned(), call.last_key_wins)
}

/// The keys of both maps, those of the first one first; a value that is not there is NULL.
fn map_zip_with(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.value(0)?.as_map(), call.value(1)?.as_map());
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let converter = arrow::row::RowConverter::new(vec![arrow::row::SortField::new(left.keys().data_type().clone())])?;
    let left_keys = converter.convert_columns(std::slice::from_ref(left.keys()))?;
    let right_keys = converter.convert_columns(std::slice::from_ref(right.keys()))?;
    let (mut rows, mut lengths, mut from_left, mut from_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..left.len() {
        let before = rows.len();
        if !nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            let range = |map: &MapArray| map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            for l in range(left) {
                let same = range(right).find(|r| right_keys.row(*r) == left_keys.row(l));
                from_left.push(Some(l as u32));
                from_right.push(same.map(|r| r as u32));
                rows.push(row as u32);
            }
            for r in range(right) {
                if !range(left).any(|l| left_keys.row(l) == right_keys.row(r)) {
                    from_left.push(None);
                    from_right.push(Some(r as u32));
                    rows.push(row as u32);
                }
            }
        }
        lengths.push(rows.len() - before);
    }
    let (at_left, at_right) = (UInt32Array::from(from_left.clone()), UInt32Array::from(from_right.clone()));
    let pick: Vec<(usize, usize)> = from_left
        .iter()
        .zip(&from_right)
        .map(|pair| match pair {
            (Some(l), _) => (0, *l as usize),
            (None, Some(r)) => (1, *r as usize),
            (None, None) => (0, 0),
        })
        .collect();
    let keys = interleave(&[left.keys().as_ref(), right.keys().as_ref()], &pick)?;
    let arguments = [Arc::clone(&keys), take(left.values(), &at_left, None)?, take(right.values(), &at_right, None)?];
    let results = call.evaluate(0, &arguments, &UInt32Array::from(rows))?;
    assembled(call.result, (keys, results), lengths, nulls, false)
}

/// The elements are taken in one after the other, the first of all rows side by side, then the second, ...
fn aggregate(call: &Call<'_>) -> Result<ArrayRef> {
    let list = call.value(0)?.as_list::<i32>();
    let mut state = Arc::clone(call.value(1)?);
    let length = |row: usize| if list.is_null(row) { 0 } else { list.value_length(row) as usize };
    let longest = (0..list.len()).map(length).max().unwrap_or(0);
    for position in 0..longest {
        let rows: Vec<u32> = (0..list.len()).filter(|row| position < length(*row)).map(|row| row as u32).collect();
        let at: UInt32Array =
            rows.iter().map(|row| list.value_offsets()[*row as usize] as u32 + position as u32).collect();
        let rows = UInt32Array::from(rows);
        let arguments = [take(&state, &rows, None)?, take(list.values(), &at, None)?];
        let merged = call.evaluate(0, &arguments, &rows)?;
        let merged = if merged.data_type() == state.data_type() {
            merged
        } else {
            arrow::compute::cast(&merged, state.data_type())?
        };
        let mut pick: Vec<(usize, usize)> = (0..list.len()).map(|row| (0, row)).collect();
        for (i, row) in rows.values().iter().enumerate() {
            pick[*row as usize] = (1, i);
        }
        state = interleave(&[state.as_ref(), merged.as_ref()], &pick)?;
    }
    let all: UInt32Array = (0..list.len() as u32).collect();
    let finished = if call.lambdas.len() > 1 { call.evaluate(1, &[state], &all)? } else { state };
    // Without an array there is no result.
    let valid: UInt32Array = (0..list.len()).map(|row| list.is_valid(row).then_some(row as u32)).collect();
    Ok(take(&finished, &valid, None)?)
}

/// Every pair of elements of a row is compared first; the order is then read off the answers.
fn array_sort(call: &Call<'_>) -> Result<ArrayRef> {
    let list = call.value(0)?.as_list::<i32>();
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(list.len());
    let mut lengths = Vec::with_capacity(list.len());
    for row in 0..list.len() {
        let values = if list.is_null(row) { list.values().slice(0, 0) } else { list.value(row) };
        let n = values.len();
        lengths.push(n);
        let pairs = (0..n * n).map(|i| i as u32);
        let first: UInt32Array = pairs.clone().map(|i| i / n as u32).collect();
        let second: UInt32Array = pairs.map(|i| i % n as u32).collect();
        let rows = UInt32Array::from(vec![row as u32; n * n]);
        let arguments = [take(&values, &first, None)?, take(&values, &second, None)?];
        let answers = arrow::compute::cast(&call.evaluate(0, &arguments, &rows)?, &DataType::Int32)?;
        let answers = answers.as_primitive::<Int32Type>();
        if answers.null_count() > 0 {
            return Err(Error::data("the comparison of `array_sort` gave NULL")
                .with_condition("COMPARATOR_RETURNS_NULL")
                .with_help("Give -1, 0 or 1 for NULL elements too."));
        }
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|a, b| answers.value(*a as usize * n + *b as usize).cmp(&0));
        parts.push(take(&values, &UInt32Array::from(order), None)?);
    }
    let values = match parts.is_empty() {
        true => list.values().slice(0, 0),
        false => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
    };
    list_of(values, OffsetBuffer::from_lengths(lengths), list.nulls().cloned())
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
