//! Cuts CSV text into records and cells.
//!
//! A quote inside a quoted cell that neither ends nor is escaped makes the cell an unquoted one
//! (`STOP_AT_DELIMITER`): it is the text as it stands up to the next delimiter, quotes included. A quote that
//! is never closed takes the rest of the record.

use deltaworks_spark::Result;

use crate::errors::invalid_option;
use crate::format::blocks::next_line;
use crate::options::Options;

/// The characters with a meaning; 0 stands for none.
#[derive(Clone, Debug)]
pub(super) struct Syntax {
    delimiter: Vec<u8>,
    quote: u8,
    escape: u8,
    comment: u8,
    trim_start: bool,
    trim_end: bool,
    multi_line: bool,
}

impl Syntax {
    pub(super) fn parse(options: &Options<'_>, multi_line: bool) -> Result<Self> {
        let delimiter = options.any(&["sep", "delimiter"]).unwrap_or(",");
        let delimiter = delimiter.replace("\\t", "\t").replace("\\\\", "\\");
        if delimiter.is_empty() {
            return Err(invalid_option("sep", "", "at least one character"));
        }
        Ok(Self {
            delimiter: delimiter.into_bytes(),
            quote: options.char("quote")?.unwrap_or(b'"'),
            escape: options.char("escape")?.unwrap_or(b'\\'),
            comment: options.char("comment")?.unwrap_or(0),
            trim_start: options.flag("ignoreLeadingWhiteSpace", false)?,
            trim_end: options.flag("ignoreTrailingWhiteSpace", false)?,
            multi_line,
        })
    }

    /// Reads the next record into `cells` and gives its text; comments are passed over.
    pub(super) fn next_record<'a>(
        &self,
        block: &'a str,
        at: &mut usize,
        separator: Option<&str>,
        cells: &mut Cells,
    ) -> Option<&'a str> {
        loop {
            let start = *at;
            if self.comment != 0 && block.as_bytes().get(start) == Some(&self.comment) {
                next_line(block, at, separator)?;
                continue;
            }
            cells.clear();
            if self.multi_line {
                let length = self.cells(block.get(start..).filter(|rest| !rest.is_empty())?, true, cells);
                *at = start + length;
                return Some(block[start..*at].trim_end_matches(['\n', '\r']));
            }
            let line = next_line(block, at, separator)?;
            self.cells(line, false, cells);
            return Some(line);
        }
    }

    /// Cuts one record and gives its length, the line end included; `lines`: a line end outside quotes ends it.
    fn cells(&self, text: &str, lines: bool, cells: &mut Cells) -> usize {
        let bytes = text.as_bytes();
        let mut at = 0;
        loop {
            at = self.cell(text, at, lines, cells);
            match bytes.get(at) {
                None => return at,
                Some(b'\n') if lines => return at + 1,
                Some(b'\r') if lines => return at + 1 + usize::from(bytes.get(at + 1) == Some(&b'\n')),
                // The cell ended at a delimiter.
                Some(_) => at += self.delimiter.len(),
            }
        }
    }

    /// Whether a cell ends here.
    fn ends(&self, bytes: &[u8], at: usize, lines: bool) -> bool {
        match bytes.get(at) {
            None => true,
            Some(b'\n' | b'\r') if lines => true,
            Some(byte) => *byte == self.delimiter[0] && bytes[at..].starts_with(&self.delimiter),
        }
    }

    fn cell(&self, text: &str, start: usize, lines: bool, cells: &mut Cells) -> usize {
        let bytes = text.as_bytes();
        let mut first = start;
        if self.trim_start {
            while matches!(bytes.get(first), Some(b' ' | b'\t')) && !self.ends(bytes, first, lines) {
                first += 1;
            }
        }
        if self.quote != 0 && bytes.get(first) == Some(&self.quote) {
            return self.quoted(text, first + 1, lines, cells);
        }
        let mut end = first;
        while !self.ends(bytes, end, lines) {
            end += 1;
        }
        let cell = &text[first..end];
        cells.push(if self.trim_end { cell.trim_end_matches([' ', '\t']) } else { cell });
        end
    }

    /// A cell after its opening quote.
    fn quoted(&self, text: &str, start: usize, lines: bool, cells: &mut Cells) -> usize {
        let bytes = text.as_bytes();
        let mut value = Vec::new();
        let mut at = start;
        loop {
            let Some(&byte) = bytes.get(at) else {
                cells.push_quoted(&String::from_utf8_lossy(&value));
                return at;
            };
            let next = bytes.get(at + 1).copied();
            if byte == self.escape && self.escape != 0 && self.escape != self.quote && next == Some(self.quote) {
                value.push(self.quote);
                at += 2;
            } else if byte == self.escape && self.escape != self.quote && self.escape != 0 && next == Some(self.escape)
            {
                value.push(self.escape);
                at += 2;
            } else if byte != self.quote {
                value.push(byte);
                at += 1;
            } else if self.escape == self.quote && next == Some(self.quote) {
                value.push(self.quote);
                at += 2;
            } else {
                let mut end = at + 1;
                while matches!(bytes.get(end), Some(b' ' | b'\t')) && !self.ends(bytes, end, lines) {
                    end += 1;
                }
                if self.ends(bytes, end, lines) {
                    cells.push_quoted(&String::from_utf8_lossy(&value));
                    return end;
                }
                return self.unquoted_after_all(text, at, &value, lines, cells);
            }
        }
    }

    /// A cell whose quotes turn out to be part of its text: `value` was read after the opening one, and the one
    /// at `at` does not end it.
    fn unquoted_after_all(&self, text: &str, at: usize, value: &[u8], lines: bool, cells: &mut Cells) -> usize {
        let mut end = at;
        while !self.ends(text.as_bytes(), end, lines) {
            end += 1;
        }
        let cell = format!("{}{}{}", char::from(self.quote), String::from_utf8_lossy(value), &text[at..end]);
        cells.push(if self.trim_end { cell.trim_end_matches([' ', '\t']) } else { &cell });
        end
    }
}

/// The cells of one record.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    text: String,
    ends: Vec<(usize, bool)>,
}

impl Cells {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push((self.text.len(), false));
    }

    fn push_quoted(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push((self.text.len(), true));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// An empty line.
    pub(super) fn is_blank(&self) -> bool {
        self.ends.len() == 1 && !self.ends[0].1 && self.text.trim().is_empty()
    }

    pub(super) fn text(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &self.text[start..self.ends[index].0]
    }

    pub(super) fn is_quoted(&self, index: usize) -> bool {
        self.ends[index].1
    }
}
