//! Keeps the first row of each key, in parallel by hash of the key.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
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
use futures::{StreamExt, TryStreamExt};

/// Keeps the first row of each key; NULLs are equal to each other.
///
/// Rows stream through: one that has a new key goes out at once. The keys of each partition are
/// kept in memory, accounted in the memory pool.
#[derive(Debug)]
pub struct DedupExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
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
        Self { input, keys, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
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

    /// Rows of one input partition keep their order on the way here: no round robin before the hash.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
            Ok([input]) => Ok(Arc::new(Self::new(input, self.keys.clone()))),
            Err(inputs) => Err(DataFusionError::Internal(format!("DedupExec has {} inputs", inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new(format!("DedupExec[{partition}]")).register(context.memory_pool());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let mut keys = FirstRows::new(&self.schema(), self.keys.clone(), reservation)?;
        let rows = input
            .map(move |batch| {
                let _timer = metrics.elapsed_compute().timer();
                let kept = keys.keep(&batch?)?;
                metrics.record_output(kept.num_rows());
                Ok(kept)
            })
            .try_filter(|batch| futures::future::ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The keys seen so far.
struct FirstRows {
    keys: Vec<usize>,
    /// `None` without keys.
    values: Option<Box<dyn GroupValues>>,
    /// By group: whether a row has gone out.
    seen: Vec<bool>,
    groups: Vec<usize>,
    reservation: MemoryReservation,
}

impl FirstRows {
    fn new(schema: &SchemaRef, keys: Vec<usize>, reservation: MemoryReservation) -> Result<Self> {
        let key_schema: Schema = schema.project(&keys)?;
        let values = match keys.is_empty() {
            true => None,
            false => Some(new_group_values(Arc::new(key_schema), &GroupOrdering::None)?),
        };
        Ok(Self { keys, values, seen: Vec::new(), groups: Vec::new(), reservation })
    }

    /// The rows of `batch` whose keys are new.
    fn keep(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(values) = &mut self.values else {
            let first = self.seen.is_empty() && batch.num_rows() > 0;
            if first {
                self.seen.push(true);
            }
            return Ok(batch.slice(0, usize::from(first)));
        };
        let columns: Vec<_> = self.keys.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        values.intern(&columns, &mut self.groups)?;
        self.seen.resize(values.len(), false);
        let first: BooleanArray =
            self.groups.iter().map(|group| Some(!std::mem::replace(&mut self.seen[*group], true))).collect();
        let bytes = values.size() + self.seen.capacity() + self.groups.capacity() * size_of::<usize>();
        self.reservation.try_resize(bytes)?;
        if first.false_count() == 0 {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &first)?)
    }
}
