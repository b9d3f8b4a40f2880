//! Rounding, with Spark's result types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;

use super::udf::{Call, Function, Returns, function};
use crate::cast::{CastMode, arrow_cast, cast_array};
use crate::coercion::overflow;
use crate::error::{Error, Result};

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["ceil", "ceiling"], (1, 2), Returns::Values(whole_type), |c| whole(c, f64::ceil, 1)),
    function(&["floor"], (1, 2), Returns::Values(whole_type), |c| whole(c, f64::floor, -1)),
    ROUND,
    function(&["bround"], (1, 2), Returns::Values(round_type), |c| round(c, Halves::Even)),
];

/// BIGINT, or a decimal without decimals; with a number of decimals always a decimal.
fn whole_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    if types.len() == 2 {
        return round_type(&[decimal_for(types.first()), DataType::Int32], values);
    }
    Ok(match types.first() {
        Some(DataType::Decimal128(p, s)) => DataType::Decimal128((*p - s.unsigned_abs() + 1).min(38), 0),
        _ => DataType::Int64,
    })
}

/// The decimal type that a number is cast to before it is cut.
fn decimal_for(data_type: Option<&DataType>) -> DataType {
    match data_type {
        Some(decimal @ DataType::Decimal128(..)) => decimal.clone(),
        Some(DataType::Int8) => DataType::Decimal128(3, 0),
        Some(DataType::Int16) => DataType::Decimal128(5, 0),
        Some(DataType::Int32) => DataType::Decimal128(10, 0),
        Some(DataType::Int64) => DataType::Decimal128(20, 0),
        Some(DataType::Float32) => DataType::Decimal128(14, 7),
        _ => DataType::Decimal128(30, 15),
    }
}

/// Cut to so many decimals, upwards or downwards.
fn cut(call: &Call<'_>, direction: i128) -> Result<ArrayRef> {
    let from = decimal_for(Some(call.array(0)?.data_type()));
    let (DataType::Decimal128(_, scale), DataType::Decimal128(precision, to)) = (&from, call.result()) else {
        return Err(Error::internal("a number that is cut is a decimal"));
    };
    let digits = call.cast(1, &DataType::Int32)?.as_primitive::<Int32Type>().iter().next().flatten().unwrap_or(0);
    let power = |digits: i32| 10_i128.checked_pow(digits.unsigned_abs());
    let (unit, back) = (power((i32::from(*scale) - digits).max(0)), power(digits.min(0)));
    let numbers = call.cast(0, &from)?;
    let values: PrimitiveArray<Decimal128Type> = numbers.as_primitive::<Decimal128Type>().unary(|v| {
        let Some((unit, back)) = unit.zip(back) else { return 0 };
        let up = i128::from(direction > 0 && v.rem_euclid(unit) != 0);
        (v.div_euclid(unit) + up) * back
    });
    Ok(Arc::new(values.with_precision_and_scale(*precision, *to)?))
}

fn whole(call: &Call<'_>, f: fn(f64) -> f64, direction: i128) -> Result<ArrayRef> {
    if call.len() == 2 {
        return cut(call, direction);
    }
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

/// Where a value goes that lies in the middle.
#[derive(Clone, Copy, PartialEq)]
enum Halves {
    /// Away from zero (`round`).
    Up,
    /// To the even neighbour (`bround`).
    Even,
}

impl Halves {
    /// The nearest number of whole units.
    fn units(self, value: i128, unit: i128) -> i128 {
        let (whole, rest) = (value / unit, value % unit);
        let below = unit - rest.abs();
        let up = rest.abs() > below || (rest.abs() == below && (self == Self::Up || whole % 2 != 0));
        if up { whole + value.signum() } else { whole }
    }
}

/// `round(number[, digits])`: halves go away from zero.
pub(super) const ROUND: Function = function(&["round"], (1, 2), Returns::Values(round_type), |c| round(c, Halves::Up));

/// The type of the number; a decimal has only the decimals that are left.
fn round_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Utf8 | DataType::Null) | None => DataType::Float64,
        Some(DataType::Decimal128(p, s)) => {
            let digits = match (types.len(), values.get(1).copied().flatten()) {
                (1, _) => 0,
                (_, Some(value)) => match value.cast_to(&DataType::Int32)? {
                    ScalarValue::Int32(Some(digits)) => digits.clamp(-38, 38) as i16,
                    _ => 0,
                },
                _ => {
                    return Err(Error::user("the digits of `round` must be a constant")
                        .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
                }
            };
            let scale = i16::from(*s).min(digits.max(0));
            let whole = i16::from(*p) - i16::from(*s);
            DataType::Decimal128((whole + 1 + scale).max(1 - digits).clamp(1, 38) as u8, scale as i8)
        }
        Some(data_type) => data_type.clone(),
    })
}

