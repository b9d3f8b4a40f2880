//! Values to text, as Spark writes them.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time64NanosecondType,
    TimeUnit,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono_tz::Tz;

use super::calendar::{self, DAY, HOUR, MINUTE, SECOND};
use crate::error::Result;
use crate::types::{IntervalUnits, is_variant};
use crate::variant;

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A cast to `STRING`.
    Cast,
    /// A cast to `STRING` outside of ANSI mode: small decimals as Java's `BigDecimal` has them.
    Lenient,
    /// A table of rows for people: bytes in hexadecimal digits, `NULL` in capitals inside values too.
    Shown,
}

/// Every value as text; NULL stays NULL.
pub(crate) fn to_text(array: &ArrayRef, tz: Tz, style: Style) -> Result<StringArray> {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 12);
    let writer = Writer::new(array, tz)?;
    for row in 0..array.len() {
        if array.is_null(row) || *array.data_type() == DataType::Null {
            builder.append_null();
        } else {
            writer.write(row, style, &mut builder);
            builder.append_value("");
        }
    }
    Ok(builder.finish())
}

/// ANSI intervals in the units they count, as literals: `INTERVAL '1' YEAR`.
pub(crate) fn intervals_to_text(array: &ArrayRef, units: IntervalUnits) -> StringArray {
    let name = units.name(array.data_type()).to_ascii_uppercase();
    let literal = |body: String| format!("INTERVAL '{body}' {name}");
    let sign = |negative: bool| if negative { "-" } else { "" };
    match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            let text = |months: i32| {
                let (sign, size) = (sign(months < 0), months.unsigned_abs());
                literal(match (units.first, units.last) {
                    (0, 0) => format!("{sign}{}", size / 12),
                    (1, _) => format!("{sign}{size}"),
                    _ => format!("{sign}{}-{}", size / 12, size % 12),
                })
            };
            array.as_primitive::<IntervalYearMonthType>().iter().map(|months| months.map(text)).collect()
        }
        _ => {
            let text = |micros: i64| literal(day_time_text(micros, units));
            array.as_primitive::<DurationMicrosecondType>().iter().map(|micros| micros.map(text)).collect()
        }
    }
}

/// The units from the first, which takes all that is above it, to the last.
fn day_time_text(micros: i64, units: IntervalUnits) -> String {
    let mut text = if micros < 0 { "-".to_owned() } else { String::new() };
    let mut rest = micros.unsigned_abs() as i64;
    for (number, size) in [(0, DAY), (1, HOUR), (2, MINUTE), (3, SECOND)] {
        if !(units.first..=units.last).contains(&number) {
            continue;
        }
        let (count, first) = (rest / size, number == units.first);
        let before = if first {
            ""
        } else if number == 1 {
            " "
        } else {
            ":"
        };
        // Writing into a string cannot fail.
        let _ = if number == 0 { write!(text, "{count}") } else { write!(text, "{before}{count:02}") };
        rest %= size;
        if number == 3 {
            let _ = write_fraction(&mut text, rest);
        }
    }
    text
}

