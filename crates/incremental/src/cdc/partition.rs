//! Rows of one key together: what lets keys be worked on in parallel, and in pieces that fit into arrays.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use deltaworks_spark::error::Result;

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
    let mut pieces: Vec<Vec<RecordBatch>> = vec![Vec::new(); parts];
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        if parts == 1 {
            pieces[0].push(batch.clone());
            continue;
        }
        let rows = rows_of(&project(batch.columns(), keys)?)?;
        let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); parts];
        for (index, row) in (0_u32..).zip(rows.iter()) {
            let mut hasher = DefaultHasher::new();
            row.as_ref().hash(&mut hasher);
            chosen[(hasher.finish() % parts as u64) as usize].push(index);
        }
        for (piece, rows) in pieces.iter_mut().zip(chosen) {
            if !rows.is_empty() {
                piece.push(take_record_batch(batch, &UInt32Array::from(rows))?);
            }
        }
    }
    pieces.iter().map(|pieces| Ok(concat_batches(schema, pieces)?)).collect()
}

/// The distinct keys of `batch`: its columns at `keys`.
///
/// # Errors
/// `Internal` if there are no such columns.
pub fn distinct_keys(batch: &RecordBatch, keys: &[usize]) -> Result<RecordBatch> {
    let columns = project(batch.columns(), keys)?;
    let rows = rows_of(&columns)?;
    let mut seen = HashSet::with_capacity(rows.num_rows());
    let first: UInt32Array =
        (0_u32..).zip(rows.iter()).filter_map(|(index, row)| seen.insert(row).then_some(index)).collect();
    let columns = columns.iter().map(|column| Ok(take(column, &first, None)?)).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::new(batch.schema().project(keys)?), columns)?)
}
