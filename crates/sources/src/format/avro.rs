//! Avro object container files.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_avro::reader::{Reader, ReaderBuilder};
use async_trait::async_trait;
use bytes::Bytes;
use deltaworks_spark::Result;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use super::blocks::read_file;
use super::columnar::{adapt_batch, check_evolution, spark_schema};
use super::{Decoded, FileTask, Format, Inference, ReadRequest};
use crate::errors::corrupt_file;
use crate::listing::FileEntry;
use crate::options::Options;
use crate::schema::evolution::merge_observed;

/// Avro with its options.
#[derive(Clone, Debug)]
pub(crate) struct AvroFormat {
    merge_schema: bool,
}

impl AvroFormat {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Self> {
        options.refuse(&["avroSchema", "avroSchemaUrl"])?;
        Ok(Self { merge_schema: options.flag("mergeSchema", false)? })
    }
}

async fn open(file: &FileEntry, batch_rows: usize) -> Result<Reader<Cursor<Bytes>>> {
    let bytes = read_file(file).await?;
    // The reader takes the end of the file for the end of the data, wherever it is.
    if !is_complete(&bytes) {
        return Err(corrupt_file(&file.url, "the Avro file ends in the middle of a block"));
    }
    let reader = ReaderBuilder::new().with_batch_size(batch_rows).build(Cursor::new(bytes));
    reader.map_err(|error| corrupt_file(&file.url, error))
}

/// The marker after each block of an object container file.
const SYNC_BYTES: usize = 16;

/// Whether an object container file ends after a block. What is no such file at all is for the reader to say.
fn is_complete(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(b"Obj\x01") else { return true };
    let mut skip_blocks = || {
        skip_header(&mut rest)?;
        while !rest.is_empty() {
            long(&mut rest)?;
            let size = usize::try_from(long(&mut rest)?).ok()?;
            rest = rest.get(size.checked_add(SYNC_BYTES)?..)?;
        }
        Some(())
    };
    skip_blocks().is_some()
}

/// Skips the metadata, a map of bytes in blocks, and the marker. `None` if the header is not complete.
fn skip_header(rest: &mut &[u8]) -> Option<()> {
    loop {
        let entries = match long(rest)? {
            0 => break,
            // A negative count is followed by the size of the entries.
            count if count < 0 => long(rest).map(|_| count.unsigned_abs())?,
            count => count.unsigned_abs(),
        };
        for _ in 0..entries.checked_mul(2)? {
            let size = usize::try_from(long(rest)?).ok()?;
            *rest = rest.get(size..)?;
        }
    }
    *rest = rest.get(SYNC_BYTES..)?;
    Some(())
}

/// Avro's `long`: zig-zag, seven bits to the byte, the lowest first.
fn long(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

async fn rows(task: FileTask, request: Arc<ReadRequest>) -> Result<BoxStream<'static, Result<Decoded>>> {
    let file = Arc::clone(&task.file);
    let reader = open(&file, request.batch_rows).await?;
    check_evolution(&reader.schema(), &request, &file.url)?;
    Ok(futures::stream::iter(reader)
        .map(move |batch| {
            let batch = batch.map_err(|error| corrupt_file(&file.url, error))?;
            adapt_batch(batch, &request, &file.url)
        })
        .boxed())
}

#[async_trait]
impl Format for AvroFormat {
    fn splittable(&self, _file: &FileEntry) -> bool {
        false
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        futures::stream::once(rows(task, request)).try_flatten().boxed()
    }

    async fn infer(&self, files: &[FileEntry], inference: Inference) -> Result<Schema> {
        let mut schema = Schema::empty();
        for file in files {
            schema = merge_observed(&schema, &spark_schema(&open(file, 1).await?.schema()));
            if !inference.all_files && !self.merge_schema {
                break;
            }
        }
        Ok(schema)
    }
}
