//! Many rows of JSON text to an array.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use chrono_tz::Tz;

use super::column::{Column, Fit, Forms};
use super::nesting::is_shallow;
use crate::error::Result;
use crate::functions::Pattern;

/// Deeper nesting is malformed, as in files of JSON.
pub(crate) const MAX_DEPTH: usize = 500;

/// How JSON is read.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// The zone of time stamps that name none.
    pub time_zone: Tz,
    /// `dateFormat`
    pub date_format: Option<String>,
    /// `timestampFormat`
    pub timestamp_format: Option<String>,
}

/// Decodes rows, one JSON value each.
///
/// Missing fields are NULL. Columns of type STRING take the JSON of anything that is not text. What follows the value is
/// not looked at.
pub struct Decoder {
    root: Column,
    forms: Forms,
}

impl Decoder {
    /// A decoder into an array of `data_type`: an ARRAY, a MAP, a STRUCT or a VARIANT.
    ///
    /// # Errors
    /// If a type cannot be read from JSON, or a pattern is invalid.
    pub fn new(data_type: &DataType, options: &DecoderOptions) -> Result<Self> {
        let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new).transpose();
        let forms = Forms {
            tz: options.time_zone,
            date: pattern(&options.date_format)?,
            timestamp: pattern(&options.timestamp_format)?,
        };
        Ok(Self { root: Column::new(data_type)?, forms })
    }

    /// Decodes one row, which is NULL if it is not well-formed or of another type; whether all of it fitted.
    pub fn push(&mut self, row: &str) -> bool {
        let row = row.trim();
        // Only a variant may be a text or a number.
        let is_value = row.starts_with(['{', '[']) || matches!(self.root, Column::Variant(_));
        if is_value && is_shallow(row, MAX_DEPTH) {
            return self.root.push(row, &self.forms) == Fit::Whole;
        }
        self.root.null();
        false
    }

    /// Adds a row that is NULL.
    pub fn push_null(&mut self) {
        self.root.null();
    }

    /// The rows so far; the decoder starts anew.
    ///
    /// # Errors
    /// If the values do not make an array (a NULL where the type allows none).
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.root.finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;
    use arrow::util::display::array_value_to_string;

    #[test]
    fn rows_become_values() {
        let schema = parse_schema("a BIGINT, s STRING, d DATE, n STRUCT<x: INT, l: ARRAY<DOUBLE>>, m MAP<STRING, INT>");
        let options = DecoderOptions { time_zone: Tz::UTC, date_format: None, timestamp_format: None };
        let mut decoder = Decoder::new(&DataType::Struct(schema.unwrap().fields().clone()), &options).unwrap();
        assert!(decoder.push(
            r#"{"a": 1, "s": {"k": [1, 2]}, "d": "2024-01-02", "n": {"x": 1, "l": [1, 2.5]}, "m": {"k": 1}} rest"#
        ));
        assert!(
            !decoder.push(r#"{"s": "a\nb", "a": "x", "other": true, "n": {"l": [1, "x"]}, "m": {"k": 1, "l": "x"}}"#)
        );
        assert!(!decoder.push(r#"{"a": 3, "s""#));
        assert!(!decoder.push("[1]"));
        assert!(decoder.push(r#"{"n": {"l": [3]}, "a": 1, "a": 4}"#));
        decoder.push_null();
        let rows = decoder.finish().unwrap();
        let shown: Vec<_> = (0..rows.len()).map(|row| array_value_to_string(&rows, row).unwrap()).collect();
        assert_eq!(
            shown,
            [
                r#"{a: 1, s: {"k":[1,2]}, d: 2024-01-02, n: {x: 1, l: [1.0, 2.5]}, m: {k: 1}}"#,
                "{a: , s: a\nb, d: , n: {x: , l: }, m: }",
                "",
                "",
                "{a: 4, s: , d: , n: {x: , l: [3.0]}, m: }",
                "",
            ]
        );
    }

    #[test]
    fn deep_rows_are_malformed() {
        let options = DecoderOptions { time_zone: Tz::UTC, date_format: None, timestamp_format: None };
        let mut decoder = Decoder::new(&crate::types::array(DataType::Utf8), &options).unwrap();
        assert!(decoder.push(&format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))));
        assert!(!decoder.push(&"[".repeat(100_000)));
    }
}
