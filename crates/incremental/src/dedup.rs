//! Keeps the first row of each key, in parallel by hash of the key.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::TryStreamExt as _;

use crate::digest::DIGEST_BYTES;
use crate::digest_set::DigestSet;
use crate::divided::{Division, Part};
use crate::state::NewRows;

/// Keeps the first row of each key; NULLs are equal to each other.
///
/// Rows stream through: one that has a new key goes out at once. The keys of each partition are
/// kept in memory, accounted in the memory pool. Where they find no room, they and the rows that are left
/// are divided among files by key.
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
        let running = Running {
            input,
            keys: FirstRows::new(&self.schema(), self.keys.clone(), reservation)?,
            division: Division::new(&self.schema(), &self.keys, &context)?,
            parts: Vec::new(),
            depth: 0,
            new_rows: self.new_rows.clone(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            context,
        };
        let rows = futures::stream::try_unfold(running, async |mut running| {
            Ok(running.next().await?.map(|rows| (rows, running)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A partition that is being read.
struct Running {
    input: SendableRecordBatchStream,
    keys: FirstRows,
    division: Division,
    /// What is left once the input has ended.
    parts: Vec<Part>,
    /// How often the input has been divided.
    depth: u64,
    new_rows: Option<NewRows>,
    metrics: BaselineMetrics,
    context: Arc<TaskContext>,
}

impl Running {
    /// The next rows whose keys are new.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            while let Some(batch) = self.input.try_next().await? {
                let timer = self.metrics.elapsed_compute().timer();
                let kept = self.keys.keep(&batch)?;
                timer.done();
                self.metrics.record_output(kept.num_rows());
                if let (Some(new_rows), true) = (&self.new_rows, self.depth > 0) {
                    new_rows.push(kept.columns(), &self.keys.keys, None, &self.context)?;
                }
                if let Err(full) = self.keys.account() {
                    self.divide(full).await?;
                }
                if kept.num_rows() > 0 {
                    return Ok(Some(kept));
                }
            }
            let seen = self.keys.forget()?;
            if let (Some(new_rows), Seen::Digests(digests), 0) = (&self.new_rows, seen, self.depth) {
                new_rows.push_digests(*digests, &self.context)?;
            }
            let Some(part) = self.parts.pop() else { return Ok(None) };
            self.depth = part.depth;
            if let Some(mut known) = self.division.keys(&part)? {
                while let Some(batch) = known.try_next().await? {
                    self.keys.are_first(batch.columns(), batch.num_rows())?;
                    self.keys.account()?;
                }
            }
            self.input = self.division.rows(&part)?.unwrap_or_else(|| nothing(&self.input));
        }
    }

    /// Writes the keys and what is left of the input to files, for which there is no room in memory.
    async fn divide(&mut self, full: DataFusionError) -> Result<()> {
        if !self.context.runtime_env().disk_manager.tmp_files_enabled() {
            return Err(full);
        }
        let keys = self.keys.forget()?.into_arrays()?;
        if let (Some(new_rows), 0) = (&self.new_rows, self.depth) {
            keys.iter().try_for_each(|keys| new_rows.push(keys, &[0], None, &self.context))?;
        }
        let nothing = nothing(&self.input);
        let input = std::mem::replace(&mut self.input, nothing);
        self.depth += 1;
        self.parts.extend(self.division.divide(keys, input, self.depth).await?);
        Ok(())
    }
}

/// No rows of the same columns.
fn nothing(like: &SendableRecordBatchStream) -> SendableRecordBatchStream {
    Box::pin(EmptyRecordBatchStream::new(like.schema()))
}

/// Whether keys of this schema are digests.
fn is_digest(keys: &Schema) -> bool {
    let digest = |key: &Field| *key.data_type() == DataType::FixedSizeBinary(DIGEST_BYTES) && !key.is_nullable();
    keys.fields.len() == 1 && keys.fields.iter().all(|key| digest(key))
}

/// Knows by row whether its key is new.
struct FirstRows {
    keys: Vec<usize>,
    schema: SchemaRef,
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
        let schema: SchemaRef = Arc::new(schema.project(&keys)?);
        Ok(Self { keys, seen: Seen::none(&schema)?, schema, reservation })
    }

    /// The rows of `batch` whose keys are new.
    fn keep(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<_> = self.keys.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let first = self.are_first(&columns, batch.num_rows())?;
        if first.false_count() == 0 {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &first)?)
    }

    fn are_first(&mut self, keys: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
        match &mut self.seen {
            Seen::Any(seen) => Ok((0..rows).map(|_| Some(!std::mem::replace(seen, true))).collect()),
            Seen::Digests(seen) => {
                let (digests, _) = keys[0].as_fixed_size_binary().value_data().as_chunks();
                Ok(digests.iter().map(|digest| Some(seen.insert(digest))).collect())
            }
            Seen::Values { values, known, groups } => {
                values.intern(keys, groups)?;
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

    /// Takes the memory that the keys need.
    fn account(&self) -> Result<()> {
        self.reservation.try_resize(self.seen.bytes())
    }

    /// Forgets all keys, and gives them.
    fn forget(&mut self) -> Result<Seen> {
        let seen = std::mem::replace(&mut self.seen, Seen::none(&self.schema)?);
        self.reservation.free();
        Ok(seen)
    }
}

impl Seen {
    /// No keys of this schema.
    fn none(schema: &SchemaRef) -> Result<Self> {
        Ok(match schema.fields().iter().as_slice() {
            [] => Self::Any(false),
            [_] if is_digest(schema) => Self::Digests(Box::default()),
            _ => Self::Values {
                values: new_group_values(Arc::clone(schema), &GroupOrdering::None)?,
                known: 0,
                groups: Vec::new(),
            },
        })
    }

    /// Memory in use.
    fn bytes(&self) -> usize {
        match self {
            Self::Any(_) => 0,
            Self::Digests(seen) => seen.bytes(),
            Self::Values { values, groups, .. } => values.size() + groups.capacity() * size_of::<usize>(),
        }
    }

    /// The keys as columns.
    fn into_arrays(self) -> Result<Vec<Vec<ArrayRef>>> {
        match self {
            Self::Any(_) => Ok(Vec::new()),
            Self::Digests(seen) => seen.into_arrays().map(|digests| Ok(vec![digests?])).collect(),
            Self::Values { mut values, .. } => Ok(vec![values.emit(EmitTo::All)?]),
        }
    }
}
