//! Values as bytes that compare as the values do: NULLs first, structures field by field.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use deltaworks_spark::error::Result;

/// Whether values of these types can be compared.
pub fn supports<'a>(types: impl IntoIterator<Item = &'a DataType>) -> bool {
    let fields: Vec<_> = types.into_iter().map(|data_type| SortField::new(data_type.clone())).collect();
    RowConverter::supports_fields(&fields)
}

/// Turns columns of given types into comparable bytes, the same for each batch.
pub(super) struct Comparable(RowConverter);

impl Comparable {
    /// For columns with the types of `columns`.
    pub(super) fn like(columns: &[ArrayRef]) -> Result<Self> {
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        Ok(Self(RowConverter::new(fields)?))
    }

    /// One row per row of `columns`.
    pub(super) fn rows(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.0.convert_columns(columns)?)
    }
}

/// The bytes of `columns`, comparable among themselves only.
pub(super) fn rows_of(columns: &[ArrayRef]) -> Result<Rows> {
    Comparable::like(columns)?.rows(columns)
}
