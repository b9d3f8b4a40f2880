//! The table of casts: value, type, mode, expected text (`None`: NULL) or error condition.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::types::parse_data_type;
use arrow::array::{Float64Array, Int64Array, StringArray};

fn shown(array: &ArrayRef, to: &str, mode: CastMode, tz: Tz) -> Result<Option<String>> {
    let cast = cast_array(array, &parse_data_type(to).unwrap(), mode, tz)?;
    let text = cast_array(&cast, &DataType::Utf8, CastMode::Ansi, tz)?;
    Ok(text.is_valid(0).then(|| text.as_string::<i32>().value(0).to_owned()))
}

fn check(array: ArrayRef, to: &str, lenient: Option<&str>, ansi: Result<&str, &str>) {
    let as_text = |mode| shown(&array, to, mode, Tz::UTC);
    assert_eq!(as_text(CastMode::Lenient).unwrap().as_deref(), lenient, "{array:?} to {to}, lenient");
    match (as_text(CastMode::Ansi), ansi) {
        (Ok(got), Ok(expected)) => assert_eq!(got.as_deref(), Some(expected), "{array:?} to {to}, ansi"),
        (Err(error), Err(condition)) => assert_eq!(error.condition(), Some(condition)),
        (got, expected) => assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{array:?} to {to}"),
    }
    if ansi.is_err() {
        assert!(as_text(CastMode::Try).unwrap().is_none() || array.data_type() == &DataType::Utf8);
    }
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

#[test]
fn text_to_values() {
    let malformed = Err("CAST_INVALID_INPUT");
    for (value, to, lenient, ansi) in [
        (" 12 ", "int", Some("12"), Ok("12")),
        ("1.9", "int", Some("1"), malformed),
        ("abc", "int", None, malformed),
        ("300", "tinyint", None, malformed),
        ("1e3", "double", Some("1000.0"), Ok("1000.0")),
        ("Infinity", "double", Some("Infinity"), Ok("Infinity")),
        ("1.005", "decimal(10,2)", Some("1.01"), Ok("1.01")),
        ("yes", "boolean", Some("true"), Ok("true")),
        ("2", "boolean", None, malformed),
        ("2024-02-29 10:00", "date", Some("2024-02-29"), Ok("2024-02-29")),
        ("2023-02-29", "date", None, malformed),
        ("2024-1-2 3:4:5.5", "timestamp", Some("2024-01-02 03:04:05.5"), Ok("2024-01-02 03:04:05.5")),
        ("2024-01-02T03:04:05+02:00", "timestamp", Some("2024-01-02 01:04:05"), Ok("2024-01-02 01:04:05")),
        ("", "timestamp", None, malformed),
        ("ab", "binary", Some("ab"), Ok("ab")),
        ("1-2", "interval year to month", Some("INTERVAL '1-2' YEAR TO MONTH"), Ok("INTERVAL '1-2' YEAR TO MONTH")),
    ] {
        check(text(value), to, lenient, ansi);
    }
}

#[test]
fn numbers() {
    let overflow = Err("CAST_OVERFLOW");
    let long = |v: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![v])) };
    let double = |v: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![v])) };
    check(long(300), "tinyint", Some("44"), overflow);
    check(long(3_000_000_000), "int", Some("-1294967296"), overflow);
    check(double(1.9), "int", Some("1"), Ok("1"));
    check(double(1e10), "int", Some("2147483647"), overflow);
    check(double(f64::NAN), "bigint", Some("0"), overflow);
    check(double(1.005), "decimal(10,2)", Some("1.01"), Ok("1.01"));
    check(double(1e9), "decimal(5,2)", None, Err("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION"));
    check(long(0), "boolean", Some("false"), Ok("false"));
    check(long(60), "timestamp", Some("1970-01-01 00:01:00"), Ok("1970-01-01 00:01:00"));
}

#[test]
fn the_time_zone_counts() {
    let berlin = Tz::Europe__Berlin;
    let ts = cast_array(&text("2024-07-01 00:30:00"), &crate::types::timestamp(), CastMode::Ansi, berlin).unwrap();
    assert_eq!(shown(&ts, "date", CastMode::Ansi, berlin).unwrap().unwrap(), "2024-07-01");
    assert_eq!(shown(&ts, "date", CastMode::Ansi, Tz::UTC).unwrap().unwrap(), "2024-06-30");
    assert_eq!(shown(&ts, "timestamp_ntz", CastMode::Ansi, berlin).unwrap().unwrap(), "2024-07-01 00:30:00");
}
