//! Rounding, with Spark's result types.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};

use super::udf::{Call, Function, Returns, function};
use crate::cast::{CastMode, cast_array};
use crate::error::Result;

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["ceil", "ceiling"], (1, 1), Returns::Types(whole_type), |c| whole(c, f64::ceil, 1)),
    function(&["floor"], (1, 1), Returns::Types(whole_type), |c| whole(c, f64::floor, -1)),
];

/// BIGINT, or a decimal without decimals.
fn whole_type(types: &[DataType]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Decimal128(p, s)) => DataType::Decimal128((*p - s.unsigned_abs() + 1).min(38), 0),
        _ => DataType::Int64,
    })
}

fn whole(call: &Call<'_>, f: fn(f64) -> f64, direction: i128) -> Result<ArrayRef> {
    let array = call.array(0)?;
    match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let values: PrimitiveArray<Decimal128Type> = array.as_primitive::<Decimal128Type>().unary(|v| {
                let cut = v.div_euclid(unit);
                if direction > 0 && v.rem_euclid(unit) != 0 { cut + 1 } else { cut }
            });
            let (precision, scale) = match call.result() {
                DataType::Decimal128(p, s) => (*p, *s),
                _ => (38, 0),
            };
            Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
        }
        integer if integer.is_integer() => cast_array(&array, &DataType::Int64, CastMode::Ansi, call.tz()),
        _ => {
            let doubles = call.cast(0, &DataType::Float64)?;
            let values: PrimitiveArray<Int64Type> = doubles.as_primitive::<Float64Type>().unary(|v| f(v) as i64);
            Ok(Arc::new(values))
        }
    }
}

/// `round(x, digits)` with halves away from zero, in the type of `x`.
pub(super) const ROUND: Function = function(&["round"], (1, 2), Returns::Types(round_type), round);

fn round_type(types: &[DataType]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Utf8) | None => DataType::Float64,
        Some(data_type) => data_type.clone(),
    })
}

fn round(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.cast(0, call.result())?;
    let digits = match call.len() {
        2 => call.cast(1, &DataType::Int32)?.as_primitive::<Int32Type>().iter().next().flatten().unwrap_or(0),
        _ => 0,
    };
    let power = |digits: i32| 10_i128.checked_pow(digits.unsigned_abs());
    match array.data_type() {
        DataType::Decimal128(p, s) => {
            let Some(unit) = power((i32::from(*s) - digits).max(0)) else { return Ok(array) };
            let half_up = |v: i128| (v + v.signum() * (unit / 2)) / unit * unit;
            let values: PrimitiveArray<Decimal128Type> = array.as_primitive::<Decimal128Type>().unary(half_up);
            Ok(Arc::new(values.with_precision_and_scale(*p, *s)?))
        }
        integer if integer.is_integer() => {
            let Some(unit) = power(digits.min(0)) else { return Ok(array) };
            let longs = cast_array(&array, &DataType::Int64, CastMode::Lenient, call.tz())?;
            let half_up = |v: i64| (i128::from(v) + i128::from(v.signum()) * (unit / 2)) / unit * unit;
            let values: PrimitiveArray<Int64Type> = longs.as_primitive::<Int64Type>().unary(|v| half_up(v) as i64);
            cast_array(&(Arc::new(values) as ArrayRef), call.result(), call.mode(), call.tz())
        }
        _ => {
            let doubles = call.cast(0, &DataType::Float64)?;
            let values: PrimitiveArray<Float64Type> =
                doubles.as_primitive::<Float64Type>().unary(|v| half_up(v, digits));
            cast_array(&(Arc::new(values) as ArrayRef), call.result(), CastMode::Lenient, call.tz())
        }
    }
}

/// Rounds the shortest decimal form of the number, as Spark does: 1.005 to two digits is 1.01.
fn half_up(value: f64, digits: i32) -> f64 {
    let scale = i8::try_from(digits.clamp(0, 18)).unwrap_or(0);
    if digits < 0 {
        let unit = 10_f64.powi(-digits);
        return (value / unit).round() * unit;
    }
    match crate::cast::parse::decimal(&format!("{value:e}"), 38, scale) {
        Some(scaled) => format!("{scaled}e-{scale}").parse().unwrap_or(value),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("round(CAST(2.5 AS DOUBLE))", "3.0"),
            ("round(CAST(1.005 AS DOUBLE), 2)", "1.01"),
            ("round(-15, -1)", "-20"),
            ("ceil(CAST(1.2 AS DOUBLE))", "2"),
            ("floor(-1.5)", "-2"),
            ("ceil(1.5)", "2"),
        ])
        .await;
    }
}