/// Writes single values of an array.
enum Writer<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Date(&'a [i32]),
    Timestamp(&'a [i64], Tz),
    /// Nanoseconds of the day.
    Time(&'a [i64]),
    YearMonth(&'a [i32]),
    DayTime(&'a [i64]),
    Calendar(&'a [IntervalMonthDayNano]),
    Text(&'a StringArray),
    Binary(&'a arrow::array::BinaryArray),
    List(&'a arrow::array::ListArray, Box<Writer<'a>>),
    Struct(Vec<(&'a ArrayRef, Writer<'a>)>),
    Map(&'a arrow::array::MapArray, Box<Writer<'a>>, Box<Writer<'a>>),
    /// JSON.
    Variant(StringArray),
    /// Unscaled values and their scale.
    Decimal(&'a [i128], i8),
    Other(ArrayFormatter<'a>),
}

impl<'a> Writer<'a> {
    fn new(array: &'a ArrayRef, tz: Tz) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().values()),
            DataType::Date32 => Self::Date(array.as_primitive::<arrow::datatypes::Date32Type>().values()),
            DataType::Timestamp(_, zone) => {
                let values = array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values();
                Self::Timestamp(values, if zone.is_some() { tz } else { Tz::UTC })
            }
            DataType::Time64(TimeUnit::Nanosecond) => Self::Time(array.as_primitive::<Time64NanosecondType>().values()),
            DataType::Interval(IntervalUnit::YearMonth) => {
                Self::YearMonth(array.as_primitive::<IntervalYearMonthType>().values())
            }
            DataType::Duration(_) => Self::DayTime(array.as_primitive::<DurationMicrosecondType>().values()),
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Self::Calendar(array.as_primitive::<IntervalMonthDayNanoType>().values())
            }
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new(Self::new(list.values(), tz)?))
            }
            data_type if is_variant(data_type) => Self::Variant(variant::to_json(array, tz)?),
            DataType::Struct(_) => {
                let columns = array.as_struct().columns();
                Self::Struct(columns.iter().map(|c| Ok((c, Self::new(c, tz)?))).collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Self::Map(map, Box::new(Self::new(map.keys(), tz)?), Box::new(Self::new(map.values(), tz)?))
            }
            _ => Self::Other(ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?),
        })
    }

    // Writing into a string cannot fail.
    fn write(&self, row: usize, style: Style, out: &mut impl Write) {
        let _ = match self {
            Self::Boolean(array) => out.write_str(if array.value(row) { "true" } else { "false" }),
            Self::Float(values) => java_float(out, values[row]),
            Self::Double(values) => java_double(out, values[row]),
            Self::Date(values) => write_date(out, i64::from(values[row])),
            Self::Timestamp(values, tz) => write_timestamp(out, calendar::to_local(values[row], *tz)),
            Self::Time(values) => write_time(out, values[row] / 1000),
            Self::YearMonth(values) => write_year_month(out, values[row]),
            Self::DayTime(values) => write_day_time(out, values[row]),
            Self::Calendar(values) => write_calendar(out, values[row]),
            Self::Text(array) => out.write_str(array.value(row)),
            Self::Variant(texts) => out.write_str(texts.value(row)),
            Self::Binary(array) if style == Style::Shown => write_hex(out, array.value(row)),
            Self::Binary(array) => out.write_str(&String::from_utf8_lossy(array.value(row))),
            Self::List(list, writer) => {
                let offsets = list.value_offsets();
                let rows = offsets[row] as usize..offsets[row + 1] as usize;
                write_sequence(out, list.values(), writer, rows, style)
            }
            Self::Struct(columns) => write_struct(out, columns, row, style),
            Self::Map(map, keys, values) => write_map(out, map, (keys, values), row, style),
            Self::Decimal(values, scale) => write_decimal(out, values[row], *scale, style == Style::Lenient),
            Self::Other(formatter) => write!(out, "{}", formatter.value(row)),
        };
    }

    fn write_nullable(&self, array: &ArrayRef, row: usize, style: Style, out: &mut impl Write) {
        if array.is_null(row) {
            let _ = out.write_str(if style == Style::Shown { "NULL" } else { "null" });
        } else {
            // A trait object ends the recursion of types.
            let mut text = String::new();
            self.write(row, style, &mut text);
            let _ = out.write_str(&text);
        }
    }
}

fn write_sequence(
    out: &mut impl Write,
    values: &ArrayRef,
    writer: &Writer<'_>,
    rows: std::ops::Range<usize>,
    style: Style,
) -> std::fmt::Result {
    out.write_char('[')?;
    for (i, row) in rows.enumerate() {
        out.write_str(if i > 0 { ", " } else { "" })?;
        writer.write_nullable(values, row, style, out);
    }
    out.write_char(']')
}

fn write_struct(
    out: &mut impl Write,
    columns: &[(&ArrayRef, Writer<'_>)],
    row: usize,
    style: Style,
) -> std::fmt::Result {
    out.write_char('{')?;
    for (i, (column, writer)) in columns.iter().enumerate() {
        out.write_str(if i > 0 { ", " } else { "" })?;
        writer.write_nullable(column, row, style, out);
    }
    out.write_char('}')
}

fn write_map(
    out: &mut impl Write,
    map: &arrow::array::MapArray,
    (keys, values): (&Writer<'_>, &Writer<'_>),
    row: usize,
    style: Style,
) -> std::fmt::Result {
    let offsets = map.value_offsets();
    out.write_char('{')?;
    for (i, entry) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
        out.write_str(if i > 0 { ", " } else { "" })?;
        keys.write_nullable(map.keys(), entry, style, out);
        out.write_str(" -> ")?;
        values.write_nullable(map.values(), entry, style, out);
    }
    out.write_char('}')
}

/// Bytes as `[0A FF]`.
fn write_hex(out: &mut impl Write, bytes: &[u8]) -> std::fmt::Result {
    out.write_char('[')?;
    for (i, byte) in bytes.iter().enumerate() {
        write!(out, "{}{byte:02X}", if i > 0 { " " } else { "" })?;
    }
    out.write_char(']')
}

/// A date as `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut impl Write, days: i64) -> std::fmt::Result {
    let (year, month, day) = calendar::civil_from_days(days);
    match year {
        0..=9999 => write!(out, "{year:04}-{month:02}-{day:02}"),
        10_000.. => write!(out, "+{year}-{month:02}-{day:02}"),
        _ => write!(out, "-{:04}-{month:02}-{day:02}", -year),
    }
}

/// A local time as `yyyy-MM-dd HH:mm:ss[.ffffff]`, without trailing zeros.
pub(crate) fn write_timestamp(out: &mut impl Write, local: i64) -> std::fmt::Result {
    write_date(out, local.div_euclid(DAY))?;
    out.write_char(' ')?;
    write_time(out, local.rem_euclid(DAY))
}

/// A time of day as `HH:mm:ss[.ffffff]`, without trailing zeros.
fn write_time(out: &mut impl Write, micros: i64) -> std::fmt::Result {
    write!(out, "{:02}:{:02}:{:02}", micros / HOUR, micros / MINUTE % 60, micros / SECOND % 60)?;
    write_fraction(out, micros % SECOND)
}

fn write_fraction(out: &mut impl Write, micros: i64) -> std::fmt::Result {
    if micros == 0 {
        return Ok(());
    }
    let (mut digits, mut value) = (6, micros);
    while value % 10 == 0 {
        value /= 10;
        digits -= 1;
    }
    write!(out, ".{value:0digits$}")
}

fn write_year_month(out: &mut impl Write, months: i32) -> std::fmt::Result {
    let sign = if months < 0 { "-" } else { "" };
    let months = months.unsigned_abs();
    write!(out, "INTERVAL '{sign}{}-{}' YEAR TO MONTH", months / 12, months % 12)
}

fn write_day_time(out: &mut impl Write, micros: i64) -> std::fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let rest = micros.unsigned_abs() as i64;
    let (days, time) = (rest / DAY, rest % DAY);
    write!(out, "INTERVAL '{sign}{days} {:02}:{:02}:{:02}", time / HOUR, time / MINUTE % 60, time / SECOND % 60)?;
    write_fraction(out, time % SECOND)?;
    out.write_str("' DAY TO SECOND")
}

/// `1 years 2 months 3 days 4 hours 5 minutes 6.5 seconds`, without what is zero.
fn write_calendar(out: &mut impl Write, interval: IntervalMonthDayNano) -> std::fmt::Result {
    let micros = interval.nanoseconds / 1_000;
    let (months, seconds) = (interval.months, micros % MINUTE);
    let parts = [
        (i64::from(months / 12), "years"),
        (i64::from(months % 12), "months"),
        (i64::from(interval.days), "days"),
        (micros / HOUR, "hours"),
        (micros % HOUR / MINUTE, "minutes"),
    ];
    let mut blank = "";
    for (number, unit) in parts.into_iter().filter(|(number, _)| *number != 0) {
        write!(out, "{blank}{number} {unit}")?;
        blank = " ";
    }
    if seconds != 0 || blank.is_empty() {
        let sign = if seconds < 0 { "-" } else { "" };
        write!(out, "{blank}{sign}{}", seconds.abs() / SECOND)?;
        write_fraction(out, seconds.abs() % SECOND)?;
        out.write_str(" seconds")?;
    }
    Ok(())
}

/// A double as Java's `Double.toString` writes it.
pub(crate) fn java_double(out: &mut impl Write, value: f64) -> std::fmt::Result {
    if !value.is_finite() {
        return out.write_str(special(value));
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return write!(out, "{value:?}");
    }
    scientific(out, &format!("{value:e}"))
}

/// A float as Java's `Float.toString` writes it.
pub(crate) fn java_float(out: &mut impl Write, value: f32) -> std::fmt::Result {
    if !value.is_finite() {
        return out.write_str(special(f64::from(value)));
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return write!(out, "{value:?}");
    }
    scientific(out, &format!("{value:e}"))
}

/// A decimal with all its digits; if `exponents` are used, those below 0.000001 with one.
fn write_decimal(out: &mut impl Write, value: i128, scale: i8, exponents: bool) -> std::fmt::Result {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let decimals = usize::try_from(scale).unwrap_or(0);
    let exponent = digits.len() as i32 - 1 - i32::from(scale);
    if exponents && exponent < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return write!(out, "{sign}{first}{point}{rest}E{exponent}");
    }
    let padded = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, fraction) = padded.split_at(padded.len() - decimals);
    let zeros = "0".repeat(usize::try_from(-i32::from(scale)).unwrap_or(0));
    let point = if fraction.is_empty() { "" } else { "." };
    write!(out, "{sign}{whole}{zeros}{point}{fraction}")
}

fn special(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn scientific(out: &mut impl Write, text: &str) -> std::fmt::Result {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    write!(out, "{mantissa}{point}E{exponent}")
}

/// Numbers as text, for error messages.
pub(super) fn display(array: &ArrayRef, row: usize, tz: Tz) -> String {
    let mut text = String::new();
    if let Ok(writer) = Writer::new(array, tz) {
        writer.write(row, Style::Cast, &mut text);
    }
    text
}

/// Integers need no formatter: their digits are written straight into the builder.
pub(super) fn integers_to_text(array: &ArrayRef) -> Option<StringArray> {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut digits = String::new();
    let mut push = |value: Option<i64>| match value {
        None => builder.append_null(),
        Some(value) => {
            digits.clear();
            let _ = write!(digits, "{value}");
            builder.append_value(&digits);
        }
    };
    match array.data_type() {
        DataType::Int32 => array.as_primitive::<Int32Type>().iter().for_each(|v| push(v.map(i64::from))),
        DataType::Int64 => array.as_primitive::<Int64Type>().iter().for_each(push),
        _ => return None,
    }
    Some(builder.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_in_java() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.25e-4, "1.25E-4"),
            (0.001, "0.001"),
            (123_456_789.5, "1.234567895E8"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut text = String::new();
            java_double(&mut text, value).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn intervals_are_written_in_their_units() {
        use arrow::array::{DurationMicrosecondArray, IntervalYearMonthArray};
        let shown =
            |array: ArrayRef, first, last| intervals_to_text(&array, IntervalUnits { first, last }).value(0).to_owned();
        let months = |months: i32| -> ArrayRef { std::sync::Arc::new(IntervalYearMonthArray::from(vec![months])) };
        let micros = |micros: i64| -> ArrayRef { std::sync::Arc::new(DurationMicrosecondArray::from(vec![micros])) };
        assert_eq!(shown(months(12), 0, 0), "INTERVAL '1' YEAR");
        assert_eq!(shown(months(-14), 0, 1), "INTERVAL '-1-2' YEAR TO MONTH");
        assert_eq!(shown(months(14), 1, 1), "INTERVAL '14' MONTH");
        assert_eq!(shown(micros(DAY + HOUR), 0, 3), "INTERVAL '1 01:00:00' DAY TO SECOND");
        assert_eq!(shown(micros(26 * HOUR), 1, 2), "INTERVAL '26:00' HOUR TO MINUTE");
        assert_eq!(shown(micros(1_500_000), 3, 3), "INTERVAL '01.5' SECOND");
        assert_eq!(shown(micros(-3 * DAY), 0, 0), "INTERVAL '-3' DAY");
    }

    #[test]
    fn decimals_have_all_digits_or_an_exponent() {
        let text = |value, scale, exponents| {
            let mut text = String::new();
            write_decimal(&mut text, value, scale, exponents).unwrap();
            text
        };
        for (value, scale, plain, java) in [
            (1, 10, "0.0000000001", "1E-10"),
            (-123, 10, "-0.0000000123", "-1.23E-8"),
            (1, 6, "0.000001", "0.000001"),
            (0, 10, "0.0000000000", "0E-10"),
            (0, 2, "0.00", "0.00"),
            (12_345, 2, "123.45", "123.45"),
            (-5, 0, "-5", "-5"),
        ] {
            assert_eq!((text(value, scale, false).as_str(), text(value, scale, true).as_str()), (plain, java));
        }
    }

    #[test]
    fn timestamps_drop_trailing_zeros() {
        let mut text = String::new();
        write_timestamp(&mut text, 1_500_000).unwrap();
        assert_eq!(text, "1970-01-01 00:00:01.5");
    }
}
