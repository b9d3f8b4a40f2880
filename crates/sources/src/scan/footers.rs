//! Footers of Parquet files, kept from query to query: those of large files take longer to read than many a query.

use std::any::Any;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use datafusion::common::HashMap;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadata, FileMetadataCache};
use deltaworks_spark::Result;
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::basic::{LogicalType, Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;

use crate::format::parquet::{failed, footer};
use crate::listing::FileEntry;

/// A file that is younger may be written once more without its time of modification or its size telling.
const LEAST_AGE_US: i64 = 2_000_000;

/// What a file says of itself.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub(super) metadata: Arc<ParquetMetaData>,
    /// Its columns in Arrow.
    pub(super) schema: SchemaRef,
}

impl FileMetadata for Footer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn memory_size(&self) -> usize {
        self.metadata.memory_size() + self.schema.fields().iter().map(|field| field.size()).sum::<usize>()
    }

    fn extra_info(&self) -> HashMap<String, String> {
        HashMap::new()
    }
}

impl Footer {
    /// The footer of `file`, from the cache if the file is as it was.
    pub(super) async fn of(file: &FileEntry, cache: &FileMetadataCache) -> Result<Self> {
        let Some(state) = state(file) else { return Self::read(file).await };
        let known = cache.get(&state.location).filter(|known| known.is_valid_for(&state));
        if let Some(footer) = known.as_ref().and_then(|known| known.file_metadata.as_any().downcast_ref::<Self>()) {
            return Ok(footer.clone());
        }
        let footer = Self::read(file).await?;
        cache.put(&state.location.clone(), CachedFileMetadataEntry::new(state, Arc::new(footer.clone())));
        Ok(footer)
    }

    async fn read(file: &FileEntry) -> Result<Self> {
        let (metadata, schema) = footer(file).await?;
        let metadata = without_float_statistics(&metadata).map_err(|error| failed(file, error))?;
        Ok(Self { metadata, schema })
    }
}

/// What tells whether a file is still the same one; `None` if that cannot be told.
fn state(file: &FileEntry) -> Option<ObjectMeta> {
    let now_us = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    if now_us.saturating_sub(file.modified_us) < LEAST_AGE_US {
        return None;
    }
    Some(ObjectMeta {
        // Not the path: stores have the same ones.
        location: Path::from(file.url.as_str()),
        last_modified: DateTime::from_timestamp_micros(file.modified_us)?,
        size: file.size,
        e_tag: None,
        version: None,
    })
}

/// NaN is greater than all other numbers, but writers leave it out of the bounds they note. A row group of which the bounds
/// are not known is read.
fn without_float_statistics(metadata: &ParquetMetaData) -> ParquetResult<Arc<ParquetMetaData>> {
    let columns = metadata.file_metadata().schema_descr_ptr();
    let is_float: Vec<bool> = columns
        .columns()
        .iter()
        .map(|column| {
            matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
                || matches!(column.logical_type_ref(), Some(LogicalType::Float16))
        })
        .collect();
    let mut builder = metadata.clone().into_builder();
    let mut groups = builder.take_row_groups();
    if is_float.contains(&true) {
        groups = groups
            .into_iter()
            .map(|group| {
                let mut group = group.into_builder();
                let chunks = group.take_columns().into_iter().zip(&is_float).map(|(chunk, is_float)| match is_float {
                    true => chunk.into_builder().clear_statistics().build(),
                    false => Ok(chunk),
                });
                let chunks = chunks.collect::<ParquetResult<_>>()?;
                group.set_column_metadata(chunks).build()
            })
            .collect::<ParquetResult<_>>()?;
    }
    let builder = builder.set_row_groups(groups).set_column_index(None).set_offset_index(None);
    Ok(Arc::new(builder.build()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use datafusion::execution::cache::default_cache::DefaultCache;
    use object_store::local::LocalFileSystem;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn written(folder: &std::path::Path, rows: i64, modified_us: i64) -> FileEntry {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..rows)) as _)]).unwrap();
        let file = std::fs::File::create(folder.join("a.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        FileEntry {
            store: Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap()),
            path: Path::from("a.parquet"),
            url: "file:///a.parquet".to_owned(),
            key: "a.parquet".to_owned(),
            size: std::fs::metadata(folder.join("a.parquet")).unwrap().len(),
            modified_us,
            partition: Vec::new(),
        }
    }

    #[tokio::test]
    async fn footers_are_kept_of_files_that_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let cache: Arc<FileMetadataCache> = Arc::new(DefaultCache::new(1 << 20));
        let rows = async |file: &FileEntry| {
            Footer::of(file, cache.as_ref()).await.unwrap().metadata.file_metadata().num_rows()
        };
        let old = written(folder.path(), 3, 1_000_000);
        assert_eq!(rows(&old).await, 3);
        std::fs::remove_file(folder.path().join("a.parquet")).unwrap();
        assert_eq!(rows(&old).await, 3, "it is not read once more");
        assert_eq!(rows(&written(folder.path(), 4, 2_000_000)).await, 4);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let young = written(folder.path(), 5, now);
        assert_eq!(rows(&young).await, 5);
        written(folder.path(), 6, now);
        let again = FileEntry { size: std::fs::metadata(folder.path().join("a.parquet")).unwrap().len(), ..young };
        assert_eq!(rows(&again).await, 6, "a file may change within the time that a clock tells apart");
    }
}
