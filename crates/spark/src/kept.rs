//! Rows that are computed once and stay in memory: what `DataFrame.persist` asks for.
//!
//! In a plan they stand as [`Kept`] nodes over the plan that computes them. The first run that needs the rows reads its
//! input to the end and keeps them; all others take them from memory. Rows that find no room are computed again.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Result};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

/// Of the memory limit, the share that is left to what runs.
const LEFT_TO_QUERIES: usize = 2;

/// The rows of one plan, once they are known.
#[derive(Debug, Default)]
pub(crate) struct KeptRows(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    /// The rows, and the memory they take.
    Known { batches: Arc<[RecordBatch]>, _memory: MemoryReservation },
    /// There was no room for them.
    TooLarge,
}

impl KeptRows {
    /// The rows from memory, or else from `input`, which is read to its end for that.
    async fn rows(
        &self,
        mut input: SendableRecordBatchStream,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = input.schema();
        // Whoever else needs the rows waits for them instead of computing them, too.
        let mut state = self.0.lock().await;
        match &*state {
            // Other settings may have given the columns other types since.
            State::Known { batches, .. } if batches.iter().all(|batch| same_types(&batch.schema(), &schema)) => {
                return Ok(in_memory(batches, schema));
            }
            State::Known { .. } | State::TooLarge => return Ok(input),
            State::Unknown => {}
        }
        let room = match pool.memory_limit() {
            MemoryLimit::Finite(limit) => limit / LEFT_TO_QUERIES,
            _ => usize::MAX,
        };
        let reservation = MemoryConsumer::new("persisted rows").register(pool);
        let mut batches = Vec::new();
        while let Some(batch) = input.try_next().await? {
            let bytes = batch.get_array_memory_size();
            batches.push(batch);
            if pool.reserved().saturating_add(bytes) > room || reservation.try_grow(bytes).is_err() {
                *state = State::TooLarge;
                let so_far = stream::iter(batches.into_iter().map(Ok));
                return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, so_far.chain(input))));
            }
        }
        let batches: Arc<[RecordBatch]> = batches.into();
        *state = State::Known { batches: Arc::clone(&batches), _memory: reservation };
        Ok(in_memory(&batches, schema))
    }
}

fn same_types(a: &SchemaRef, b: &SchemaRef) -> bool {
    let types =
        |schema: &SchemaRef| -> Vec<_> { schema.fields().iter().map(|field| field.data_type().clone()).collect() };
    types(a) == types(b)
}

/// The rows under the names that the columns have in the plan that asks for them.
fn in_memory(batches: &Arc<[RecordBatch]>, schema: SchemaRef) -> SendableRecordBatchStream {
    let named = Arc::clone(&schema);
    let renamed = move |batch: RecordBatch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&named), batch.columns().to_vec(), &options)?)
    };
    let batches: Vec<RecordBatch> = batches.to_vec();
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches).map(renamed)))
}

/// A plan whose rows are kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    input: Arc<LogicalPlan>,
    rows: Arc<KeptRows>,
}

impl Kept {
    /// `plan`, whose rows are in `rows` or will be.
    pub(crate) fn plan(plan: LogicalPlan, rows: Arc<KeptRows>) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Self { input: Arc::new(plan), rows }) })
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows) && self.input == other.input
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Kept {
    fn name(&self) -> &str {
        "InMemoryRelation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("InMemoryRelation")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input: Arc::new(input), rows: Arc::clone(&self.rows) }),
            Err(inputs) => Err(DataFusionError::Internal(format!("expected one input, got {}", inputs.len()))),
        }
    }
}

/// Runs [`Kept`].
#[derive(Debug)]
pub(crate) struct KeptPlanner;

#[async_trait]
impl ExtensionPlanner for KeptPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<Kept>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(DataFusionError::Internal("rows kept of several inputs".to_owned()));
        };
        Ok(Some(Arc::new(InMemoryTableScan::new(Arc::clone(input), Arc::clone(&node.rows)))))
    }
}

/// The kept rows, in one partition.
#[derive(Debug)]
struct InMemoryTableScan {
    input: Arc<dyn ExecutionPlan>,
    rows: Arc<KeptRows>,
    properties: Arc<PlanProperties>,
}

impl InMemoryTableScan {
    fn new(input: Arc<dyn ExecutionPlan>, rows: Arc<KeptRows>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, rows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for InMemoryTableScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "InMemoryTableScan [{}]", names.join(", "))
    }
}

impl ExecutionPlan for InMemoryTableScan {
    fn name(&self) -> &str {
        "InMemoryTableScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn with_new_children(self: Arc<Self>, mut inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = inputs.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, Arc::clone(&self.rows))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.input.schema();
        let (input, rows) = (Arc::clone(&self.input), Arc::clone(&self.rows));
        let batches = async move {
            let input = input.execute(partition, Arc::clone(&context))?;
            rows.rows(input, context.memory_pool()).await
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(batches).try_flatten())))
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
