//! Many rows of JSON text to the columns of a schema.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, StringBuilder};
use arrow::datatypes::SchemaRef;
use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::column::{Forms, Object, Rescued};
use crate::error::Result;
use crate::functions::Pattern;

/// How JSON is read.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// The zone of time stamps that name none.
    pub time_zone: Tz,
    /// `dateFormat`
    pub date_format: Option<String>,
    /// `timestampFormat`
    pub timestamp_format: Option<String>,
    /// Whether to collect what no column took (unknown fields, values of another type).
    pub rescue: bool,
    /// Whether text columns keep the JSON of other values as it stands in the file; otherwise it is written anew.
    pub raw_text: bool,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self { time_zone: Tz::UTC, date_format: None, timestamp_format: None, rescue: false, raw_text: true }
    }
}

/// Decodes rows, one JSON object each, into columns.
///
/// Missing fields are NULL. Columns of type STRING take the JSON of anything that is not text.
pub struct Decoder {
    schema: SchemaRef,
    root: Object,
    forms: Forms,
    rescue: bool,
    rows: usize,
    malformed: Vec<usize>,
    rescued: StringBuilder,
}

/// The rows of a [`Decoder`].
#[derive(Debug)]
pub struct Decoded {
    /// The columns.
    pub batch: RecordBatch,
    /// The rows that are not well-formed, ascending; the fields before the error are kept.
    pub malformed: Vec<usize>,
    /// Per row a JSON object of what no column took; `None` if it was not asked for.
    pub rescued: Option<StringArray>,
}

impl Decoder {
    /// A decoder into `schema`.
    ///
    /// # Errors
    /// If a type cannot be read from JSON, or a pattern is invalid.
    pub fn new(schema: SchemaRef, options: &DecoderOptions) -> Result<Self> {
        let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new).transpose();
        let forms = Forms {
            tz: options.time_zone,
            date: pattern(&options.date_format)?,
            timestamp: pattern(&options.timestamp_format)?,
            raw_text: options.raw_text,
        };
        let root = Object::new(schema.fields().clone())?;
        let rescue = options.rescue;
        Ok(Self { schema, root, forms, rescue, rows: 0, malformed: Vec::new(), rescued: StringBuilder::new() })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Decodes one row; whether it is well-formed.
    pub fn push(&mut self, row: &[u8]) -> bool {
        let text = std::str::from_utf8(row).map_or("", str::trim);
        let object = text.starts_with('{');
        let mut rescued = Rescued::new();
        let fits = if object {
            self.root.push(text, &self.forms, self.rescue.then_some(&mut rescued))
        } else {
            self.root.null();
            false
        };
        // Only a row in which something did not fit is read a second time to find out why.
        let well_formed = fits || (object && sonic_rs::from_str::<sonic_rs::LazyValue<'_>>(text).is_ok());
        if !well_formed {
            self.malformed.push(self.rows);
        }
        if self.rescue {
            self.rescued.append_option((!rescued.is_empty()).then(|| rescued_json(rescued)));
        }
        self.rows += 1;
        well_formed
    }

    /// The rows so far; the decoder starts anew.
    ///
    /// # Errors
    /// If the columns do not make a batch (a NULL where the schema allows none).
    pub fn finish(&mut self) -> Result<Decoded> {
        let columns: Vec<ArrayRef> = self.root.finish_columns()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.rows = 0;
        let rescued = self.rescue.then(|| self.rescued.finish());
        Ok(Decoded { batch, malformed: std::mem::take(&mut self.malformed), rescued })
    }
}

fn rescued_json(rescued: Rescued) -> String {
    let value = |raw: String| serde_json::from_str(&raw).unwrap_or(Value::String(raw));
    let object: Map<String, Value> = rescued.into_iter().map(|(key, raw)| (key, value(raw))).collect();
    Value::Object(object).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;
    use arrow::util::pretty::pretty_format_batches;

    #[test]
    fn rows_become_columns() {
        let schema = parse_schema("a BIGINT, s STRING, d DATE, n STRUCT<x: INT, l: ARRAY<DOUBLE>>, m MAP<STRING, INT>");
        let options = DecoderOptions { rescue: true, ..Default::default() };
        let mut decoder = Decoder::new(Arc::new(schema.unwrap()), &options).unwrap();
        assert!(
            decoder.push(
                br#"{"a": 1, "s": {"k": [1, 2]}, "d": "2024-01-02", "n": {"x": 1, "l": [1, 2.5]}, "m": {"k": 1}}"#
            )
        );
        assert!(decoder.push(br#"{"s": "a\nb", "a": "x", "other": true}"#));
        assert!(!decoder.push(br#"{"a": 3, "s"#));
        assert!(!decoder.push(b"[1]"));
        let decoded = decoder.finish().unwrap();
        assert_eq!(decoded.malformed, [2, 3]);
        let rescued = decoded.rescued.unwrap();
        assert_eq!(rescued.value(1), r#"{"a":"x","other":true}"#);
        let shown = pretty_format_batches(&[decoded.batch.slice(0, 1)]).unwrap().to_string();
        assert!(shown.contains(r#"| 1 | {"k": [1, 2]} | 2024-01-02 | {x: 1, l: [1.0, 2.5]} | {k: 1} |"#), "{shown}");
    }
}
