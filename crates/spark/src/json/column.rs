//! One column under construction: takes JSON values, gives an Arrow array.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    ListArray, MapArray, NullBufferBuilder, StringBuilder, StructArray, TimestampMicrosecondBuilder, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono_tz::Tz;
use sonic_rs::{LazyValue, to_array_iter, to_object_iter};

use super::compact::compact;
use crate::cast::{arrow_cast, calendar, parse};
use crate::error::{Error, Result};
use crate::functions::Pattern;
use crate::types::is_variant;
use crate::variant::VariantColumn;

/// How texts are read.
#[derive(Debug, Clone)]
pub(super) struct Forms {
    pub(super) tz: Tz,
    pub(super) date: Option<Pattern>,
    pub(super) timestamp: Option<Pattern>,
}

/// How much of a value a column took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// All of it.
    Whole,
    /// Fields of it are NULL because they do not fit.
    Partly,
    /// Nothing: it is NULL.
    Not,
}

pub(super) enum Column {
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Boolean(BooleanBuilder),
    Integer(Int64Builder, DataType, i64, i64),
    Double(Float64Builder, DataType),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder, DataType),
    Variant(VariantColumn),
    Struct(Box<Object>),
    List(Arc<Field>, Spans, Box<Column>),
    Map(Arc<Field>, Spans, StringBuilder, Box<Column>),
}

/// Which of the values below belong to which row.
pub(super) struct Spans {
    offsets: Vec<i32>,
    end: i32,
    nulls: NullBufferBuilder,
    /// Whether a row that is NULL has values below it: some fitted before one did not.
    waste: bool,
}

impl Spans {
    fn new() -> Self {
        Self { offsets: vec![0], end: 0, nulls: NullBufferBuilder::new(64), waste: false }
    }

    fn close(&mut self, fit: Fit) {
        self.waste |= fit == Fit::Not && self.offsets.last() != Some(&self.end);
        self.offsets.push(self.end);
        self.nulls.append(fit != Fit::Not);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        self.end = 0;
        (OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into()), self.nulls.finish())
    }

    /// The array without the values that belong to no row.
    fn trimmed(&mut self, array: ArrayRef) -> Result<ArrayRef> {
        if !std::mem::take(&mut self.waste) {
            return Ok(array);
        }
        let rows = UInt32Array::from_iter_values(0..u32::try_from(array.len()).unwrap_or(u32::MAX));
        Ok(take(&array, &rows, None)?)
    }
}

