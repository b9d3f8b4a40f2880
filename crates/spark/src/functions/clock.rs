//! Times of day: made, read, cut, compared, and as numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type, Time64NanosecondType};

use super::pattern::Pattern;
use super::udf::{Call, Function, LONG, Returns, function};
use crate::cast::calendar::{DAY, HOUR, MINUTE, SECOND};
use crate::cast::parse;
use crate::error::{Error, Result};
use crate::types::{sql_type_name, time};

const TIME: Returns = Returns::Type(time);
/// Seconds of a day with six decimals.
const SECONDS: Returns = Returns::Type(|| DataType::Decimal128(14, 6));

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["make_time"], (3, 3), TIME, make_time),
    function(&["to_time"], (1, 2), TIME, |c| to_time(c, true)).compiles(1),
    function(&["try_to_time"], (1, 2), TIME, |c| to_time(c, false)).compiles(1),
    function(&["time_diff"], (3, 3), LONG, time_diff),
    function(&["time_trunc"], (2, 2), TIME, time_trunc),
    function(&["time_from_seconds"], (1, 1), TIME, |c| {
        let seconds = c.cast(0, &DataType::Decimal128(38, 6))?;
        from_numbers(seconds.as_primitive::<Decimal128Type>().iter())
    }),
    function(&["time_from_millis"], (1, 1), TIME, |c| from_longs(c, 1000)),
    function(&["time_from_micros"], (1, 1), TIME, |c| from_longs(c, 1)),
    function(&["time_to_seconds"], (1, 1), SECONDS, |c| {
        let micros =
            times(c, 0)?.iter().map(|t| t.map(|t| i128::from(t / 1000))).collect::<PrimitiveArray<Decimal128Type>>();
        Ok(Arc::new(micros.with_precision_and_scale(14, 6)?))
    }),
    function(&["time_to_millis"], (1, 1), LONG, |c| {
        Ok(Arc::new(times(c, 0)?.unary::<_, Int64Type>(|t| t / 1_000_000)))
    }),
    function(&["time_to_micros"], (1, 1), LONG, |c| Ok(Arc::new(times(c, 0)?.unary::<_, Int64Type>(|t| t / 1000)))),
];

