//! Declared types of SQLite, and values, whose types are their own.

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use deltaworks_spark::types::{sql_type_name, timestamp, timestamp_ntz};
use deltaworks_spark::{Error, Result};
use rusqlite::types::ValueRef;

use crate::cells::Cell;
use crate::column::{Column, Compare};
use crate::decimal;
use crate::errors::malformed;
use crate::time;

/// The column that goes with a declared type; `None` if the type says nothing.
pub(super) fn column(name: &str, declared: &str, prefer_ntz: bool) -> Option<Column> {
    let declared = declared.trim().to_ascii_uppercase();
    let (base, arguments) = match declared.split_once('(') {
        Some((base, arguments)) => (base.trim(), arguments.trim_end_matches(')')),
        None => (declared.as_str(), ""),
    };
    let plain = |data_type| Some(Column::new(name, data_type, Compare::Nothing));
    let number = |data_type| Some(Column::new(name, data_type, Compare::Number));
    match base {
        "BOOLEAN" | "BOOL" => plain(DataType::Boolean),
        "TINYINT" => number(DataType::Int8),
        "SMALLINT" | "INT2" => number(DataType::Int16),
        "INT" | "MEDIUMINT" | "INT4" => number(DataType::Int32),
        "DATE" => plain(DataType::Date32),
        "DATETIME" if prefer_ntz => plain(timestamp_ntz()),
        "TIMESTAMP" | "DATETIME" => plain(timestamp()),
        "DECIMAL" | "NUMERIC" | "DECIMAL_TEXT" => match decimal_arguments(arguments) {
            Some((precision, scale)) => plain(decimal::bounded(precision, scale)),
            None => plain(decimal::UNBOUNDED),
        },
        // The rules by which SQLite itself tells what a column prefers.
        base if base.contains("INT") => number(DataType::Int64),
        base if ["CHAR", "CLOB", "TEXT", "JSON"].iter().any(|part| base.contains(part)) => {
            Some(Column::new(name, DataType::Utf8, Compare::Text))
        }
        base if base.contains("BLOB") || base.contains("BINARY") => plain(DataType::Binary),
        base if ["REAL", "FLOAT", "DOUBLE"].iter().any(|part| base.contains(part)) => number(DataType::Float64),
        _ => None,
    }
}

fn decimal_arguments(text: &str) -> Option<(i64, i64)> {
    let (precision, scale) = text.split_once(',').unwrap_or((text, "0"));
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// The type of a value that has no declared one.
pub(super) fn of_value(value: ValueRef<'_>) -> DataType {
    match value {
        ValueRef::Integer(_) => DataType::Int64,
        ValueRef::Real(_) => DataType::Float64,
        ValueRef::Blob(_) => DataType::Binary,
        ValueRef::Text(_) | ValueRef::Null => DataType::Utf8,
    }
}

/// The type of columns that are declared by nothing, and have no row.
pub(super) fn unknown() -> DataType {
    DataType::Utf8
}

/// A value as the column's type has it.
///
/// # Errors
/// `Data` for values that cannot have the type.
pub(super) fn cell<'a>(column: &Column, value: ValueRef<'a>, zone: Tz) -> Result<Cell<'a>> {
    let wrong = || unfitting(column, value);
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| malformed(&column.name));
    Ok(match (&column.natural, value) {
        (_, ValueRef::Null) => Cell::Null,
        (DataType::Boolean, ValueRef::Integer(value)) => Cell::Bool(value != 0),
        (DataType::Boolean, ValueRef::Text(bytes)) => match text(bytes)?.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Cell::Bool(true),
            "false" | "f" | "0" => Cell::Bool(false),
            _ => return Err(wrong()),
        },
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, ValueRef::Integer(value)) => {
            Cell::Int(value)
        }
        (DataType::Float64, ValueRef::Real(value)) => Cell::Float(value),
        (DataType::Float64, ValueRef::Integer(value)) => Cell::Float(value as f64),
        (DataType::Decimal128(..), ValueRef::Integer(value)) => {
            Cell::Decimal(decimal::parse_for(&column.name, &value.to_string(), &column.natural)?)
        }
        (DataType::Decimal128(..), ValueRef::Real(value)) => {
            Cell::Decimal(decimal::parse_for(&column.name, &value.to_string(), &column.natural)?)
        }
        (DataType::Decimal128(..), ValueRef::Text(bytes)) => {
            Cell::Decimal(decimal::parse_for(&column.name, text(bytes)?, &column.natural)?)
        }
        (DataType::Utf8, ValueRef::Text(bytes)) => Cell::Text(text(bytes)?),
        (DataType::Utf8, ValueRef::Integer(value)) => Cell::Owned(value.to_string()),
        (DataType::Utf8, ValueRef::Real(value)) => Cell::Owned(value.to_string()),
        (DataType::Binary, ValueRef::Blob(bytes) | ValueRef::Text(bytes)) => Cell::Bytes(bytes),
        (wanted @ (DataType::Date32 | DataType::Timestamp(..)), value) => {
            let (micros, is_absolute) = match value {
                ValueRef::Text(bytes) => time::parse_moment(text(bytes)?).ok_or_else(wrong)?,
                // As Java's driver stores them: milliseconds, or days since noon of a day long ago.
                ValueRef::Integer(millis) => (millis.checked_mul(1000).ok_or_else(wrong)?, true),
                ValueRef::Real(day) => (((day - 2_440_587.5) * 86_400_000.0).round() as i64 * 1000, true),
                _ => return Err(wrong()),
            };
            let is_clock = *wanted == timestamp_ntz() || *wanted == DataType::Date32;
            let micros = match (is_absolute, is_clock) {
                (true, true) if !matches!(value, ValueRef::Text(_)) => time::local(micros, zone),
                (false, false) => time::instant(micros, zone),
                _ => Some(micros),
            };
            let micros = micros.ok_or_else(wrong)?;
            if *wanted == DataType::Date32 { Cell::Date(time::day_of(micros)) } else { Cell::Micros(micros) }
        }
        _ => return Err(wrong()),
    })
}