impl Column {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        use DataType as T;
        let integer = |min, max| Self::Integer(Int64Builder::new(), data_type.clone(), min, max);
        Ok(match data_type {
            T::Utf8 => Self::Text(StringBuilder::new()),
            T::Binary => Self::Binary(BinaryBuilder::new()),
            T::Boolean => Self::Boolean(BooleanBuilder::new()),
            T::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            T::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            T::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            T::Int64 => integer(i64::MIN, i64::MAX),
            T::Float32 | T::Float64 => Self::Double(Float64Builder::new(), data_type.clone()),
            T::Decimal128(p, s) => Self::Decimal(Decimal128Builder::new(), *p, *s),
            T::Date32 => Self::Date(Date32Builder::new()),
            T::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new(), data_type.clone())
            }
            _ if is_variant(data_type) => Self::Variant(VariantColumn::default()),
            T::Struct(fields) => Self::Struct(Box::new(Object::new(fields.clone())?)),
            T::List(field) => Self::List(Arc::clone(field), Spans::new(), Box::new(Self::new(field.data_type())?)),
            T::Map(entries, _) => match entries.data_type() {
                T::Struct(kv) if kv.len() == 2 && kv[0].data_type() == &T::Utf8 => {
                    let values = Box::new(Self::new(kv[1].data_type())?);
                    Self::Map(Arc::clone(entries), Spans::new(), StringBuilder::new(), values)
                }
                _ => return Err(unsupported(data_type)),
            },
            _ => return Err(unsupported(data_type)),
        })
    }

    pub(super) fn null(&mut self) {
        match self {
            Self::Text(b) => b.append_null(),
            Self::Binary(b) => b.append_null(),
            Self::Boolean(b) => b.append_null(),
            Self::Integer(b, ..) => b.append_null(),
            Self::Double(b, _) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b, _) => b.append_null(),
            Self::Variant(column) => column.push_null(),
            Self::Struct(object) => object.null(),
            Self::List(_, spans, _) | Self::Map(_, spans, ..) => spans.close(Fit::Not),
        }
    }

    /// Appends one value; NULL if it does not fit.
    pub(super) fn push(&mut self, raw: &str, forms: &Forms) -> Fit {
        if let Self::Variant(column) = self {
            return if column.push_json(raw) { Fit::Whole } else { Fit::Not };
        }
        let first = raw.as_bytes().first().copied().unwrap_or(b'n');
        if first == b'n' {
            self.null();
            return Fit::Whole;
        }
        let quoted = first == b'"';
        let done = match self {
            Self::Text(b) => text(raw, quoted, b),
            Self::Binary(b) => {
                let value = plain_text(raw).and_then(|text| BASE64.decode(text).ok());
                value.map(|value| b.append_value(value)).is_some()
            }
            Self::Boolean(b) => match raw {
                "true" | "false" => {
                    b.append_value(first == b't');
                    true
                }
                _ => false,
            },
            Self::Integer(b, _, min, max) => match raw.parse::<i64>() {
                Ok(value) if (*min..=*max).contains(&value) => {
                    b.append_value(value);
                    true
                }
                _ => false,
            },
            Self::Double(b, _) => {
                let value = if quoted { special(raw) } else { raw.parse().ok() };
                value.map(|value| b.append_value(value)).is_some()
            }
            Self::Decimal(b, p, s) => {
                let text = if quoted { plain_text(raw) } else { Some(raw) };
                text.and_then(|text| parse::decimal(text, *p, *s)).map(|value| b.append_value(value)).is_some()
            }
            Self::Date(b) => {
                let read = |text: &str| match &forms.date {
                    Some(pattern) => {
                        pattern.parse(text).and_then(|(t, _)| i32::try_from(t.div_euclid(calendar::DAY)).ok())
                    }
                    None => parse::date(text),
                };
                plain_text(raw).and_then(read).map(|value| b.append_value(value)).is_some()
            }
            Self::Timestamp(b, data_type) => {
                let zoned = matches!(data_type, DataType::Timestamp(_, Some(_)));
                timestamp(raw, zoned, forms).map(|value| b.append_value(value)).is_some()
            }
            Self::Struct(object) if first == b'{' => match object.push(raw, forms) {
                Some(fit) => return fit,
                None => return Fit::Not,
            },
            Self::List(_, spans, child) if first == b'[' => {
                let mut fit = Fit::Whole;
                for value in to_array_iter(raw) {
                    let Ok(value) = value else {
                        fit = Fit::Not;
                        break;
                    };
                    fit = fit.and(child.push(value.as_raw_str(), forms));
                    spans.end += 1;
                }
                spans.close(fit);
                return fit;
            }
            Self::Map(_, spans, keys, values) if first == b'{' => {
                let mut fit = Fit::Whole;
                for entry in to_object_iter(raw) {
                    let Ok((key, value)) = entry else {
                        fit = Fit::Not;
                        break;
                    };
                    keys.append_value(&*key);
                    fit = fit.and(values.push(value.as_raw_str(), forms));
                    spans.end += 1;
                }
                spans.close(fit);
                return fit;
            }
            Self::Variant(_) | Self::Struct(_) | Self::List(..) | Self::Map(..) => false,
        };
        if done {
            return Fit::Whole;
        }
        self.null();
        Fit::Not
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Binary(b) => Arc::new(b.finish()),
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Integer(b, data_type, ..) => arrow_cast(&(Arc::new(b.finish()) as ArrayRef), data_type)?,
            Self::Double(b, data_type) => arrow_cast(&(Arc::new(b.finish()) as ArrayRef), data_type)?,
            Self::Decimal(b, p, s) => Arc::new(b.finish().with_precision_and_scale(*p, *s)?),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Timestamp(b, DataType::Timestamp(_, zone)) => Arc::new(b.finish().with_timezone_opt(zone.clone())),
            Self::Timestamp(b, _) => Arc::new(b.finish()),
            Self::Variant(column) => column.finish(),
            Self::Struct(object) => Arc::new(object.finish()?),
            Self::List(field, spans, child) => {
                let (offsets, nulls) = spans.finish();
                spans.trimmed(Arc::new(ListArray::try_new(Arc::clone(field), offsets, child.finish()?, nulls)?))?
            }
            Self::Map(entries, spans, keys, values) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("the entries of a map are not a struct"));
                };
                let pairs =
                    StructArray::try_new(fields.clone(), vec![Arc::new(keys.finish()), values.finish()?], None)?;
                let (offsets, nulls) = spans.finish();
                spans.trimmed(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?))?
            }
        })
    }
}

