//! Dates and times, in the session's time zone.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int32Array, Int64Array, PrimitiveArray, StringArray, StringBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};

use super::pattern::{Pattern, ZoneNames};
use super::udf::{Call, DATE, DOUBLE, Function, INT, LONG, Returns, TEXT, TIMESTAMP, function};
use crate::cast::calendar::{self, DAY, HOUR, MINUTE, SECOND};
use crate::cast::{CastMode, cast_array, parse};
use crate::error::{Error, Result};
use crate::types::timestamp;

/// `datediff(end, start)`: days.
pub(super) const DATE_DIFF: Function =
    function(&["datediff"], (2, 2), INT, |c| dates_with(c, DataType::Date32, |a, b| a - b));
/// `date_add(date, days)`
pub(super) const DATE_ADD: Function =
    function(&["date_add"], (2, 2), DATE, |c| dates_with(c, DataType::Int32, |a, b| a + b));

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["to_date"], (1, 2), DATE, |c| to_date(c, c.mode())).compiles(1),
    function(&["try_to_date"], (1, 2), DATE, |c| to_date(c, CastMode::Try)).compiles(1),
    function(&["to_timestamp", "to_timestamp_ltz"], (1, 2), TIMESTAMP, |c| to_timestamp(c, c.mode())).compiles(1),
    function(&["try_to_timestamp"], (1, 2), TIMESTAMP, |c| to_timestamp(c, CastMode::Try)).compiles(1),
    function(&["to_unix_timestamp"], (1, 2), LONG, unix_timestamp).compiles(1),
    function(&["from_unixtime"], (1, 2), TEXT, from_unixtime).compiles(1),
    function(&["date_format"], (2, 2), TEXT, |c| format_times(c, &c.cast(0, &timestamp())?)).compiles(1),
    function(&["year"], (1, 1), INT, |c| field(c, |d, _| calendar::civil_from_days(d).0)),
    function(&["month"], (1, 1), INT, |c| field(c, |d, _| calendar::civil_from_days(d).1.into())),
    function(&["day", "dayofmonth"], (1, 1), INT, |c| field(c, |d, _| calendar::civil_from_days(d).2.into())),
    function(&["quarter"], (1, 1), INT, |c| field(c, |d, _| i64::from((calendar::civil_from_days(d).1 - 1) / 3 + 1))),
    function(&["dayofyear"], (1, 1), INT, |c| field(c, |d, _| calendar::day_of_year(d))),
    function(&["dayofweek"], (1, 1), INT, |c| field(c, |d, _| (calendar::weekday(d) + 1) % 7 + 1)),
    function(&["weekday"], (1, 1), INT, |c| field(c, |d, _| calendar::weekday(d))),
    function(&["weekofyear"], (1, 1), INT, |c| field(c, |d, _| calendar::iso_week(d).1)),
    function(&["hour"], (1, 1), INT, |c| field(c, |_, t| t / HOUR)),
    function(&["minute"], (1, 1), INT, |c| field(c, |_, t| t / MINUTE % 60)),
    function(&["second"], (1, 1), INT, |c| field(c, |_, t| t / SECOND % 60)),
    function(&["date_sub"], (2, 2), DATE, |c| dates_with(c, DataType::Int32, |a, b| a - b)),
    function(&["add_months"], (2, 2), DATE, |c| dates_with(c, DataType::Int32, calendar::add_months)),
    function(&["last_day"], (1, 1), DATE, last_day),
    function(&["months_between"], (2, 3), DOUBLE, months_between),
    function(&["trunc"], (2, 2), DATE, trunc),
    function(&["date_trunc"], (2, 2), TIMESTAMP, date_trunc),
    function(&["make_date"], (3, 3), DATE, make_date),
    function(&["timestamp_seconds"], (1, 1), TIMESTAMP, since_epoch_seconds),
    function(&["timestamp_millis"], (1, 1), TIMESTAMP, |c| since_epoch(c, 1000)),
    function(&["timestamp_micros"], (1, 1), TIMESTAMP, |c| since_epoch(c, 1)),
    function(&["unix_seconds"], (1, 1), LONG, |c| to_epoch(c, SECOND)),
    function(&["unix_millis"], (1, 1), LONG, |c| to_epoch(c, 1000)),
    function(&["unix_micros"], (1, 1), LONG, |c| to_epoch(c, 1)),
    function(&["from_utc_timestamp"], (2, 2), TIMESTAMP, |c| shift(c, |micros, zone| zone.to_local(micros))),
    function(&["to_utc_timestamp"], (2, 2), TIMESTAMP, |c| shift(c, |micros, zone| zone.to_utc(micros))),
    function(&["date"], (1, 1), DATE, |c| c.cast(0, c.result())),
    function(&["timestamp"], (1, 1), TIMESTAMP, |c| c.cast(0, c.result())),
    function(&["to_timestamp_ntz"], (1, 2), Returns::Type(crate::types::timestamp_ntz), to_timestamp_ntz).compiles(1),
];

