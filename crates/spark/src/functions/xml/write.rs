//! Structures as XML text.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use serde_json::Value as Json;

use super::options::Options;
use crate::cast::calendar::{self, DAY};
use crate::cast::{CastMode, cast_array};
use crate::error::{Error, Result};
use crate::functions::{Pattern, ZoneNames};
use crate::types::{canonical, is_variant, sql_type_name};
use crate::variant;

/// The element of a row of structures.
pub(super) fn row(values: &ArrayRef, row: usize, options: &Options) -> Result<String> {
    let mut writer = Writer::new(options);
    let values = cast_array(&values.slice(row, 1), &canonical(values.data_type()), CastMode::Lenient, options.tz)?;
    writer.child(&options.row_tag, &values, 0)?;
    if options.indent.is_empty() {
        writer.out.push('\n');
    }
    Ok(writer.out)
}

/// What came last within an element.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Nothing,
    Element,
    Text,
}

/// Writes elements, each on a line of its own.
struct Writer<'a> {
    options: &'a Options,
    out: String,
    /// What the elements around have come to.
    around: Vec<Last>,
    last: Last,
    /// Whether the last start tag may still get attributes.
    open: bool,
}

impl<'a> Writer<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, out: String::new(), around: Vec::new(), last: Last::Nothing, open: false }
    }

    fn line(&mut self) {
        self.close_tag();
        if !self.options.indent.is_empty() {
            self.out.push('\n');
            self.out.push_str(&self.options.indent.repeat(self.around.len()));
        }
    }

    fn close_tag(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            self.out.push('>');
        }
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let starts = |c: char| c.is_alphabetic() || matches!(c, '_' | ':');
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.' | '\u{b7}');
        if !self.options.validate_names || (name.starts_with(starts) && name.chars().all(goes_on)) {
            return Ok(());
        }
        Err(Error::data(format!("`{name}` is not a name that XML has"))
            .with_help("Rename the field, or set the option `validateName` to false."))
    }

    fn start(&mut self, name: &str) -> Result<()> {
        self.check_name(name)?;
        if !self.around.is_empty() {
            self.line();
        }
        self.around.push(Last::Element);
        self.last = Last::Nothing;
        self.out.push('<');
        self.out.push_str(name);
        self.open = true;
        Ok(())
    }

    fn end(&mut self, name: &str) {
        self.around.pop();
        let last = std::mem::replace(&mut self.last, Last::Element);
        if std::mem::replace(&mut self.open, false) {
            self.out.push_str("/>");
            return;
        }
        if last == Last::Element {
            self.line();
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<()> {
        self.check_name(name)?;
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        for c in value.chars() {
            match c {
                '"' => self.out.push_str("&quot;"),
                '\n' | '\r' | '\t' => {
                    let _ = write!(self.out, "&#x{:x};", u32::from(c));
                }
                c => self.escaped(c),
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.close_tag();
        self.last = Last::Text;
        for c in text.chars() {
            match c {
                '>' if self.out.ends_with("]]") => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xd;"),
                c => self.escaped(c),
            }
        }
    }

    fn escaped(&mut self, c: char) {
        match c {
            '<' => self.out.push_str("&lt;"),
            '&' => self.out.push_str("&amp;"),
            c => self.out.push(c),
        }
    }

    /// A value as an element, or as the text of the element around.
    fn child(&mut self, name: &str, array: &ArrayRef, row: usize) -> Result<()> {
        let null = array.is_null(row) || array.data_type() == &DataType::Null;
        if null && self.options.null_value.is_none() {
            return Ok(());
        }
        if is_variant(array.data_type()) && !null {
            let text = variant::to_json(&array.slice(row, 1), self.options.tz)?;
            let json = serde_json::from_str(text.value(0)).map_err(|error| Error::internal(error.to_string()))?;
            return self.json(name, &json);
        }
        if name == self.options.value_tag {
            return self.content(array, row);
        }
        self.start(name)?;
        self.content(array, row)?;
        self.end(name);
        Ok(())
    }

    /// A field of a structure or a map: an attribute, an element for each item of an array, or an element.
    fn field(&mut self, name: &str, array: &ArrayRef, row: usize) -> Result<()> {
        if self.options.is_attribute(name) {
            let name = &name[self.options.attribute_prefix.len()..];
            let null = array.is_null(row) || array.data_type() == &DataType::Null;
            return match (&self.options.null_value, null) {
                (None, true) => Ok(()),
                (Some(text), true) => self.attribute(name, text),
                _ => {
                    // Times have no form of their own there.
                    let numbers = match array.data_type() {
                        DataType::Date32 => cast(array, &DataType::Int32)?,
                        DataType::Timestamp(..) => cast(array, &DataType::Int64)?,
                        _ => Arc::clone(array),
                    };
                    self.attribute(name, &plain(&numbers, row, self.options)?)
                }
            };
        }
        match array.data_type() {
            DataType::List(_) if array.is_valid(row) => {
                let items = array.as_list::<i32>().value(row);
                (0..items.len()).try_for_each(|i| self.child(name, &items, i))
            }
            _ => self.child(name, array, row),
        }
    }

    fn content(&mut self, array: &ArrayRef, row: usize) -> Result<()> {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            let text = self.options.null_value.clone().unwrap_or_default();
            self.text(&text);
            return Ok(());
        }
        match array.data_type() {
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let (attributes, elements): (Vec<_>, Vec<_>) =
                    fields.iter().zip(columns).partition(|(field, _)| self.options.is_attribute(field.name()));
                for (field, column) in attributes.into_iter().chain(elements) {
                    self.field(field.name(), column, row)?;
                }
                Ok(())
            }
            DataType::Map(..) => {
                let pairs = array.as_map().value(row);
                let keys = cast_array(pairs.column(0), &DataType::Utf8, CastMode::Lenient, self.options.tz)?;
                let keys = keys.as_string::<i32>();
                for attributes in [true, false] {
                    for (i, key) in keys.iter().enumerate() {
                        let key = key.unwrap_or_default();
                        if self.options.is_attribute(key) == attributes {
                            self.field(key, pairs.column(1), i)?;
                        }
                    }
                }
                Ok(())
            }
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                let name = self.options.array_element.clone();
                (0..items.len()).try_for_each(|i| self.field(&name, &items, i))
            }
            _ => {
                let text = formatted(array, row, self.options)?;
                self.text(&text);
                Ok(())
            }
        }
    }

    /// A value of a variant.
    fn json(&mut self, name: &str, value: &Json) -> Result<()> {
        match value {
            Json::Object(fields) => {
                self.start(name)?;
                let (attributes, elements): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(field, _)| self.options.is_attribute(field));
                for (field, value) in attributes.into_iter().chain(elements) {
                    self.json(field, value)?;
                }
                self.end(name);
                Ok(())
            }
            Json::Array(items) => items.iter().try_for_each(|item| {
                let name = if item.is_array() { self.options.array_element.clone() } else { name.to_owned() };
                self.json(&name, item)
            }),
            scalar => {
                let text = match scalar {
                    Json::String(text) => text.clone(),
                    Json::Null => self.options.null_value.clone().unwrap_or_default(),
                    other => other.to_string(),
                };
                let empty = scalar.is_null() && self.options.null_value.is_none();
                if self.options.is_attribute(name) {
                    return self.attribute(&name[self.options.attribute_prefix.len()..], &text);
                }
                if name == self.options.value_tag {
                    self.text(&text);
                    return Ok(());
                }
                self.start(name)?;
                if !empty {
                    self.text(&text);
                }
                self.end(name);
                Ok(())
            }
        }
    }
}