impl Fit {
    /// How much of an array was taken that had `self` of its elements so far, and `next` of another one.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Not, _) | (_, Self::Not) => Self::Not,
            (Self::Whole, Self::Whole) => Self::Whole,
            _ => Self::Partly,
        }
    }
}

fn unsupported(data_type: &DataType) -> Error {
    Error::unsupported(format!("reading {} from JSON", crate::types::sql_type_name(data_type)))
}

/// The text between the quotes, if nothing in it is escaped.
fn plain_text(raw: &str) -> Option<&str> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') { None } else { Some(inner) }
}

/// Anything as text: what is none as JSON that is written anew.
fn text(raw: &str, quoted: bool, builder: &mut StringBuilder) -> bool {
    if !quoted {
        return compact(raw).map(|text| builder.append_value(text)).is_some();
    }
    match plain_text(raw) {
        Some(plain) => builder.append_value(plain),
        None => match sonic_rs::from_str::<String>(raw) {
            Ok(text) => builder.append_value(text),
            Err(_) => return false,
        },
    }
    true
}

/// A time as text, or in whole seconds since the epoch.
fn timestamp(raw: &str, zoned: bool, forms: &Forms) -> Option<i64> {
    let Some(text) = plain_text(raw) else {
        return raw.parse::<i64>().ok().filter(|_| zoned)?.checked_mul(1_000_000);
    };
    let (local, zone) = match &forms.timestamp {
        Some(pattern) => pattern.parse(text)?,
        None => parse::local_timestamp(text)?,
    };
    Some(match zone {
        _ if !zoned => local,
        Some(zone) => zone.to_utc(local),
        None => calendar::from_local(local, forms.tz),
    })
}

fn special(raw: &str) -> Option<f64> {
    match plain_text(raw)? {
        "NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" | "+INF" | "INF" => Some(f64::INFINITY),
        "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// An object: one column per field.
pub(super) struct Object {
    fields: Fields,
    index: HashMap<String, usize>,
    columns: Vec<Column>,
    rows: usize,
    nulls: NullBufferBuilder,
}

impl Object {
    pub(super) fn new(fields: Fields) -> Result<Self> {
        let columns = fields.iter().map(|f| Column::new(f.data_type())).collect::<Result<Vec<_>>>()?;
        let index = fields.iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect();
        Ok(Self { fields, index, columns, rows: 0, nulls: NullBufferBuilder::new(1024) })
    }

    pub(super) fn null(&mut self) {
        self.columns.iter_mut().for_each(Column::null);
        self.rows += 1;
        self.nulls.append_null();
    }

    /// Appends one object: of a field that it has twice the last value. If it is not well-formed, NULL, and `None`.
    pub(super) fn push(&mut self, raw: &str, forms: &Forms) -> Option<Fit> {
        let mut values: Vec<Option<LazyValue<'_>>> = Vec::new();
        values.resize_with(self.columns.len(), || None);
        // Rows mostly have their fields in the same order: the next field is looked for first.
        let mut expected = 0;
        for entry in to_object_iter(raw) {
            let Ok((key, value)) = entry else {
                self.null();
                return None;
            };
            let at = match self.fields.get(expected) {
                Some(field) if field.name().as_str() == &*key => Some(expected),
                _ => self.index.get(&*key).copied(),
            };
            if let Some(at) = at {
                expected = at + 1;
                values[at] = Some(value);
            }
        }
        let mut fit = Fit::Whole;
        for (column, value) in self.columns.iter_mut().zip(&values) {
            match value {
                Some(value) if column.push(value.as_raw_str(), forms) != Fit::Whole => fit = Fit::Partly,
                Some(_) => {}
                None => column.null(),
            }
        }
        self.rows += 1;
        self.nulls.append_non_null();
        Some(fit)
    }

    fn finish(&mut self) -> Result<StructArray> {
        let rows = std::mem::take(&mut self.rows);
        let nulls = self.nulls.finish();
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        Ok(StructArray::try_new_with_length(self.fields.clone(), columns, nulls, rows)?)
    }
}
