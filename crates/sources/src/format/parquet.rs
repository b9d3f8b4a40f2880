//! Parquet files, by row groups.

use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use deltaworks_spark::{Error, Kind, Result};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::async_reader::{ParquetObjectReader, ParquetRecordBatchStreamBuilder};
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;

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

type Builder = ParquetRecordBatchStreamBuilder<ParquetObjectReader>;

impl ParquetFormat {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Self> {
        Ok(Self { merge_schema: options.flag("mergeSchema", false)? })
    }
}

#[allow(deprecated)]
async fn open(file: &FileEntry) -> Result<Builder> {
    let reader = ParquetObjectReader::new(Arc::clone(&file.store), file.path.clone()).with_file_size(file.size);
    ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|error| failed(file, error))
}

fn failed(file: &FileEntry, error: ParquetError) -> Error {
    let text = error.to_string();
    if let ParquetError::External(source) = error {
        return match source.downcast::<object_store::Error>() {
            Ok(storage) if crate::errors::is_missing(&storage) => file_gone(&file.url),
            Ok(storage) => Error::new(Kind::Unavailable, format!("cannot read `{}`: {storage}", file.url)).with_source(storage),
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
    Ok(stream
        .map(move |batch| adapt_batch(&batch.map_err(|error| failed(&file, error))?, &request, &file.url))
        .boxed())
}

#[async_trait]
impl Format for ParquetFormat {
    fn splittable(&self, _file: &FileEntry) -> bool {
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
