//! Rows that are collected while a plan runs: in memory as long as they find room in the pool, in files beyond.
//!
//! What a batch adds to a state is known in the end only, and may be as much as the batch itself.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::SpillFile;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Rows that are being collected.
#[derive(Default)]
pub(crate) struct Spool {
    batches: Vec<RecordBatch>,
    rows: usize,
    files: Option<Files>,
    reservation: Option<MemoryReservation>,
}

/// What is on disk, in the order it came.
struct Files {
    files: Vec<Arc<dyn SpillFile>>,
    manager: SpillManager,
}

impl Spool {
    /// Adds rows, all of the same columns, on behalf of an operator of this name.
    ///
    /// # Errors
    /// `ResourcesExhausted` if there is neither memory nor a folder for files.
    pub(crate) fn push(&mut self, name: &'static str, rows: RecordBatch, context: &TaskContext) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let bytes = size_of_rows(&rows)?;
        self.rows += rows.num_rows();
        let reservation = self
            .reservation
            .get_or_insert_with(|| MemoryConsumer::new(name).with_can_spill(true).register(context.memory_pool()));
        let room = reservation.try_grow(bytes);
        self.batches.push(rows);
        match room {
            Err(full) if !context.runtime_env().disk_manager.tmp_files_enabled() => Err(full),
            Err(_) => self.spill(name, context),
            Ok(()) => Ok(()),
        }
    }

    fn spill(&mut self, name: &str, context: &TaskContext) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let Some(first) = batches.first() else { return Ok(()) };
        let on_disk = self.files.get_or_insert_with(|| {
            let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
            Files { files: Vec::new(), manager: SpillManager::new(context.runtime_env(), metrics, first.schema()) }
        });
        on_disk.files.extend(on_disk.manager.spill_record_batch_and_finish(&batches, name)?);
        if let Some(reservation) = &self.reservation {
            reservation.free();
        }
        Ok(())
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes all rows out.
    pub(crate) fn take(&mut self) -> Spooled {
        Spooled(Arc::new(std::mem::take(self)))
    }
}

/// The memory that rows take, where others may share their buffers: each counts its own part.
///
/// # Errors
/// `InvalidArgumentError` for a type without a layout, which no rows have.
pub fn size_of_rows(rows: &RecordBatch) -> Result<usize, ArrowError> {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size()).sum()
}

/// Rows that have been collected, in the order they came. What they take is given back when nobody has them any more.
#[derive(Clone)]
pub struct Spooled(Arc<Spool>);

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooled").field("rows", &self.0.rows).finish_non_exhaustive()
    }
}

impl Spooled {
    /// How many there are.
    pub fn rows(&self) -> usize {
        self.0.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, if all of them are in memory.
    pub fn in_memory(&self) -> Option<&[RecordBatch]> {
        self.0.files.is_none().then_some(&self.0.batches)
    }

    /// The rows, whose columns are those of `schema`.
    pub fn stream(&self, schema: SchemaRef) -> SendableRecordBatchStream {
        let (on_disk, in_memory) = (self.clone(), self.clone());
        let files = self.0.files.iter().flat_map(|on_disk| on_disk.files.clone()).collect::<Vec<_>>();
        let files = stream::iter(files).map(move |file| on_disk.read(file)).try_flatten();
        let batches = (0..self.0.batches.len()).map(move |place| Ok(in_memory.0.batches[place].clone()));
        Box::pin(RecordBatchStreamAdapter::new(schema, files.chain(stream::iter(batches))))
    }

    fn read(&self, file: Arc<dyn SpillFile>) -> Result<SendableRecordBatchStream> {
        let Some(on_disk) = &self.0.files else {
            return Err(DataFusionError::Internal("rows are in no file".to_owned()));
        };
        on_disk.manager.read_spill_as_stream(file, None)
    }

    /// The rows as a table.
    ///
    /// # Errors
    /// `Plan` if they have other columns than `schema`.
    pub fn table(&self, schema: SchemaRef) -> Result<Arc<dyn TableProvider>> {
        let partition = Partition { rows: self.clone(), schema: Arc::clone(&schema) };
        Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)])?))
    }
}

/// The one partition of a table of collected rows.
#[derive(Debug)]
struct Partition {
    rows: Spooled,
    schema: SchemaRef,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.rows.stream(Arc::clone(&self.schema))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
    use datafusion::execution::memory_pool::FairSpillPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    const BYTES: usize = 20_000;

    fn context(mode: DiskManagerMode) -> TaskContext {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(BYTES)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
        TaskContext::default().with_runtime(runtime.build_arc().unwrap())
    }

    fn rows(first: i64) -> RecordBatch {
        let values = Int64Array::from_iter_values(first..first + 1000);
        RecordBatch::try_from_iter([("value", Arc::new(values) as _)]).unwrap()
    }

    #[tokio::test]
    async fn what_finds_no_room_goes_to_files_and_comes_again_in_order() {
        let context = context(DiskManagerMode::OsTmpDirectory);
        let mut spool = Spool::default();
        for batch in 0..10 {
            spool.push("test", rows(batch * 1000), &context).unwrap();
            assert!(context.memory_pool().reserved() <= BYTES);
        }
        let spooled = spool.take();
        assert!(spool.is_empty());
        assert_eq!((spooled.rows(), spooled.in_memory()), (10_000, None));
        for _ in 0..2 {
            let read: Vec<_> = spooled.stream(rows(0).schema()).try_collect().await.unwrap();
            let values = read.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            assert!(values.eq(0..10_000));
        }
        drop(spooled);
        assert_eq!(context.memory_pool().reserved(), 0);
    }

    #[test]
    fn slices_of_one_batch_are_counted_once() {
        let context = context(DiskManagerMode::OsTmpDirectory);
        let (mut spool, all) = (Spool::default(), rows(0));
        (0..10).for_each(|piece| spool.push("test", all.slice(piece * 100, 100), &context).unwrap());
        assert_eq!(spool.take().in_memory().map(<[_]>::len), Some(10));
    }

    #[test]
    fn without_files_too_many_rows_are_an_error() {
        let context = context(DiskManagerMode::Disabled);
        let mut spool = Spool::default();
        spool.push("rows of a test", rows(0), &context).unwrap();
        spool.push("rows of a test", rows(0), &context).unwrap();
        let error = spool.push("rows of a test", rows(0), &context).unwrap_err();
        assert!(matches!(&error, DataFusionError::ResourcesExhausted(_)), "{error}");
    }
}
