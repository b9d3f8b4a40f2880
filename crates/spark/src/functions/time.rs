//! Units of time: parts of a time by name, differences and sums in a unit, times from their parts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, PrimitiveArray, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, IntervalUnit, TimestampMicrosecondType,
};
use datafusion::functions::datetime::expr_fn as df;
use datafusion::logical_expr::{Expr, lit};

use super::conditional::exactly;
use super::datetime::{DATE_ADD, DATE_DIFF};
use super::form::{Env, Form, form};
use super::pattern::{DAYS, MONTHS};
use super::udf::{Call, DATE, Function, INT, LONG, Returns, TEXT, TIMESTAMP, function};
use crate::cast::calendar::{self, DAY, HOUR, MINUTE, SECOND};
use crate::cast::parse;
use crate::error::{Error, Result};
use crate::types::{timestamp, timestamp_ntz};

const NTZ: Returns = Returns::Type(timestamp_ntz);

pub(super) const FORMS: &[Form] = &[
    form(&["current_timestamp", "now"], (0, 0), |_, env| env.cast(df::now(), &timestamp())),
    form(&["current_date", "curdate"], (0, 0), |_, env| {
        // The day in the session's time zone, which a cast of the instant knows.
        let now = env.cast(df::now(), &timestamp())?;
        env.cast(now, &DataType::Date32)
    }),
    form(&["localtimestamp"], (0, 0), |_, env| {
        let now = env.cast(df::now(), &timestamp())?;
        env.cast(now, &timestamp_ntz())
    }),
    form(&["unix_timestamp"], (0, 2), |args, env| match args.is_empty() {
        true => env.cast(env.cast(df::now(), &timestamp())?, &DataType::Int64),
        false => by_name("to_unix_timestamp", args),
    }),
    form(&["datediff", "date_diff"], (2, 3), |args, _| match args.len() {
        3 => unit_first(args).map(|args| TIMESTAMP_DIFF.call(args)),
        _ => Ok(DATE_DIFF.call(args)),
    }),
    form(&["timestampdiff"], (3, 3), |args, _| unit_first(args).map(|args| TIMESTAMP_DIFF.call(args))),
    form(&["dateadd", "date_add"], (2, 3), |args, env| match args.len() {
        3 => timestamp_add(args, env),
        _ => Ok(DATE_ADD.call(args)),
    }),
    form(&["timestampadd"], (3, 3), timestamp_add),
    form(&["date_part", "datepart", "extract"], (2, 2), |args, env| {
        let [field, source] = exactly(args)?;
        let field = constant(&field, "the field of `date_part`")?.to_ascii_lowercase();
        let source = match env.type_of(&source)? {
            length @ (DataType::Duration(_) | DataType::Interval(IntervalUnit::YearMonth)) => {
                return super::interval::part(&field, source, &length);
            }
            DataType::Utf8 | DataType::Null => env.cast(source, &timestamp())?,
            _ => source,
        };
        part(&field, source)
    }),
];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["dayname"], (1, 1), TEXT, |c| named(c, |d| &DAYS[calendar::weekday(d) as usize][..3])),
    function(&["monthname"], (1, 1), TEXT, |c| named(c, |d| &MONTHS[calendar::civil_from_days(d).1 as usize - 1][..3])),
    function(&["next_day"], (2, 2), DATE, next_day),
    function(&["unix_date"], (1, 1), INT, |c| Ok(arrow::compute::cast(&c.cast(0, &DataType::Date32)?, c.result())?)),
    function(&["date_from_unix_date"], (1, 1), DATE, |c| {
        Ok(arrow::compute::cast(&c.cast(0, &DataType::Int32)?, c.result())?)
    }),
    // Of a date and a time of day, or of six parts.
    function(&["make_timestamp", "make_timestamp_ltz"], (2, 7), TIMESTAMP, |c| make_timestamp(c, c.ansi())),
    function(&["try_make_timestamp", "try_make_timestamp_ltz"], (2, 7), TIMESTAMP, |c| make_timestamp(c, false)),
    function(&["make_timestamp_ntz"], (2, 6), NTZ, |c| local(c, c.ansi())),
    function(&["try_make_timestamp_ntz"], (2, 6), NTZ, |c| local(c, false)),
    function(&["convert_timezone"], (2, 3), Returns::Type(timestamp_ntz), convert_timezone),
];