/// The days and the microseconds of the day of argument 0; a date needs no time zone.
fn field(call: &Call<'_>, f: impl Fn(i64, i64) -> i64) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if array.data_type() == &DataType::Date32 {
        let days = array.as_primitive::<Date32Type>();
        return Ok(Arc::new(days.unary::<_, Int32Type>(|d| f(i64::from(d), 0) as i32)));
    }
    if matches!(array.data_type(), DataType::Time64(_)) {
        let times = super::clock::times(call, 0)?;
        return Ok(Arc::new(times.unary::<_, Int32Type>(|t| f(0, t / 1000) as i32)));
    }
    let tz = if matches!(array.data_type(), DataType::Timestamp(_, None)) { chrono_tz::UTC } else { call.tz() };
    let micros = cast_array(&array, &timestamp(), call.mode(), tz)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(micros.unary::<_, Int32Type>(|t| {
        let local = calendar::to_local(t, tz);
        f(local.div_euclid(DAY), local.rem_euclid(DAY)) as i32
    })))
}

/// A number or date from a date and another number or date.
fn dates_with(call: &Call<'_>, second: DataType, f: impl Fn(i64, i64) -> i64) -> Result<ArrayRef> {
    let left = call.cast(0, &DataType::Date32)?;
    let right = arrow::compute::cast(&call.cast(1, &second)?, &DataType::Date32)?;
    let values: Int32Array = left
        .as_primitive::<Date32Type>()
        .iter()
        .zip(right.as_primitive::<Date32Type>())
        .map(|(a, b)| Some(f(i64::from(a?), i64::from(b?)) as i32))
        .collect();
    Ok(arrow::compute::cast(&values, call.result())?)
}

fn pattern(call: &Call<'_>, i: usize) -> Result<Option<Pattern>> {
    match call.constant_text(i) {
        Some(Some(text)) => Pattern::new(&text).map(Some),
        Some(None) => Ok(None),
        None => Err(Error::unsupported("a date-time pattern that is not a constant")),
    }
}

/// Times read by the pattern in argument 1, in microseconds UTC.
fn read_times(call: &Call<'_>, mode: CastMode) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let tz = call.tz();
    read_times_as(call, mode, |local, zone| match zone {
        Some(zone) => zone.to_utc(local),
        None => calendar::from_local(local, tz),
    })
}

/// What `value` makes of local times and zones read by the pattern in argument 1.
fn read_times_as(
    call: &Call<'_>,
    mode: CastMode,
    value_of: impl Fn(i64, Option<parse::Zone>) -> i64,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let text = call.text(0)?;
    let Some(pattern) = pattern(call, 1)? else {
        return Ok(PrimitiveArray::new_null(text.len()));
    };
    read_text(&text, &pattern, mode, value_of)
}

fn read_text(
    text: &StringArray,
    pattern: &Pattern,
    mode: CastMode,
    value_of: impl Fn(i64, Option<parse::Zone>) -> i64,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let read = |value: Option<&str>| -> Result<Option<i64>> {
        let Some(value) = value else { return Ok(None) };
        match pattern.parse(value) {
            Some((local, zone)) => Ok(Some(value_of(local, zone))),
            None if mode == CastMode::Ansi => Err(cannot_parse(value)),
            None => Ok(None),
        }
    };
    text.iter().map(read).collect()
}

fn cannot_parse(value: &str) -> Error {
    Error::data(format!("the text '{value}' does not fit the date-time pattern"))
        .with_condition("CANNOT_PARSE_TIMESTAMP")
        .with_help("Use `try_to_timestamp` to get NULL instead, or set spark.sql.ansi.enabled to false.")
}

fn is_text(call: &Call<'_>) -> Result<bool> {
    Ok(matches!(call.array(0)?.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8))
}