/// A value as the text of an element.
fn formatted(array: &ArrayRef, row: usize, options: &Options) -> Result<String> {
    let (micros, zoned, pattern, standard) = match array.data_type() {
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            (days * DAY, false, &options.date, "yyyy-MM-dd")
        }
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match zone {
                Some(_) => (micros, true, &options.timestamp, "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"),
                None => (micros, false, &options.timestamp_ntz, "yyyy-MM-dd'T'HH:mm:ss.SSS"),
            }
        }
        _ => return plain(array, row, options),
    };
    let standard = if pattern.is_none() { Some(Pattern::new(standard)?) } else { None };
    let local = if zoned { calendar::to_local(micros, options.tz) } else { micros };
    let mut text = String::new();
    if let Some(pattern) = pattern.as_ref().or(standard.as_ref()) {
        pattern.format(local, local - micros, ZoneNames { tz: options.tz, micros }, &mut text);
    }
    Ok(text)
}

/// A value as text, in no special form.
fn plain(array: &ArrayRef, row: usize, options: &Options) -> Result<String> {
    match array.data_type() {
        DataType::Binary => {
            let digits: Vec<String> =
                array.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02X}")).collect();
            return Ok(format!("[{}]", digits.join(" ")));
        }
        DataType::Duration(_) | DataType::Interval(_) => {
            return Err(Error::unsupported(format!("{} as XML", sql_type_name(array.data_type()))));
        }
        _ => {}
    }
    let text = cast_array(&array.slice(row, 1), &DataType::Utf8, CastMode::Lenient, options.tz)?;
    Ok(text.as_string::<i32>().value(0).to_owned())
}
