//! The schema of JSON files: fields in alphabetical order, types wide enough for all values.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};
use deltaworks_spark::Result;

use super::JsonFormat;
use super::scan::{Kind, Scanner, Span};
use crate::format::blocks::{Blocks, next_line};
use crate::format::{FileTask, Inference};
use crate::listing::FileEntry;
use crate::schema::evolution::widest;
use deltaworks_spark::types;

/// What is known of a value's type.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Nothing,
    Scalar(DataType),
    List(Box<Seen>),
    Object(BTreeMap<String, Seen>),
}

pub(super) async fn infer(format: &JsonFormat, files: &[FileEntry], inference: Inference) -> Result<Schema> {
    let mut seen = BTreeMap::new();
    let mut corrupt = false;
    let mut bytes = 0;
    for file in files {
        let task = FileTask { file: file.clone().into(), start: 0, end: file.size };
        let mut blocks = Blocks::open(task, &format.layout);
        while let Some(block) = blocks.next().await? {
            bytes += block.len() as u64;
            let mut at = 0;
            if format.multi_line {
                corrupt |= !record(&block, format, inference.typed, &mut seen);
            } else {
                while let Some(line) = next_line(&block, &mut at, format.layout.separator.as_deref()) {
                    corrupt |= !record(line, format, inference.typed, &mut seen);
                }
            }
            if bytes >= inference.max_bytes {
                break;
            }
        }
        if bytes >= inference.max_bytes {
            break;
        }
    }
    let mut fields: Vec<Field> = seen
        .into_iter()
        .filter(|(_, seen)| !(format.drop_null_fields && *seen == Seen::Nothing))
        .map(|(name, seen)| Field::new(name, if inference.typed { seen.data_type() } else { DataType::Utf8 }, true))
        .collect();
    if corrupt && !inference.all_files && !fields.iter().any(|field| field.name() == &format.corrupt) {
        fields.insert(0, Field::new(&format.corrupt, DataType::Utf8, true));
    }
    Ok(Schema::new(fields))
}

/// Notes the fields of a record; false if it is malformed.
fn record(text: &str, format: &JsonFormat, typed: bool, seen: &mut BTreeMap<String, Seen>) -> bool {
    let mut scanner = Scanner::new(text, format.dialect);
    match scanner.peek() {
        None => scanner.at_end(),
        Some(b'{') => object(text, &mut scanner, format, typed, seen),
        Some(b'[') => {
            let mut spans = Vec::new();
            scanner.array(&mut |span| spans.push(span)).is_some()
                && spans.into_iter().all(|span| match span.kind {
                    Kind::Object => {
                        let mut inner = Scanner::at(text, span, format.dialect);
                        object(text, &mut inner, format, typed, seen)
                    }
                    kind => kind == Kind::Null,
                })
        }
        _ => false,
    }
}

fn object(
    text: &str,
    scanner: &mut Scanner<'_>,
    format: &JsonFormat,
    typed: bool,
    seen: &mut BTreeMap<String, Seen>,
) -> bool {
    // Collected first: a record that turns out to be broken must leave no trace.
    let mut fields = Vec::new();
    let well_formed = scanner.object(&mut |name, value| fields.push((name, value))).is_some();
    if well_formed {
        for (name, value) in fields {
            let name = name.string(text);
            let known = match seen.get_mut(name.as_ref()) {
                Some(known) => known,
                None => seen.entry(name.into_owned()).or_insert(Seen::Nothing),
            };
            if typed {
                observe(text, value, format, known);
            } else if value.kind != Kind::Null {
                *known = Seen::Scalar(DataType::Utf8);
            }
        }
    }
    well_formed
}

fn observe(text: &str, span: Span, format: &JsonFormat, known: &mut Seen) {
    match (span.kind, &mut *known) {
        (Kind::Null, _) => {}
        (Kind::Object, Seen::Object(fields)) => {
            Scanner::at(text, span, format.dialect).object(&mut |name, value| {
                let name = name.string(text).into_owned();
                observe(text, value, format, fields.entry(name).or_insert(Seen::Nothing));
            });
        }
        (Kind::Object, Seen::Nothing) => {
            *known = Seen::Object(BTreeMap::new());
            observe(text, span, format, known);
        }
        (Kind::Array, Seen::List(item)) => {
            Scanner::at(text, span, format.dialect).array(&mut |value| observe(text, value, format, item));
        }
        (Kind::Array, Seen::Nothing) => {
            *known = Seen::List(Box::new(Seen::Nothing));
            observe(text, span, format, known);
        }
        (Kind::Object | Kind::Array, _) | (_, Seen::Object(_) | Seen::List(_)) => {
            *known = Seen::Scalar(DataType::Utf8);
        }
        (_, Seen::Scalar(data_type)) => *data_type = widest(data_type, &scalar(text, span, format)),
        (_, Seen::Nothing) => *known = Seen::Scalar(scalar(text, span, format)),
    }
}

fn scalar(text: &str, span: Span, format: &JsonFormat) -> DataType {
    let value = span.of(text);
    match span.kind {
        _ if format.primitives_as_string => DataType::Utf8,
        Kind::True | Kind::False => DataType::Boolean,
        Kind::Number { float: false } => match value.parse::<i64>() {
            Ok(_) => DataType::Int64,
            Err(_) => match u8::try_from(value.trim_start_matches('-').len()) {
                Ok(digits @ 1..=38) => DataType::Decimal128(digits, 0),
                _ => DataType::Float64,
            },
        },
        Kind::Number { float: true } => match value.split_once('.') {
            Some((whole, fraction)) if format.prefers_decimal && !fraction.contains(['e', 'E']) => {
                let precision = (whole.trim_start_matches('-').len() + fraction.len()) as u8;
                if precision <= 38 { DataType::Decimal128(precision, fraction.len() as i8) } else { DataType::Float64 }
            }
            _ => DataType::Float64,
        },
        Kind::String { .. } if format.infer_timestamp && format.parser.timestamp(value).is_some() => {
            deltaworks_spark::types::timestamp()
        }
        _ => DataType::Utf8,
    }
}

impl Seen {
    fn data_type(self) -> DataType {
        match self {
            Self::Nothing => DataType::Null,
            Self::Scalar(data_type) => data_type,
            Self::List(item) => types::array(item.data_type()),
            Self::Object(fields) if fields.is_empty() => DataType::Null,
            Self::Object(fields) => DataType::Struct(
                fields.into_iter().map(|(name, seen)| Field::new(name, seen.data_type(), true)).collect(),
            ),
        }
    }
}

/// The type of one value.
pub(super) fn type_of(text: &str, span: Span, format: &JsonFormat) -> DataType {
    let mut seen = Seen::Nothing;
    observe(text, span, format, &mut seen);
    seen.data_type()
}
