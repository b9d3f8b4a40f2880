//! Builders of columns from JSON values, nested ones included.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use deltaworks_spark::types::is_variant;
use deltaworks_spark::variant::VariantColumn;
use deltaworks_spark::{Error, Result};

use super::scan::{Dialect, Kind, Scanner, Span, compact};
use crate::text::{TextColumn, TextParser};

/// A column under construction.
pub(super) enum Node {
    Scalar(TextColumn),
    Variant(VariantColumn),
    Struct {
        fields: Fields,
        index: HashMap<String, usize>,
        children: Vec<Node>,
        validity: NullBufferBuilder,
        length: usize,
    },
    List {
        item: FieldRef,
        child: Box<Node>,
        offsets: Vec<i32>,
        validity: NullBufferBuilder,
    },
    Map {
        entries: FieldRef,
        key: Box<Node>,
        value: Box<Node>,
        offsets: Vec<i32>,
        validity: NullBufferBuilder,
    },
}

/// What did not fit in a value: the path below the column, and the JSON text.
pub(super) type Misfits = Vec<(Vec<String>, Misfit)>;

/// Why something did not fit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Misfit {
    pub(super) json: String,
    /// There is a field the schema has not, not even in another spelling.
    pub(super) new_field: bool,
    /// There is a value of another type.
    pub(super) mismatch: bool,
}

/// What all values of a file share.
pub(super) struct Values<'a> {
    pub(super) text: &'a str,
    pub(super) dialect: Dialect,
    pub(super) parser: &'a TextParser,
}

impl Node {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            _ if is_variant(data_type) => Self::Variant(VariantColumn::default()),
            DataType::Struct(fields) => Self::Struct {
                fields: fields.clone(),
                index: fields.iter().enumerate().map(|(index, field)| (field.name().clone(), index)).collect(),
                children: fields.iter().map(|field| Self::new(field.data_type())).collect::<Result<_>>()?,
                validity: NullBufferBuilder::new(0),
                length: 0,
            },
            DataType::List(item) => Self::List {
                item: Arc::clone(item),
                child: Box::new(Self::new(item.data_type())?),
                offsets: vec![0],
                validity: NullBufferBuilder::new(0),
            },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && pair[0].data_type() == &DataType::Utf8 => Self::Map {
                    entries: Arc::clone(entries),
                    key: Box::new(Self::new(&DataType::Utf8)?),
                    value: Box::new(Self::new(pair[1].data_type())?),
                    offsets: vec![0],
                    validity: NullBufferBuilder::new(0),
                },
                _ => return Err(Error::unsupported("reading a map whose keys are not STRING from JSON")),
            },
            scalar => Self::Scalar(TextColumn::new(scalar)?),
        })
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Scalar(column) => column.append_null(),
            Self::Variant(column) => column.push_null(),
            Self::Struct { children, validity, length, .. } => {
                children.iter_mut().for_each(Self::append_null);
                validity.append_null();
                *length += 1;
            }
            Self::List { offsets, validity, .. } | Self::Map { offsets, validity, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                validity.append_null();
            }
        }
    }

    /// Appends a value. False: it has another type; NULL was appended. What did not fit further inside goes
    /// to `misfits`.
    pub(super) fn append(&mut self, values: &Values<'_>, span: Span, misfits: &mut Misfits) -> bool {
        let text = values.text;
        // A `null` is a value among variants.
        if let Self::Variant(column) = self {
            return column.push_json(&json_text(text, span, values.dialect));
        }
        if span.kind == Kind::Null {
            self.append_null();
            return true;
        }
        match (self, span.kind) {
            (Self::Scalar(column), _) => append_scalar(column, values, span),
            (Self::Struct { index, children, validity, length, .. }, Kind::Object) => {
                let mut found: Vec<Option<Span>> = vec![None; children.len()];
                let mut unknown = Vec::new();
                Scanner::at(text, span, values.dialect).object(&mut |name, value| {
                    let name = name.string(text);
                    match index.get(name.as_ref()) {
                        Some(at) => found[*at] = Some(value),
                        None => unknown.push((name.into_owned(), value)),
                    }
                });
                for (name, value) in unknown {
                    let new_field = !index.keys().any(|known| known.eq_ignore_ascii_case(&name));
                    let json = json_text(text, value, values.dialect);
                    misfits.push((vec![name], Misfit { json, new_field, mismatch: false }));
                }
                let mut names: Vec<(&String, &usize)> = index.iter().collect();
                names.sort_by_key(|(_, at)| **at);
                for ((name, at), child) in names.into_iter().zip(children.iter_mut()) {
                    let Some(value) = found[*at] else {
                        child.append_null();
                        continue;
                    };
                    let before = misfits.len();
                    if !child.append(values, value, misfits) {
                        misfits.truncate(before);
                        misfits.push((vec![], mismatch(values, value)));
                    }
                    misfits[before..].iter_mut().for_each(|(path, _)| path.insert(0, name.clone()));
                }
                validity.append_non_null();
                *length += 1;
                true
            }
            (Self::List { child, offsets, validity, .. }, Kind::Array) => {
                let mut count = 0;
                let mut fits = true;
                let mut inner = Vec::new();
                Scanner::at(text, span, values.dialect).array(&mut |value| {
                    count += 1;
                    fits &= child.append(values, value, &mut inner);
                });
                // A path cannot name an element: all of the array is kept.
                if !fits || !inner.is_empty() {
                    let json = json_text(text, span, values.dialect);
                    let new_field = inner.iter().any(|(_, misfit)| misfit.new_field);
                    let mismatch = !fits || inner.iter().any(|(_, misfit)| misfit.mismatch);
                    misfits.push((vec![], Misfit { json, new_field, mismatch }));
                }
                offsets.push(offsets.last().copied().unwrap_or(0) + count);
                validity.append_non_null();
                true
            }
            (Self::Map { key, value: child, offsets, validity, .. }, Kind::Object) => {
                let mut entries: Vec<(String, Span)> = Vec::new();
                Scanner::at(text, span, values.dialect).object(&mut |name, value| {
                    entries.push((name.string(text).into_owned(), value));
                });
                for (name, value) in &entries {
                    if let Self::Scalar(column) = key.as_mut() {
                        column.append(name, values.parser);
                    }
                    let before = misfits.len();
                    if !child.append(values, *value, misfits) {
                        misfits.push((vec![], mismatch(values, *value)));
                    }
                    for (path, misfit) in &mut misfits[before..] {
                        path.insert(0, name.clone());
                        // A table's map keeps the type of its values.
                        misfit.new_field = false;
                    }
                }
                offsets.push(offsets.last().copied().unwrap_or(0) + entries.len() as i32);
                validity.append_non_null();
                true
            }
            (node, _) => {
                node.append_null();
                false
            }
        }
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Scalar(column) => column.finish(),
            Self::Variant(column) => column.finish(),
            Self::Struct { fields, children, validity, length, .. } => {
                let arrays = children.iter_mut().map(Self::finish).collect::<Result<Vec<_>>>()?;
                let nulls = finish_validity(validity);
                let rows = std::mem::take(length);
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?)
            }
            Self::List { item, child, offsets, validity } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, child.finish()?, finish_validity(validity))?)
            }
            Self::Map { entries, key, value, offsets, validity } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(Error::internal("map entries are a struct"));
                };
                let pairs = StructArray::try_new(pair.clone(), vec![key.finish()?, value.finish()?], None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, finish_validity(validity), false)?)
            }
        })
    }
}

