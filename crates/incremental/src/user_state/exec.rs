//! Runs a function with state: a partition's rows, and the states of their groups, which lie in the same partition.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
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
use deltaworks_spark::session::conf_of;
use futures::{TryStreamExt as _, stream};

use super::bound::BoundGroups;
use super::groups::{Rows, States};

/// A function with state over rows, the states kept, and those that have timed out.
#[derive(Debug)]
pub(super) struct GroupsExec {
    node: Arc<BoundGroups>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GroupsExec {
    pub(super) fn new(node: Arc<BoundGroups>, inputs: Vec<Arc<dyn ExecutionPlan>>, schema: SchemaRef) -> Self {
        let partitions = inputs.first().map_or(1, |input| input.output_partitioning().partition_count());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { node, inputs, schema, properties: Arc::new(properties) }
    }

    /// Rows have their digest in the last column, states in the first.
    fn digest(&self, input: usize) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = self.inputs[input].schema();
        let place = if input == 0 { schema.fields().len() - 1 } else { 0 };
        vec![Arc::new(Column::new(schema.field(place).name(), place))]
    }
}

impl DisplayAs for GroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GroupsExec: {}", self.node.function.timeout().name())
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
            let batches = run(&node, inputs, reservation, &context).await?;
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        };
        let batches = stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

async fn run(
    node: &BoundGroups,
    inputs: Vec<SendableRecordBatchStream>,
    mut reservation: MemoryReservation,
    context: &TaskContext,
) -> Result<Vec<RecordBatch>> {
    let mut inputs = inputs.into_iter();
    let Some(rows) = inputs.next() else {
        return Err(DataFusionError::Internal("a function with state has an input".to_owned()));
    };
    let rows = Rows::group(&collect(rows, &mut reservation).await?)?;
    let mut states = States::of(node, &rows)?;
    if let Some(mut kept) = inputs.next()
        && !states.is_empty()
    {
        while let Some(batch) = kept.try_next().await? {
            let bytes = states.see(&batch)?;
            reservation.try_grow(bytes)?;
        }
    }
    if let Some(due) = inputs.next() {
        states.time_out(&collect(due, &mut reservation).await?)?;
    }
    let conf = conf_of(&**context.session_config().options());
    let mut given = states.call_for_rows(node, &rows, &conf)?;
    given.extend(states.call_for_timeouts(node, &rows, &conf)?);
    states.hand_over(node)?;
    Ok(given)
}

/// All rows of a partition, accounted.
async fn collect(mut input: SendableRecordBatchStream, reservation: &mut MemoryReservation) -> Result<RecordBatch> {
    let (schema, mut batches) = (input.schema(), Vec::new());
    while let Some(batch) = input.try_next().await? {
        reservation.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(concat_batches(&schema, &batches)?)
}
