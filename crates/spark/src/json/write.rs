//! Structs, arrays and maps as JSON text, as Spark's `to_json` writes them.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono_tz::Tz;

use crate::cast::calendar::{self, DAY};
use crate::cast::format::{java_double, java_float, write_date};
use crate::cast::{CastMode, cast_array};
use crate::error::{Error, Result};
use crate::functions::{Pattern, ZoneNames};
use crate::types::{canonical, is_variant, sql_type_name};
use crate::variant;

/// Writes values as JSON text.
#[derive(Debug, Clone)]
pub struct Writer {
    tz: Tz,
    ignore_null_fields: bool,
    date: Option<Pattern>,
    timestamp: Option<Pattern>,
}

impl Writer {
    /// A writer with Spark's defaults: fields that are NULL are left out.
    pub fn new(tz: Tz) -> Self {
        Self { tz, ignore_null_fields: true, date: None, timestamp: None }
    }

    /// `ignoreNullFields`
    #[must_use]
    pub fn ignore_null_fields(mut self, ignore: bool) -> Self {
        self.ignore_null_fields = ignore;
        self
    }

    /// `dateFormat`
    ///
    /// # Errors
    /// `INVALID_DATETIME_PATTERN` (`User`)
    pub fn date_format(mut self, pattern: &str) -> Result<Self> {
        self.date = Some(Pattern::new(pattern)?);
        Ok(self)
    }

    /// `timestampFormat`
    ///
    /// # Errors
    /// `INVALID_DATETIME_PATTERN` (`User`)
    pub fn timestamp_format(mut self, pattern: &str) -> Result<Self> {
        self.timestamp = Some(Pattern::new(pattern)?);
        Ok(self)
    }

    /// The text of every value; NULL stays NULL.
    ///
    /// # Errors
    /// `Unsupported` for a type that JSON has no form for.
    pub fn write(&self, values: &ArrayRef) -> Result<StringArray> {
        let values = cast_array(values, &canonical(values.data_type()), CastMode::Lenient, self.tz)?;
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 32);
        let mut text = String::new();
        for row in 0..values.len() {
            if values.is_null(row) || values.data_type() == &DataType::Null {
                builder.append_null();
                continue;
            }
            text.clear();
            self.value(&values, row, &mut text)?;
            builder.append_value(&text);
        }
        Ok(builder.finish())
    }

    fn value(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        use DataType as T;
        if array.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match array.data_type() {
            T::Null => out.push_str("null"),
            T::Utf8 => quote(array.as_string::<i32>().value(row), out),
            T::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
            T::Int8 => number(array.as_primitive::<Int8Type>().value(row), out),
            T::Int16 => number(array.as_primitive::<Int16Type>().value(row), out),
            T::Int32 => number(array.as_primitive::<Int32Type>().value(row), out),
            T::Int64 => number(array.as_primitive::<Int64Type>().value(row), out),
            T::Float32 => {
                let value = array.as_primitive::<Float32Type>().value(row);
                special_or(value.is_finite(), out, |out| java_float(out, value));
            }
            T::Float64 => {
                let value = array.as_primitive::<Float64Type>().value(row);
                special_or(value.is_finite(), out, |out| java_double(out, value));
            }
            T::Date32 => self.date(array.as_primitive::<Date32Type>().value(row).into(), out),
            T::Timestamp(_, zone) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                self.timestamp(micros, zone.is_some(), out)?;
            }
            other if is_variant(other) => {
                let one = array.slice(row, 1);
                out.push_str(variant::to_json(&one, self.tz)?.value(0));
            }
            T::Struct(_) => self.object(array, row, out)?,
            T::List(_) => self.list(&array.as_list::<i32>().value(row), out)?,
            T::Map(..) => self.map(array, row, out)?,
            T::Binary => {
                let bytes = array.as_binary::<i32>().value(row);
                quote(&BASE64_STANDARD.encode(bytes), out);
            }
            T::Decimal128(..) | T::Interval(_) | T::Duration(_) => {
                let quoted = !matches!(array.data_type(), T::Decimal128(..));
                let text = cast_array(&array.slice(row, 1), &T::Utf8, CastMode::Lenient, self.tz)?;
                let text = text.as_string::<i32>().value(0);
                if quoted { quote(text, out) } else { out.push_str(text) }
            }
            other => return Err(Error::unsupported(format!("{} as JSON", sql_type_name(other)))),
        }
        Ok(())
    }

    fn date(&self, days: i64, out: &mut String) {
        out.push('"');
        match &self.date {
            Some(pattern) => {
                let midnight = ZoneNames { tz: Tz::UTC, micros: days * DAY };
                pattern.format(days * DAY, 0, midnight, out);
            }
            None => {
                let _ = write_date(out, days);
            }
        }
        out.push('"');
    }

    /// `2024-01-02T03:04:05.000+01:00`, without zone for a local time.
    fn timestamp(&self, micros: i64, zoned: bool, out: &mut String) -> Result<()> {
        let local = if zoned { calendar::to_local(micros, self.tz) } else { micros };
        let standard = if zoned { "yyyy-MM-dd'T'HH:mm:ss.SSSXXX" } else { "yyyy-MM-dd'T'HH:mm:ss.SSS" };
        let pattern = match &self.timestamp {
            Some(pattern) => pattern.clone(),
            None => Pattern::new(standard)?,
        };
        out.push('"');
        pattern.format(local, local - micros, ZoneNames { tz: self.tz, micros }, out);
        out.push('"');
        Ok(())
    }

    fn object(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        let object = array.as_struct();
        out.push('{');
        let mut first = true;
        for (field, column) in object.fields().iter().zip(object.columns()) {
            let null = column.is_null(row) || column.data_type() == &DataType::Null;
            if null && self.ignore_null_fields {
                continue;
            }
            separate(&mut first, out);
            quote(field.name(), out);
            out.push(':');
            self.value(column, row, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn list(&self, values: &ArrayRef, out: &mut String) -> Result<()> {
        out.push('[');
        let mut first = true;
        for row in 0..values.len() {
            separate(&mut first, out);
            self.value(values, row, out)?;
        }
        out.push(']');
        Ok(())
    }

    fn map(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        let pairs = array.as_map().value(row);
        let keys = cast_array(pairs.column(0), &DataType::Utf8, CastMode::Lenient, self.tz)?;
        out.push('{');
        let mut first = true;
        for (at, key) in keys.as_string::<i32>().iter().enumerate() {
            separate(&mut first, out);
            quote(key.unwrap_or("null"), out);
            out.push(':');
            self.value(pairs.column(1), at, out)?;
        }
        out.push('}');
        Ok(())
    }
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::replace(first, false) {
        out.push(',');
    }
}

fn number(value: impl std::fmt::Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

/// NaN and the infinities are text.
fn special_or(finite: bool, out: &mut String, write: impl Fn(&mut String) -> std::fmt::Result) {
    if !finite {
        out.push('"');
    }
    let _ = write(out);
    if !finite {
        out.push('"');
    }
}

pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