fn round(call: &Call<'_>, halves: Halves) -> Result<ArrayRef> {
    let digits = match call.len() {
        2 => {
            let digits = call.cast(1, &DataType::Int32)?;
            let digits = digits.as_primitive::<Int32Type>();
            let first = digits.iter().next().flatten();
            if digits.iter().any(|other| other != first) {
                return Err(Error::user("the digits of `round` must be a constant")
                    .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
            }
            first
        }
        _ => Some(0),
    };
    let Some(digits) = digits else { return Ok(arrow::array::new_null_array(call.result(), call.rows())) };
    let power = |digits: i32| 10_i128.checked_pow(digits.unsigned_abs());
    let array = call.array(0)?;
    match (array.data_type(), call.result()) {
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) => {
            let values = array.as_primitive::<Decimal128Type>();
            let back = power((-digits).max(0)).unwrap_or(1);
            let unit = power((i32::from(*from) - digits).max(0));
            let values: PrimitiveArray<Decimal128Type> = match unit {
                Some(unit) => values.unary(|v| halves.units(v, unit) * back),
                None => values.unary(|_| 0),
            };
            Ok(Arc::new(values.with_precision_and_scale(*precision, *to)?))
        }
        (integer, _) if integer.is_integer() => {
            let Some(unit) = power(digits.min(0)) else { return Ok(array) };
            let longs = cast_array(&array, &DataType::Int64, CastMode::Lenient, call.tz())?;
            let rounded = |v: i64| (halves.units(v.into(), unit) * unit) as i64;
            let values: PrimitiveArray<Int64Type> = longs.as_primitive::<Int64Type>().unary(rounded);
            let values: ArrayRef = Arc::new(values);
            if call.ansi() && arrow_cast(&values, call.result())?.null_count() > array.null_count() {
                return Err(overflow("a rounded number"));
            }
            cast_array(&values, call.result(), CastMode::Lenient, call.tz())
        }
        _ => {
            let doubles = call.cast(0, &DataType::Float64)?;
            let values: PrimitiveArray<Float64Type> =
                doubles.as_primitive::<Float64Type>().unary(|v| round_double(v, digits, halves));
            cast_array(&(Arc::new(values) as ArrayRef), call.result(), CastMode::Lenient, call.tz())
        }
    }
}

/// Rounds the shortest decimal form of the number, as Spark does: 1.005 to two digits is 1.01.
fn round_double(value: f64, digits: i32, halves: Halves) -> f64 {
    if digits < 0 {
        let unit = 10_f64.powi(-digits);
        return if halves == Halves::Up {
            (value / unit).round() * unit
        } else {
            (value / unit).round_ties_even() * unit
        };
    }
    // Eighteen decimals are more than a double of a size that has any can tell apart.
    let scale = 18 - i8::try_from(digits.clamp(0, 18)).unwrap_or(0);
    match crate::cast::parse::decimal(&format!("{value:e}"), 38, 18) {
        Some(exact) => {
            let units = halves.units(exact, 10_i128.pow(u32::from(scale.unsigned_abs())));
            format!("{units}e-{}", 18 - scale).parse().unwrap_or(value)
        }
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check_all, check_spark};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("round(CAST(2.5 AS DOUBLE))", "3.0"),
            ("round(CAST(1.005 AS DOUBLE), 2)", "1.01"),
            ("round(-15, -1)", "-20"),
            ("round(1.5, NULL)", "NULL"),
            ("round(CAST(1.5 AS DOUBLE), NULL)", "NULL"),
            ("round(1.2345, 2)", "1.23"),
            ("round(2.5)", "3"),
            ("round(155.5, -1)", "160"),
            ("bround(2.5, 0)", "2"),
            ("bround(CAST(2.5 AS DOUBLE))", "2.0"),
            ("bround(25, -1)", "20"),
            ("ceil(CAST(1.2 AS DOUBLE))", "2"),
            ("floor(-1.5)", "-2"),
            ("ceil(1.5)", "2"),
        ])
        .await;
    }

    /// With decimals the words are a syntax of their own, which only our own SQL reads.
    #[tokio::test]
    async fn cut_to_decimals() {
        check_spark(&[
            ("ceil(-0.1, 1)", "-0.1"),
            ("ceil(3.1411, 3)", "3.142"),
            ("ceil(CAST(3.1411 AS DOUBLE), -3)", "1000"),
            ("floor(3.1411, 3)", "3.141"),
            ("floor(-5, -1)", "-10"),
            ("floor(CAST(2.1267 AS DOUBLE), 2)", "2.12"),
            ("typeof(ceil(5, 0))", "decimal(11,0)"),
        ])
        .await;
    }
}
