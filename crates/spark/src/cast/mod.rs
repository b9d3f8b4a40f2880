//! Spark's CAST and TRY_CAST: a vectorised kernel, and the function that stands for it in plans.
//!
//! Arrow's kernels do the conversions on which both agree; the others are here: text to values
//! ([`parse`]), values to text ([`format`]), overflow, and everything that depends on the session's
//! time zone.

mod by_name;
pub(crate) mod calendar;
mod delay;
mod expr;
pub(crate) mod format;
mod interval;
mod numeric;
pub(crate) mod parse;
mod temporal;
mod text;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, IntervalUnit};
use chrono_tz::Tz;

pub use by_name::assign_expr;
pub use delay::delay_us;
pub(crate) use delay::interval_us;
pub(crate) use expr::{SparkCast, analyzed_cast, implied_text_cast, kept_cast, written_cast, written_interval_cast};
pub use expr::{cast_expr, spark_cast, try_cast_expr};

use crate::error::{Error, Result};
use crate::types::{canonical, is_variant, sql_type_name};
use crate::variant;

/// What happens to a value that cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CastMode {
    /// An error (`spark.sql.ansi.enabled`).
    Ansi,
    /// NULL for text, wrap-around for integers.
    Lenient,
    /// NULL (TRY_CAST).
    Try,
}

impl CastMode {
    /// The mode of a plain CAST.
    pub fn of(ansi: bool) -> Self {
        if ansi { Self::Ansi } else { Self::Lenient }
    }
}

/// Converts every value of an array.
///
/// # Errors
/// `DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION` (`User`) if the types cannot be converted at all;
/// in ANSI mode `CAST_INVALID_INPUT` or `CAST_OVERFLOW` (`Data`) if a value cannot.
pub fn cast_array(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    if array.data_type() == &DataType::Null {
        return Ok(new_null_array(to, array.len()));
    }
    let from = canonical(array.data_type());
    let wanted = canonical(to);
    let array = if &from == array.data_type() { Arc::clone(array) } else { arrow_cast(array, &from)? };
    let result = if from == wanted { array } else { convert(&array, &from, &wanted, mode, tz)? };
    if &wanted == to { Ok(result) } else { arrow_cast(&result, to) }
}

fn convert(array: &ArrayRef, from: &DataType, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    use DataType as T;
    match (from, to) {
        _ if is_variant(from) => variant::to_array(&variant::values(array)?, to, mode == CastMode::Try, tz),
        _ if is_variant(to) => variant::from_array(array),
        (T::Utf8, _) => text::from_text(array.as_string(), to, mode, tz),
        (T::Binary, T::Utf8) => Ok(Arc::new(format::to_text(array, tz, format::Style::Cast)?)),
        (_, T::Utf8) => to_text(array, mode, tz),
        (T::List(_), T::List(element)) => cast_list(array.as_list(), element, mode, tz),
        (T::Struct(a), T::Struct(b)) if a.len() == b.len() => cast_struct(array.as_struct(), b, mode, tz),
        (T::Map(..), T::Map(entries, _)) => cast_map(array.as_map(), entries, mode, tz),
        _ if is_temporal(from) || is_temporal(to) => temporal::convert(array, to, mode, tz),
        _ if is_plain(from) && is_plain(to) => numeric::convert(array, to, mode, tz),
        _ => Err(cannot_cast(from, to)),
    }
}

fn to_text(array: &ArrayRef, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let style = if mode == CastMode::Lenient { format::Style::Lenient } else { format::Style::Cast };
    match format::integers_to_text(array) {
        Some(text) => Ok(Arc::new(text)),
        None => Ok(Arc::new(format::to_text(array, tz, style)?)),
    }
}

fn is_plain(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Binary)
}

fn is_temporal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Date32
            | DataType::Timestamp(..)
            | DataType::Duration(_)
            | DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano)
    )
}

