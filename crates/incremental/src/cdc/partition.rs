//! Rows of one key together: what lets keys be worked on in parallel, and in pieces that fit into arrays.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::create_hashes;
use deltaworks_spark::error::Result;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;

use super::compare::rows_of;
use super::project;

/// Puts the rows of `batches` into as many parts as asked for, all rows of a key into the same one, whatever else
/// the batches hold.
///
/// # Errors
/// `Internal` if the batches do not have the columns of `schema`.
pub fn partition_by_key(
    batches: &[RecordBatch],
    schema: &SchemaRef,
    keys: &[usize],
    parts: usize,
) -> Result<Vec<RecordBatch>> {
    if parts == 1 {
        return Ok(vec![concat_batches(schema, batches)?]);
    }
    let state = FixedState::default();
    // For each part its rows: batch, and row within that.
    let mut chosen: Vec<Vec<(usize, usize)>> = vec![Vec::new(); parts];
    let mut hashes = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        hashes.clear();
        hashes.resize(batch.num_rows(), 0);
        let hashes = create_hashes(&project(batch.columns(), keys)?, &state, &mut hashes)?;
        for (row, hash) in hashes.iter().enumerate() {
            chosen[(hash % parts as u64) as usize].push((index, row));
        }
    }
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    chosen.iter().map(|rows| part_of(&batches, schema, rows)).collect()
}

/// The chosen rows as one batch.
fn part_of(batches: &[&RecordBatch], schema: &SchemaRef, rows: &[(usize, usize)]) -> Result<RecordBatch> {
    match rows {
        [] => Ok(RecordBatch::new_empty(Arc::clone(schema))),
        rows => {
            let part = interleave_record_batch(batches, rows)?;
            Ok(RecordBatch::try_new(Arc::clone(schema), part.columns().to_vec())?)
        }
    }
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