fn to_timestamp(call: &Call<'_>, mode: CastMode) -> Result<ArrayRef> {
    if call.len() == 2 && is_text(call)? {
        return Ok(Arc::new(read_times(call, mode)?.with_timezone("UTC")));
    }
    cast_array(&call.array(0)?, &timestamp(), mode, call.tz())
}

/// What the clock shows in the text, whatever zone it names.
fn to_timestamp_ntz(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 2 && is_text(call)? {
        return Ok(Arc::new(read_times_as(call, call.mode(), |local, _| local)?));
    }
    cast_array(&call.array(0)?, call.result(), call.mode(), call.tz())
}

fn to_date(call: &Call<'_>, mode: CastMode) -> Result<ArrayRef> {
    let times = if call.len() == 2 && is_text(call)? { to_timestamp(call, mode)? } else { call.array(0)? };
    cast_array(&times, &DataType::Date32, mode, call.tz())
}

/// The pattern of `unix_timestamp` and `from_unixtime` where none is given.
const SECONDS: &str = "yyyy-MM-dd HH:mm:ss";

/// Seconds since the epoch, cut off towards it.
fn unix_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    let tz = call.tz();
    let times = match (is_text(call)?, call.len()) {
        (true, 2) => to_timestamp(call, call.mode())?,
        (true, _) => {
            let instant = |local: i64, zone: Option<parse::Zone>| match zone {
                Some(zone) => zone.to_utc(local),
                None => calendar::from_local(local, tz),
            };
            Arc::new(read_text(&call.text(0)?, &Pattern::new(SECONDS)?, call.mode(), instant)?)
        }
        _ => call.cast(0, &timestamp())?,
    };
    let seconds: Int64Array = times.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros / SECOND);
    Ok(Arc::new(seconds))
}

/// Seconds that are no time stamp wrap around, as in Java.
fn from_unixtime(call: &Call<'_>) -> Result<ArrayRef> {
    let seconds = call.cast(0, &DataType::Int64)?;
    let micros = seconds.as_primitive::<Int64Type>().unary::<_, TimestampMicrosecondType>(|s| s.wrapping_mul(SECOND));
    let times: ArrayRef = Arc::new(micros);
    if call.len() == 2 {
        return format_times(call, &times);
    }
    format_with(call, &times, &Pattern::new(SECONDS)?)
}

fn format_times(call: &Call<'_>, times: &ArrayRef) -> Result<ArrayRef> {
    match pattern(call, 1)? {
        Some(pattern) => format_with(call, times, &pattern),
        None => Ok(arrow::array::new_null_array(&DataType::Utf8, call.rows())),
    }
}

