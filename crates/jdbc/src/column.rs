//! A column of what is read: its type in the database as far as it matters, and the one it gets.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result};

/// How the database compares values of a column, if that is how we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Not at all: what it compares is not what we read.
    Nothing,
    /// Numbers.
    Number,
    /// Truth values.
    Bool,
    /// Equal texts are equal, but a collation may find more of them equal.
    Text,
    /// Days.
    Date,
    /// Moments: columns that know their zone.
    Instant,
    /// Clocks without a zone that are read as such.
    Clock,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type that goes with the one in the database.
    pub(crate) natural: DataType,
    /// The type it gets: `customSchema` may say another.
    pub(crate) target: DataType,
    pub(crate) compare: Compare,
    /// The type to which the database is to cast the column before it sends it.
    pub(crate) sent_as: Option<&'static str>,
}

impl Column {
    /// A column that is sent as it is.
    pub(crate) fn new(name: &str, data_type: DataType, compare: Compare) -> Self {
        Self { name: name.to_owned(), natural: data_type.clone(), target: data_type, compare, sent_as: None }
    }

    /// A column that is sent as text, or another type that can be read.
    pub(crate) fn cast(name: &str, data_type: DataType, sent_as: &'static str) -> Self {
        Self { sent_as: Some(sent_as), ..Self::new(name, data_type, Compare::Nothing) }
    }

    #[cfg(test)]
    pub(crate) fn plain(name: &str, data_type: DataType) -> Self {
        Self::new(name, data_type, Compare::Nothing)
    }

    /// The column as Spark has it. Nothing is known to be never NULL: a query may have joined it.
    pub(crate) fn field(&self) -> Field {
        Field::new(&self.name, self.target.clone(), true)
    }
}

/// The columns as Spark has them.
pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

/// Gives columns the types of `customSchema`.
///
/// # Errors
/// `User` if two columns have one name, or a type cannot be had.
pub(crate) fn customised(mut columns: Vec<Column>, custom: Option<&Schema>) -> Result<Vec<Column>> {
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|earlier| earlier.name == column.name) {
            return Err(Error::user(format!("what is read has two columns `{}`", column.name))
                .with_condition("COLUMN_ALREADY_EXISTS")
                .with_parameter("columnName", format!("`{}`", column.name))
                .with_help("Name them differently in the query: `SELECT a.id AS a_id, b.id AS b_id`."));
        }
    }
    for field in custom.iter().flat_map(|schema| schema.fields()) {
        let Some(column) = columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(field.name())) else {
            continue;
        };
        if column.natural == *field.data_type() {
            continue;
        }
        if !arrow::compute::can_cast_types(&column.natural, field.data_type()) {
            return Err(Error::user(format!(
                "option `customSchema` gives column `{}` the type {}, but it has values of type {}",
                column.name,
                type_name(field.data_type()),
                type_name(&column.natural)
            ))
            .with_condition("INVALID_PARAMETER_VALUE")
            .with_help("Cast it in the database: option `query`."));
        }
        column.target = field.data_type().clone();
        column.compare = Compare::Nothing;
    }
    Ok(columns)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn custom_types_replace_natural_ones_and_are_not_compared_in_the_database() {
        let columns =
            vec![Column::new("ID", DataType::Int64, Compare::Number), Column::new("n", DataType::Utf8, Compare::Text)];
        let custom = deltaworks_spark::types::parse_schema("id DECIMAL(38, 0), other STRING").unwrap();
        let columns = customised(columns, Some(&custom)).unwrap();
        assert_eq!(columns[0].target, DataType::Decimal128(38, 0));
        assert_eq!((columns[0].compare, columns[1].compare), (Compare::Nothing, Compare::Text));
        let custom = deltaworks_spark::types::parse_schema("n MAP<STRING, INT>").unwrap();
        let error = customised(columns, Some(&custom)).unwrap_err();
        assert!(error.message().contains("`customSchema` gives column `n` the type map<string,int>"), "{error}");
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let columns = vec![Column::plain("a", DataType::Int32), Column::plain("a", DataType::Int32)];
        assert_eq!(customised(columns, None).unwrap_err().condition(), Some("COLUMN_ALREADY_EXISTS"));
    }
}
