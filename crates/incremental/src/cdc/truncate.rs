//! Truncations: events without a key that remove everything before them.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use deltaworks_spark::error::Result;

use super::compare::{Comparable, rows_of};
use super::{Events, Operation};

/// The greatest sequence of the truncations among `events`, as an array of one value; `None` without truncations.
///
/// # Errors
/// `Internal` if the batch does not have the columns of events.
pub fn latest_truncation(events: &RecordBatch) -> Result<Option<ArrayRef>> {
    let parts = Events::new(events)?;
    let rows = rows_of(std::slice::from_ref(parts.sequence))?;
    let truncations = (0..events.num_rows()).filter(|row| parts.is(*row, Operation::Truncate));
    let latest = truncations.max_by(|a, b| rows.row(*a).cmp(&rows.row(*b)));
    Ok(latest.map(|row| parts.sequence.slice(row, 1)))
}

/// For each of `sequences`, whether it is `bound` or later. `bound` is an array of one value.
///
/// # Errors
/// `Internal` if the types differ.
pub fn not_before(sequences: &ArrayRef, bound: &ArrayRef) -> Result<BooleanArray> {
    let comparable = Comparable::like(std::slice::from_ref(bound))?;
    let (rows, bound) =
        (comparable.rows(std::slice::from_ref(sequences))?, comparable.rows(std::slice::from_ref(bound))?);
    Ok(rows.iter().map(|row| Some(row >= bound.row(0))).collect())
}