fn finish_validity(validity: &mut NullBufferBuilder) -> Option<NullBuffer> {
    validity.finish()
}

/// A value that does not have its place's type.
fn mismatch(values: &Values<'_>, span: Span) -> Misfit {
    Misfit { json: json_text(values.text, span, values.dialect), new_field: false, mismatch: true }
}

/// The compact JSON text of a value.
pub(super) fn json_text(text: &str, span: Span, dialect: Dialect) -> String {
    let mut json = String::new();
    compact(text, span, dialect, &mut json);
    json
}

fn append_scalar(column: &mut TextColumn, values: &Values<'_>, span: Span) -> bool {
    let text = span.of(values.text);
    match (&mut *column, span.kind) {
        (TextColumn::String(builder), Kind::Object | Kind::Array) => {
            builder.append_value(json_text(values.text, span, values.dialect));
            true
        }
        (TextColumn::String(builder), Kind::String { escaped: false }) => {
            builder.append_value(text);
            true
        }
        (TextColumn::String(builder), _) => {
            builder.append_value(span.string(values.text));
            true
        }
        (TextColumn::Boolean(builder), Kind::True | Kind::False) => {
            builder.append_value(span.kind == Kind::True);
            true
        }
        (
            TextColumn::Byte(_) | TextColumn::Short(_) | TextColumn::Int(_) | TextColumn::Long(_),
            Kind::Number { float: false },
        )
        | (TextColumn::Float(_) | TextColumn::Double(_) | TextColumn::Decimal(..), Kind::Number { .. }) => {
            column.append(text, values.parser)
        }
        (TextColumn::Float(_) | TextColumn::Double(_), Kind::String { .. })
            if !text.contains(|c: char| c.is_ascii_digit()) =>
        {
            column.append(text, values.parser)
        }
        (
            TextColumn::Decimal(..) | TextColumn::Date(_) | TextColumn::Timestamp(_) | TextColumn::TimestampNtz(_),
            Kind::String { .. },
        ) => column.append(&span.string(values.text), values.parser),
        (TextColumn::Timestamp(builder), Kind::Number { float: false }) => {
            let micros = text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
            builder.append_option(micros);
            micros.is_some()
        }
        (TextColumn::Binary(builder), Kind::String { .. }) => {
            let bytes = from_base64(&span.string(values.text));
            builder.append_option(bytes.as_deref());
            bytes.is_some()
        }
        _ => {
            column.append_null();
            false
        }
    }
}

/// Bytes of base64, of the usual or the URL-safe alphabet, with padding or without.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::RequireNone)
            .with_decode_allow_trailing_bits(true),
    );
    ENGINE.decode(text.trim_end_matches('=').replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn base64_is_read_in_both_alphabets_with_padding_or_without() {
        for text in ["+/8=", "-_8=", "+/8", "-_8"] {
            assert_eq!(from_base64(text), Some(vec![0xFB, 0xFF]), "{text}");
        }
        assert_eq!(from_base64(""), Some(Vec::new()));
        assert_eq!(from_base64("a b"), None);
    }
}
