//! JSON records to columns.
//!
//! Each record is scanned once to find the spans of its fields; only when it is known to be well-formed are
//! values appended, so that a broken record leaves no trace in the builders.

use std::collections::HashMap;
use std::sync::Arc;

use deltaworks_spark::Result;

use super::JsonFormat;
use super::build::{Misfits, Node, Values, json_text};
use super::infer::type_of;
use super::scan::{FieldName, Kind, Scanner, Shape, Span};
use crate::bad_records::BadRecord;
use crate::errors::schema_evolved;
use crate::format::blocks::next_line;
use crate::format::records::RecordDecoder;
use crate::format::rescue::{RowFate, RowNotes};
use crate::format::{Decoded, ReadRequest};
use crate::schema::evolution::storable_widening;

/// Why a record is broken.
const MALFORMED: &str = "malformed JSON";
const NO_OBJECT: &str = "neither a JSON object nor an array of objects";

/// Decodes records of one file.
pub(super) struct JsonDecoder {
    format: JsonFormat,
    request: Arc<ReadRequest>,
    nodes: Vec<Option<Node>>,
    columns: HashMap<String, usize>,
    /// The last record's names in their order ..
    shape: Shape,
    /// .. and the column of each of them.
    order: Vec<Option<usize>>,
    found: Vec<Option<Span>>,
    unknown: Vec<(String, Span)>,
    notes: RowNotes,
    file: String,
    rows: usize,
}

impl JsonDecoder {
    pub(super) fn new(format: &JsonFormat, file: &str, request: Arc<ReadRequest>) -> Result<Self> {
        let mut nodes = Vec::new();
        for (field, wanted) in request.fields.iter().zip(&request.wanted) {
            nodes.push(wanted.then(|| Node::new(field.data_type())).transpose()?);
        }
        let columns = request.fields.iter().enumerate().map(|(index, field)| (field.name().clone(), index)).collect();
        Ok(Self {
            format: format.clone(),
            columns,
            shape: Shape::default(),
            order: Vec::new(),
            found: vec![None; request.fields.len()],
            unknown: Vec::new(),
            notes: RowNotes::new(file, format.mode, &request),
            nodes,
            file: file.to_owned(),
            request,
            rows: 0,
        })
    }

    fn column(columns: &HashMap<String, usize>, request: &ReadRequest, name: &str) -> Option<usize> {
        columns.get(name).copied().or_else(|| (!request.case_sensitive).then(|| request.column(name))?)
    }

    /// Finds the fields of an object at the scanner's position. `None`: malformed.
    fn find_fields(&mut self, text: &str, scanner: &mut Scanner<'_>) -> Option<()> {
        self.found.fill(None);
        self.unknown.clear();
        let Self { shape, order, found, unknown, columns, request, .. } = self;
        let mut visit = |field: FieldName, value| {
            if !field.same {
                let column = Self::column(columns, request, &field.name.string(text));
                order.truncate(field.nth);
                order.push(column);
            }
            match order[field.nth] {
                Some(column) => found[column] = Some(value),
                None => unknown.push((field.name.string(text).into_owned(), value)),
            }
        };
        let found = scanner.object_like(shape, &mut visit);
        if found.is_none() {
            shape.clear();
        }
        found
    }

    /// Decodes the record `text`: an object, or an array of objects; if it is to be one variant, any value.
    fn record(&mut self, text: &str) -> Result<()> {
        let mut scanner = Scanner::new(text, self.format.dialect);
        if self.format.single_variant.is_some() {
            if scanner.at_end() {
                return Ok(());
            }
            let value = scanner.value().filter(|_| self.format.multi_line || scanner.at_end());
            let Some(value) = value else { return self.broken(text, MALFORMED) };
            self.found[0] = Some(value);
            return self.append(text, text);
        }
        match scanner.peek() {
            None if scanner.at_end() => Ok(()),
            Some(b'{') => {
                let ends = self.format.multi_line;
                match self.find_fields(text, &mut scanner) {
                    Some(()) if ends || scanner.at_end() => self.append(text, text),
                    _ => self.broken(text, MALFORMED),
                }
            }
            Some(b'[') => {
                let mut spans = Vec::new();
                let well_formed = scanner.array(&mut |span| spans.push(span)).is_some();
                let objects = spans.iter().all(|span| matches!(span.kind, Kind::Object | Kind::Null));
                if !well_formed || !objects {
                    return self.broken(text, if well_formed { NO_OBJECT } else { MALFORMED });
                }
                for span in spans {
                    self.found.fill(None);
                    self.unknown.clear();
                    if span.kind == Kind::Object {
                        let mut inner = Scanner::at(text, span, self.format.dialect);
                        self.find_fields(text, &mut inner);
                    }
                    self.append(text, span.of(text))?;
                }
                Ok(())
            }
            _ => self.broken(text, NO_OBJECT),
        }
    }

