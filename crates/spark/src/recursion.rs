//! How far `WITH RECURSIVE` may go: a query that does not end by itself fails instead of filling the memory.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt;

use crate::error::Error;

/// What must not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Limit {
    /// Times that the recursive part gives rows.
    Levels(u64),
    /// Rows of all levels together, which may be as many.
    Rows(u64),
}

/// The input, as long as it keeps to a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RecursionLimit {
    input: Arc<LogicalPlan>,
    limit: Limit,
}

/// `plan` as long as it keeps to `limit`.
pub(crate) fn limited(plan: LogicalPlan, limit: Limit) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(RecursionLimit { input: Arc::new(plan), limit }) })
}

impl PartialOrd for RecursionLimit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.limit.partial_cmp(&other.limit) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for RecursionLimit {
    fn name(&self) -> &str {
        "RecursionLimit"
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
        write!(f, "RecursionLimit: {:?}", self.limit)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input: Arc::new(input), limit: self.limit }),
            Err(inputs) => Err(DataFusionError::Internal(format!("expected one input, got {}", inputs.len()))),
        }
    }
}

/// Runs [`RecursionLimit`].
#[derive(Debug)]
pub(crate) struct RecursionPlanner;

#[async_trait]
impl ExtensionPlanner for RecursionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<RecursionLimit>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(DataFusionError::Internal("a recursion of several inputs".to_owned()));
        };
        Ok(Some(Arc::new(RecursionLimitExec::new(Arc::clone(input), node.limit, Arc::default()))))
    }
}

/// Its input, which is run once for each level of the recursion.
#[derive(Debug)]
struct RecursionLimitExec {
    input: Arc<dyn ExecutionPlan>,
    limit: Limit,
    /// Levels or rows so far, by all runs.
    reached: Arc<AtomicU64>,
    properties: Arc<PlanProperties>,
}

impl RecursionLimitExec {
    fn new(input: Arc<dyn ExecutionPlan>, limit: Limit, reached: Arc<AtomicU64>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, limit, reached, properties }
    }
}

impl DisplayAs for RecursionLimitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RecursionLimitExec: {:?}", self.limit)
    }
}

impl ExecutionPlan for RecursionLimitExec {
    fn name(&self) -> &str {
        "RecursionLimitExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    /// A run is a level only if all of its rows come in one partition.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let input = inputs.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, self.limit, Arc::clone(&self.reached))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (limit, reached) = (self.limit, Arc::clone(&self.reached));
        let mut is_counted = false;
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows() as u64;
            match limit {
                Limit::Levels(most) if rows > 0 && !is_counted => {
                    is_counted = true;
                    if reached.fetch_add(1, atomic::Ordering::Relaxed) + 1 >= most {
                        return Err(too_deep(most).into());
                    }
                }
                Limit::Rows(most) if reached.fetch_add(rows, atomic::Ordering::Relaxed) + rows > most => {
                    return Err(too_long(most).into());
                }
                _ => {}
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), batches)))
    }
}

fn too_deep(levels: u64) -> Error {
    Error::data(format!("the recursion has reached level {levels}, which is the limit"))
        .with_condition("RECURSION_LEVEL_LIMIT_EXCEEDED")
        .with_help("Allow more by `MAX RECURSION LEVEL n` behind the name, or `spark.sql.cteRecursionLevelLimit`.")
}

fn too_long(rows: u64) -> Error {
    Error::data(format!("the recursion has given more than {rows} rows, which is the limit"))
        .with_condition("RECURSION_ROW_LIMIT_EXCEEDED")
        .with_help("Allow more by `spark.sql.cteRecursionRowLimit`.")
}
