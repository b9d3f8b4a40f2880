//! One column under construction: takes JSON values, gives an Arrow array.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, ListArray, MapArray,
    NullBufferBuilder, StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use chrono_tz::Tz;
use sonic_rs::{LazyValue, to_array_iter, to_object_iter};

use super::compact::compact;
use crate::cast::{arrow_cast, calendar, parse};
use crate::error::{Error, Result};
use crate::functions::Pattern;

/// How texts are read.
#[derive(Debug, Clone)]
pub(super) struct Forms {
    pub(super) tz: Tz,
    pub(super) date: Option<Pattern>,
    pub(super) timestamp: Option<Pattern>,
    /// Whether text columns keep the JSON of other values as it stands.
    pub(super) raw_text: bool,
}

pub(super) enum Column {
    Text(StringBuilder),
    Boolean(BooleanBuilder),
    Integer(Int64Builder, DataType, i64, i64),
    Double(Float64Builder, DataType),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder, DataType),
    Struct(Box<Object>),
    List(Arc<Field>, Vec<i32>, i32, NullBufferBuilder, Box<Column>),
    Map(Arc<Field>, Vec<i32>, i32, NullBufferBuilder, StringBuilder, Box<Column>),
}

impl Column {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        use DataType as T;
        let integer = |min, max| Self::Integer(Int64Builder::new(), data_type.clone(), min, max);
        Ok(match data_type {
            T::Utf8 => Self::Text(StringBuilder::new()),
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
            T::Struct(fields) => Self::Struct(Box::new(Object::new(fields.clone())?)),
            T::List(field) => {
                let child = Self::new(field.data_type())?;
                Self::List(Arc::clone(field), vec![0], 0, NullBufferBuilder::new(64), Box::new(child))
            }
            T::Map(entries, _) => match entries.data_type() {
                T::Struct(kv) if kv.len() == 2 && kv[0].data_type() == &T::Utf8 => {
                    let values = Box::new(Self::new(kv[1].data_type())?);
                    let nulls = NullBufferBuilder::new(64);
                    Self::Map(Arc::clone(entries), vec![0], 0, nulls, StringBuilder::new(), values)
                }
                _ => return Err(unsupported(data_type)),
            },
            _ => return Err(unsupported(data_type)),
        })
    }

    pub(super) fn null(&mut self) {
        match self {
            Self::Text(b) => b.append_null(),
            Self::Boolean(b) => b.append_null(),
            Self::Integer(b, ..) => b.append_null(),
            Self::Double(b, _) => b.append_null(),
            Self::Decimal(b, ..) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b, _) => b.append_null(),
            Self::Struct(object) => object.null(),
            Self::List(_, offsets, end, nulls, _) | Self::Map(_, offsets, end, nulls, ..) => {
                offsets.push(*end);
                nulls.append_null();
            }
        }
    }

    /// Appends one value, NULL if it does not fit; whether it did.
    pub(super) fn push(&mut self, raw: &str, forms: &Forms) -> bool {
        let first = raw.as_bytes().first().copied().unwrap_or(b'n');
        if first == b'n' {
            self.null();
            return true;
        }
        let quoted = first == b'"';
        let done = match self {
            Self::Text(b) => {
                if !quoted && forms.raw_text {
                    b.append_value(raw);
                } else if !quoted {
                    match compact(raw) {
                        Some(text) => b.append_value(text),
                        None => return self.misfit(),
                    }
                } else if let Some(plain) = plain_text(raw) {
                    b.append_value(plain);
                } else if let Ok(text) = sonic_rs::from_str::<String>(raw) {
                    b.append_value(text);
                } else {
                    return self.misfit();
                }
                true
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
                let read = |text: &str| {
                    let (local, zone) = match &forms.timestamp {
                        Some(pattern) => pattern.parse(text)?,
                        None => parse::local_timestamp(text)?,
                    };
                    Some(match zone {
                        _ if !zoned => local,
                        Some(zone) => zone.to_utc(local),
                        None => calendar::from_local(local, forms.tz),
                    })
                };
                plain_text(raw).and_then(read).map(|value| b.append_value(value)).is_some()
            }
            Self::Struct(object) => {
                return first == b'{' && object.push(raw, forms, None) || self.null_if(first != b'{');
            }
            Self::List(_, offsets, end, nulls, child) if first == b'[' => {
                let mut fits = true;
                for value in to_array_iter(raw) {
                    let Ok(value) = value else { break };
                    fits &= child.push(value.as_raw_str(), forms);
                    *end += 1;
                }
                offsets.push(*end);
                nulls.append_non_null();
                return fits;
            }
            Self::Map(_, offsets, end, nulls, keys, values) if first == b'{' => {
                let mut fits = true;
                for entry in to_object_iter(raw) {
                    let Ok((key, value)) = entry else { break };
                    keys.append_value(&*key);
                    fits &= values.push(value.as_raw_str(), forms);
                    *end += 1;
                }
                offsets.push(*end);
                nulls.append_non_null();
                return fits;
            }
            Self::List(..) | Self::Map(..) => false,
        };
        done || self.misfit()
    }

    fn misfit(&mut self) -> bool {
        self.null();
        false
    }

    fn null_if(&mut self, missing: bool) -> bool {
        if missing {
            self.null();
        }
        false
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Integer(b, data_type, ..) => arrow_cast(&(Arc::new(b.finish()) as ArrayRef), data_type)?,
            Self::Double(b, data_type) => arrow_cast(&(Arc::new(b.finish()) as ArrayRef), data_type)?,
            Self::Decimal(b, p, s) => Arc::new(b.finish().with_precision_and_scale(*p, *s)?),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Timestamp(b, DataType::Timestamp(_, zone)) => Arc::new(b.finish().with_timezone_opt(zone.clone())),
            Self::Timestamp(b, _) => Arc::new(b.finish()),
            Self::Struct(object) => Arc::new(object.finish()?),
            Self::List(field, offsets, end, nulls, child) => {
                *end = 0;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, child.finish()?, nulls.finish())?)
            }
            Self::Map(entries, offsets, end, nulls, keys, values) => {
                *end = 0;
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("the entries of a map are not a struct"));
                };
                let pairs =
                    StructArray::try_new(fields.clone(), vec![Arc::new(keys.finish()), values.finish()?], None)?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls.finish(), false)?)
            }
        })
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

