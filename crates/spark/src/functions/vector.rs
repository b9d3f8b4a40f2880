//! Functions of vectors: arrays of FLOAT, all of one length.
//!
//! A vector that holds a NULL has no result, and aggregates pass over it. Numbers are added up as Spark does, as FLOATs and by
//! eights, so that the results are the same to the last digit.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Int64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::udf::{Call, Function, Returns, check_arity, function};
use crate::error::{Error, Result};
use crate::types::{array, canonical, sql_type_name};
use crate::values::{Value, build};

const PAIR: Returns = Returns::Types(|types| {
    types.iter().try_for_each(|found| check_vector("a function of vectors", found))?;
    Ok(DataType::Float32)
});

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["vector_inner_product"], (2, 2), PAIR, |c| pairs(c, |a, b| Some(inner_product(a, b)))),
    function(&["vector_cosine_similarity"], (2, 2), PAIR, |c| {
        pairs(c, |a, b| {
            let norms = root(inner_product(a, a) * inner_product(b, b));
            if norms == 0.0 { None } else { Some(inner_product(a, b) / norms) }
        })
    }),
    function(&["vector_l2_distance"], (2, 2), PAIR, |c| {
        pairs(c, |a, b| {
            let apart = a.iter().zip(b).map(|(a, b)| a - b);
            Some(root(in_eights(apart.map(|apart| apart * apart))))
        })
    }),
    function(&["vector_norm"], (1, 2), Returns::Types(|types| norm_types(types, DataType::Float32)), |c| {
        let norms = each(c, |vector, degree| degree.norm(vector).map(Some))?;
        Ok(Arc::new(norms.into_iter().collect::<Float32Array>()))
    }),
    function(&["vector_normalize"], (1, 2), Returns::Types(|types| norm_types(types, array(DataType::Float32))), |c| {
        let unit = |vector: &[f32], degree: Degree| {
            let norm = degree.norm(vector)?;
            if norm == 0.0 && !vector.is_empty() {
                return Ok(None);
            }
            let unit = vector.iter().map(|value| Value::Double((value / norm).into()));
            Ok(Some(Value::List(unit.collect())))
        };
        let units = each(c, unit)?.into_iter().map(|unit| unit.unwrap_or(Value::Null)).collect();
        build(units, &array(DataType::Float32))
    }),
];

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let all = [VectorAggregate { name: SUM }, VectorAggregate { name: AVERAGE }];
    all.into_iter().map(|aggregate| Arc::new(AggregateUDF::new_from_impl(aggregate))).collect()
}

const SUM: &str = "vector_sum";
const AVERAGE: &str = "vector_avg";

