//! What has to be written to turn some rows into others.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use deltaworks_spark::error::Result;

use super::compare::Comparable;

/// Rows of before and after, by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows of before that are no more.
    pub removed: Vec<u32>,
    /// Rows of after that are new.
    pub added: Vec<u32>,
    /// Rows that stay, before and after.
    pub kept: Vec<(u32, u32)>,
}

/// Compares two sets of rows with the same columns; a row may be there several times.
///
/// # Errors
/// `Internal` if the columns differ.
pub fn difference(before: &RecordBatch, after: &RecordBatch) -> Result<Difference> {
    let comparable = Comparable::like(after.columns())?;
    let (old, new) = (comparable.rows(before.columns())?, comparable.rows(after.columns())?);
    let mut by_row: HashMap<_, Vec<u32>> = HashMap::with_capacity(old.num_rows());
    for (index, row) in (0_u32..).zip(old.iter()) {
        by_row.entry(row).or_default().push(index);
    }
    let mut difference = Difference::default();
    for (index, row) in (0_u32..).zip(new.iter()) {
        match by_row.get_mut(&row).and_then(Vec::pop) {
            Some(before) => difference.kept.push((before, index)),
            None => difference.added.push(index),
        }
    }
    difference.removed = by_row.into_values().flatten().collect();
    difference.removed.sort_unstable();
    Ok(difference)
}