/// Whether a CAST between the types exists.
pub fn can_cast(from: &DataType, to: &DataType) -> bool {
    let (from, to) = (canonical(from), canonical(to));
    match (&from, &to) {
        _ if from == to => true,
        _ if is_variant(&from) => variant::can_extract(&to),
        _ if is_variant(&to) => from == DataType::Null || variant::can_build(&from, false),
        (DataType::Null, _) | (_, DataType::Utf8) => true,
        (DataType::Utf8, _) => !to.is_nested(),
        (DataType::List(a), DataType::List(b)) => can_cast(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| can_cast(a.data_type(), b.data_type()))
        }
        (DataType::Map(a, _), DataType::Map(b, _)) => can_cast(a.data_type(), b.data_type()),
        _ if from.is_nested() || to.is_nested() => false,
        _ if is_temporal(&from) || is_temporal(&to) => temporal::can_convert(&from, &to),
        // A time of day is written and read, and nothing else.
        (DataType::Time64(_), _) | (_, DataType::Time64(_)) => false,
        (DataType::Binary, _) => false,
        (_, DataType::Binary) => from.is_integer(),
        _ => true,
    }
}

fn cast_list(list: &ListArray, element: &Arc<Field>, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let values = cast_array(list.values(), element.data_type(), mode, tz)?;
    // A value that cannot be cast becomes NULL in some modes.
    let nullable = element.is_nullable() || values.null_count() > 0;
    let element = Arc::new(element.as_ref().clone().with_nullable(nullable));
    Ok(Arc::new(ListArray::try_new(element, list.offsets().clone(), values, list.nulls().cloned())?))
}

fn cast_struct(array: &StructArray, fields: &arrow::datatypes::Fields, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let columns = array
        .columns()
        .iter()
        .zip(fields)
        .map(|(column, field)| cast_array(column, field.data_type(), mode, tz))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?))
}

fn cast_map(map: &MapArray, entries: &Arc<Field>, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("the entries of a map are not a struct"));
    };
    let cast = cast_struct(map.entries(), fields, mode, tz)?;
    let entries = Arc::clone(entries);
    Ok(Arc::new(MapArray::try_new(
        entries,
        map.offsets().clone(),
        cast.as_struct().clone(),
        map.nulls().cloned(),
        false,
    )?))
}

/// Arrow's own conversion; a value that cannot be converted becomes NULL.
pub(crate) fn arrow_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: true, ..Default::default() })?)
}

pub(crate) fn cannot_cast(from: &DataType, to: &DataType) -> Error {
    Error::user(format!("cannot cast {} to {}", sql_type_name(from), sql_type_name(to)))
        .with_condition("DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION")
}

/// The value is not of the form the type needs.
pub(crate) fn invalid_input(value: &str, from: &DataType, to: &DataType) -> Error {
    let quoted = if from == &DataType::Utf8 { format!("'{value}'") } else { value.to_owned() };
    Error::data(format!(
        "the value {quoted} of the type {} cannot be cast to {} because it is malformed",
        sql_type_name(from),
        sql_type_name(to)
    ))
    .with_condition("CAST_INVALID_INPUT")
    .with_help("Use `try_cast` to get NULL instead, or set spark.sql.ansi.enabled to false.")
}

/// The value is too large for the type.
pub(crate) fn overflow(value: &str, from: &DataType, to: &DataType) -> Error {
    if matches!(to, DataType::Decimal128(..)) {
        return Error::data(format!("the value {value} cannot be represented as {}", sql_type_name(to)))
            .with_condition("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION")
            .with_help("Use `try_cast` to get NULL instead, or set spark.sql.ansi.enabled to false.");
    }
    Error::data(format!(
        "the value {value} of the type {} cannot be cast to {} due to an overflow",
        sql_type_name(from),
        sql_type_name(to)
    ))
    .with_condition("CAST_OVERFLOW")
    .with_help("Use `try_cast` to get NULL instead, or set spark.sql.ansi.enabled to false.")
}

#[cfg(test)]
mod tests;
