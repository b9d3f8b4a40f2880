//! Elements as values of a schema.
//!
//! An element is the field of its name, an attribute that of its name with a prefix, text beside elements that of the value tag.
//! `None` is an element that does not fit. Of the row itself the fields before it are kept, and nothing after it is read.

use arrow::datatypes::{DataType, Fields};

use super::document::{Document, Kind, NodeId};
use super::options::Options;
use crate::cast::{calendar, parse};
use crate::functions::Pattern;
use crate::types::timestamp;
use crate::values::Value;

/// The first element of a document as the fields of a row; what there is of them if it does not fit.
pub(super) fn row(document: &Document, fields: &Fields, options: &Options) -> Result<Vec<Value>, Vec<Value>> {
    match document.root() {
        Some(root) => Reader { document, options }.structure(root, fields),
        None => Err(vec![Value::Null; fields.len()]),
    }
}

struct Reader<'a> {
    document: &'a Document,
    options: &'a Options,
}

/// The field of a name, in any case.
fn field_of(fields: &Fields, name: &str) -> Option<usize> {
    fields.iter().position(|field| field.name().eq_ignore_ascii_case(name))
}

impl Reader<'_> {
    /// Attributes by the names of their fields.
    fn attributes(&self, element: NodeId) -> Vec<(String, &str)> {
        attributes(self.document, element, self.options)
    }

    fn structure(&self, element: NodeId, fields: &Fields) -> Result<Vec<Value>, Vec<Value>> {
        let mut values = vec![Value::Null; fields.len()];
        for (name, value) in self.attributes(element) {
            if let Some(at) = field_of(fields, &name) {
                match self.scalar(value, fields[at].data_type()) {
                    Some(value) => values[at] = value,
                    None => return Err(vec![Value::Null; fields.len()]),
                }
            }
        }
        let wildcard = fields.iter().position(|field| *field.name() == self.options.wildcard);
        for child in self.document.children(element) {
            let (at, element) = match self.document.kind(*child) {
                Kind::Element(name) => {
                    let name = self.options.field_name(name);
                    (field_of(fields, name).or(wildcard), true)
                }
                Kind::Text(text) if !text.trim().is_empty() => {
                    (fields.iter().position(|field| *field.name() == self.options.value_tag), false)
                }
                _ => continue,
            };
            let Some(at) = at else { continue };
            let read = |to: &DataType| match element {
                true => self.element(*child, to),
                false => self.scalar(self.document.value(*child).unwrap_or_default(), to),
            };
            let wanted = fields[at].data_type();
            let item = if let DataType::List(item) = wanted { Some(item.data_type()) } else { None };
            let Some(value) = read(item.unwrap_or(wanted)) else { return Err(values) };
            match (item, &mut values[at]) {
                (Some(_), Value::List(items)) => items.push(value),
                (Some(_), empty) => *empty = Value::List(vec![value]),
                (None, field) => *field = value,
            }
        }
        Ok(values)
    }

    fn element(&self, element: NodeId, to: &DataType) -> Option<Value> {
        let children = self.document.children(element);
        match to {
            DataType::Struct(fields) => self.structure(element, fields).ok().map(Value::Struct),
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else { return None };
                if pair.first()?.data_type() != &DataType::Utf8 {
                    return None;
                }
                self.map(element, pair.get(1)?.data_type())
            }
            // Without text at all, which is another thing than blanks.
            DataType::Utf8 if children.is_empty() => {
                let is_null = self.options.null_value.as_deref() == Some("");
                Some(if is_null { Value::Null } else { Value::Text(String::new()) })
            }
            DataType::Utf8 => self.scalar(&self.inner(element), to),
            _ => {
                let text = match children {
                    [] => return Some(Value::Null),
                    [only] => self.document.value(*only)?,
                    _ => return None,
                };
                if text.trim().is_empty() { Some(Value::Null) } else { self.scalar(text, to) }
            }
        }
    }

    /// Of a name that comes twice the last value counts. An element without any is no map, and nor is text.
    fn map(&self, element: NodeId, to: &DataType) -> Option<Value> {
        let blank = |child: &NodeId| self.document.value(*child).is_some_and(|text| text.trim().is_empty());
        match self.document.children(element).iter().find(|child| !blank(child)) {
            None => return Some(Value::Null),
            Some(first) if self.document.value(*first).is_some() => return None,
            Some(_) => {}
        }
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        let mut put = |key: &str, value: Value| {
            let key = Value::Text(key.to_owned());
            match pairs.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value,
                None => pairs.push((key, value)),
            }
        };
        for (name, value) in self.attributes(element) {
            put(&name, self.scalar(value, to)?);
        }
        for child in self.document.children(element) {
            match self.document.kind(*child) {
                Kind::Element(name) => put(self.options.field_name(name), self.element(*child, to)?),
                Kind::Text(text) if !text.trim().is_empty() => put(&self.options.value_tag, self.scalar(text, to)?),
                _ => {}
            }
        }
        Some(Value::Map(pairs))
    }

    /// What is between the tags of an element, as XML unless it is only text.
    fn inner(&self, element: NodeId) -> String {
        let children = self.document.children(element);
        if let [only] = children
            && let Some(text) = self.document.value(*only)
        {
            return text.to_owned();
        }
        let mut out = String::new();
        for child in children {
            self.outer(*child, &mut out);
        }
        out
    }

    /// Characters are as they mean, not as they were written: this is no text to be read again.
    fn outer(&self, node: NodeId, out: &mut String) {
        let document = self.document;
        if let Some(text) = document.value(node) {
            out.push_str(text);
            return;
        }
        let name = document.name(node);
        out.push('<');
        out.push_str(name);
        for attribute in document.attributes(node) {
            let value = document.value(*attribute).unwrap_or_default();
            out.push_str(&format!(" {}=\"{value}\"", document.name(*attribute)));
        }
        out.push('>');
        for child in document.children(node) {
            self.outer(*child, out);
        }
        out.push_str(&format!("</{name}>"));
    }

    fn scalar(&self, text: &str, to: &DataType) -> Option<Value> {
        scalar(self.options.trimmed(text), to, self.options)
    }
}