fn unfitting(column: &Column, value: ValueRef<'_>) -> Error {
    let shown = match value {
        ValueRef::Text(bytes) => format!("`{}`", String::from_utf8_lossy(bytes).chars().take(100).collect::<String>()),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Blob(_) | ValueRef::Null => "of bytes".to_owned(),
    };
    let declared = sql_type_name(&column.natural);
    Error::data(format!("column `{}` has a value {shown} that is no {declared}", column.name)).with_help(
        "SQLite keeps any value in any column. Cast it in option `query`: `SELECT CAST(a AS TEXT) AS a FROM t`.",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn declared_types() {
        let check = |declared: &str, expected: &str| {
            let column = column("c", declared, false);
            let shown = column.map(|column| deltaworks_spark::types::type_name(&column.natural));
            assert_eq!(shown.as_deref(), (!expected.is_empty()).then_some(expected), "{declared}");
        };
        check("INTEGER", "bigint");
        check("int", "int");
        check("UNSIGNED BIG INT", "bigint");
        check("VARCHAR(30)", "string");
        check("DECIMAL(10, 2)", "decimal(10,2)");
        check("DECIMAL_TEXT(38,18)", "decimal(38,18)");
        check("numeric", "decimal(38,18)");
        check("DOUBLE PRECISION", "double");
        check("DATETIME", "timestamp");
        check("BLOB", "binary");
        check("", "");
    }

    #[test]
    fn moments_in_three_forms() {
        let check = |declared: &str, value: ValueRef<'_>, expected: Cell<'_>| {
            let column = column("c", declared, false).unwrap();
            assert_eq!(cell(&column, value, Tz::Europe__Berlin).unwrap(), expected);
        };
        check("TIMESTAMP", ValueRef::Text(b"1970-01-01 01:00:00"), Cell::Micros(0));
        check("TIMESTAMP", ValueRef::Text(b"1970-01-01T00:00:00Z"), Cell::Micros(0));
        check("TIMESTAMP", ValueRef::Integer(1), Cell::Micros(1000));
        check("TIMESTAMP", ValueRef::Real(2_440_587.5), Cell::Micros(0));
        check("DATE", ValueRef::Text(b"1970-01-02"), Cell::Date(1));
        // Midnight of the second of January in Berlin.
        check("DATE", ValueRef::Integer(82_800_000), Cell::Date(1));
        let error = cell(&column("c", "INT", false).unwrap(), ValueRef::Text(b"abc"), Tz::UTC).unwrap_err();
        assert_eq!(error.message(), "column `c` has a value `abc` that is no INT");
    }
}
