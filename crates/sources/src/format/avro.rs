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
    let bytes = Cursor::new(read_file(file).await?);
    ReaderBuilder::new().with_batch_size(batch_rows).build(bytes).map_err(|error| corrupt_file(&file.url, error))
}

async fn rows(task: FileTask, request: Arc<ReadRequest>) -> Result<BoxStream<'static, Result<Decoded>>> {
    let file = Arc::clone(&task.file);
    let reader = open(&file, request.batch_rows).await?;
    check_evolution(&reader.schema(), &request, &file.url)?;
    Ok(futures::stream::iter(reader)
        .map(move |batch| {
            let batch = batch.map_err(|error| corrupt_file(&file.url, error))?;
            adapt_batch(&batch, &request, &file.url)
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
