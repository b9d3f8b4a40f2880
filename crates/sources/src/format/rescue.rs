//! Notes on rows that do not fit: rescued data and malformed records.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use deltaworks_spark::Result;
use serde_json::{Map, Value};

use super::{ParseMode, ReadRequest};
use crate::bad_records::BadRecord;
use crate::errors::malformed_record;

/// The entry of a rescued object that names the file.
const FILE_PATH: &str = "_file_path";
/// The entry of a rescued object that holds a malformed record, where there is no column for it.
const CORRUPT: &str = "_corrupt_record";

/// Collects rescued and malformed text, row by row.
#[derive(Debug)]
pub(crate) struct RowNotes {
    file: String,
    mode: ParseMode,
    rescue: bool,
    has_rescue: bool,
    has_corrupt: bool,
    rescued: Option<StringBuilder>,
    corrupt: Option<StringBuilder>,
    entries: Map<String, Value>,
    mismatch: bool,
    bad: Vec<BadRecord>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowFate {
    Keep,
    Drop,
}

impl RowNotes {
    pub(crate) fn new(file: &str, mode: ParseMode, request: &ReadRequest) -> Self {
        Self {
            file: file.to_owned(),
            mode,
            rescue: request.rescue,
            has_rescue: request.has_rescue,
            has_corrupt: request.has_corrupt,
            rescued: request.rescue.then(StringBuilder::new),
            corrupt: request.corrupt.then(StringBuilder::new),
            entries: Map::new(),
            mismatch: false,
            bad: Vec::new(),
        }
    }

    /// Whether rescued values are wanted at all.
    pub(crate) fn rescues(&self) -> bool {
        self.rescue
    }

    /// Keeps a value under its path. `json` is JSON text.
    pub(crate) fn rescue_json(&mut self, path: &[&str], json: &str) {
        if self.rescue {
            let value = serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned()));
            insert(&mut self.entries, path, value);
        }
    }

    /// Keeps a text under a name.
    pub(crate) fn rescue_text(&mut self, name: &str, text: &str) {
        if self.rescue {
            self.entries.insert(name.to_owned(), Value::String(text.to_owned()));
        }
    }

    /// A value of the row does not have its column's type.
    pub(crate) fn mismatch(&mut self) {
        self.mismatch = true;
    }

    /// Whether a row with mismatches would be dropped: it must then be known before it is appended.
    pub(crate) fn drops_mismatches(&self) -> bool {
        matches!(self.mode, ParseMode::DropMalformed | ParseMode::SetAside) && !self.has_rescue
    }

    /// Drops a record of which nothing has been appended.
    pub(crate) fn drop_row(&mut self, record: &str, reason: impl Into<String>) {
        self.entries.clear();
        if self.mode == ParseMode::SetAside {
            self.bad.push(BadRecord { record: record.to_owned(), reason: reason.into() });
        }
    }

    /// Ends a row that was read; `record` gives its text. Where mismatches drop a row, it has none.
    ///
    /// # Errors
    /// `MALFORMED_RECORD_IN_PARSING` (`Data`) in mode FAILFAST, if a value did not fit and is not rescued.
    pub(crate) fn end_row(&mut self, record: &str) -> Result<()> {
        let malformed = std::mem::take(&mut self.mismatch) && !self.has_rescue;
        if malformed && self.mode == ParseMode::FailFast {
            return Err(malformed_record(&self.file, record));
        }
        if let Some(corrupt) = &mut self.corrupt {
            corrupt.append_option(malformed.then_some(record));
        }
        self.end_rescued();
        Ok(())
    }

    /// Ends a row whose record is broken; if kept, its columns are NULL.
    pub(crate) fn end_broken_row(&mut self, record: &str, reason: &str) -> Result<RowFate> {
        self.entries.clear();
        self.mismatch = false;
        match self.mode {
            ParseMode::FailFast => return Err(malformed_record(&self.file, record)),
            ParseMode::DropMalformed | ParseMode::SetAside => {
                self.drop_row(record, reason);
                return Ok(RowFate::Drop);
            }
            ParseMode::Permissive => {}
        }
        if let Some(corrupt) = &mut self.corrupt {
            corrupt.append_value(record);
        }
        if !self.has_corrupt {
            self.rescue_text(CORRUPT, record);
        }
        self.end_rescued();
        Ok(RowFate::Keep)
    }

    fn end_rescued(&mut self) {
        let Some(rescued) = &mut self.rescued else { return };
        if self.entries.is_empty() {
            rescued.append_null();
            return;
        }
        let mut entries = std::mem::take(&mut self.entries);
        entries.insert(FILE_PATH.to_owned(), Value::String(self.file.clone()));
        rescued.append_value(Value::Object(entries).to_string());
    }

    /// The columns of the rows ended since the last call.
    pub(crate) fn finish(&mut self) -> (Option<ArrayRef>, Option<ArrayRef>) {
        let finished = |builder: &mut Option<StringBuilder>| builder.as_mut().map(|b| Arc::new(b.finish()) as ArrayRef);
        (finished(&mut self.rescued), finished(&mut self.corrupt))
    }

    /// How many records were set aside since they were last taken: those of a batch are limited like its rows.
    pub(crate) fn bad_records(&self) -> usize {
        self.bad.len()
    }

    /// The records set aside since the last call.
    pub(crate) fn take_bad(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.bad)
    }
}

fn insert(entries: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => {
            entries.insert((*name).to_owned(), value);
        }
        [name, rest @ ..] => {
            let inner = entries.entry((*name).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
