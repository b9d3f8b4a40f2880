//! Runs functions with state: a partition's rows, and the states of their groups, which lie in the same partition.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{TryStreamExt as _, stream};

/// What is done with the rows of a partition and the states of their groups.
#[async_trait]
pub(crate) trait PerPartition: fmt::Debug + Send + Sync {
    /// For explanations.
    fn label(&self) -> &'static str;

    /// Whether an input has rows, with their digest in the last column, and not states, with it in the first.
    fn has_rows(&self, input: usize) -> bool;

    /// The rows that are given for those of a partition.
    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        reservation: MemoryReservation,
        context: &TaskContext,
    ) -> Result<Vec<RecordBatch>>;
}

/// A function with state over rows, the states kept, and those that have timed out.
#[derive(Debug)]
pub(crate) struct GroupsExec {
    node: Arc<dyn PerPartition>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GroupsExec {
    pub(crate) fn new(node: Arc<dyn PerPartition>, inputs: Vec<Arc<dyn ExecutionPlan>>, schema: SchemaRef) -> Self {
        let partitions = inputs.first().map_or(1, |input| input.output_partitioning().partition_count());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { node, inputs, schema, properties: Arc::new(properties) }
    }

    fn digest(&self, input: usize) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = self.inputs[input].schema();
        let place = if self.node.has_rows(input) { schema.fields().len() - 1 } else { 0 };
        vec![Arc::new(Column::new(schema.field(place).name(), place))]
    }
}

impl DisplayAs for GroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GroupsExec: {}", self.node.label())
    }
}

impl ExecutionPlan for GroupsExec {
    fn name(&self) -> &'static str {
        "GroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Rows and state of a group come to one partition.
    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let each: Vec<_> =
            (0..self.inputs.len()).map(|input| Distribution::KeyPartitioned(self.digest(input))).collect();
        match each.len() {
            0 | 1 => InputDistributionRequirements::new(each),
            _ => InputDistributionRequirements::co_partitioned(each),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for column in (0..self.inputs.len()).flat_map(|input| self.digest(input)) {
            if f(&column)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if inputs.len() != self.inputs.len() {
            return Err(DataFusionError::Internal(format!("GroupsExec has {} inputs", inputs.len())));
        }
        Ok(Arc::new(Self::new(Arc::clone(&self.node), inputs, Arc::clone(&self.schema))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = self.inputs.iter().map(|input| input.execute(partition, Arc::clone(&context)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let reservation = MemoryConsumer::new(format!("GroupsExec[{partition}]")).register(context.memory_pool());
        let node = Arc::clone(&self.node);
        let batches = async move {
            let batches = node.run(inputs, reservation, &context).await?;
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        };
        let batches = stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

/// All rows of a partition, accounted.
pub(crate) async fn collect(
    mut input: SendableRecordBatchStream,
    reservation: &mut MemoryReservation,
) -> Result<RecordBatch> {
    let (schema, mut batches) = (input.schema(), Vec::new());
    while let Some(batch) = input.try_next().await? {
        reservation.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(concat_batches(&schema, &batches)?)
}
