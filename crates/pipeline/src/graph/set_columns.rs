//! Events of AUTO CDC that name the columns which they set.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result};

/// The column of the source that lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct SetColumns {
    /// Its name.
    pub column: String,
    /// What it may name: the columns of the source.
    known: Vec<String>,
}

impl SetColumns {
    /// The column of this name among those of the source.
    ///
    /// # Errors
    /// `User` if it is no list of texts, `Unsupported` if it has a bit for each column.
    pub fn new(column: String, fields: &DFSchema, construct: &str) -> Result<Self> {
        let data_type = fields.field_with_unqualified_name(&column)?.data_type();
        if is_list_of_texts(data_type) {
            let known = fields.fields().iter().map(|field| field.name().clone()).collect();
            return Ok(Self { column, known });
        }
        const HELP: &str = "List the names of the columns that an event sets in a column of type array<string>.";
        Err(match data_type {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Error::unsupported(format!("`{column}` as the columns to update of `{construct}`, with a status for each column in a BINARY value,"))
                    .with_help(HELP)
            }
            other => Error::user(format!(
                "the columns to update of `{construct}` are listed by `{column}`, which has type {}",
                type_name(other)
            ))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help(HELP),
        })
    }

    /// Fails if a list names what is no column.
    ///
    /// # Errors
    /// `AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA` (`Data`)
    pub fn check(&self, lists: &ArrayRef, construct: &str) -> Result<()> {
        let Some(lists) = lists.as_list_opt::<i32>() else {
            return Err(Error::internal("columns to update are no lists"));
        };
        let mut seen = HashSet::new();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            for name in lists.value(row).as_string::<i32>().iter().flatten() {
                if seen.contains(name) {
                    continue;
                }
                if !self.known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    return Err(Error::data(format!(
                        "an event of `{construct}` sets column `{name}`, as `{}` says, which is not a column of its source",
                        self.column
                    ))
                    .with_condition("AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA")
                    .with_help(format!("The source has the columns {}.", self.known.join(", "))));
                }
                seen.insert(name.to_owned());
            }
        }
        Ok(())
    }
}

fn is_list_of_texts(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => {
            matches!(item.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        _ => false,
    }
}