fn check_vector(name: &str, found: &DataType) -> Result<()> {
    match canonical(found) {
        DataType::List(item) if item.data_type() == &DataType::Float32 => Ok(()),
        other => Err(Error::user(format!("`{name}` takes ARRAY<FLOAT>, not {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help("Cast it: CAST(v AS ARRAY<FLOAT>).")),
    }
}

fn norm_types(types: &[DataType], result: DataType) -> Result<DataType> {
    if let Some(vector) = types.first() {
        check_vector("vector_norm", vector)?;
    }
    match types.get(1) {
        None | Some(DataType::Float32) => Ok(result),
        Some(other) => Err(Error::user(format!("the degree of a norm is a FLOAT, not {}", sql_type_name(other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help("Write it as 1.0F, 2.0F or FLOAT('inf').")),
    }
}

fn mismatch(name: &str, left: usize, right: usize) -> Error {
    Error::data(format!("`{name}` takes vectors of one length, but got {left} and {right}"))
        .with_condition("VECTOR_DIMENSION_MISMATCH")
}

/// The vectors of a column; NULL where one holds a NULL.
fn vectors(array: &ListArray) -> impl Iterator<Item = Option<Float32Array>> + '_ {
    array.iter().map(|vector| vector.map(|vector| vector.as_primitive::<Float32Type>().clone()))
}

fn lists(call: &Call<'_>, i: usize) -> Result<ListArray> {
    Ok(call.cast(i, &array(DataType::Float32))?.as_list::<i32>().clone())
}

fn whole(vector: &Float32Array) -> Option<&[f32]> {
    if vector.null_count() == 0 { Some(vector.values()) } else { None }
}

/// A number for each pair of vectors.
fn pairs(call: &Call<'_>, of: fn(&[f32], &[f32]) -> Option<f32>) -> Result<ArrayRef> {
    let (left, right) = (lists(call, 0)?, lists(call, 1)?);
    let mut results = Vec::with_capacity(left.len());
    for pair in vectors(&left).zip(vectors(&right)) {
        let (Some(a), Some(b)) = pair else {
            results.push(None);
            continue;
        };
        if a.len() != b.len() {
            return Err(mismatch(call.name(), a.len(), b.len()));
        }
        results.push(whole(&a).zip(whole(&b)).and_then(|(a, b)| of(a, b)));
    }
    Ok(Arc::new(results.into_iter().collect::<Float32Array>()))
}

/// A value for each vector and degree.
fn each<T>(call: &Call<'_>, of: impl Fn(&[f32], Degree) -> Result<Option<T>>) -> Result<Vec<Option<T>>> {
    let column = lists(call, 0)?;
    let degrees = if call.len() > 1 { Some(call.cast(1, &DataType::Float32)?) } else { None };
    let mut results = Vec::with_capacity(column.len());
    for (row, vector) in vectors(&column).enumerate() {
        let degree = match &degrees {
            None => Some(2.0),
            Some(degrees) if degrees.is_null(row) => None,
            Some(degrees) => Some(degrees.as_primitive::<Float32Type>().value(row)),
        };
        results.push(match vector.zip(degree) {
            None => None,
            Some((vector, degree)) => {
                let degree = Degree::new(degree)?;
                whole(&vector).map(|vector| of(vector, degree)).transpose()?.flatten()
            }
        });
    }
    Ok(results)
}

/// A sum whose terms are added up by eights first.
fn in_eights(mut terms: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut total = 0.0;
    for _ in 0..terms.len() / 8 {
        total += terms.by_ref().take(8).reduce(|sum, term| sum + term).unwrap_or(0.0);
    }
    terms.fold(total, |total, term| total + term)
}

fn inner_product(a: &[f32], b: &[f32]) -> f32 {
    in_eights(a.iter().zip(b).map(|(a, b)| a * b))
}

/// The root is taken of a DOUBLE.
fn root(square: f32) -> f32 {
    f64::from(square).sqrt() as f32
}

/// Which norm of a vector.
#[derive(Clone, Copy)]
enum Degree {
    One,
    Two,
    Infinite,
}

impl Degree {
    fn new(degree: f32) -> Result<Self> {
        match degree {
            1.0 => Ok(Self::One),
            2.0 => Ok(Self::Two),
            f32::INFINITY => Ok(Self::Infinite),
            other => Err(Error::data(format!("a vector has no norm of the degree {other}"))
                .with_condition("INVALID_VECTOR_NORM_DEGREE")
                .with_help("The degree is 1.0F, 2.0F or FLOAT('inf').")),
        }
    }

    fn norm(self, vector: &[f32]) -> Result<f32> {
        Ok(match self {
            Self::One => in_eights(vector.iter().map(|value| value.abs())),
            Self::Two => root(inner_product(vector, vector)),
            Self::Infinite => vector.iter().map(|value| value.abs()).fold(0.0, f32::max),
        })
    }
}

/// `vector_sum`, `vector_avg`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorAggregate {
    name: &'static str,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for VectorAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name, (1, 1), types.len())?;
        types.iter().try_for_each(|found| check_vector(self.name, found))?;
        Ok(vec![array(DataType::Float32)])
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(array(DataType::Float32))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        Ok(vec![field("vector", array(DataType::Float32)), field("count", DataType::Int64)])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(Total { name: self.name, vector: None, count: 0 }))
    }
}

/// The sum, or the average, of the vectors so far.
#[derive(Debug)]
struct Total {
    name: &'static str,
    vector: Option<Vec<f32>>,
    count: i64,
}

impl Total {
    /// Takes in a vector that stands for `count` of them.
    fn add(&mut self, vector: &Float32Array, count: i64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let Some(total) = &mut self.vector else {
            self.vector = whole(vector).map(<[f32]>::to_vec);
            self.count = if self.vector.is_some() { count } else { 0 };
            return Ok(());
        };
        if total.len() != vector.len() {
            return Err(mismatch(self.name, total.len(), vector.len()));
        }
        let Some(values) = whole(vector) else { return Ok(()) };
        self.count += count;
        let share = count as f32 / self.count as f32;
        for (total, value) in total.iter_mut().zip(values) {
            *total += if self.name == SUM { *value } else { (value - *total) * share };
        }
        Ok(())
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        for vector in vectors(values.as_list::<i32>()).flatten() {
            self.add(&vector, 1)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let [totals, counts] = states else { return Ok(()) };
        let counts = counts.as_primitive::<Int64Type>();
        for (vector, count) in vectors(totals.as_list::<i32>()).zip(counts.values()) {
            if let Some(vector) = vector {
                self.add(&vector, *count)?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?, ScalarValue::Int64(Some(self.count))])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        match &self.vector {
            None => ScalarValue::try_from(&array(DataType::Float32)),
            Some(total) => {
                let values: ArrayRef = Arc::new(Float32Array::from(total.clone()));
                Ok(SingleRowListArrayBuilder::new(values).build_list_scalar())
            }
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.vector.as_ref().map_or(0, Vec::capacity) * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    const A: &str = "array(CAST(3 AS FLOAT), CAST(-4 AS FLOAT))";
    const B: &str = "array(CAST(1 AS FLOAT), CAST(2 AS FLOAT))";

    #[tokio::test]
    async fn values() {
        check_all(&[
            (&format!("vector_inner_product({A}, {B})"), "-5.0"),
            (&format!("vector_cosine_similarity({A}, {A})"), "1.0"),
            (&format!("vector_l2_distance({A}, {B})"), "6.3245554"),
            (&format!("vector_norm({A})"), "5.0"),
            (&format!("vector_norm({A}, CAST(1 AS FLOAT))"), "7.0"),
            (&format!("vector_norm({A}, CAST('Infinity' AS FLOAT))"), "4.0"),
            (&format!("vector_normalize({A})"), "[0.6, -0.8]"),
            ("vector_normalize(array(CAST(0 AS FLOAT)))", "NULL"),
            ("vector_norm(array(CAST(1 AS FLOAT), CAST(NULL AS FLOAT)))", "NULL"),
            (&format!("(SELECT vector_sum(v) FROM (VALUES ({A}), ({B}), (NULL)) t(v))"), "[4.0, -2.0]"),
            (&format!("(SELECT vector_avg(v) FROM (VALUES ({A}), ({B}), (NULL)) t(v))"), "[2.0, -1.0]"),
            (&format!("(SELECT vector_avg(v) FROM (VALUES ({A})) t(v) WHERE false)"), "NULL"),
        ])
        .await;
    }

    #[tokio::test]
    async fn failures() {
        let one = "array(CAST(1 AS FLOAT))";
        for (sql, condition) in [
            (format!("vector_l2_distance({A}, {one})"), "VECTOR_DIMENSION_MISMATCH"),
            (format!("(SELECT vector_sum(v) FROM (VALUES ({A}), ({one})) t(v))"), "VECTOR_DIMENSION_MISMATCH"),
            (format!("vector_norm({A}, CAST(3 AS FLOAT))"), "INVALID_VECTOR_NORM_DEGREE"),
            (format!("vector_norm({A}, 2)"), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
            ("vector_norm(array(1.0))".to_owned(), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
        ] {
            check(&sql, Err(condition), Err(condition)).await;
        }
    }
}
