//! Columns that an event leaves as they were: those in which it has NULL, where NULL says nothing, and those that its list of
//! columns does not name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::nullif;
use deltaworks_spark::error::Result;

use super::Events;

/// For each column the events that leave it as it was.
#[derive(Debug, Default)]
pub(super) struct Left {
    columns: Vec<Option<Vec<bool>>>,
}

impl Left {
    /// What `events` leave, of which `names` are the columns and `keys` are always set. In columns that are `partial`, NULL
    /// says nothing.
    pub(super) fn of(events: &Events<'_>, names: &[&str], keys: &[usize], partial: &[bool]) -> Result<Self> {
        let rows = events.operations.len();
        let mut left = Self { columns: vec![None; events.columns.len()] };
        for (index, column) in events.columns.iter().enumerate() {
            if partial.get(index).is_some_and(|partial| *partial) && column.null_count() > 0 {
                left.columns[index] = Some((0..rows).map(|row| column.is_null(row)).collect());
            }
        }
        let Some(sets) = events.sets else { return Ok(left) };
        let names = names.iter().take(events.columns.len()).enumerate();
        let positions: HashMap<String, usize> = names.map(|(index, name)| (name.to_lowercase(), index)).collect();
        for row in (0..rows).filter(|row| sets.is_valid(*row)) {
            let mut named = vec![false; events.columns.len()];
            for name in sets.value(row).as_string::<i32>().iter().flatten() {
                if let Some(index) = positions.get(&name.to_lowercase()) {
                    named[*index] = true;
                }
            }
            for (index, _) in named.iter().enumerate().filter(|(index, named)| !**named && !keys.contains(index)) {
                left.columns[index].get_or_insert_with(|| vec![false; rows])[row] = true;
            }
        }
        Ok(left)
    }

    /// The events that leave a column as it was, by row; `None` if all of them set it.
    pub(super) fn by_row(&self, column: usize) -> Option<&[bool]> {
        self.columns.get(column)?.as_deref()
    }

    /// The values of a column that events set; NULL where they leave it, whatever stands there.
    pub(super) fn set_values(&self, index: usize, column: &ArrayRef) -> Result<ArrayRef> {
        match self.by_row(index) {
            Some(left) => Ok(nullif(column, &BooleanArray::from(left.to_vec()))?),
            None => Ok(Arc::clone(column)),
        }
    }

    /// Whether all events set all columns.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.iter().all(Option::is_none)
    }
}
