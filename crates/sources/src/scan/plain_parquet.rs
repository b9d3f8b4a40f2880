//! Parquet files that hold the columns of the source as they are wanted: DataFusion's own scan reads them, which knows
//! how many rows there are and leaves out row groups that filters and joins have no use for.
//!
//! Anything else (columns of other types, partition columns, `_metadata`, rescued data) is for the scan of ours.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use deltaworks_spark::Result;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics as ChunkStatistics;

use super::footers::Footer;
use super::{Role, ScanSpec};
use crate::format::parquet::{StoredFile, failed};
use crate::format::{FileTask, PassedOver};
use crate::listing::FileEntry;

/// So many footers are fetched at a time.
const FOOTERS_AT_ONCE: usize = 16;

/// The scan of `tasks`, in the types of `schema`: those of `spec`, or views of texts; `None` if the files are not that plain.
///
/// # Errors
/// `FAILED_READ_FILE.*` (`Data`, `Unavailable`) if a footer cannot be read.
pub(super) async fn scan(
    spec: &ScanSpec,
    schema: &Schema,
    files: &[Arc<FileEntry>],
    tasks: &[Vec<FileTask>],
    projection: &[usize],
    limit: Option<usize>,
    cache: &FileMetadataCache,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let columns = &spec.columns;
    let slots = projection.iter().map(|index| match columns.roles[*index] {
        Role::Data(slot) if !columns.data[slot].data_type().is_nested() => Some(slot),
        _ => None,
    });
    let Some(slots) = slots.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let is_plain = |role: &Role| matches!(role, Role::Data(_) | Role::Metadata);
    if !spec.format.is_parquet()
        || !columns.roles.iter().all(is_plain)
        || spec.passed_over != PassedOver::default()
        || files.is_empty()
    {
        return Ok(None);
    }
    let opened = futures::stream::iter(files.to_vec()).map(|file| opened(file, cache)).buffered(FOOTERS_AT_ONCE);
    let opened: Vec<Opened> = opened.try_collect().await?;
    let mut wanted: Vec<FieldRef> = columns.data.iter().cloned().collect();
    for (role, field) in columns.roles.iter().zip(schema.fields()) {
        if let Role::Data(slot) = role {
            wanted[*slot] = Arc::clone(field);
        }
    }
    let wanted = Schema::new(wanted);
    if !opened.iter().all(|file| file.holds(&wanted, &slots)) {
        return Ok(None);
    }
    let schema: SchemaRef = Arc::new(wanted);
    let statistics = statistics(&schema, &slots, &opened)?;
    let opened = opened.into_iter().map(|opened| (opened.file.url.clone(), opened)).collect();
    let source = ParquetSource::new(Arc::clone(&schema))
        .with_parquet_file_reader_factory(Arc::new(Footers(opened)))
        .with_enable_page_index(false)
        .with_bloom_filter_on_read(false);
    let groups = tasks.iter().map(|tasks| FileGroup::new(tasks.iter().map(part).collect())).collect();
    // The readers know their stores; what has this URL is not asked.
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_projection_indices(Some(slots))?
        .with_limit(limit)
        .build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

/// A range of a file as DataFusion names it.
fn part(task: &FileTask) -> PartitionedFile {
    let whole = PartitionedFile::new(task.file.path.to_string(), task.file.size).with_extension(Arc::clone(&task.file));
    match task.start == 0 && task.end == task.file.size {
        true => whole,
        false => whole.with_range(task.start.cast_signed(), task.end.cast_signed()),
    }
}

/// A file and its footer.
#[derive(Clone, Debug)]
struct Opened {
    file: Arc<FileEntry>,
    footer: Footer,
}

async fn opened(file: Arc<FileEntry>, cache: &FileMetadataCache) -> Result<Opened> {
    let footer = Footer::of(&file, cache).await?;
    Ok(Opened { file, footer })
}

impl Opened {
    /// Whether the columns have these names, and types of which values need no conversion but of their layout.
    fn holds(&self, wanted: &Schema, slots: &[usize]) -> bool {
        slots.iter().all(|slot| {
            let field = wanted.field(*slot);
            self.footer.schema.field_with_name(field.name()).is_ok_and(|stored| {
                let layout = |data_type| match data_type {
                    DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                    DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
                    other => other,
                };
                layout(stored.data_type().clone()) == layout(field.data_type().clone())
            })
        })
    }

    /// How many values of a column are NULL, if all row groups tell.
    fn nulls(&self, name: &str) -> Option<usize> {
        let descriptor = self.footer.metadata.file_metadata().schema_descr();
        let leaf = descriptor.columns().iter().position(|column| column.path().parts() == [name])?;
        let groups = self.footer.metadata.row_groups().iter();
        let counts = groups.map(|group| group.column(leaf).statistics().and_then(ChunkStatistics::null_count_opt));
        counts.map(|count| usize::try_from(count?).ok()).sum()
    }

    /// The bounds of the columns of `schema`.
    fn bounds(&self, schema: &SchemaRef) -> DataFusionResult<Vec<ColumnStatistics>> {
        Ok(DFParquetMetadata::statistics_from_parquet_metadata(&self.footer.metadata, schema)?.column_statistics)
    }
}

/// How many rows there are, and of the columns at `slots` how many NULLs, and the bounds of numbers and times, from which sizes of
/// joins are estimated. Bounds are estimates, too: DataFusion would answer MIN and MAX by exact ones, and writers may note wider ones.
fn statistics(schema: &SchemaRef, slots: &[usize], opened: &[Opened]) -> DataFusionResult<Statistics> {
    let rows =
        opened.iter().map(|file| usize::try_from(file.footer.metadata.file_metadata().num_rows()).unwrap_or_default());
    let has_bounds = |field: &Field| field.data_type().is_primitive() && !field.data_type().is_floating();
    let bounded: Vec<usize> = slots.iter().copied().filter(|slot| has_bounds(schema.field(*slot))).collect();
    let read = Arc::new(schema.project(&bounded)?);
    let bounds = opened.iter().map(|file| file.bounds(&read)).collect::<DataFusionResult<Vec<_>>>()?;
    let column = |(slot, field): (usize, &FieldRef)| {
        if !slots.contains(&slot) {
            return ColumnStatistics::new_unknown();
        }
        let nulls: Option<usize> = opened.iter().map(|file| file.nulls(field.name())).sum();
        let null_count = nulls.map_or(Precision::Absent, Precision::Exact);
        let mut column = ColumnStatistics { null_count, ..ColumnStatistics::new_unknown() };
        if let Some(index) = bounded.iter().position(|bounded| *bounded == slot) {
            let of_files = || bounds.iter().filter_map(|columns| columns.get(index));
            let least = of_files().map(|file| file.min_value.clone()).reduce(|a, b| a.min(&b));
            let greatest = of_files().map(|file| file.max_value.clone()).reduce(|a, b| a.max(&b));
            column.min_value = least.unwrap_or_default().to_inexact();
            column.max_value = greatest.unwrap_or_default().to_inexact();
        }
        column
    };
    Ok(Statistics {
        num_rows: Precision::Exact(rows.sum()),
        // The size of files would be that of all their columns: rows are what joins are sized by, unless all columns have a width.
        total_byte_size: Precision::Absent,
        column_statistics: schema.fields().iter().enumerate().map(column).collect(),
    })
}

/// Opens files whose footers have been read.
#[derive(Debug)]
struct Footers(HashMap<String, Opened>);

impl ParquetFileReaderFactory for Footers {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let opened = file.extension::<Arc<FileEntry>>().and_then(|file| self.0.get(&file.url)).cloned();
        let opened = opened.ok_or_else(|| DataFusionError::Internal(format!("`{}` was not listed", file.path())))?;
        Ok(Box::new(Reader { stored: StoredFile(Arc::clone(&opened.file)), opened }))
    }
}

struct Reader {
    stored: StoredFile,
    opened: Opened,
}

impl Reader {
    /// The error as users are to see it.
    fn named(&self, error: ParquetError) -> ParquetError {
        ParquetError::External(Box::new(failed(&self.opened.file, error)))
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.stored.get_bytes(range).await.map_err(|error| self.named(error)) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.stored.get_byte_ranges(ranges).await.map_err(|error| self.named(error)) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let metadata = Arc::clone(&self.opened.footer.metadata);
        async move { Ok(metadata) }.boxed()
    }
}
