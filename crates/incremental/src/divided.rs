//! Deduplication of more keys than there is memory for: keys and rows are divided into files by key, and these are worked on
//! one after the other.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::spill_file::SpillFile;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use foldhash::quality::FixedState;
use futures::TryStreamExt as _;

/// Files that each division makes of keys, and of rows.
const PARTS: u64 = 16;
/// After so many divisions the keys of a part are too many for any memory.
const MAX_DEPTH: u64 = 6;

/// Keys whose first rows have been given out, and rows that may have any of them or others.
pub(crate) struct Part {
    keys: Option<Arc<dyn SpillFile>>,
    rows: Option<Arc<dyn SpillFile>>,
    /// How often it has been divided.
    pub(crate) depth: u64,
}

/// How keys and rows are written.
pub(crate) struct Division {
    keys: SpillManager,
    rows: SpillManager,
    /// Where rows have their keys.
    places: Vec<usize>,
}

impl Division {
    pub(crate) fn new(schema: &SchemaRef, places: &[usize], context: &TaskContext) -> Result<Self> {
        let manager = |schema: SchemaRef| {
            let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
            SpillManager::new(context.runtime_env(), metrics, schema)
        };
        let keys: Schema = schema.project(places)?;
        Ok(Self { keys: manager(Arc::new(keys)), rows: manager(Arc::clone(schema)), places: places.to_vec() })
    }

    /// Divides keys, and all rows of `input` that are left, for the `depth`th time.
    pub(crate) async fn divide(
        &self,
        keys: Vec<Vec<ArrayRef>>,
        mut input: SendableRecordBatchStream,
        depth: u64,
    ) -> Result<Vec<Part>> {
        if depth > MAX_DEPTH {
            return Err(DataFusionError::ResourcesExhausted("keys of duplicates cannot be divided further".to_owned()));
        }
        let mut files = (0..PARTS).map(|_| {
            Ok((self.keys.create_in_progress_file("DedupExec")?, self.rows.create_in_progress_file("DedupExec")?))
        });
        let mut files = files.by_ref().collect::<Result<Vec<_>>>()?;
        for columns in keys {
            let batch = RecordBatch::try_new(Arc::clone(self.keys.schema()), columns)?;
            for ((file, _), part) in files.iter_mut().zip(parts(&batch, batch.columns(), depth)?) {
                if part.num_rows() > 0 {
                    file.append_batch(&part)?;
                }
            }
        }
        while let Some(batch) = input.try_next().await? {
            let keys: Vec<ArrayRef> = self.places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
            for ((_, file), part) in files.iter_mut().zip(parts(&batch, &keys, depth)?) {
                if part.num_rows() > 0 {
                    file.append_batch(&part)?;
                }
            }
        }
        files
            .into_iter()
            .map(|(mut keys, mut rows)| Ok(Part { keys: keys.finish()?, rows: rows.finish()?, depth }))
            .collect()
    }

    /// The keys of a part.
    pub(crate) fn keys(&self, part: &Part) -> Result<Option<SendableRecordBatchStream>> {
        part.keys.clone().map(|file| self.keys.read_spill_as_stream(file, None)).transpose()
    }

    /// The rows of a part.
    pub(crate) fn rows(&self, part: &Part) -> Result<Option<SendableRecordBatchStream>> {
        part.rows.clone().map(|file| self.rows.read_spill_as_stream(file, None)).transpose()
    }
}

/// The rows of `batch` by key, in as many parts as there are.
fn parts(batch: &RecordBatch, keys: &[ArrayRef], depth: u64) -> Result<Vec<RecordBatch>> {
    // Each division is by other bits than those before, and than that of the partitions.
    let state = FixedState::with_seed(0x6B65_7973 + depth);
    let mut hashes = vec![0; batch.num_rows()];
    let hashes = create_hashes(keys, &state, &mut hashes)?;
    (0..PARTS)
        .map(|part| {
            let wanted: BooleanArray = hashes.iter().map(|hash| Some(hash % PARTS == part)).collect();
            Ok(filter_record_batch(batch, &wanted)?)
        })
        .collect()
}