fn format_with(call: &Call<'_>, times: &ArrayRef, pattern: &Pattern) -> Result<ArrayRef> {
    let tz = call.tz();
    let mut builder = StringBuilder::with_capacity(times.len(), times.len() * 20);
    let mut text = String::new();
    for value in times.as_primitive::<TimestampMicrosecondType>() {
        match value {
            None => builder.append_null(),
            Some(micros) => {
                text.clear();
                let local = calendar::to_local(micros, tz);
                pattern.format(local, local - micros, ZoneNames { tz, micros }, &mut text);
                builder.append_value(&text);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn last_day(call: &Call<'_>) -> Result<ArrayRef> {
    let days = call.cast(0, &DataType::Date32)?;
    Ok(Arc::new(days.as_primitive::<Date32Type>().unary::<_, Date32Type>(|d| {
        let (year, month, _) = calendar::civil_from_days(d.into());
        calendar::days_from_civil(year, month, calendar::days_in_month(year, month)) as i32
    })))
}

fn months_between(call: &Call<'_>) -> Result<ArrayRef> {
    let (a, b) = (call.cast(0, &timestamp())?, call.cast(1, &timestamp())?);
    let exact = call.len() < 3 || call.array(2)?.as_boolean().iter().flatten().all(|round_off| round_off);
    let tz = call.tz();
    let between = |a: i64, b: i64| {
        // The time of the day is what has passed since midnight, not what the clock shows.
        let split = |t: i64| {
            let days = calendar::to_local(t, tz).div_euclid(DAY);
            (calendar::civil_from_days(days), t - calendar::from_local(days * DAY, tz))
        };
        let (((y1, m1, d1), t1), ((y2, m2, d2), t2)) = (split(a), split(b));
        let months = (y1 * 12 + i64::from(m1) - y2 * 12 - i64::from(m2)) as f64;
        let last = |y, m, d| d == calendar::days_in_month(y, m);
        if d1 == d2 || (last(y1, m1, d1) && last(y2, m2, d2)) {
            return months;
        }
        let seconds = (i64::from(d1) - i64::from(d2)) * 86_400 + (t1 - t2) / SECOND;
        let value = months + seconds as f64 / (31.0 * 86_400.0);
        if exact { (value * 1e8).round() / 1e8 } else { value }
    };
    let pairs = a.as_primitive::<TimestampMicrosecondType>().iter().zip(b.as_primitive::<TimestampMicrosecondType>());
    let values: PrimitiveArray<Float64Type> = pairs.map(|(a, b)| Some(between(a?, b?))).collect();
    Ok(Arc::new(values))
}

/// The first day of the unit a day is in.
fn start_of(unit: &str, days: i64) -> Option<i64> {
    let (year, month, _) = calendar::civil_from_days(days);
    Some(match unit.to_ascii_lowercase().as_str() {
        "year" | "yyyy" | "yy" => calendar::days_from_civil(year, 1, 1),
        "quarter" => calendar::days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        "month" | "mon" | "mm" => calendar::days_from_civil(year, month, 1),
        "week" => days - calendar::weekday(days),
        _ => return None,
    })
}

fn trunc(call: &Call<'_>) -> Result<ArrayRef> {
    let (days, units) = (call.cast(0, &DataType::Date32)?, call.text(1)?);
    let values: Date32Array = days
        .as_primitive::<Date32Type>()
        .iter()
        .zip(&units)
        .map(|(d, unit)| start_of(unit?, d?.into()).map(|d| d as i32))
        .collect();
    Ok(Arc::new(values))
}

fn date_trunc(call: &Call<'_>) -> Result<ArrayRef> {
    let (units, times) = (call.text(0)?, call.cast(1, &timestamp())?);
    let tz = call.tz();
    let cut = |unit: &str, micros: i64| {
        let local = calendar::to_local(micros, tz);
        let to = match unit.to_ascii_lowercase().as_str() {
            "microsecond" => 1,
            "millisecond" => 1000,
            "second" => SECOND,
            "minute" => MINUTE,
            "hour" => HOUR,
            "day" | "dd" => DAY,
            unit => return start_of(unit, local.div_euclid(DAY)).map(|d| calendar::from_local(d * DAY, tz)),
        };
        Some(calendar::from_local(local.div_euclid(to) * to, tz))
    };
    let pairs = units.iter().zip(times.as_primitive::<TimestampMicrosecondType>());
    let values: PrimitiveArray<TimestampMicrosecondType> = pairs.map(|(unit, t)| cut(unit?, t?)).collect();
    Ok(Arc::new(values.with_timezone("UTC")))
}

fn make_date(call: &Call<'_>) -> Result<ArrayRef> {
    let part = |i| call.cast(i, &DataType::Int32);
    let (years, months, days) = (part(0)?, part(1)?, part(2)?);
    let numbers = |array: &ArrayRef| array.as_primitive::<Int32Type>().clone();
    let (years, months, days) = (numbers(&years), numbers(&months), numbers(&days));
    let at = |row: usize| -> Option<Option<i64>> {
        if years.is_null(row) || months.is_null(row) || days.is_null(row) {
            return None;
        }
        let (month, day) = (u32::try_from(months.value(row)), u32::try_from(days.value(row)));
        Some(calendar::date(years.value(row).into(), month.unwrap_or(0), day.unwrap_or(0)))
    };
    let check = |value| match value {
        Some(None) if call.ansi() => Err(Error::data("`make_date` was given a day that does not exist")
            .with_condition("DATETIME_FIELD_OUT_OF_BOUNDS.WITH_SUGGESTION")
            .with_help("Set spark.sql.ansi.enabled to false to get NULL instead.")),
        other => Ok(other.flatten().map(|d| d as i32)),
    };
    Ok(Arc::new((0..call.rows()).map(|row| check(at(row))).collect::<Result<Date32Array>>()?))
}

fn since_epoch(call: &Call<'_>, unit: i64) -> Result<ArrayRef> {
    let too_far = || crate::coercion::overflow("long overflow");
    let numbers = call.cast(0, &DataType::Int64)?;
    let exact = |v: Option<i64>| v.map(|v| v.checked_mul(unit).ok_or_else(too_far)).transpose();
    let micros = numbers.as_primitive::<Int64Type>().iter().map(exact);
    let micros = micros.collect::<Result<PrimitiveArray<TimestampMicrosecondType>>>()?;
    Ok(Arc::new(micros.with_timezone("UTC")))
}

/// `timestamp_seconds`: a number with a fraction keeps it to the microsecond; NaN and infinity are NULL.
fn since_epoch_seconds(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let micros: PrimitiveArray<TimestampMicrosecondType> = match array.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let seconds = call.cast(0, &DataType::Float64)?;
            let micros = |s: f64| s.is_finite().then_some((s * SECOND as f64) as i64);
            seconds.as_primitive::<Float64Type>().unary_opt(micros)
        }
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let exact = |v: Option<i128>| -> Result<Option<i64>> {
                let Some(v) = v else { return Ok(None) };
                let micros = v.checked_mul(SECOND.into()).filter(|micros| micros % unit == 0);
                let micros = micros.and_then(|micros| i64::try_from(micros / unit).ok());
                micros.map(Some).ok_or_else(|| crate::coercion::overflow("a time stamp in microseconds"))
            };
            array.as_primitive::<Decimal128Type>().iter().map(exact).collect::<Result<_>>()?
        }
        _ => return since_epoch(call, SECOND),
    };
    Ok(Arc::new(micros.with_timezone("UTC")))
}

fn to_epoch(call: &Call<'_>, unit: i64) -> Result<ArrayRef> {
    let times = call.cast(0, &timestamp())?;
    let values: Int64Array = times.as_primitive::<TimestampMicrosecondType>().unary(|t| t.div_euclid(unit));
    Ok(Arc::new(values))
}

fn shift(call: &Call<'_>, f: impl Fn(i64, parse::Zone) -> i64) -> Result<ArrayRef> {
    let (times, zones) = (call.cast(0, &timestamp())?, call.text(1)?);
    let shifted = |(micros, zone): (Option<i64>, Option<&str>)| -> Result<Option<i64>> {
        let (Some(micros), Some(name)) = (micros, zone) else { return Ok(None) };
        let zone = parse::zone(name)
            .ok_or_else(|| Error::data(format!("`{name}` is not a time zone")).with_condition("INVALID_TIMEZONE"))?;
        Ok(Some(f(micros, zone)))
    };
    let pairs = times.as_primitive::<TimestampMicrosecondType>().iter().zip(&zones);
    let values = pairs.map(shifted).collect::<Result<PrimitiveArray<TimestampMicrosecondType>>>()?;
    Ok(Arc::new(values.with_timezone("UTC")))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("to_date('2024-02-29')", "2024-02-29"),
            ("to_date('29/02/2024', 'dd/MM/yyyy')", "2024-02-29"),
            ("to_timestamp('1/2/2024 3:04', 'M/d/yyyy H:mm')", "2024-01-02 03:04:00"),
            ("try_to_timestamp('x', 'yyyy')", "NULL"),
            ("date_format(TIMESTAMP '2024-01-02 03:04:05', 'EEE d MMM yyyy HH:mm')", "Tue 2 Jan 2024 03:04"),
            ("datediff(DATE '2024-03-01', DATE '2024-02-01')", "29"),
            ("date_add('2024-01-31', 1)", "2024-02-01"),
            ("add_months(DATE '2024-01-31', 1)", "2024-02-29"),
            ("last_day('2024-02-01')", "2024-02-29"),
            ("dayofweek('2024-01-07')", "1"),
            ("weekofyear('2021-01-03')", "53"),
            ("months_between('1997-02-28 10:30:00', '1996-10-30')", "3.94959677"),
            ("trunc('2024-05-17', 'quarter')", "2024-04-01"),
            ("date_trunc('HOUR', TIMESTAMP '2024-01-01 10:59:59')", "2024-01-01 10:00:00"),
            ("from_unixtime(0)", "1970-01-01 00:00:00"),
            ("unix_timestamp('1970-01-01 00:01:00')", "60"),
            ("from_utc_timestamp(TIMESTAMP '2024-01-01 00:00:00', 'Europe/Berlin')", "2024-01-01 01:00:00"),
            ("make_date(2024, 2, 29)", "2024-02-29"),
        ])
        .await;
    }
}
