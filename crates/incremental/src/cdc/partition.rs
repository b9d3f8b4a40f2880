//! Rows of one key together: what lets keys be worked on in parallel, and in pieces that fit into arrays. First it is found
//! out where each row belongs ([`parts_of`]), then each part is put together ([`part`]): both can be done for several at once.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::create_hashes;
use deltaworks_spark::error::Result;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;

use super::compare::rows_of;
use super::project;

/// For each row the number of its part, of as many as asked for: the same for all rows of a key, whatever else the batch
/// holds.
///
/// # Errors
/// `Internal` if there are no columns at `keys`.
pub fn parts_of(batch: &RecordBatch, keys: &[usize], parts: usize) -> Result<Vec<u32>> {
    let state = FixedState::default();
    let mut hashes = vec![0; batch.num_rows()];
    let hashes = create_hashes(&project(batch.columns(), keys)?, &state, &mut hashes)?;
    Ok(hashes.iter().map(|hash| (hash % parts.max(1) as u64) as u32).collect())
}

/// The rows of one part, in their order.
///
/// # Errors
/// `Internal` if the batches do not have the columns of `schema`.
pub fn part(batches: &[RecordBatch], schema: &SchemaRef, parts: &[Vec<u32>], number: u32) -> Result<RecordBatch> {
    let mut rows: Vec<(usize, usize)> = Vec::new();
    for (batch, parts) in parts.iter().enumerate() {
        rows.extend(parts.iter().enumerate().filter(|(_, part)| **part == number).map(|(row, _)| (batch, row)));
    }
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let part = interleave_record_batch(&batches, &rows)?;
    Ok(RecordBatch::try_new(Arc::clone(schema), part.columns().to_vec())?)
}

/// The distinct keys of `batch`: its columns at `keys`.
///
/// # Errors
/// `Internal` if there are no such columns.
pub fn distinct_keys(batch: &RecordBatch, keys: &[usize]) -> Result<RecordBatch> {
    let columns = project(batch.columns(), keys)?;
    let rows = rows_of(&columns)?;
    let mut seen: HashSet<_, RandomState> = HashSet::default();
    let first: UInt32Array =
        (0_u32..).zip(rows.iter()).filter_map(|(index, row)| seen.insert(row).then_some(index)).collect();
    let columns = columns.iter().map(|column| Ok(take(column, &first, None)?)).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::new(batch.schema().project(keys)?), columns)?)
}
