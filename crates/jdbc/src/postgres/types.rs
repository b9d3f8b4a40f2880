//! Types and binary values of PostgreSQL, as Spark's dialect reads them.

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use deltaworks_spark::types::{array, timestamp, timestamp_ntz};
use deltaworks_spark::{Error, Result};
use tokio_postgres::types::{Kind, Type};

use crate::cells::Cell;
use crate::column::{Column, Compare};
use crate::decimal::{self, does_not_fit};
use crate::errors::malformed;
use crate::time;

/// Between 1970-01-01 and 2000-01-01, from which PostgreSQL counts.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What infinite days and moments become, as Spark has it: the first and the last of four-digit years.
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;
const FIRST_MOMENT: i64 = -62_135_596_800_000_000;
const LAST_MOMENT: i64 = 253_402_300_799_999_000;

/// The column that goes with a type and its modifier.
pub(super) fn column(name: &str, data_type: &Type, modifier: i32, prefer_ntz: bool) -> Column {
    if let Kind::Array(element) = data_type.kind() {
        let element = column(name, element, modifier, prefer_ntz);
        return match element.sent_as {
            None => Column::new(name, array(element.natural), Compare::Nothing),
            Some(_) if element.natural == DataType::Utf8 => Column::cast(name, array(DataType::Utf8), "text[]"),
            Some(_) => Column::cast(name, DataType::Utf8, "text"),
        };
    }
    let new = |data_type: DataType, compare: Compare| Column::new(name, data_type, compare);
    match *data_type {
        Type::BOOL => new(DataType::Boolean, Compare::Bool),
        Type::INT2 => new(DataType::Int16, Compare::Number),
        Type::INT4 => new(DataType::Int32, Compare::Number),
        Type::INT8 => new(DataType::Int64, Compare::Number),
        Type::OID => new(DataType::Int64, Compare::Nothing),
        Type::FLOAT4 => new(DataType::Float32, Compare::Nothing),
        Type::FLOAT8 => new(DataType::Float64, Compare::Number),
        Type::NUMERIC => match precision_and_scale(modifier) {
            Some((precision, scale)) => {
                let is_whole = precision <= i64::from(decimal::MAX_PRECISION) && (0..=precision).contains(&scale);
                let compare = if is_whole { Compare::Number } else { Compare::Nothing };
                new(decimal::bounded(precision, scale), compare)
            }
            // Digits beyond the scale are cut off here, but compared there.
            None => new(decimal::UNBOUNDED, Compare::Nothing),
        },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => new(DataType::Utf8, Compare::Text),
        Type::JSON | Type::XML | Type::UNKNOWN => new(DataType::Utf8, Compare::Nothing),
        Type::BYTEA => new(DataType::Binary, Compare::Nothing),
        Type::DATE => new(DataType::Date32, Compare::Date),
        Type::TIMESTAMPTZ => new(timestamp(), Compare::Instant),
        Type::TIMESTAMP if prefer_ntz => new(timestamp_ntz(), Compare::Clock),
        Type::TIMESTAMP | Type::TIMETZ => new(timestamp(), Compare::Nothing),
        Type::TIME if prefer_ntz => new(timestamp_ntz(), Compare::Nothing),
        Type::TIME => new(timestamp(), Compare::Nothing),
        Type::BIT if modifier == 1 => new(DataType::Boolean, Compare::Nothing),
        // Java's driver gives the digits.
        Type::BIT => Column::cast(name, DataType::Binary, "text"),
        _ => Column::cast(name, DataType::Utf8, "text"),
    }
}

/// What a modifier of `numeric` declares.
fn precision_and_scale(modifier: i32) -> Option<(i64, i64)> {
    let declared = modifier.checked_sub(4).filter(|declared| *declared >= 0)?;
    // Scales have eleven bits and a sign.
    let scale = ((declared & 0x7FF) ^ 1024) - 1024;
    Some((i64::from(declared >> 16), i64::from(scale)))
}