const SECONDS: Function = function(&["second"], (1, 1), Returns::Type(|| DataType::Decimal128(8, 6)), |c| {
    if matches!(c.array(0)?.data_type(), DataType::Time64(_)) {
        let micros = |time: i64| i128::from((time / 1000).rem_euclid(MINUTE));
        let values: PrimitiveArray<Decimal128Type> = super::clock::times(c, 0)?.unary(micros);
        return Ok(Arc::new(values.with_precision_and_scale(8, 6)?));
    }
    let times = c.cast(0, &timestamp())?;
    let tz = c.tz();
    let values: PrimitiveArray<Decimal128Type> = times
        .as_primitive::<TimestampMicrosecondType>()
        .unary(|t| i128::from(calendar::to_local(t, tz).rem_euclid(MINUTE)));
    Ok(Arc::new(values.with_precision_and_scale(8, 6)?))
});

const ISO_YEAR: Function = function(&["yearofweek"], (1, 1), INT, |c| {
    let days = c.cast(0, &DataType::Date32)?;
    let year = |d: i32| calendar::iso_week(d.into()).0 as i32;
    Ok(Arc::new(days.as_primitive::<Date32Type>().unary::<_, Int32Type>(year)))
});

/// The field of a time, in the type Spark gives it.
fn part(field: &str, source: Expr) -> Result<Expr> {
    let name = match field {
        "year" | "y" | "years" | "yr" | "yrs" => "year",
        "quarter" | "qtr" => "quarter",
        "month" | "mon" | "mons" | "months" => "month",
        "week" | "w" | "weeks" => "weekofyear",
        "day" | "d" | "days" => "day",
        "dayofweek" | "dow" => "dayofweek",
        "dayofweek_iso" | "dow_iso" => {
            let weekday = by_name("weekday", vec![source])?;
            return Ok(weekday + lit(1_i32));
        }
        "doy" => "dayofyear",
        "hour" | "h" | "hours" | "hr" | "hrs" => "hour",
        "minute" | "m" | "min" | "mins" | "minutes" => "minute",
        "second" | "s" | "sec" | "seconds" | "secs" => return Ok(SECONDS.call(vec![source])),
        "yearofweek" => return Ok(ISO_YEAR.call(vec![source])),
        other => {
            return Err(Error::user(format!("`{other}` is not a field of a date or time"))
                .with_condition("INVALID_EXTRACT_FIELD"));
        }
    };
    by_name(name, vec![source])
}

pub(super) fn by_name(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let found = super::datetime::FUNCTIONS.iter().find(|function| function.names.contains(&name));
    found
        .map(|function| function.call(args))
        .ok_or_else(|| Error::internal(format!("no function for the field `{name}`")))
}

/// A constant text argument.
fn constant(expr: &Expr, what: &str) -> Result<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
    .ok_or_else(|| Error::user(format!("{what} must be a constant")).with_condition("NON_FOLDABLE_ARGUMENT"))
}

/// The unit as the text the kernels take.
fn unit_first(mut args: Vec<Expr>) -> Result<Vec<Expr>> {
    if let Some(first) = args.first_mut() {
        let name = constant(first, "the unit")?;
        if unit(&name).is_none() {
            return Err(Error::user(format!("`{name}` is not a unit of time"))
                .with_condition("INVALID_PARAMETER_VALUE.DATETIME_UNIT"));
        }
        *first = lit(name);
    }
    Ok(args)
}

#[derive(Clone, Copy)]
enum Unit {
    Months(i64),
    Micros(i64),
}

fn unit(name: &str) -> Option<Unit> {
    Some(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Unit::Micros(1),
        "MILLISECOND" => Unit::Micros(1000),
        "SECOND" => Unit::Micros(SECOND),
        "MINUTE" => Unit::Micros(MINUTE),
        "HOUR" => Unit::Micros(HOUR),
        "DAY" | "DAYOFYEAR" => Unit::Micros(DAY),
        "WEEK" => Unit::Micros(7 * DAY),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        _ => return None,
    })
}

