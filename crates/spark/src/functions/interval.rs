//! Lengths of time as values, and times in buckets of one length.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
    TimeUnit, TimestampMicrosecondType,
};

use datafusion::logical_expr::Expr;

use super::udf::{Call, Function, INT, Returns, function};
use crate::cast::calendar::{self, DAY, HOUR, MINUTE};
use crate::error::{Error, Result};
use crate::types::{canonical, timestamp};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        &["time_bucket"],
        (2, 3),
        Returns::Types(|types| match types.get(1).map(canonical) {
            Some(local @ DataType::Timestamp(_, None)) => Ok(local),
            _ => Ok(timestamp()),
        }),
        time_bucket,
    ),
    function(&["make_ym_interval"], (0, 2), Returns::Type(|| DataType::Interval(IntervalUnit::YearMonth)), year_month),
    function(&["make_dt_interval"], (0, 4), Returns::Type(|| DataType::Duration(TimeUnit::Microsecond)), day_time),
];

/// A field of an interval of years and months, or of days and time.
pub(super) fn part(field: &str, source: Expr, length: &DataType) -> Result<Expr> {
    let months = matches!(length, DataType::Interval(_));
    let function = match field {
        "year" | "y" | "years" | "yr" | "yrs" if months => YEARS,
        "month" | "mon" | "mons" | "months" if months => MONTHS,
        "day" | "d" | "days" if !months => DAYS,
        "hour" | "h" | "hours" | "hr" | "hrs" if !months => HOURS,
        "minute" | "m" | "min" | "mins" | "minutes" if !months => MINUTES,
        "second" | "s" | "sec" | "seconds" | "secs" if !months => SECONDS,
        other => {
            return Err(Error::user(format!("`{other}` is not a field of {}", crate::types::sql_type_name(length)))
                .with_condition("INVALID_EXTRACT_FIELD"));
        }
    };
    Ok(function.call(vec![source]))
}

const YEARS: Function = function(&["interval_year"], (1, 1), INT, |c| of_months(c, |months| months / 12));
const MONTHS: Function = function(&["interval_month"], (1, 1), Returns::Type(|| DataType::Int8), |c| {
    Ok(arrow::compute::cast(&of_months(c, |months| months % 12)?, &DataType::Int8)?)
});
const DAYS: Function = function(&["interval_day"], (1, 1), INT, |c| of_micros(c, |micros| micros / DAY));
const HOURS: Function = function(&["interval_hour"], (1, 1), Returns::Type(|| DataType::Int8), |c| {
    Ok(arrow::compute::cast(&of_micros(c, |micros| micros % DAY / HOUR)?, &DataType::Int8)?)
});
const MINUTES: Function = function(&["interval_minute"], (1, 1), Returns::Type(|| DataType::Int8), |c| {
    Ok(arrow::compute::cast(&of_micros(c, |micros| micros % HOUR / MINUTE)?, &DataType::Int8)?)
});
const SECONDS: Function = function(&["interval_second"], (1, 1), Returns::Type(|| DataType::Decimal128(8, 6)), |c| {
    let lengths = c.cast(0, &DataType::Duration(TimeUnit::Microsecond))?;
    let lengths = lengths.as_primitive::<DurationMicrosecondType>();
    let seconds: PrimitiveArray<Decimal128Type> = lengths.unary(|micros| i128::from(micros % MINUTE));
    Ok(Arc::new(seconds.with_precision_and_scale(8, 6)?))
});

fn of_months(call: &Call<'_>, f: impl Fn(i32) -> i32) -> Result<ArrayRef> {
    let lengths = call.cast(0, &DataType::Interval(IntervalUnit::YearMonth))?;
    Ok(Arc::new(lengths.as_primitive::<IntervalYearMonthType>().unary::<_, Int32Type>(f)))
}