    fn broken(&mut self, record: &str, reason: &str) -> Result<()> {
        if self.notes.end_broken_row(record, reason)? == RowFate::Keep {
            self.nodes.iter_mut().flatten().for_each(Node::append_null);
            self.rows += 1;
        }
        Ok(())
    }

    fn append(&mut self, text: &str, record: &str) -> Result<()> {
        self.unknown_fields(text)?;
        if self.notes.drops_mismatches()
            && let Some(reason) = self.misfit(text)?
        {
            self.notes.drop_row(record, reason);
            return Ok(());
        }
        let values = Values { text, dialect: self.format.dialect, parser: &self.format.parser };
        let mut misfits: Misfits = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else { continue };
            let Some(span) = self.found[index] else {
                node.append_null();
                continue;
            };
            let fits = node.append(&values, span, &mut misfits);
            if fits && misfits.is_empty() {
                continue;
            }
            let field = &self.request.fields[index];
            if !fits {
                misfits.clear();
                let observed = || type_of(text, span, &self.format);
                if self.request.report_wider && storable_widening(field.data_type(), &observed()).is_some() {
                    return Err(schema_evolved(&[field.name().clone()], &self.file));
                }
                self.notes.rescue_json(&[field.name()], &json_text(text, span, self.format.dialect));
                self.notes.mismatch();
            }
            for (path, misfit) in misfits.drain(..) {
                let full: Vec<&str> =
                    std::iter::once(field.name().as_str()).chain(path.iter().map(String::as_str)).collect();
                if misfit.new_field && self.request.report_nested {
                    return Err(schema_evolved(&[full.join(".")], &self.file));
                }
                if misfit.mismatch {
                    self.notes.mismatch();
                }
                self.notes.rescue_json(&full, &misfit.json);
            }
        }
        self.notes.end_row(record)?;
        self.rows += 1;
        Ok(())
    }

    fn unknown_fields(&mut self, text: &str) -> Result<()> {
        if self.unknown.is_empty() || !(self.request.report_unknown || self.notes.rescues()) {
            return Ok(());
        }
        let unknown = std::mem::take(&mut self.unknown);
        if self.request.report_unknown {
            let new: Vec<String> = unknown
                .iter()
                .filter(|(name, span)| {
                    // Inference passes over fields that are always NULL, if it is told to.
                    let told = !self.format.drop_null_fields || span.kind != Kind::Null;
                    told && self.request.is_new(name) && !self.request.is_ignored(name)
                })
                .map(|(name, _)| name.clone())
                .collect();
            if !new.is_empty() {
                return Err(schema_evolved(&new, &self.file));
            }
        }
        for (name, span) in &unknown {
            if !self.request.is_ignored(name) {
                self.notes.rescue_json(&[name], &json_text(text, *span, self.format.dialect));
            }
        }
        Ok(())
    }

    /// Why the record does not fit: the first value that has not its column's type, tried on builders of its own.
    fn misfit(&self, text: &str) -> Result<Option<String>> {
        let values = Values { text, dialect: self.format.dialect, parser: &self.format.parser };
        for (field, span) in self.request.fields.iter().zip(&self.found) {
            let Some(span) = span else { continue };
            let mut misfits = Vec::new();
            let fits = Node::new(field.data_type())?.append(&values, *span, &mut misfits);
            if !fits {
                let value = json_text(text, *span, self.format.dialect);
                return Ok(Some(BadRecord::misfit(field, &[], &value)));
            }
            if let Some((path, misfit)) = misfits.iter().find(|(_, misfit)| misfit.mismatch) {
                return Ok(Some(BadRecord::misfit(field, path, &misfit.json)));
            }
        }
        Ok(None)
    }
}

impl RecordDecoder for JsonDecoder {
    fn start(&mut self, _first: bool) {}

    fn decode(&mut self, block: &str, at: &mut usize) -> Result<Decoded> {
        if self.format.multi_line {
            *at = block.len();
            self.record(block)?;
        } else {
            let separator = self.format.layout.separator.clone();
            while self.rows + self.notes.bad_records() < self.request.batch_rows {
                let Some(line) = next_line(block, at, separator.as_deref()) else { break };
                self.record(line)?;
            }
        }
        let columns = self
            .nodes
            .iter_mut()
            .map(|node| node.as_mut().map(Node::finish).transpose())
            .collect::<Result<Vec<_>>>()?;
        let (rescued, corrupt) = self.notes.finish();
        let bad = self.notes.take_bad();
        Ok(Decoded { rows: std::mem::take(&mut self.rows), columns, rescued, corrupt, bad })
    }
}