/// An argument that is a time of day, or text that reads as one; in nanoseconds.
pub(super) fn times(call: &Call<'_>, i: usize) -> Result<PrimitiveArray<Time64NanosecondType>> {
    let given = call.array(i)?;
    match given.data_type() {
        DataType::Time32(_) | DataType::Time64(_) | DataType::Null => {
            Ok(arrow::compute::cast(&given, &time())?.as_primitive::<Time64NanosecondType>().clone())
        }
        DataType::Utf8 => Ok(call.cast(i, &time())?.as_primitive::<Time64NanosecondType>().clone()),
        other => Err(Error::user(format!("expected a TIME, but got {}", sql_type_name(other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    }
}

fn outside() -> Error {
    Error::data("the parts make no time of day").with_condition("DATETIME_FIELD_OUT_OF_BOUNDS")
}

/// Microseconds of a day as a time.
fn from_numbers(micros: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
    let time = |micros: Option<i128>| match micros {
        None => Ok(None),
        Some(micros) if (0..i128::from(DAY)).contains(&micros) => Ok(Some(micros as i64 * 1000)),
        Some(_) => Err(outside()),
    };
    Ok(Arc::new(micros.map(time).collect::<Result<PrimitiveArray<Time64NanosecondType>>>()?))
}

fn from_longs(call: &Call<'_>, unit: i128) -> Result<ArrayRef> {
    let numbers = call.cast(0, &DataType::Int64)?;
    from_numbers(numbers.as_primitive::<Int64Type>().iter().map(|number| number.map(|n| i128::from(n) * unit)))
}

/// `make_time(hour, minute, second)`; seconds have six decimals.
fn make_time(call: &Call<'_>) -> Result<ArrayRef> {
    let (hours, minutes) = (call.cast(0, &DataType::Int32)?, call.cast(1, &DataType::Int32)?);
    let seconds = call.cast(2, &DataType::Decimal128(16, 6))?;
    let (hours, minutes) = (hours.as_primitive::<Int32Type>(), minutes.as_primitive::<Int32Type>());
    let seconds = seconds.as_primitive::<Decimal128Type>();
    let micros = |row: usize| -> Result<Option<i128>> {
        if hours.is_null(row) || minutes.is_null(row) || seconds.is_null(row) {
            return Ok(None);
        }
        let (hour, minute, micros) = (hours.value(row), minutes.value(row), seconds.value(row));
        let valid = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..i128::from(MINUTE)).contains(&micros);
        let size = |number: i32, unit: i64| i128::from(number) * i128::from(unit);
        if valid { Ok(Some(size(hour, HOUR) + size(minute, MINUTE) + micros)) } else { Err(outside()) }
    };
    from_numbers((0..call.rows()).map(micros).collect::<Result<Vec<_>>>()?.into_iter())
}

fn to_time(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let pattern = match (call.len(), call.constant_text(1)) {
        (1, _) => None,
        (_, Some(Some(pattern))) => Some(Pattern::new(&pattern)?),
        _ => return Ok(arrow::array::new_null_array(&time(), call.rows())),
    };
    let read = |text: Option<&str>| -> Result<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        let found = match &pattern {
            Some(pattern) => pattern.parse(text).map(|(local, _)| local.rem_euclid(DAY) * 1000),
            None => parse::time(text),
        };
        match found {
            None if strict => Err(Error::data(format!("'{text}' is no time of day"))
                .with_condition("CANNOT_PARSE_TIME")
                .with_help("Use `try_to_time` to get NULL instead.")),
            found => Ok(found),
        }
    };
    Ok(Arc::new(call.text(0)?.iter().map(read).collect::<Result<PrimitiveArray<Time64NanosecondType>>>()?))
}

/// The nanoseconds of a unit.
fn unit(name: &str) -> Result<i64> {
    Ok(1000
        * match name.to_ascii_uppercase().as_str() {
            "MICROSECOND" => 1,
            "MILLISECOND" => 1000,
            "SECOND" => SECOND,
            "MINUTE" => MINUTE,
            "HOUR" => HOUR,
            _ => {
                return Err(Error::user(format!("`{name}` is no unit of a time of day"))
                    .with_condition("INVALID_PARAMETER_VALUE.TIME_UNIT")
                    .with_help("Use HOUR, MINUTE, SECOND, MILLISECOND or MICROSECOND."));
            }
        })
}

/// `time_diff(unit, start, end)`: whole units.
fn time_diff(call: &Call<'_>) -> Result<ArrayRef> {
    let (units, starts, ends) = (call.text(0)?, times(call, 1)?, times(call, 2)?);
    let between = |row: usize| -> Result<Option<i64>> {
        if units.is_null(row) || starts.is_null(row) || ends.is_null(row) {
            return Ok(None);
        }
        Ok(Some((ends.value(row) - starts.value(row)) / unit(units.value(row))?))
    };
    Ok(Arc::new((0..call.rows()).map(between).collect::<Result<Int64Array>>()?))
}

/// `time_trunc(unit, time)`
fn time_trunc(call: &Call<'_>) -> Result<ArrayRef> {
    let (units, times) = (call.text(0)?, times(call, 1)?);
    let cut = |row: usize| -> Result<Option<i64>> {
        if units.is_null(row) || times.is_null(row) {
            return Ok(None);
        }
        let unit = unit(units.value(row))?;
        Ok(Some(times.value(row) / unit * unit))
    };
    Ok(Arc::new((0..call.rows()).map(cut).collect::<Result<PrimitiveArray<Time64NanosecondType>>>()?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_spark};

    #[tokio::test]
    async fn values() {
        check_spark(&[
            ("TIME '12:30:00.5'", "12:30:00.5"),
            ("CAST('1:2' AS TIME)", "01:02:00"),
            ("typeof(TIME '12:30:00')", "time(6)"),
            ("hour(TIME '13:08:15')", "13"),
            ("minute(TIME '13:08:15')", "8"),
            ("second(TIME '13:08:15.9')", "15"),
            ("extract(SECOND FROM TIME '13:08:15.9')", "15.900000"),
            ("make_time(6, 30, 45.887)", "06:30:45.887"),
            ("make_time(NULL, 30, 45)", "NULL"),
            ("to_time('10:30:00')", "10:30:00"),
            ("to_time('10.30', 'HH.mm')", "10:30:00"),
            ("try_to_time('x')", "NULL"),
            ("time_diff('HOUR', TIME '13:08:15', TIME '21:30:28')", "8"),
            ("time_diff('MINUTE', TIME '01:00:00', TIME '00:30:30')", "-29"),
            ("time_trunc('minute', TIME '13:08:15')", "13:08:00"),
            ("time_from_seconds(52200.5)", "14:30:00.5"),
            ("time_from_millis(52200500)", "14:30:00.5"),
            ("time_from_micros(52200500000)", "14:30:00.5"),
            ("time_to_seconds(TIME '14:30:00.5')", "52200.500000"),
            ("time_to_millis(TIME '14:30:00.5')", "52200500"),
            ("time_to_micros(TIME '14:30:00.5')", "52200500000"),
            ("make_timestamp(DATE '2014-12-28', TIME '06:30:45.887')", "2014-12-28 06:30:45.887"),
            ("make_timestamp(DATE '2014-12-28', TIME '06:30:45.887', 'CET')", "2014-12-28 05:30:45.887"),
            ("make_timestamp_ntz(DATE '2014-12-28', TIME '06:30:45.887')", "2014-12-28 06:30:45.887"),
            ("try_make_timestamp(DATE '2014-12-28', NULL)", "NULL"),
            ("TIME '10:00:00' < TIME '10:00:01'", "true"),
        ])
        .await;
    }

    #[tokio::test]
    async fn failures() {
        let outside = Err("DATETIME_FIELD_OUT_OF_BOUNDS");
        check("make_time(24, 0, 0)", outside, outside).await;
        check("time_from_seconds(86400)", outside, outside).await;
        let unreadable = Err("CANNOT_PARSE_TIME");
        check("to_time('x')", unreadable, unreadable).await;
    }
}
