//! Values as bytes that compare as the values do: NULLs first, structures field by field.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, make_comparator};
use arrow::compute::SortOptions;
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

/// What most comparisons of rows end at: the first eight bytes in which they differ. A sort that holds these beside the
/// number of each row seldom has to fetch the rows themselves, which lie anywhere in memory.
pub(super) struct Prefixes<'a> {
    rows: &'a Rows,
    /// So many bytes are the same in all rows.
    common: usize,
    /// Rows with the same prefix are equal.
    whole: bool,
}

impl<'a> Prefixes<'a> {
    pub(super) fn of(rows: &'a Rows) -> Self {
        let mut all = rows.iter();
        let Some(first) = all.next() else { return Self { rows, common: 0, whole: true } };
        let (first, mut common, mut one_length) = (first.as_ref(), first.as_ref().len(), true);
        for row in all {
            let row = row.as_ref();
            one_length &= row.len() == first.len();
            let shared = first.iter().zip(row).take(common).take_while(|(a, b)| a == b).count();
            common = shared;
        }
        Self { rows, common, whole: one_length && first.len() - common <= size_of::<u64>() }
    }

    /// The prefix of a row.
    pub(super) fn at(&self, row: u32) -> u64 {
        let row = self.rows.row(row as usize);
        let rest = &row.as_ref()[self.common..];
        let mut prefix = [0; size_of::<u64>()];
        let length = rest.len().min(prefix.len());
        prefix[..length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(prefix)
    }

    /// Compares rows whose prefixes are equal.
    pub(super) fn rest(&self, a: u32, b: u32) -> Ordering {
        match self.whole {
            true => Ordering::Equal,
            false => self.rows.row(a as usize).cmp(&self.rows.row(b as usize)),
        }
    }
}

/// Tells of one column whether two of its rows are equal; NULL equals NULL.
pub(super) struct Equality(arrow::array::DynComparator);

impl Equality {
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        Ok(Self(make_comparator(column, column, SortOptions::default())?))
    }

    pub(super) fn holds(&self, a: u32, b: u32) -> bool {
        a == b || (self.0)(a as usize, b as usize) == Ordering::Equal
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    /// Compares by prefix, then by the rest.
    fn compared(prefixes: &Prefixes<'_>, a: u32, b: u32) -> Ordering {
        prefixes.at(a).cmp(&prefixes.at(b)).then_with(|| prefixes.rest(a, b))
    }

    proptest! {
        #[test]
        fn prefixes_compare_as_rows_do(
            numbers in prop::collection::vec(prop::option::of(-3_i64..300), 1..8),
            texts in prop::collection::vec(prop::option::of("(common )?[\\x00a]{0,12}"), 8),
        ) {
            let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
            let texts: ArrayRef = Arc::new(StringArray::from(texts[..numbers.len()].to_vec()));
            for columns in [vec![Arc::clone(&numbers)], vec![Arc::clone(&texts)], vec![texts, numbers]] {
                let rows = rows_of(&columns).unwrap();
                let prefixes = Prefixes::of(&rows);
                for a in 0..rows.num_rows() {
                    for b in 0..rows.num_rows() {
                        let expected = rows.row(a).cmp(&rows.row(b));
                        prop_assert_eq!(compared(&prefixes, a as u32, b as u32), expected);
                    }
                }
            }
        }
    }
}