/// The attributes that are read, by the names of their fields.
pub(super) fn attributes<'d>(document: &'d Document, element: NodeId, options: &Options) -> Vec<(String, &'d str)> {
    if options.exclude_attributes {
        return Vec::new();
    }
    let attribute = |node: &NodeId| {
        let name = document.name(*node);
        // They bind prefixes and are no attributes.
        if name == "xmlns" || name.starts_with("xmlns:") {
            return None;
        }
        let field = format!("{}{}", options.attribute_prefix, options.field_name(name));
        Some((field, document.value(*node).unwrap_or_default()))
    };
    document.attributes(element).iter().filter_map(attribute).collect()
}

fn scalar(text: &str, to: &DataType, options: &Options) -> Option<Value> {
    if options.null_value.as_deref() == Some(text) {
        return Some(Value::Null);
    }
    let integer = |least: i64, most: i64| {
        let plain = !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace);
        let value = parse::integer(text, false).filter(|value| plain && (least..=most).contains(value))?;
        Some(Value::Integer(value))
    };
    match to {
        DataType::Utf8 | DataType::Null => Some(Value::Text(text.to_owned())),
        DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => integer(i64::MIN, i64::MAX),
        DataType::Float32 | DataType::Float64 => number(text).map(Value::Double),
        DataType::Decimal128(precision, scale) => {
            parse::decimal(&text.replace(',', ""), *precision, *scale).map(Value::Decimal)
        }
        DataType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(Value::Boolean(true)),
            "false" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        DataType::Date32 => date(text, options).map(Value::Integer),
        DataType::Timestamp(..) => time(text, to == &timestamp(), options).map(Value::Integer),
        _ => None,
    }
}

/// A number as Java reads it, or as far as one is written, thousands apart.
fn number(text: &str) -> Option<f64> {
    parse::double(text).or_else(|| {
        let plain: String = text.chars().filter(|c| *c != ',').collect();
        let end = plain.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-')).unwrap_or(plain.len());
        plain[..end].parse().ok()
    })
}

/// A date in days since the epoch: year, month and day of a fixed number of digits unless another form is given.
pub(super) fn date(text: &str, options: &Options) -> Option<i64> {
    let standard = |text: &str| {
        let bytes = text.as_bytes();
        let fixed = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
        if fixed { parse::date(text).map(i64::from) } else { None }
    };
    match &options.date {
        Some(pattern) => pattern.parse(text).map(|(local, _)| local.div_euclid(calendar::DAY)),
        None => standard(text),
    }
}

/// A time in microseconds since the epoch, or without a zone.
pub(super) fn time(text: &str, zoned: bool, options: &Options) -> Option<i64> {
    let pattern: Option<&Pattern> = if zoned { options.timestamp.as_ref() } else { options.timestamp_ntz.as_ref() };
    let (local, zone) = match pattern {
        Some(pattern) => pattern.parse(text)?,
        None => parse::local_timestamp(text)?,
    };
    match zone {
        Some(_) if !zoned => None,
        None if !zoned => Some(local),
        Some(zone) => Some(zone.to_utc(local)),
        None => Some(calendar::from_local(local, options.tz)),
    }
}
