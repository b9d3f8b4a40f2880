//! The value that so large a share of all values is not above.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use std::sync::Arc;

use super::{Gathered, of_any, of_doubles, rows};
use crate::error::{Error, Result};
use crate::types::{array, canonical};

pub(super) const AGGREGATES: &[Gathered] = &[
    // The third argument says how often a value counts.
    Gathered {
        columns: &[0, 2],
        ..of_doubles(&["percentile"], (2, 3), |types| per_rank(types, DataType::Float64), percentile)
    },
    of_doubles(
        &["median"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| Ok(ScalarValue::Float64(interpolated(&weighted(columns)?, 0.5))),
    ),
    of_doubles(&["percentile_disc"], (2, 2), |types| per_rank(types, DataType::Float64), percentile_approx),
    of_any(
        &["percentile_approx", "approx_percentile"],
        (2, 3),
        |types| per_rank(types, types.first().map_or(DataType::Null, canonical)),
        percentile_approx,
    ),
];

/// One result, or one for every rank of an array.
fn per_rank(types: &[DataType], one: DataType) -> DataType {
    match types.get(1).map(canonical) {
        Some(DataType::List(_)) => array(one),
        _ => one,
    }
}

fn ranks(constants: &[Option<ScalarValue>]) -> Result<(Vec<f64>, bool)> {
    let invalid = || {
        Error::user("the ranks of a percentile must be constants from 0 to 1")
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE")
    };
    let given = constants.first().and_then(Option::as_ref).ok_or_else(invalid)?;
    let (values, several) = match given {
        ScalarValue::List(list) => (list.value(0), true),
        one => (one.to_array()?, false),
    };
    let values = arrow::compute::cast(&values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    if values.null_count() > 0 || values.values().iter().any(|rank| !(0.0..=1.0).contains(rank)) {
        return Err(invalid());
    }
    Ok((values.values().to_vec(), several))
}

/// A value, and how many values are not above it.
struct Step {
    value: f64,
    count: i64,
}

/// The values ascending, each as often as the second column says, if there is one.
fn weighted(columns: &[ArrayRef]) -> Result<Vec<Step>> {
    let values = columns[0].as_primitive::<Float64Type>();
    let weights = columns.get(1).map(|weights| arrow::compute::cast(weights, &DataType::Int64)).transpose()?;
    let weight = |row: usize| match &weights {
        None => 1,
        Some(weights) if weights.is_null(row) => 0,
        Some(weights) => weights.as_primitive::<Int64Type>().value(row),
    };
    let mut pairs: Vec<(f64, i64)> =
        (0..values.len()).filter(|row| values.is_valid(*row)).map(|row| (values.value(row), weight(row))).collect();
    if let Some((_, weight)) = pairs.iter().find(|(_, weight)| *weight < 0) {
        return Err(Error::data(format!("the frequency {weight} of `percentile` is negative"))
            .with_condition("NEGATIVE_VALUES_IN_FREQUENCY_EXPRESSION"));
    }
    pairs.retain(|(_, weight)| *weight > 0);
    pairs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut count = 0;
    let step = |(value, weight): (f64, i64)| {
        count += weight;
        Step { value, count }
    };
    Ok(pairs.into_iter().map(step).collect())
}

fn interpolated(steps: &[Step], rank: f64) -> Option<f64> {
    let at = rank * (steps.last()?.count - 1) as f64;
    let value = |position: f64| steps[steps.partition_point(|step| (step.count as f64) <= position)].value;
    let (low, high) = (value(at.floor()), value(at.ceil()));
    let high_share = at - at.floor();
    Some(if low == high { low } else { low * (1.0 - high_share) + high * high_share })
}

fn percentile(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    let (ranks, several) = ranks(constants)?;
    let steps = weighted(columns)?;
    let values: Float64Array = ranks.iter().map(|rank| interpolated(&steps, *rank)).collect();
    collected(Arc::new(values), several, steps.is_empty(), result)
}

fn collected(values: ArrayRef, several: bool, empty: bool, result: &DataType) -> Result<ScalarValue> {
    match (several, empty) {
        (_, true) => Ok(ScalarValue::try_from(result)?),
        (true, _) => Ok(SingleRowListArrayBuilder::new(values).build_list_scalar()),
        (false, _) => Ok(ScalarValue::try_from_array(&values, 0)?),
    }
}

/// The least value that so large a share of all is not above. Exact, which an approximation may be.
fn percentile_approx(
    columns: &[ArrayRef],
    constants: &[Option<ScalarValue>],
    result: &DataType,
) -> Result<ScalarValue> {
    let (ranks, several) = ranks(constants)?;
    let (column, keys) = (&columns[0], rows(&columns[0])?);
    let mut order: Vec<u32> = (0..column.len() as u32).filter(|row| column.is_valid(*row as usize)).collect();
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    if order.is_empty() {
        return Ok(ScalarValue::try_from(result)?);
    }
    let at = |rank: &f64| order[((rank * order.len() as f64).ceil() as usize).saturating_sub(1)];
    let picked = UInt32Array::from(ranks.iter().map(at).collect::<Vec<_>>());
    collected(take(column, &picked, None)?, several, false, result)
}
