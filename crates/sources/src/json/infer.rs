//! The schema of JSON files: fields in alphabetical order, types wide enough for all values.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::runtime::SpawnedTask;
use deltaworks_spark::{Error, Result};

use super::JsonFormat;
use super::scan::{FieldName, Kind, Scanner, Shape, Span};
use crate::format::blocks::{Blocks, next_line};
use crate::format::split::split;
use crate::format::{FileTask, Inference, ParseMode};
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

/// The fields of the records in `files`, up to a limit of bytes. Parts of the files are looked at in parallel.
pub(super) async fn infer(format: &JsonFormat, files: &[FileEntry], inference: Inference) -> Result<Schema> {
    let mut bytes = 0;
    let looked_at = files.iter().take_while(|file| {
        let within = bytes < inference.max_bytes;
        bytes += file.size;
        within
    });
    let looked_at: Vec<_> = looked_at.cloned().map(Arc::new).collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts: Vec<_> = split(&looked_at, format, threads)
        .into_iter()
        .map(|tasks| {
            let (format, max_bytes) = (format.clone(), inference.max_bytes);
            SpawnedTask::spawn(observe_tasks(format, tasks, inference.typed, max_bytes))
        })
        .collect();
    let mut all = Observed::new(inference.typed);
    for part in parts {
        let part = part.join().await.map_err(|error| Error::internal(format!("schema inference died: {error}")))?;
        all.merge(part?);
    }
    let corrupt = all.corrupt;
    let mut fields: Vec<Field> = all
        .into_fields()
        .filter(|(_, seen)| !(format.drop_null_fields && *seen == Seen::Nothing))
        .map(|(name, seen)| Field::new(name, if inference.typed { seen.data_type() } else { DataType::Utf8 }, true))
        .collect();
    let keeps_corrupt = corrupt && format.mode == ParseMode::Permissive;
    if keeps_corrupt && !inference.all_files && !fields.iter().any(|field| field.name() == &format.corrupt) {
        fields.insert(0, Field::new(&format.corrupt, DataType::Utf8, true));
    }
    Ok(Schema::new(fields))
}

async fn observe_tasks(format: JsonFormat, tasks: Vec<FileTask>, typed: bool, max_bytes: u64) -> Result<Observed> {
    let mut observed = Observed::new(typed);
    let mut bytes = 0;
    for task in tasks {
        let mut blocks = Blocks::open(task, &format.layout);
        while let Some(block) = blocks.next().await? {
            bytes += block.len() as u64;
            let mut at = 0;
            if format.multi_line {
                observed.record(&block, &format);
            } else {
                while let Some(line) = next_line(&block, &mut at, format.layout.separator.as_deref()) {
                    observed.record(line, &format);
                }
            }
            // What was compressed may be larger than its file.
            if bytes >= max_bytes {
                return Ok(observed);
            }
        }
    }
    Ok(observed)
}

/// What is known of the fields of all records.
struct Observed {
    typed: bool,
    fields: Vec<(String, Seen)>,
    index: HashMap<String, usize>,
    /// The last record's names in their order ..
    shape: Shape,
    /// .. and which field each of them is.
    order: Vec<usize>,
    /// The names and values of the record at hand.
    found: Vec<(FieldName, Span)>,
    /// Whether a record was malformed.
    corrupt: bool,
}

impl Observed {
    fn new(typed: bool) -> Self {
        let (fields, index, order, found) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        Self { typed, fields, index, shape: Shape::default(), order, found, corrupt: false }
    }

    /// The fields by name.
    fn into_fields(mut self) -> impl Iterator<Item = (String, Seen)> {
        self.fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.fields.into_iter()
    }

    fn merge(&mut self, other: Self) {
        self.corrupt |= other.corrupt;
        for (name, seen) in other.fields {
            let slot = self.slot(&name);
            self.fields[slot].1.merge(seen);
        }
    }

    fn slot(&mut self, name: &str) -> usize {
        match self.index.get(name) {
            Some(slot) => *slot,
            None => {
                self.index.insert(name.to_owned(), self.fields.len());
                self.fields.push((name.to_owned(), Seen::Nothing));
                self.fields.len() - 1
            }
        }
    }

    /// Notes the fields of a record, unless it is malformed.
    fn record(&mut self, text: &str, format: &JsonFormat) {
        let mut scanner = Scanner::new(text, format.dialect);
        let well_formed = match scanner.peek() {
            None => scanner.at_end(),
            Some(b'{') => self.object(text, &mut scanner, format),
            Some(b'[') => {
                let mut spans = Vec::new();
                scanner.array(&mut |span| spans.push(span)).is_some()
                    && spans.into_iter().all(|span| match span.kind {
                        Kind::Object => self.object(text, &mut Scanner::at(text, span, format.dialect), format),
                        kind => kind == Kind::Null,
                    })
            }
            _ => false,
        };
        self.corrupt |= !well_formed;
    }

    fn object(&mut self, text: &str, scanner: &mut Scanner<'_>, format: &JsonFormat) -> bool {
        // Collected first: a record that turns out to be broken must leave no trace.
        let mut found = std::mem::take(&mut self.found);
        let visit = &mut |name, value| found.push((name, value));
        let well_formed = scanner.object_like(&mut self.shape, visit).is_some();
        if !well_formed {
            found.clear();
            self.shape.clear();
        }
        for (name, value) in found.drain(..) {
            let slot = self.slot_of(text, &name);
            let known = &mut self.fields[slot].1;
            if self.typed {
                observe(text, value, format, known);
            } else if value.kind != Kind::Null && *known == Seen::Nothing {
                *known = Seen::Scalar(DataType::Utf8);
            }
        }
        self.found = found;
        well_formed
    }

    fn slot_of(&mut self, text: &str, field: &FieldName) -> usize {
        if field.same {
            return self.order[field.nth];
        }
        let slot = self.slot(&field.name.string(text));
        self.order.truncate(field.nth);
        self.order.push(slot);
        slot
    }
}

fn observe(text: &str, span: Span, format: &JsonFormat, known: &mut Seen) {
    match (span.kind, &mut *known) {
        (Kind::Null, _) => {}
        (_, Seen::Scalar(data_type)) if is_enough(data_type, span, format) => {}
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

/// Whether a column of this type takes the value without a closer look at it, as most do.
fn is_enough(known: &DataType, span: Span, format: &JsonFormat) -> bool {
    match (known, span.kind) {
        (DataType::Utf8, _) => true,
        _ if format.primitives_as_string => false,
        (DataType::Boolean, kind) => matches!(kind, Kind::True | Kind::False),
        // So many digits always fit.
        (DataType::Int64, Kind::Number { float: false }) => span.end - span.start <= 18,
        (DataType::Float64, Kind::Number { float: true }) => !format.prefers_decimal,
        _ => false,
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
    /// What is known when both have been seen.
    fn merge(&mut self, other: Self) {
        let merged = match (std::mem::replace(self, Self::Nothing), other) {
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar(widest(&a, &b)),
            (Self::List(mut a), Self::List(b)) => {
                a.merge(*b);
                Self::List(a)
            }
            (Self::Object(mut a), Self::Object(b)) => {
                for (name, seen) in b {
                    a.entry(name).or_insert(Self::Nothing).merge(seen);
                }
                Self::Object(a)
            }
            _ => Self::Scalar(DataType::Utf8),
        };
        *self = merged;
    }

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
