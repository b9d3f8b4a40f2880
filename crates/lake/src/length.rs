//! Text columns of limited length: `varchar(n)`, `char(n)`.
//!
//! Delta stores both as strings; the length is in the column's metadata and holds for whoever writes. As in
//! Spark, spaces beyond the length are cut off, shorter values of `char` are filled up with spaces.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Schema};
use deltaworks_spark::error::{Error, Result};

use crate::definition::CHAR_TYPE_KEY;

/// What one column says of the length of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length {
    /// The column, by position.
    pub(crate) column: usize,
    /// Characters at most.
    limit: usize,
    /// Shorter values are filled up: `char`.
    padded: bool,
}

impl Length {
    /// Those of all top-level columns.
    pub(crate) fn all(schema: &Schema) -> Vec<Self> {
        let fields = schema.fields().iter().enumerate();
        fields
            .filter(|(_, field)| field.data_type() == &DataType::Utf8)
            .filter_map(|(column, field)| Self::parse(column, field.metadata().get(CHAR_TYPE_KEY)?))
            .collect()
    }

    fn parse(column: usize, text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let limit = rest.strip_suffix(')')?.trim().parse().ok()?;
        Some(Self { column, limit, padded: name.trim().eq_ignore_ascii_case("char") })
    }

    /// The values as they are stored.
    ///
    /// # Errors
    /// `EXCEED_LIMIT_LENGTH` (`Data`) for the first value that is too long.
    pub(crate) fn fit(self, values: &ArrayRef, name: &str) -> Result<ArrayRef> {
        let values = values.as_string_opt::<i32>().ok_or_else(|| Error::internal("text is not a string array"))?;
        // A character has a byte at least, so most columns need no second look.
        let short = |value: &str| value.len() <= self.limit;
        if !self.padded && values.iter().flatten().all(short) {
            return Ok(Arc::new(values.clone()));
        }
        let fitted = values.iter().map(|value| value.map(|value| self.value(value, name)).transpose());
        Ok(Arc::new(fitted.collect::<Result<StringArray>>()?))
    }

    fn value(self, value: &str, name: &str) -> Result<String> {
        let length = value.chars().count();
        if length <= self.limit {
            let missing = if self.padded { self.limit - length } else { 0 };
            return Ok(format!("{value}{}", " ".repeat(missing)));
        }
        let end = value.char_indices().nth(self.limit).map_or(value.len(), |(index, _)| index);
        let (kept, rest) = value.split_at(end);
        if rest.chars().all(|c| c == ' ') {
            return Ok(kept.to_owned());
        }
        let kind = if self.padded { "char" } else { "varchar" };
        Err(Error::data(format!("value `{value}` of column `{name}` is longer than {kind}({})", self.limit))
            .with_condition("EXCEED_LIMIT_LENGTH")
            .with_help("Shorten it in the query (left(…)), or declare the column as STRING."))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fit(char_type: &str, value: &str) -> std::result::Result<String, String> {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some(value), None]));
        let fitted =
            Length::parse(0, char_type).unwrap().fit(&column, "c").map_err(|error| error.message().to_owned())?;
        Ok(fitted.as_string::<i32>().value(0).to_owned())
    }

    #[test]
    fn values_fit_or_are_refused() {
        assert_eq!(fit("varchar(3)", "abc").unwrap(), "abc");
        assert_eq!(fit("varchar(3)", "ÄÖÜ").unwrap(), "ÄÖÜ");
        assert_eq!(fit("varchar(3)", "abc  ").unwrap(), "abc");
        assert_eq!(fit("char(3)", "a").unwrap(), "a  ");
        assert_eq!(fit("varchar(3)", "abcd").unwrap_err(), "value `abcd` of column `c` is longer than varchar(3)");
        assert!(fit("char(3)", "ÄÖÜß").is_err());
    }
}