/// A value in PostgreSQL's binary form.
///
/// # Errors
/// `Data` for values that cannot have the type.
pub(super) fn cell<'a>(column: &str, sent: &Type, wanted: &DataType, bytes: &'a [u8], zone: Tz) -> Result<Cell<'a>> {
    if let (Kind::Array(element), DataType::List(field)) = (sent.kind(), wanted) {
        return list(column, element, field.data_type(), bytes, zone);
    }
    let wrong = || malformed(column);
    let unreachable = || Error::data(format!("column `{column}` has a moment that is out of range"));
    Ok(match *sent {
        Type::BOOL => Cell::Bool(bytes.first().is_some_and(|byte| *byte != 0)),
        Type::INT2 => Cell::Int(i16::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).into()),
        Type::INT4 => Cell::Int(i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).into()),
        Type::INT8 => Cell::Int(i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
        Type::OID => Cell::Int(u32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).into()),
        Type::FLOAT4 => Cell::Float(f32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).into()),
        Type::FLOAT8 => Cell::Float(f64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
        Type::NUMERIC => {
            let DataType::Decimal128(precision, scale) = *wanted else { return Err(wrong()) };
            let value = decimal::from_postgres(bytes, precision, scale);
            Cell::Decimal(value.ok_or_else(|| does_not_fit(column, "that is too large, or no number,", wanted))?)
        }
        Type::BYTEA => Cell::Bytes(bytes),
        Type::BIT => Cell::Bool(bytes.get(4).is_some_and(|byte| *byte != 0)),
        Type::DATE => Cell::Date(match i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) {
            i32::MIN => FIRST_DAY,
            i32::MAX => LAST_DAY,
            days => days.checked_add(EPOCH_DAYS).ok_or_else(wrong)?,
        }),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => match i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) {
            i64::MIN => Cell::Micros(FIRST_MOMENT),
            i64::MAX => Cell::Micros(LAST_MOMENT),
            micros => {
                let micros = micros.checked_add(EPOCH_MICROS).ok_or_else(unreachable)?;
                let is_local = *sent == Type::TIMESTAMP && *wanted == timestamp();
                let moment = if is_local { time::instant(micros, zone) } else { Some(micros) };
                Cell::Micros(moment.ok_or_else(unreachable)?)
            }
        },
        Type::TIME => {
            let micros = i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?);
            let moment = if *wanted == timestamp() { time::instant(micros, zone) } else { Some(micros) };
            Cell::Micros(moment.ok_or_else(unreachable)?)
        }
        Type::TIMETZ => {
            let (time, west) = bytes.split_at_checked(8).ok_or_else(wrong)?;
            let micros = i64::from_be_bytes(fixed(time).ok_or_else(wrong)?);
            let west_s = i32::from_be_bytes(fixed(west).ok_or_else(wrong)?);
            Cell::Micros(micros + i64::from(west_s) * 1_000_000)
        }
        _ => Cell::Text(std::str::from_utf8(bytes).map_err(|_| wrong())?),
    })
}

/// Dimensions, a flag, the element's type, then length and lower bound of each dimension, then the elements.
fn list<'a>(column: &str, element: &Type, wanted: &DataType, bytes: &'a [u8], zone: Tz) -> Result<Cell<'a>> {
    let wrong = || malformed(column);
    let int = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(fixed).ok_or_else(wrong)?;
        Ok::<_, Error>(i32::from_be_bytes(word))
    };
    match int(0)? {
        0 => return Ok(Cell::List(Vec::new())),
        1 => {}
        dimensions => {
            return Err(Error::unsupported(format!("column `{column}` with an array of {dimensions} dimensions"))
                .with_help("Cast it in option `query`: `SELECT CAST(a AS text) AS a`."));
        }
    }
    let count = usize::try_from(int(12)?).map_err(|_| wrong())?;
    let mut cells = Vec::with_capacity(count.min(bytes.len() / 4));
    let mut at = 20;
    for _ in 0..count {
        let length = int(at)?;
        at += 4;
        cells.push(match usize::try_from(length) {
            Err(_) => Cell::Null,
            Ok(length) => {
                let value = bytes.get(at..at + length).ok_or_else(wrong)?;
                at += length;
                cell(column, element, wanted, value, zone)?
            }
        });
    }
    Ok(Cell::List(cells))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_of_numbers() {
        assert_eq!(precision_and_scale(((10 << 16) | 2) + 4), Some((10, 2)));
        assert_eq!(precision_and_scale(((3 << 16) | (-2 & 0x7FF)) + 4), Some((3, -2)));
        assert_eq!(precision_and_scale(-1), None);
    }

    #[test]
    fn types_of_columns() {
        let check = |data_type: &Type, modifier: i32, expected: &str, sent_as: Option<&str>| {
            let column = column("c", data_type, modifier, false);
            let shown = deltaworks_spark::types::type_name(&column.natural);
            assert_eq!((shown.as_str(), column.sent_as), (expected, sent_as), "{data_type}");
        };
        check(&Type::NUMERIC, -1, "decimal(38,18)", None);
        check(&Type::NUMERIC, ((10 << 16) | 2) + 4, "decimal(10,2)", None);
        check(&Type::UUID, -1, "string", Some("text"));
        check(&Type::JSONB, -1, "string", Some("text"));
        check(&Type::INT4_ARRAY, -1, "array<int>", None);
        check(&Type::UUID_ARRAY, -1, "array<string>", Some("text[]"));
        check(&Type::BIT, 1, "boolean", None);
        check(&Type::BIT, 8, "binary", Some("text"));
        check(&Type::TIMESTAMP, -1, "timestamp", None);
    }
}
