//! The physical operator that lets rows through and runs a dataset's aggregates over them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, apply_expression_roots,
};
use futures::TryStreamExt;
use futures::stream::try_unfold;

use super::compiled::{Accumulation, Conditions};
use super::tally::{Run, Tally};

/// Runs the aggregates of a dataset's conditions over the rows that pass.
#[derive(Debug)]
pub struct AggregateExpectationExec {
    input: Arc<dyn ExecutionPlan>,
    conditions: Arc<Conditions>,
    tally: Arc<Tally>,
    run: OnceLock<Arc<Run>>,
    properties: Arc<PlanProperties>,
}

impl AggregateExpectationExec {
    /// The operator that leaves the states of its aggregates in `tally`.
    pub fn new(input: Arc<dyn ExecutionPlan>, conditions: Arc<Conditions>, tally: Arc<Tally>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, conditions, tally, run: OnceLock::new(), properties }
    }

    /// One run per operator that is executed: the optimiser makes operators that never are.
    fn run(&self) -> Arc<Run> {
        let partitions = self.input.output_partitioning().partition_count();
        Arc::clone(self.run.get_or_init(|| self.tally.begin(Arc::clone(&self.conditions), partitions)))
    }
}

impl DisplayAs for AggregateExpectationExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.conditions.names().collect();
        write!(f, "AggregateExpectationExec: {} [{}]", self.conditions.dataset, names.join(", "))
    }
}

impl ExecutionPlan for AggregateExpectationExec {
    fn name(&self) -> &str {
        "AggregateExpectationExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.conditions.arguments().iter(), f)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("expectations have one input".into()))?;
        Ok(Arc::new(Self::new(input, Arc::clone(&self.conditions), Arc::clone(&self.tally))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("AggregateExpectations[{}]", self.conditions.dataset));
        let accumulation = self.conditions.accumulate(consumer.register(context.memory_pool()))?;
        let run = self.run();
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let rows = try_unfold((input, accumulation, run), next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

type Passing = (SendableRecordBatchStream, Accumulation, Arc<Run>);

async fn next((mut input, mut accumulation, run): Passing) -> Result<Option<(arrow::array::RecordBatch, Passing)>> {
    match input.try_next().await? {
        Some(batch) => {
            accumulation.update(&batch)?;
            Ok(Some((batch, (input, accumulation, run))))
        }
        None => {
            run.finished(accumulation.finish()?);
            Ok(None)
        }
    }
}
