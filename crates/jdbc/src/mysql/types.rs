//! Types and values of MySQL, as Spark's dialect reads them from Connector/J.

use arrow::datatypes::DataType;
use chrono::NaiveDate;
use chrono_tz::Tz;
use deltaworks_spark::types::{timestamp, timestamp_ntz};
use deltaworks_spark::{Error, Result};
use mysql_async::Value;
use mysql_async::consts::{ColumnFlags, ColumnType};

use crate::cells::Cell;
use crate::column::{Column, Compare};
use crate::decimal;
use crate::errors::{malformed, unreadable};
use crate::options::ReadJob;
use crate::time;

/// The character set of bytes.
const BINARY: u16 = 63;

/// What properties of the connection say about types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// `tinyInt1isBit`: TINYINT(1) is a truth value.
    tiny_is_bit: bool,
    /// `yearIsDateType`: a year is its first day.
    year_is_date: bool,
    prefer_ntz: bool,
    /// `zeroDateTimeBehavior`: whether the day 0000-00-00 is NULL, and not an error.
    zero_is_null: bool,
    zone: Tz,
}

impl Reading {
    pub(super) fn of(job: &ReadJob) -> Self {
        let target = &job.connecting.target;
        let is_not_false = |name| target.property(name).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
        let zero = target.property("zeroDateTimeBehavior").unwrap_or_default();
        Self {
            tiny_is_bit: is_not_false("tinyInt1isBit"),
            year_is_date: is_not_false("yearIsDateType"),
            prefer_ntz: job.prefer_ntz,
            zero_is_null: ["CONVERT_TO_NULL", "convertToNull"].iter().any(|name| name.eq_ignore_ascii_case(zero)),
            zone: job.connecting.zone,
        }
    }