fn unit_of(call: &Call<'_>) -> Result<Unit> {
    let name = call.constant_text(0).flatten().unwrap_or_default();
    unit(&name).ok_or_else(|| Error::internal(format!("the unit `{name}` was not checked")))
}

/// Whole units between two times.
const TIMESTAMP_DIFF: Function = function(&["timestampdiff"], (3, 3), LONG, |c| {
    let unit = unit_of(c)?;
    let (starts, ends) = (c.cast(1, &timestamp())?, c.cast(2, &timestamp())?);
    let tz = c.tz();
    let between = |(start, end): (Option<i64>, Option<i64>)| {
        let (start, end) = (start?, end?);
        let (a, b) = (calendar::to_local(start, tz), calendar::to_local(end, tz));
        Some(match unit {
            // What lies between the clocks, which is not what has passed if they changed meanwhile.
            Unit::Micros(size) => (b - a) / size,
            Unit::Months(months) => whole_months(a, b) / months,
        })
    };
    let times = starts.as_primitive::<TimestampMicrosecondType>().iter();
    let values = times.zip(ends.as_primitive::<TimestampMicrosecondType>()).map(between);
    Ok(Arc::new(values.collect::<Int64Array>()))
});

/// Months from one local time to another that are over.
fn whole_months(from: i64, to: i64) -> i64 {
    let split = |t: i64| {
        let (year, month, day) = calendar::civil_from_days(t.div_euclid(DAY));
        (year * 12 + i64::from(month), (i64::from(day), t.rem_euclid(DAY)))
    };
    let ((a, rest_a), (b, rest_b)) = (split(from), split(to));
    match b - a {
        months if months > 0 && rest_b < rest_a => months - 1,
        months if months < 0 && rest_b > rest_a => months + 1,
        months => months,
    }
}

fn timestamp_add(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let args = unit_first(args)?;
    let [name, count, time] = exactly(args)?;
    let ntz = env.type_of(&time)? == timestamp_ntz();
    let time = env.cast(time, &timestamp())?;
    let moved = TIMESTAMP_ADD.call(vec![name, count, time]);
    if ntz { env.cast(moved, &timestamp_ntz()) } else { Ok(moved) }
}

const TIMESTAMP_ADD: Function = function(&["timestampadd"], (3, 3), TIMESTAMP, |c| {
    let unit = unit_of(c)?;
    let (counts, times) = (c.cast(1, &DataType::Int64)?, c.cast(2, &timestamp())?);
    let tz = c.tz();
    let moved = |(count, time): (Option<i64>, Option<i64>)| {
        let (count, time) = (count?, time?);
        let local = calendar::to_local(time, tz);
        let by_days = |days: i64| calendar::from_local(days * DAY + local.rem_euclid(DAY), tz);
        match unit {
            Unit::Micros(size) if size >= DAY => Some(by_days(local.div_euclid(DAY) + count * (size / DAY))),
            Unit::Micros(size) => time.checked_add(count.checked_mul(size)?),
            Unit::Months(months) => Some(by_days(calendar::add_months(local.div_euclid(DAY), count * months))),
        }
    };
    let pairs = counts.as_primitive::<Int64Type>().iter().zip(times.as_primitive::<TimestampMicrosecondType>());
    let values: PrimitiveArray<TimestampMicrosecondType> = pairs.map(moved).collect();
    Ok(Arc::new(values.with_timezone("UTC")))
});

fn named(call: &Call<'_>, f: impl Fn(i64) -> &'static str) -> Result<ArrayRef> {
    let days = call.cast(0, &DataType::Date32)?;
    let names = days.as_primitive::<Date32Type>().iter().map(|d| d.map(|d| f(d.into())));
    Ok(Arc::new(names.collect::<StringArray>()))
}

