//! The shape of a distribution: its moments, and a histogram.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;

use super::histogram::{histogram, histogram_type};
use super::{Gathered, of_any, of_doubles};

pub(super) const AGGREGATES: &[Gathered] = &[
    of_doubles(
        &["skewness"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| {
            Ok(ScalarValue::Float64(moments(&columns[0]).map(|[n, m2, m3, _]| n.sqrt() * m3 / m2.powf(1.5))))
        },
    ),
    of_doubles(
        &["kurtosis"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| Ok(ScalarValue::Float64(moments(&columns[0]).map(|[n, m2, _, m4]| n * m4 / (m2 * m2) - 3.0))),
    ),
    of_doubles(
        &["product"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| {
            let values = columns[0].as_primitive::<Float64Type>();
            Ok(ScalarValue::Float64(values.iter().flatten().reduce(|product, value| product * value)))
        },
    ),
    of_any(&["histogram_numeric"], (2, 2), histogram_type, histogram),
];

/// The count and the sums of the second to fourth powers of the distances from the mean, taken in one value after
/// the other by Spark's formula for parts, so that the last digits are the same.
fn moments(column: &ArrayRef) -> Option<[f64; 4]> {
    let (mut n, mut mean, mut m2, mut m3, mut m4) = (0.0_f64, 0.0, 0.0, 0.0, 0.0);
    for value in column.as_primitive::<Float64Type>().iter().flatten() {
        let before = n;
        n += 1.0;
        let delta: f64 = value - mean;
        let share = delta / n;
        mean += share;
        m4 += share * share * share * delta * before * (before * before - before + 1.0) + 6.0 * share * share * m2
            - 4.0 * share * m3;
        m3 += share * share * delta * before * (before - 1.0) - 3.0 * share * m2;
        m2 += delta * share * before;
    }
    // Values that are all alike have no shape.
    (m2 > 0.0).then_some([n, m2, m3, m4])
}