fn special(raw: &str) -> Option<f64> {
    match plain_text(raw)? {
        "NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" | "+INF" | "INF" => Some(f64::INFINITY),
        "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// What a row had that no column took: field names and their raw JSON.
pub(super) type Rescued = Vec<(String, String)>;

/// An object: one column per field.
pub(super) struct Object {
    fields: Fields,
    index: HashMap<String, usize>,
    columns: Vec<Column>,
    /// The row (from 1) in which each column was last set.
    set_in: Vec<usize>,
    rows: usize,
    nulls: NullBufferBuilder,
}

impl Object {
    pub(super) fn new(fields: Fields) -> Result<Self> {
        let columns = fields.iter().map(|f| Column::new(f.data_type())).collect::<Result<Vec<_>>>()?;
        let index = fields.iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect();
        Ok(Self {
            set_in: vec![0; columns.len()],
            fields,
            index,
            columns,
            rows: 0,
            nulls: NullBufferBuilder::new(1024),
        })
    }

    pub(super) fn null(&mut self) {
        self.columns.iter_mut().for_each(Column::null);
        self.rows += 1;
        self.nulls.append_null();
    }

    /// Appends one object; whether all of it was well-formed and fitted.
    pub(super) fn push(&mut self, raw: &str, forms: &Forms, mut rescued: Option<&mut Rescued>) -> bool {
        self.rows += 1;
        let mut fits = true;
        // Rows mostly have their fields in the same order: the next field is looked for first.
        let mut expected = 0;
        for entry in to_object_iter(raw) {
            let Ok((key, value)) = entry else {
                fits = false;
                break;
            };
            let value: LazyValue<'_> = value;
            let at = match self.fields.get(expected) {
                Some(field) if field.name().as_str() == &*key => Some(expected),
                _ => self.index.get(&*key).copied(),
            };
            let taken = match at {
                Some(at) if self.set_in[at] != self.rows => {
                    self.set_in[at] = self.rows;
                    expected = at + 1;
                    let taken = self.columns[at].push(value.as_raw_str(), forms);
                    fits &= taken;
                    taken
                }
                _ => false,
            };
            if !taken && let Some(rescued) = rescued.as_deref_mut() {
                rescued.push((key.to_string(), value.as_raw_str().to_owned()));
            }
        }
        for (column, set_in) in self.columns.iter_mut().zip(&self.set_in) {
            if *set_in != self.rows {
                column.null();
            }
        }
        self.nulls.append_non_null();
        fits
    }

    pub(super) fn finish_columns(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.set_in.fill(0);
        self.nulls = NullBufferBuilder::new(1024);
        self.columns.iter_mut().map(Column::finish).collect()
    }

    fn finish(&mut self) -> Result<StructArray> {
        let rows = self.rows;
        let nulls = self.nulls.finish();
        let columns = self.finish_columns()?;
        Ok(StructArray::try_new_with_length(self.fields.clone(), columns, nulls, rows)?)
    }
}
