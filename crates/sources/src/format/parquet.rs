//! Parquet files, by row groups.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use deltaworks_spark::{Error, Kind, Result};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::columnar::{adapt_batch, check_evolution, spark_schema};
use super::{Decoded, FileTask, Format, Inference, ReadRequest};
use crate::errors::{corrupt_file, file_gone};
use crate::listing::FileEntry;
use crate::options::Options;
use crate::schema::evolution::merge_observed;

/// Parquet with its options.
#[derive(Clone, Debug)]
pub(crate) struct ParquetFormat {
    merge_schema: bool,
}

type Builder = ParquetRecordBatchStreamBuilder<StoredFile>;

/// A file in storage as the Parquet reader wants it.
pub(crate) struct StoredFile(pub(crate) Arc<FileEntry>);

fn from_storage(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.0.store.get_range(&self.0.path, range).await.map_err(from_storage) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.0.store.get_ranges(&self.0.path, &ranges).await.map_err(from_storage) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.0.size;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

impl ParquetFormat {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Self> {
        Ok(Self { merge_schema: options.flag("mergeSchema", false)? })
    }
}

/// The footer of a file, and the schema that it has in Arrow.
pub(crate) async fn footer(file: &FileEntry) -> Result<(Arc<ParquetMetaData>, SchemaRef)> {
    let builder = open(file).await?;
    Ok((Arc::clone(builder.metadata()), Arc::clone(builder.schema())))
}

async fn open(file: &FileEntry) -> Result<Builder> {
    let reader = StoredFile(Arc::new(file.clone()));
    ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|error| failed(file, error))
}

/// The error as users are to see it.
pub(crate) fn failed(file: &FileEntry, error: ParquetError) -> Error {
    let text = error.to_string();
    if let ParquetError::External(source) = error {
        return match source.downcast::<object_store::Error>() {
            Ok(storage) if crate::errors::is_missing(&storage) => file_gone(&file.url),
            Ok(storage) => {
                Error::new(Kind::Unavailable, format!("cannot read `{}`: {storage}", file.url)).with_source(storage)
            }
            Err(_) => corrupt_file(&file.url, text),
        };
    }
    corrupt_file(&file.url, text)
}

/// The rows of the row groups whose middle is in the task's range.
async fn rows(task: FileTask, request: Arc<ReadRequest>) -> Result<BoxStream<'static, Result<Decoded>>> {
    let file = Arc::clone(&task.file);
    let builder = open(&file).await?;
    check_evolution(builder.schema(), &request, &file.url)?;
    let groups: Vec<usize> = builder
        .metadata()
        .row_groups()
        .iter()
        .enumerate()
        .filter(|(_, group)| {
            let (start, length) = group.columns().iter().fold((u64::MAX, 0), |(start, length), column| {
                let (from, bytes) = column.byte_range();
                (start.min(from), length + bytes)
            });
            let middle = start.saturating_add(length / 2).min(file.size.saturating_sub(1));
            (task.start..task.end).contains(&middle)
        })
        .map(|(index, _)| index)
        .collect();
    let wanted: Vec<usize> = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| match request.column(field.name()) {
            Some(slot) => request.wanted[slot] || request.rescue,
            None => request.rescue,
        })
        .map(|(index, _)| index)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let stream = builder
        .with_row_groups(groups)
        .with_projection(mask)
        .with_batch_size(request.batch_rows)
        .build()
        .map_err(|error| failed(&file, error))?;
    Ok(stream.map(move |batch| adapt_batch(batch.map_err(|error| failed(&file, error))?, &request, &file.url)).boxed())
}

#[async_trait]
impl Format for ParquetFormat {
    fn splittable(&self, _file: &FileEntry) -> bool {
        true
    }

    fn is_parquet(&self) -> bool {
        true
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        futures::stream::once(rows(task, request)).try_flatten().boxed()
    }

    async fn infer(&self, files: &[FileEntry], inference: Inference) -> Result<Schema> {
        let mut schema = Schema::empty();
        for file in files {
            schema = merge_observed(&schema, &spark_schema(open(file).await?.schema()));
            if !inference.all_files && !self.merge_schema {
                break;
            }
        }
        Ok(schema)
    }
}