fn next_day(call: &Call<'_>) -> Result<ArrayRef> {
    let (days, names) = (call.cast(0, &DataType::Date32)?, call.text(1)?);
    let next = |(day, name): (Option<i32>, Option<&str>)| -> Result<Option<i32>> {
        let (Some(day), Some(name)) = (day, name) else { return Ok(None) };
        let wanted = DAYS.iter().position(|known| {
            let known = known.to_ascii_lowercase();
            let name = name.trim().to_ascii_lowercase();
            known == name || known[..3] == *name || known[..2] == *name
        });
        match wanted {
            Some(wanted) => {
                let ahead = (wanted as i64 - calendar::weekday(day.into()) - 1).rem_euclid(7) + 1;
                Ok(Some(day + ahead as i32))
            }
            None if call.ansi() => {
                Err(Error::data(format!("`{name}` is not a day of the week")).with_condition("ILLEGAL_DAY_OF_WEEK"))
            }
            None => Ok(None),
        }
    };
    let pairs = days.as_primitive::<Date32Type>().iter().zip(&names);
    Ok(Arc::new(pairs.map(next).collect::<Result<Date32Array>>()?))
}

/// `make_timestamp(year, month, day, hour, minute, second[, zone])`; seconds have six decimals.
fn make_timestamp(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    Ok(Arc::new(made(call, strict, calendar::from_local)?.with_timezone("UTC")))
}

/// As [`make_timestamp`], as a local time.
fn local(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    Ok(Arc::new(made(call, strict, |local, _| local)?))
}

fn made(
    call: &Call<'_>,
    strict: bool,
    without_zone: fn(i64, chrono_tz::Tz) -> i64,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    if call.len() < 4 {
        return of_date_and_time(call, without_zone);
    }
    if call.len() < 6 {
        return Err(Error::user(format!("`make_timestamp` takes 2, 3, 6 or 7 arguments, but got {}", call.len()))
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
    }
    let parts = (0..5).map(|i| call.cast(i, &DataType::Int32)).collect::<Result<Vec<_>>>()?;
    let seconds = call.cast(5, &DataType::Decimal128(16, 6))?;
    let seconds = seconds.as_primitive::<Decimal128Type>();
    let zones = if call.len() == 7 { Some(call.text(6)?) } else { None };
    let at = |row: usize| -> Result<Option<i64>> {
        let missing = parts.iter().any(|part| part.is_null(row)) || seconds.is_null(row);
        if missing || zones.as_ref().is_some_and(|zones| zones.is_null(row)) {
            return Ok(None);
        }
        let part = |i: usize| parts[i].as_primitive::<Int32Type>().value(row);
        let micros = seconds.value(row) as i64;
        let (hour, minute) = (i64::from(part(3)), i64::from(part(4)));
        let small = |i: usize| u32::try_from(part(i)).unwrap_or(0);
        let day = calendar::date(part(0).into(), small(1), small(2));
        let in_range = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=MINUTE).contains(&micros);
        let Some(day) = day.filter(|_| in_range) else {
            let error = Error::data("`make_timestamp` was given a time that does not exist");
            return if strict {
                Err(error.with_condition("DATETIME_FIELD_OUT_OF_BOUNDS.WITH_SUGGESTION"))
            } else {
                Ok(None)
            };
        };
        let local = day * DAY + hour * HOUR + minute * MINUTE + micros;
        match &zones {
            Some(zones) => Ok(Some(zone(zones.value(row))?.to_utc(local))),
            None => Ok(Some(without_zone(local, call.tz()))),
        }
    };
    (0..call.rows()).map(at).collect()
}

/// `make_timestamp(date, time[, zone])`
fn of_date_and_time(
    call: &Call<'_>,
    without_zone: fn(i64, chrono_tz::Tz) -> i64,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let (days, times) = (call.cast(0, &DataType::Date32)?, super::clock::times(call, 1)?);
    let days = days.as_primitive::<Date32Type>();
    let zones = if call.len() == 3 { Some(call.text(2)?) } else { None };
    let at = |row: usize| -> Result<Option<i64>> {
        let missing = days.is_null(row) || times.is_null(row);
        if missing || zones.as_ref().is_some_and(|zones| zones.is_null(row)) {
            return Ok(None);
        }
        let local = i64::from(days.value(row)) * DAY + times.value(row) / 1000;
        match &zones {
            Some(zones) => Ok(Some(zone(zones.value(row))?.to_utc(local))),
            None => Ok(Some(without_zone(local, call.tz()))),
        }
    };
    (0..call.rows()).map(at).collect()
}

