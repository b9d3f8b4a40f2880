//! Columns of text to columns of values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, PrimitiveBuilder, StringArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, Time64NanosecondType, TimestampMicrosecondType,
};
use chrono_tz::Tz;

use super::{CastMode, cannot_cast, invalid_input, parse};
use crate::error::Result;

/// Reads every value of a column of text.
pub(super) fn from_text(text: &StringArray, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    // TRY_CAST refuses what ANSI refuses.
    let fraction = mode == CastMode::Lenient;
    let integer = |value: &str| parse::integer(value, fraction);
    Ok(match to {
        DataType::Boolean => return booleans(text, mode),
        DataType::Int8 => Arc::new(read::<Int8Type>(text, to, mode, |v| integer(v).and_then(|v| v.try_into().ok()))?),
        DataType::Int16 => Arc::new(read::<Int16Type>(text, to, mode, |v| integer(v).and_then(|v| v.try_into().ok()))?),
        DataType::Int32 => Arc::new(read::<Int32Type>(text, to, mode, |v| integer(v).and_then(|v| v.try_into().ok()))?),
        DataType::Int64 => Arc::new(read::<Int64Type>(text, to, mode, integer)?),
        DataType::Float32 => Arc::new(read::<Float32Type>(text, to, mode, |v| parse::double(v).map(|v| v as f32))?),
        DataType::Float64 => Arc::new(read::<Float64Type>(text, to, mode, parse::double)?),
        DataType::Decimal128(p, s) => {
            let array = read::<Decimal128Type>(text, to, mode, |v| parse::decimal(v, *p, *s))?;
            Arc::new(array.with_precision_and_scale(*p, *s)?)
        }
        DataType::Date32 => Arc::new(read::<Date32Type>(text, to, mode, parse::date)?),
        DataType::Timestamp(_, Some(zone)) => {
            let array = read::<TimestampMicrosecondType>(text, to, mode, |v| parse::timestamp(v, tz))?;
            Arc::new(array.with_timezone(Arc::clone(zone)))
        }
        DataType::Timestamp(_, None) => Arc::new(read::<TimestampMicrosecondType>(text, to, mode, |v| {
            parse::local_timestamp(v).map(|(local, _)| local)
        })?),
        DataType::Time64(_) => Arc::new(read::<Time64NanosecondType>(text, to, mode, parse::time)?),
        DataType::Interval(IntervalUnit::YearMonth) => {
            Arc::new(read::<IntervalYearMonthType>(text, to, mode, year_month)?)
        }
        DataType::Duration(_) => Arc::new(read::<DurationMicrosecondType>(text, to, mode, day_time)?),
        DataType::Binary => {
            let values: BinaryArray = text.iter().map(|v| v.map(str::as_bytes)).collect();
            Arc::new(values)
        }
        _ => return Err(cannot_cast(text.data_type(), to)),
    })
}

fn read<T: ArrowPrimitiveType>(
    text: &StringArray,
    to: &DataType,
    mode: CastMode,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(text.len());
    for value in text {
        match value {
            None => builder.append_null(),
            Some(value) => match parse(value) {
                Some(parsed) => builder.append_value(parsed),
                None if mode == CastMode::Ansi => return Err(invalid_input(value, text.data_type(), to)),
                None => builder.append_null(),
            },
        }
    }
    Ok(builder.finish())
}

fn booleans(text: &StringArray, mode: CastMode) -> Result<ArrayRef> {
    let read = |value: Option<&str>| match value {
        None => Ok(None),
        Some(value) => match parse::boolean(value) {
            None if mode == CastMode::Ansi => Err(invalid_input(value, text.data_type(), &DataType::Boolean)),
            parsed => Ok(parsed),
        },
    };
    Ok(Arc::new(text.iter().map(read).collect::<Result<BooleanArray>>()?))
}

/// `y-m` or a number of years, as months; also within `INTERVAL '…' YEAR TO MONTH`.
fn year_month(text: &str) -> Option<i32> {
    let (negative, body) = interval_body(text);
    let months = match body.split_once('-') {
        Some((years, months)) => {
            let months: i32 = months.trim().parse().ok().filter(|m| (0..12).contains(m))?;
            years.trim().parse::<i32>().ok()?.checked_mul(12)?.checked_add(months)?
        }
        None => body.parse::<i32>().ok()?.checked_mul(12)?,
    };
    Some(if negative { -months } else { months })
}

/// `d hh:mm:ss.ffffff` or a number of days, as microseconds.
fn day_time(text: &str) -> Option<i64> {
    use super::calendar::{DAY, HOUR, MINUTE};
    let (negative, body) = interval_body(text);
    let (days, time) = match body.split_once(' ') {
        Some((days, time)) => (days.parse::<i64>().ok()?, time.trim()),
        None if body.contains(':') => (0, body),
        None => (body.parse::<i64>().ok()?, ""),
    };
    let mut parts = time.split(':');
    let mut part = |unit: i64| match parts.next().unwrap_or("") {
        "" => Some(0),
        digits => digits.parse::<i64>().ok()?.checked_mul(unit),
    };
    let whole = days.checked_mul(DAY)?.checked_add(part(HOUR)?)?.checked_add(part(MINUTE)?)?;
    let seconds = match time.splitn(3, ':').nth(2) {
        Some(seconds) => i64::try_from(parse::decimal(seconds, 18, 6)?).ok()?,
        None => 0,
    };
    let total = whole.checked_add(seconds)?;
    Some(if negative { -total } else { total })
}

fn interval_body(text: &str) -> (bool, &str) {
    let text = parse::trim(text);
    let quoted = text.split('\'').nth(1).unwrap_or(text);
    match quoted.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, quoted.strip_prefix('+').unwrap_or(quoted)),
    }
}