fn of_micros(call: &Call<'_>, f: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    let lengths = call.cast(0, &DataType::Duration(TimeUnit::Microsecond))?;
    Ok(Arc::new(lengths.as_primitive::<DurationMicrosecondType>().unary::<_, Int32Type>(|micros| f(micros) as i32)))
}

/// `time_bucket(length, time[, origin])`: the start of the bucket that a time lies in. Months and days are those of
/// the session's time zone, unless the time is a local one.
fn time_bucket(call: &Call<'_>) -> Result<ArrayRef> {
    let lengths = call.array(0)?;
    let length = match lengths.data_type() {
        _ if lengths.is_empty() => return Ok(arrow::array::new_empty_array(call.result())),
        DataType::Interval(IntervalUnit::YearMonth) => {
            (lengths.as_primitive::<IntervalYearMonthType>().value(0).into(), 0)
        }
        DataType::Duration(_) => (
            0,
            call.cast(0, &DataType::Duration(TimeUnit::Microsecond))?
                .as_primitive::<DurationMicrosecondType>()
                .value(0),
        ),
        other => {
            return Err(Error::user(format!(
                "the length of a bucket must be an interval, not {}",
                crate::types::sql_type_name(other)
            ))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    if length.0 <= 0 && length.1 <= 0 {
        return Err(Error::user("the length of a bucket must be positive")
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE"));
    }
    let zoned = call.result() == &timestamp();
    let tz = call.tz();
    let calendar_days = length.0 > 0 || length.1 % DAY == 0;
    let to_local = |t: i64| if zoned && calendar_days { calendar::to_local(t, tz) } else { t };
    let to_time = |t: i64| if zoned && calendar_days { calendar::from_local(t, tz) } else { t };
    let origin = match call.len() {
        3 => call.cast(2, call.result())?.as_primitive::<TimestampMicrosecondType>().iter().next().flatten(),
        _ => Some(to_time(0)),
    };
    let times = call.cast(1, call.result())?;
    let Some(origin) = origin.map(to_local) else {
        return Ok(arrow::array::new_null_array(call.result(), times.len()));
    };
    let start = |time: i64| {
        let local = to_local(time);
        if length.0 == 0 {
            return to_time(local - (local - origin).rem_euclid(length.1));
        }
        let month_of = |t: i64| {
            let (year, month, _) = calendar::civil_from_days(t.div_euclid(DAY));
            year * 12 + i64::from(month)
        };
        let at = |buckets: i64| {
            let days = calendar::add_months(origin.div_euclid(DAY), buckets * length.0);
            days * DAY + origin.rem_euclid(DAY)
        };
        let bucket = (month_of(local) - month_of(origin)).div_euclid(length.0);
        // The first bucket of the month may start later than the time.
        to_time(if at(bucket) > local { at(bucket - 1) } else { at(bucket) })
    };
    let starts: PrimitiveArray<TimestampMicrosecondType> =
        times.as_primitive::<TimestampMicrosecondType>().unary(start);
    Ok(Arc::new(starts.with_data_type(call.result().clone())))
}

fn overflow() -> Error {
    Error::data("the interval is too long").with_condition("ARITHMETIC_OVERFLOW")
}

/// `make_ym_interval([years[, months]])`
fn year_month(call: &Call<'_>) -> Result<ArrayRef> {
    let parts = (0..call.len()).map(|i| call.cast(i, &DataType::Int32)).collect::<Result<Vec<_>>>()?;
    let value = |row: usize| -> Result<Option<i32>> {
        if parts.iter().any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let part = |i: usize| parts.get(i).map_or(0, |part| part.as_primitive::<Int32Type>().value(row));
        part(0).checked_mul(12).and_then(|months| months.checked_add(part(1))).map(Some).ok_or_else(overflow)
    };
    Ok(Arc::new((0..call.rows()).map(value).collect::<Result<PrimitiveArray<IntervalYearMonthType>>>()?))
}

/// `make_dt_interval([days[, hours[, minutes[, seconds]]]])`; seconds have six decimals.
fn day_time(call: &Call<'_>) -> Result<ArrayRef> {
    let whole = (0..call.len().min(3)).map(|i| call.cast(i, &DataType::Int64)).collect::<Result<Vec<_>>>()?;
    let seconds = if call.len() > 3 { Some(call.cast(3, &DataType::Decimal128(18, 6))?) } else { None };
    let value = |row: usize| -> Result<Option<i64>> {
        if whole.iter().chain(&seconds).any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let mut micros = 0_i64;
        for (part, unit) in whole.iter().zip([DAY, HOUR, MINUTE]) {
            let part = part.as_primitive::<Int64Type>().value(row);
            micros = part.checked_mul(unit).and_then(|part| micros.checked_add(part)).ok_or_else(overflow)?;
        }
        if let Some(seconds) = &seconds {
            let part = i64::try_from(seconds.as_primitive::<Decimal128Type>().value(row)).map_err(|_| overflow())?;
            micros = micros.checked_add(part).ok_or_else(overflow)?;
        }
        Ok(Some(micros))
    };
    Ok(Arc::new((0..call.rows()).map(value).collect::<Result<PrimitiveArray<DurationMicrosecondType>>>()?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check_all, check_spark};

    #[tokio::test]
    async fn literals_and_their_fields() {
        check_spark(&[
            ("typeof(INTERVAL '1' YEAR)", "interval year"),
            ("typeof(INTERVAL 2 DAYS)", "interval day"),
            ("typeof(INTERVAL '1 10:20:30.5' DAY TO SECOND)", "interval day to second"),
            ("typeof(INTERVAL '1 hour 5 minutes')", "interval hour to minute"),
            ("typeof(INTERVAL 1 WEEK)", "interval day"),
            ("extract(MONTH FROM INTERVAL '1-2' YEAR TO MONTH)", "2"),
            ("extract(HOUR FROM INTERVAL '1 10:20:30.5' DAY TO SECOND)", "10"),
            ("extract(SECOND FROM INTERVAL '30.5' SECOND)", "30.500000"),
            ("typeof(INTERVAL 1 YEAR + INTERVAL 2 MONTHS)", "interval year to month"),
            ("typeof(INTERVAL 1 DAY + INTERVAL 1 DAY)", "interval day"),
            ("DATE '2015-09-30' + INTERVAL 1 YEAR", "2016-09-30"),
            ("DATE '2015-09-30' - INTERVAL '1' DAY", "2015-09-29"),
            ("typeof(DATE '2015-09-30' + INTERVAL 24 HOURS)", "timestamp"),
            ("TIMESTAMP '2015-09-30 00:00:00' + INTERVAL '1:30' HOUR TO MINUTE", "2015-09-30 01:30:00"),
            ("TIMESTAMP '2015-09-30 00:00:00' + INTERVAL -1 DAY", "2015-09-29 00:00:00"),
            ("INTERVAL '1' DAY > INTERVAL '23' HOUR", "true"),
            ("time_bucket(INTERVAL '15' MINUTE, TIMESTAMP '2024-01-01 11:27:00')", "2024-01-01 11:15:00"),
            (
                "time_bucket(INTERVAL '15' MINUTE, TIMESTAMP '2024-01-01 11:27:00', TIMESTAMP '1970-01-01 00:05:00')",
                "2024-01-01 11:20:00",
            ),
            ("time_bucket(INTERVAL '3' MONTH, TIMESTAMP '2024-05-17 11:27:00')", "2024-04-01 00:00:00"),
        ])
        .await;
    }

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("make_ym_interval(2014, 12)", "INTERVAL '2015-0' YEAR TO MONTH"),
            ("make_dt_interval(1, 12, 30, 1.001001)", "INTERVAL '1 12:30:01.001001' DAY TO SECOND"),
            ("make_dt_interval()", "INTERVAL '0 00:00:00' DAY TO SECOND"),
        ])
        .await;
    }
}