fn zone(name: &str) -> Result<parse::Zone> {
    parse::zone(name)
        .ok_or_else(|| Error::data(format!("`{name}` is not a time zone")).with_condition("INVALID_TIMEZONE"))
}

/// `convert_timezone([from,] to, local time)`
fn convert_timezone(call: &Call<'_>) -> Result<ArrayRef> {
    let last = call.len() - 1;
    let times = call.cast(last, &timestamp_ntz())?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let from = if last == 2 { Some(call.text(0)?) } else { None };
    let to = call.text(last - 1)?;
    let convert = |row: usize| -> Result<Option<i64>> {
        if times.is_null(row) || to.is_null(row) || from.as_ref().is_some_and(|from| from.is_null(row)) {
            return Ok(None);
        }
        let utc = match &from {
            Some(from) => zone(from.value(row))?.to_utc(times.value(row)),
            None => calendar::from_local(times.value(row), call.tz()),
        };
        Ok(Some(zone(to.value(row))?.to_local(utc)))
    };
    let values = (0..call.rows()).map(convert).collect::<Result<PrimitiveArray<TimestampMicrosecondType>>>()?;
    Ok(Arc::new(values))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("date_part('YEAR', TIMESTAMP '2019-08-12 01:00:00')", "2019"),
            ("date_part('SECONDS', TIMESTAMP '2019-10-01 00:00:01.000001')", "1.000001"),
            ("date_part('dow', DATE '2019-08-12')", "2"),
            ("date_part('WEEK', DATE '2019-08-12')", "33"),
            ("extract(YEAR FROM DATE '2019-08-12')", "2019"),
            ("dayname(DATE '2008-02-20')", "Wed"),
            ("monthname(DATE '2008-02-20')", "Feb"),
            ("next_day(DATE '2015-01-14', 'TU')", "2015-01-20"),
            ("next_day(DATE '2015-01-20', 'Tuesday')", "2015-01-27"),
            ("unix_date(DATE '1970-01-02')", "1"),
            ("date_from_unix_date(1)", "1970-01-02"),
            ("make_timestamp(2014, 12, 28, 6, 30, 45.887)", "2014-12-28 06:30:45.887"),
            ("make_timestamp(2014, 12, 28, 6, 30, 45.887, 'CET')", "2014-12-28 05:30:45.887"),
            ("timestampdiff('MONTH', DATE '2021-02-28', DATE '2021-03-28')", "1"),
            ("timestampdiff('MONTH', DATE '2021-02-28', DATE '2021-03-27')", "0"),
            ("timestampdiff('DAY', TIMESTAMP '2021-02-28 12:00:00', DATE '2021-03-01')", "0"),
            ("timestampadd('HOUR', 8, TIMESTAMP '2022-02-11 20:30:00')", "2022-02-12 04:30:00"),
            ("timestampadd('MONTH', 1, TIMESTAMP '2022-01-31 20:30:00')", "2022-02-28 20:30:00"),
            ("datediff('WEEK', DATE '2021-02-28', DATE '2021-03-28')", "4"),
            ("datediff(DATE '2024-03-01', DATE '2024-02-01')", "29"),
            ("date_diff('2024-03-01', '2024-02-01')", "29"),
            ("date_add('2016-07-30', 1)", "2016-07-31"),
            ("timestamp_millis(1230219000123)", "2008-12-25 15:30:00.123"),
            ("to_unix_timestamp('2016-04-08', 'yyyy-MM-dd')", "1460073600"),
            ("current_date() = to_date(current_timestamp())", "true"),
            ("convert_timezone('Europe/Brussels', 'UTC', '2021-12-06 00:00:00')", "2021-12-05 23:00:00"),
        ])
        .await;
    }

    #[tokio::test]
    async fn times_that_do_not_exist() {
        let sql = "make_timestamp(2014, 13, 28, 6, 30, 45)";
        check(sql, Ok("NULL"), Err("DATETIME_FIELD_OUT_OF_BOUNDS.WITH_SUGGESTION")).await;
        let field = Err("INVALID_EXTRACT_FIELD");
        check("date_part('nothing', DATE '2024-01-01')", field, field).await;
    }
}
