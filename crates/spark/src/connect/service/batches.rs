//! Rows as responses: in types that every client can read, in parts that a message can hold.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;

use super::operation::Operation;
use crate::connect::proto::ResultChunkingOptions;
use crate::connect::proto::execute_plan_response::{ArrowBatch, ResponseType};
use crate::connect::{faces, types};
use crate::error::Result;

/// The most bytes of rows in one response, as far as whole rows allow.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The bytes of a response that holds a part of a batch only, where the client can put them together.
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = 1024..=16 * 1024 * 1024;

/// How many bytes of a batch go into one response; `None` if the client wants it whole.
pub(super) fn chunk_bytes(options: &ResultChunkingOptions) -> Option<usize> {
    let wanted = options.preferred_arrow_chunk_size.and_then(|bytes| usize::try_from(bytes).ok());
    let wanted = wanted.filter(|bytes| CHUNK_BYTES.contains(bytes)).unwrap_or(*CHUNK_BYTES.end());
    options.allow_arrow_batch_chunking.then_some(wanted)
}

pub(super) async fn send_text(operation: &Operation, column: &str, text: String) -> Result<()> {
    let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(arrow::array::StringArray::from(vec![text]))])?;
    operation.push_schema(types::from_arrow_schema(&schema)?).await;
    send_batch(operation, &batch, 0).await.map(|_| ())
}

/// Sends a batch that starts at row `offset`; gives the row after it.
pub(super) async fn send_batch(operation: &Operation, batch: &RecordBatch, offset: i64) -> Result<i64> {
    let mut data = Vec::new();
    let mut writer = StreamWriter::try_new(&mut data, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    let row_count = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
    let data = Bytes::from(data);
    let chunks = operation.chunk_bytes.map_or(1, |size| data.len().div_ceil(size));
    let size = data.len().div_ceil(chunks.max(1));
    for chunk in 0..chunks {
        let number = |number: usize| (chunks > 1).then(|| i64::try_from(number).unwrap_or(i64::MAX));
        let part = ArrowBatch {
            row_count,
            data: data.slice(chunk * size..data.len().min((chunk + 1) * size)),
            start_offset: Some(offset),
            chunk_index: number(chunk),
            num_chunks_in_batch: number(chunks),
        };
        operation.push(ResponseType::ArrowBatch(part)).await;
    }
    Ok(offset + row_count)
}

/// A batch in parts of at most [`MAX_BATCH_BYTES`], as far as whole rows allow.
pub(super) fn split(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let parts = batch.get_array_memory_size().div_ceil(MAX_BATCH_BYTES).clamp(1, rows.max(1));
    let step = rows.div_ceil(parts).max(1);
    (0..rows.max(1)).step_by(step).map(|start| batch.slice(start, step.min(rows - start))).collect()
}

/// The schema in the types that every client can read.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(faces::canonical(field.data_type())))
        .collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_as_large_as_the_client_likes_within_limits() {
        let size = |allowed, preferred| {
            chunk_bytes(&ResultChunkingOptions {
                allow_arrow_batch_chunking: allowed,
                preferred_arrow_chunk_size: preferred,
            })
        };
        assert_eq!(size(false, Some(4096)), None);
        assert_eq!(size(true, Some(4096)), Some(4096));
        for preferred in [None, Some(10), Some(-1), Some(1 << 40)] {
            assert_eq!(size(true, preferred), Some(16 << 20));
        }
    }
}
