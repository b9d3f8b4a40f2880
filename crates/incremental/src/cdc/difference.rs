//! What has to be written to turn some rows into others.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use deltaworks_spark::error::Result;
use foldhash::fast::RandomState;

use super::compare::Comparable;
use super::project;

/// Rows of before and after, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows of before that are no more.
    pub removed: Vec<u32>,
    /// Rows of after that are new.
    pub added: Vec<u32>,
    /// Rows that stay, before and after.
    pub kept: Vec<(u32, u32)>,
}

/// What became of rows, as those see it who follow a table; by index before and after.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RowChanges {
    /// Rows of after whose key was not there before.
    pub inserted: Vec<u32>,
    /// Rows of before whose key is not there any more.
    pub deleted: Vec<u32>,
    /// Rows that differ under the same key, before and after.
    pub updated: Vec<(u32, u32)>,
}

impl Difference {
    /// Of so many rows before, those that are not kept are gone.
    pub(super) fn of(before: usize, kept: Vec<(u32, u32)>, added: Vec<u32>) -> Self {
        let mut is_kept = vec![false; before];
        kept.iter().for_each(|(row, _)| is_kept[*row as usize] = true);
        let removed = (0_u32..).zip(is_kept).filter(|(_, is_kept)| !is_kept).map(|(row, _)| row).collect();
        Self { removed, added, kept }
    }

    /// Pairs the rows that went with those that came by the columns `keys`.
    ///
    /// # Errors
    /// `Internal` if the columns differ.
    pub fn by_key(&self, before: &RecordBatch, after: &RecordBatch, keys: &[usize]) -> Result<RowChanges> {
        let (before, after) = (project(before.columns(), keys)?, project(after.columns(), keys)?);
        let comparable = Comparable::like(&after)?;
        let (old, new) = (comparable.rows(&before)?, comparable.rows(&after)?);
        let mut gone: HashMap<_, Vec<u32>, RandomState> = HashMap::default();
        for row in &self.removed {
            gone.entry(old.row(*row as usize)).or_default().push(*row);
        }
        let mut changes = RowChanges::default();
        for row in &self.added {
            match gone.get_mut(&new.row(*row as usize)).and_then(Vec::pop) {
                Some(before) => changes.updated.push((before, *row)),
                None => changes.inserted.push(*row),
            }
        }
        changes.deleted = gone.into_values().flatten().collect();
        changes.deleted.sort_unstable();
        Ok(changes)
    }
}

/// Compares two sets of rows with the same columns; a row may be there several times.
///
/// # Errors
/// `Internal` if the columns differ.
pub fn difference(before: &RecordBatch, after: &RecordBatch) -> Result<Difference> {
    if before.num_rows() == 0 || after.num_rows() == 0 {
        let all = |batch: &RecordBatch| (0_u32..).take(batch.num_rows()).collect();
        return Ok(Difference { removed: all(before), added: all(after), kept: Vec::new() });
    }
    let comparable = Comparable::like(after.columns())?;
    let (old, new) = (comparable.rows(before.columns())?, comparable.rows(after.columns())?);
    // The last of equal rows, and for each row the one before.
    let mut last: HashMap<_, Option<u32>, RandomState> = HashMap::default();
    last.reserve(old.num_rows());
    let equal: Vec<Option<u32>> =
        (0_u32..).zip(old.iter()).map(|(index, row)| last.entry(row).or_default().replace(index)).collect();
    let (mut added, mut kept) = (Vec::new(), Vec::new());
    for (index, row) in (0_u32..).zip(new.iter()) {
        match last.get_mut(&row) {
            Some(place @ Some(_)) => {
                let before = std::mem::take(place).unwrap_or_default();
                *place = equal[before as usize];
                kept.push((before, index));
            }
            _ => added.push(index),
        }
    }
    Ok(Difference::of(before.num_rows(), kept, added))
}
