//! CSV records to columns.

use std::sync::Arc;

use deltaworks_spark::Result;

use super::CsvFormat;
use super::fields::Cells;
use crate::bad_records::BadRecord;
use crate::errors::schema_evolved;
use crate::format::records::RecordDecoder;
use crate::format::rescue::RowNotes;
use crate::format::{Decoded, ReadRequest};
use crate::schema::evolution::storable_widening;
use crate::text::TextColumn;

/// Decodes records of one file.
pub(super) struct CsvDecoder {
    format: CsvFormat,
    request: Arc<ReadRequest>,
    columns: Vec<Option<TextColumn>>,
    /// For each cell of a record the data column it belongs to.
    mapping: Vec<Option<usize>>,
    /// The names of the cells.
    names: Vec<String>,
    cells: Cells,
    filled: Vec<bool>,
    notes: RowNotes,
    skip: u64,
    file: String,
    rows: usize,
}

impl CsvDecoder {
    /// A decoder for a file whose columns have these `names`; `None`: by position.
    pub(super) fn new(
        format: &CsvFormat,
        file: &str,
        request: Arc<ReadRequest>,
        names: Option<Vec<String>>,
    ) -> Result<Self> {
        let mut columns = Vec::new();
        for (field, wanted) in request.fields.iter().zip(&request.wanted) {
            columns.push(wanted.then(|| TextColumn::new(field.data_type())).transpose()?);
        }
        // The column of malformed records is no cell.
        let positions = (0..request.fields.len()).map(Some).collect();
        let (mapping, names) = match names {
            Some(names) => (names.iter().map(|name| request.column(name)).collect(), names),
            None => (positions, request.fields.iter().map(|field| field.name().clone()).collect()),
        };
        let new: Vec<String> = names
            .iter()
            .zip(&mapping)
            .filter(|(name, slot): &(&String, &Option<usize>)| {
                slot.is_none() && request.is_new(name) && !request.is_ignored(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        if request.report_unknown && !new.is_empty() {
            return Err(schema_evolved(&new, file));
        }
        Ok(Self {
            format: format.clone(),
            filled: vec![false; columns.len()],
            notes: RowNotes::new(file, format.mode, &request),
            columns,
            mapping,
            names,
            cells: Cells::default(),
            skip: 0,
            file: file.to_owned(),
            request,
            rows: 0,
        })
    }

    fn record(&mut self, record: &str) -> Result<()> {
        let count = self.cells.len();
        // Records of another length than expected are malformed.
        if count != self.mapping.len() {
            if self.notes.drops_mismatches() {
                let expected = self.mapping.len();
                self.notes.drop_row(record, format!("the number of values is {count}, expected {expected}"));
                return Ok(());
            }
            self.extra_cells(count)?;
            self.notes.mismatch();
        }
        if self.notes.drops_mismatches()
            && let Some(reason) = self.misfit()?
        {
            self.notes.drop_row(record, reason);
            return Ok(());
        }
        self.filled.fill(false);
        for index in 0..count.min(self.mapping.len()) {
            self.cell(index)?;
        }
        for (column, filled) in self.columns.iter_mut().zip(&self.filled) {
            if let Some(column) = column
                && !filled
            {
                column.append_null();
            }
        }
        self.notes.end_row(record)?;
        self.rows += 1;
        Ok(())
    }

    fn extra_cells(&mut self, count: usize) -> Result<()> {
        for index in self.mapping.len()..count {
            let name = format!("_c{index}");
            self.notes.rescue_text(&name, self.cells.text(index));
        }
        Ok(())
    }

    /// The value of a cell; `None` for NULL.
    fn value(&self, index: usize) -> Option<&str> {
        let text = self.cells.text(index);
        let text = match (text.is_empty(), self.cells.is_quoted(index)) {
            (true, false) => return None,
            (true, true) => self.format.empty_value.as_str(),
            (false, _) => text,
        };
        (text != self.format.null_value).then_some(text)
    }

    fn cell(&mut self, index: usize) -> Result<()> {
        let Some(slot) = self.mapping[index] else {
            if self.notes.rescues()
                && !self.request.is_ignored(&self.names[index])
                && let Some(value) = self.value(index).map(str::to_owned)
            {
                self.notes.rescue_text(&self.names[index], &value);
            }
            return Ok(());
        };
        if self.filled[slot] {
            return Ok(());
        }
        self.filled[slot] = true;
        let value = self.value(index).map(str::to_owned);
        let Some(column) = &mut self.columns[slot] else { return Ok(()) };
        let Some(value) = value else {
            column.append_null();
            return Ok(());
        };
        if !column.append(&value, &self.format.parser) {
            let field = &self.request.fields[slot];
            let observed = self.format.parser.infer(&value, true);
            if self.request.report_wider && storable_widening(field.data_type(), &observed).is_some() {
                return Err(schema_evolved(&[field.name().clone()], &self.file));
            }
            self.notes.rescue_text(field.name(), &value);
            self.notes.mismatch();
        }
        Ok(())
    }

    /// Why the record does not fit: the first cell that has not its column's type.
    fn misfit(&self) -> Result<Option<String>> {
        for (index, slot) in self.mapping.iter().enumerate().take(self.cells.len()) {
            let (Some(slot), Some(value)) = (slot, self.value(index)) else { continue };
            let field = &self.request.fields[*slot];
            if !TextColumn::new(field.data_type())?.append(value, &self.format.parser) {
                return Ok(Some(BadRecord::misfit(field, &[], value)));
            }
        }
        Ok(None)
    }
}

impl RecordDecoder for CsvDecoder {
    fn start(&mut self, first: bool) {
        self.skip = if first { self.format.skip_rows + u64::from(self.format.header) } else { 0 };
    }

    fn decode(&mut self, block: &str, at: &mut usize) -> Result<Decoded> {
        let separator = self.format.layout.separator.clone();
        while self.rows + self.notes.bad_records() < self.request.batch_rows {
            let next = self.format.syntax.next_record(block, at, separator.as_deref(), &mut self.cells);
            let Some(record) = next else {
                *at = block.len();
                break;
            };
            if self.skip > u64::from(self.format.header) {
                self.skip -= 1;
            } else if self.cells.is_blank() {
                continue;
            } else if self.skip > 0 {
                self.skip -= 1;
            } else {
                self.record(record)?;
            }
        }
        let columns = self.columns.iter_mut().map(|column| column.as_mut().map(TextColumn::finish)).collect();
        let (rescued, corrupt) = self.notes.finish();
        let bad = self.notes.take_bad();
        Ok(Decoded { rows: std::mem::take(&mut self.rows), columns, rescued, corrupt, bad })
    }
}
