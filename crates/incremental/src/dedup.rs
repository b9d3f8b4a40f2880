//! Keeps the first row of each key, in parallel by hash of the key.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt as _;

use crate::digest::DIGEST_BYTES;
use crate::digest_set::DigestSet;
use crate::state::NewRows;

/// Keeps the first row of each key; NULLs are equal to each other.
///
/// Rows stream through: one that has a new key goes out at once. The keys of each partition are
/// kept in memory, accounted in the memory pool.
#[derive(Debug)]
pub struct DedupExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
    /// Takes the keys in the end, if they are new to the state as well.
    new_rows: Option<NewRows>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DedupExec {
    /// Deduplicates `input` by the columns at `keys`; without keys at most one row is kept.
    pub fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<usize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, keys, new_rows: None, properties: Arc::new(properties), metrics }
    }

    /// The same, handing out its keys when it has seen all rows, instead of collecting them a second time; `None` unless
    /// the keys are those at `keys` and remembered by digest.
    pub(crate) fn remembering(&self, keys: &[usize], new_rows: &NewRows) -> Option<Self> {
        let same = self.keys == keys && is_digest(&self.input.schema().project(keys).ok()?);
        same.then(|| Self { new_rows: Some(new_rows.clone()), ..Self::new(Arc::clone(&self.input), keys.to_vec()) })
    }

    fn key_columns(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = self.input.schema();
        self.keys.iter().map(|index| Arc::new(Column::new(schema.field(*index).name(), *index)) as _).collect()
    }
}

impl DisplayAs for DedupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        let keys: Vec<_> = self.keys.iter().map(|index| schema.field(*index).name().as_str()).collect();
        write!(f, "DedupExec: keys=[{}]", keys.join(", "))
    }
}

impl ExecutionPlan for DedupExec {
    fn name(&self) -> &'static str {
        "DedupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let distribution = match self.keys.is_empty() {
            true => Distribution::SinglePartition,
            false => Distribution::KeyPartitioned(self.key_columns()),
        };
        InputDistributionRequirements::new(vec![distribution])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for column in self.key_columns() {
            if f(&column)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                Ok(Arc::new(Self { new_rows: self.new_rows.clone(), ..Self::new(input, self.keys.clone()) }))
            }
            Err(inputs) => Err(DataFusionError::Internal(format!("DedupExec has {} inputs", inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new(format!("DedupExec[{partition}]")).register(context.memory_pool());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let keys = FirstRows::new(&self.schema(), self.keys.clone(), reservation)?;
        let running = (input, keys, metrics, self.new_rows.clone());
        let rows = futures::stream::try_unfold(running, async |(mut input, mut keys, metrics, new_rows)| {
            while let Some(batch) = input.next().await {
                let timer = metrics.elapsed_compute().timer();
                let kept = keys.keep(&batch?)?;
                timer.done();
                metrics.record_output(kept.num_rows());
                if kept.num_rows() > 0 {
                    return Ok(Some((kept, (input, keys, metrics, new_rows))));
                }
            }
            if let (Some(new_rows), Seen::Digests(digests)) = (new_rows, keys.seen) {
                new_rows.push_digests(*digests, keys.reservation)?;
            }
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Whether keys of this schema are digests.
fn is_digest(keys: &Schema) -> bool {
    let digest = |key: &Field| *key.data_type() == DataType::FixedSizeBinary(DIGEST_BYTES) && !key.is_nullable();
    keys.fields.len() == 1 && keys.fields.iter().all(|key| digest(key))
}

/// Knows by row whether its key is new.
struct FirstRows {
    keys: Vec<usize>,
    seen: Seen,
    reservation: MemoryReservation,
}

/// The keys seen so far.
enum Seen {
    /// Without key columns all rows have the same key.
    Any(bool),
    /// Digests, and whatever else is 16 bytes long.
    Digests(Box<DigestSet>),
    /// Keys of any other type, numbered in the order they came.
    Values { values: Box<dyn GroupValues>, known: usize, groups: Vec<usize> },
}

impl FirstRows {
    fn new(schema: &SchemaRef, keys: Vec<usize>, reservation: MemoryReservation) -> Result<Self> {
        let key_schema: Schema = schema.project(&keys)?;
        let seen = match key_schema.fields.iter().as_slice() {
            [] => Seen::Any(false),
            [_] if is_digest(&key_schema) => Seen::Digests(Box::default()),
            _ => Seen::Values {
                values: new_group_values(Arc::new(key_schema), &GroupOrdering::None)?,
                known: 0,
                groups: Vec::new(),
            },
        };
        Ok(Self { keys, seen, reservation })
    }

    /// The rows of `batch` whose keys are new.
    fn keep(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let first = self.are_first(batch)?;
        self.reservation.try_resize(self.seen.bytes())?;
        if first.false_count() == 0 {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &first)?)
    }

    fn are_first(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        match &mut self.seen {
            Seen::Any(seen) => Ok((0..batch.num_rows()).map(|_| Some(!std::mem::replace(seen, true))).collect()),
            Seen::Digests(seen) => {
                let digests = batch.column(self.keys[0]).as_fixed_size_binary();
                let (digests, _) = digests.value_data().as_chunks();
                Ok(digests.iter().map(|digest| Some(seen.insert(digest))).collect())
            }
            Seen::Values { values, known, groups } => {
                let columns: Vec<_> = self.keys.iter().map(|index| Arc::clone(batch.column(*index))).collect();
                values.intern(&columns, groups)?;
                // A new key has the next number.
                let first = groups.iter().map(|group| {
                    let is_new = *group >= *known;
                    *known = (*known).max(group + 1);
                    Some(is_new)
                });
                Ok(first.collect())
            }
        }
    }
}

impl Seen {
    /// Memory in use.
    fn bytes(&self) -> usize {
        match self {
            Self::Any(_) => 0,
            Self::Digests(seen) => seen.bytes(),
            Self::Values { values, groups, .. } => values.size() + groups.capacity() * size_of::<usize>(),
        }
    }
}
