//! Expectations on a dataset as a whole: conditions over aggregates, such as `count(*) = count(DISTINCT id)`.
//!
//! The aggregates run in the pass that computes the dataset: [`AggregateExpectations`] is a node through
//! which the rows flow unchanged, run by [`exec::AggregateExpectationExec`], which leaves partial states in
//! the node's [`Tally`]. When the pass is over and before anything is committed, the states are merged and
//! the conditions evaluated. A condition holds if and only if it is TRUE.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::BoundExpectation;

pub mod compiled;
pub mod exec;
pub mod tally;

pub use tally::{Tally, Verdict};

/// Which rows the aggregates of a dataset run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum Scope {
    /// The rows that flow through the node: what one reader takes from a view.
    Passing,
    /// All rows of the table as it will be: those that flow through, and those that stay.
    Stored,
}

/// Conditions on all rows of a dataset.
#[derive(Debug, Clone)]
pub struct AggregateExpectations {
    /// The rows of the dataset.
    pub input: Arc<LogicalPlan>,
    /// The dataset that declares them, as people see its name.
    pub dataset: String,
    /// Which rows are meant.
    pub scope: Scope,
    /// In the order of declaration. Columns stand inside of aggregates only.
    pub expectations: Vec<BoundExpectation>,
    /// Where the states of the aggregates go.
    pub tally: Arc<Tally>,
}

impl AggregateExpectations {
    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The same conditions over the rows of `input`, with a tally of its own.
    pub fn over(&self, input: LogicalPlan) -> Self {
        Self { input: Arc::new(input), tally: Arc::default(), ..self.clone() }
    }
}

impl PartialEq for AggregateExpectations {
    fn eq(&self, other: &Self) -> bool {
        self.dataset == other.dataset
            && self.scope == other.scope
            && self.expectations == other.expectations
            && self.input == other.input
    }
}

impl Eq for AggregateExpectations {}

impl Hash for AggregateExpectations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dataset.hash(state);
        self.scope.hash(state);
        self.expectations.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for AggregateExpectations {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.expectations.partial_cmp(&other.expectations) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

/// No filter moves below this node and no column is pruned above it: the aggregates are over the dataset's rows.
impl UserDefinedLogicalNodeCore for AggregateExpectations {
    fn name(&self) -> &str {
        "AggregateExpectations"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.expectations.iter().map(|expectation| expectation.predicate.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "AggregateExpectations: {}", self.dataset)?;
        for expectation in &self.expectations {
            write!(f, ", {} {:?} ({})", expectation.name, expectation.action, expectation.predicate)?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let [input] = <[LogicalPlan; 1]>::try_from(inputs)
            .map_err(|_| DataFusionError::Internal("expectations have one input".to_owned()))?;
        if exprs.len() != self.expectations.len() {
            return Err(DataFusionError::Internal("expectations keep their number".to_owned()));
        }
        let expectations = self
            .expectations
            .iter()
            .zip(exprs)
            .map(|(expectation, predicate)| BoundExpectation { predicate, ..expectation.clone() })
            .collect();
        Ok(Self { input: Arc::new(input), expectations, ..self.clone() })
    }
}

/// Plans [`AggregateExpectations`] nodes.
#[derive(Debug, Default)]
pub struct AggregateExpectationPlanner;

#[async_trait]
impl ExtensionPlanner for AggregateExpectationPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<AggregateExpectations>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(DataFusionError::Internal("expectations have one input".to_owned()));
        };
        let conditions = compiled::Conditions::new(node, &input.schema(), session)?;
        let exec =
            exec::AggregateExpectationExec::new(Arc::clone(input), Arc::new(conditions), Arc::clone(&node.tally));
        Ok(Some(Arc::new(exec)))
    }
}

/// Every such node of a plan, views' included, in the order of a pre-order walk.
pub fn nodes_of(plan: &LogicalPlan) -> DataFusionResult<Vec<AggregateExpectations>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<AggregateExpectations>()
        {
            found.push(node.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether a condition is one on all rows: whether it holds an aggregate.
pub fn is_aggregate(predicate: &Expr) -> DataFusionResult<bool> {
    predicate.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(_))))
}

/// The aggregate calls of a condition from left to right, those inside of others left out.
pub fn calls_of(predicate: &Expr) -> DataFusionResult<Vec<Expr>> {
    let mut calls = Vec::new();
    predicate.apply(|expr| {
        if matches!(expr, Expr::AggregateFunction(_)) {
            calls.push(expr.clone());
            return Ok(TreeNodeRecursion::Jump);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(calls)
}