    /// The column that goes with a type.
    ///
    /// # Errors
    /// `Unsupported` for types that do not come out of tables.
    pub(super) fn column(&self, sent: &mysql_async::Column) -> Result<Column> {
        let name = sent.name_str();
        let is_signed = !sent.flags().contains(ColumnFlags::UNSIGNED_FLAG);
        let number = |signed: DataType, unsigned: DataType| {
            Column::new(&name, if is_signed { signed } else { unsigned }, Compare::Number)
        };
        let plain = |data_type: DataType| Column::new(&name, data_type, Compare::Nothing);
        Ok(match sent.column_type() {
            ColumnType::MYSQL_TYPE_TINY if sent.column_length() == 1 && self.tiny_is_bit => plain(DataType::Boolean),
            ColumnType::MYSQL_TYPE_TINY => number(DataType::Int8, DataType::Int16),
            ColumnType::MYSQL_TYPE_SHORT => number(DataType::Int16, DataType::Int32),
            ColumnType::MYSQL_TYPE_INT24 => number(DataType::Int32, DataType::Int32),
            ColumnType::MYSQL_TYPE_LONG => number(DataType::Int32, DataType::Int64),
            ColumnType::MYSQL_TYPE_LONGLONG => number(DataType::Int64, DataType::Decimal128(20, 0)),
            ColumnType::MYSQL_TYPE_FLOAT => plain(if is_signed { DataType::Float32 } else { DataType::Float64 }),
            ColumnType::MYSQL_TYPE_DOUBLE => number(DataType::Float64, DataType::Float64),
            ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
                let scale = i64::from(sent.decimals());
                // The length counts a sign and a point.
                let precision = i64::from(sent.column_length()) - i64::from(is_signed) - i64::from(scale > 0);
                let is_whole = precision <= i64::from(decimal::MAX_PRECISION);
                let compare = if is_whole { Compare::Number } else { Compare::Nothing };
                Column::new(&name, decimal::bounded(precision, scale), compare)
            }
            ColumnType::MYSQL_TYPE_YEAR if self.year_is_date => plain(DataType::Date32),
            ColumnType::MYSQL_TYPE_YEAR => plain(DataType::Int32),
            ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => {
                Column::new(&name, DataType::Date32, Compare::Date)
            }
            ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => {
                Column::new(&name, timestamp(), Compare::Instant)
            }
            ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 if self.prefer_ntz => {
                Column::new(&name, timestamp_ntz(), Compare::Clock)
            }
            ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 if self.prefer_ntz => plain(timestamp_ntz()),
            ColumnType::MYSQL_TYPE_DATETIME
            | ColumnType::MYSQL_TYPE_DATETIME2
            | ColumnType::MYSQL_TYPE_TIME
            | ColumnType::MYSQL_TYPE_TIME2 => plain(timestamp()),
            ColumnType::MYSQL_TYPE_BIT if sent.column_length() == 1 => plain(DataType::Boolean),
            ColumnType::MYSQL_TYPE_BIT | ColumnType::MYSQL_TYPE_GEOMETRY => plain(DataType::Binary),
            ColumnType::MYSQL_TYPE_JSON
            | ColumnType::MYSQL_TYPE_NULL
            | ColumnType::MYSQL_TYPE_ENUM
            | ColumnType::MYSQL_TYPE_SET => plain(DataType::Utf8),
            ColumnType::MYSQL_TYPE_STRING
            | ColumnType::MYSQL_TYPE_VAR_STRING
            | ColumnType::MYSQL_TYPE_VARCHAR
            | ColumnType::MYSQL_TYPE_BLOB
            | ColumnType::MYSQL_TYPE_TINY_BLOB
            | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
            | ColumnType::MYSQL_TYPE_LONG_BLOB => {
                let is_listed = sent.flags().intersects(ColumnFlags::ENUM_FLAG | ColumnFlags::SET_FLAG);
                match sent.character_set() {
                    BINARY => plain(DataType::Binary),
                    _ if is_listed => plain(DataType::Utf8),
                    _ => Column::new(&name, DataType::Utf8, Compare::Text),
                }
            }
            other => return Err(unreadable(&name, &format!("{other:?}"))),
        })
    }

    /// A value as the binary protocol has it.
    ///
    /// # Errors
    /// `Data` for values that cannot have the type.
    pub(super) fn cell<'a>(&self, column: &Column, value: &'a Value) -> Result<Cell<'a>> {
        let wrong = || malformed(&column.name);
        let local = |micros: i64, is_instant: bool| {
            let moment = if is_instant { Some(micros) } else { time::instant(micros, self.zone) };
            moment.map(Cell::Micros).ok_or_else(wrong)
        };
        Ok(match (value, &column.natural) {
            (Value::NULL, _) => Cell::Null,
            (Value::Int(value), DataType::Boolean) => Cell::Bool(*value != 0),
            (Value::UInt(value), DataType::Boolean) => Cell::Bool(*value != 0),
            (Value::Bytes(bytes), DataType::Boolean) => Cell::Bool(bytes.iter().any(|byte| *byte != 0)),
            (Value::Int(year), DataType::Date32) => self.year(column, *year)?,
            (Value::UInt(year), DataType::Date32) => self.year(column, i64::try_from(*year).map_err(|_| wrong())?)?,
            (Value::Int(value), DataType::Decimal128(..)) => Cell::Decimal((*value).into()),
            (Value::UInt(value), DataType::Decimal128(..)) => Cell::Decimal((*value).into()),
            (Value::Int(value), _) => Cell::Int(*value),
            (Value::UInt(value), _) => Cell::Int(i64::try_from(*value).map_err(|_| wrong())?),
            (Value::Float(value), _) => Cell::Float((*value).into()),
            (Value::Double(value), _) => Cell::Float(*value),
            (Value::Bytes(bytes), DataType::Decimal128(..)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
                Cell::Decimal(decimal::parse_for(&column.name, text, &column.natural)?)
            }
            (Value::Bytes(bytes), DataType::Utf8) => Cell::Text(std::str::from_utf8(bytes).map_err(|_| wrong())?),
            (Value::Bytes(bytes), _) => Cell::Bytes(bytes),
            (Value::Date(year, month, day, hour, minute, second, micro), wanted) => {
                let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into());
                let Some(date) = date.filter(|_| *month > 0 && *day > 0) else { return self.zero_day(column) };
                if *wanted == DataType::Date32 {
                    return Ok(Cell::Date(time::days(date)));
                }
                let clock = date.and_hms_micro_opt((*hour).into(), (*minute).into(), (*second).into(), *micro);
                let micros = time::micros(clock.ok_or_else(wrong)?);
                local(micros, column.compare != Compare::Nothing)?
            }
            (Value::Time(is_negative, days, hours, minutes, seconds, micros), _) => {
                let seconds = i64::from(*days) * 86_400
                    + i64::from(*hours) * 3_600
                    + i64::from(*minutes) * 60
                    + i64::from(*seconds);
                let span = seconds * 1_000_000 + i64::from(*micros);
                local(if *is_negative { -span } else { span }, column.natural == timestamp_ntz())?
            }
        })
    }

    fn year(&self, column: &Column, year: i64) -> Result<Cell<'static>> {
        match i32::try_from(year).ok().and_then(|year| NaiveDate::from_ymd_opt(year, 1, 1)) {
            Some(day) if year > 0 => Ok(Cell::Date(time::days(day))),
            _ => self.zero_day(column),
        }
    }

    fn zero_day(&self, column: &Column) -> Result<Cell<'static>> {
        match self.zero_is_null {
            true => Ok(Cell::Null),
            false => Err(Error::data(format!("column `{}` has a zero date", column.name))
                .with_help("Read zero dates as NULL: add `zeroDateTimeBehavior=CONVERT_TO_NULL` to option `url`.")),
        }
    }
}
