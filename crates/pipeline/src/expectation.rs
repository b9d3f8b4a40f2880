//! Expectations: the constraints of a dataset, evaluated in the pass that writes it.
//!
//! A constraint on all rows at once is in [`aggregate`]. One on each row is part of the plan: [`Expectations`]
//! is a logical node over the query it guards, run by [`exec::ExpectationExec`], which evaluates every
//! predicate on every row, counts, drops and fails.
//! A row passes if and only if the predicate is TRUE; NULL does not pass.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use crate::definitions::ExpectationAction;

pub mod aggregate;
pub mod exec;
pub mod metrics;

pub use metrics::ExpectationMetrics;

/// A constraint bound to the columns of its dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct BoundExpectation {
    /// Its name.
    pub name: String,
    /// A boolean expression over the dataset's columns.
    pub predicate: Expr,
    /// What happens to a row that does not pass.
    pub action: ExpectationAction,
}

/// Guards the rows of a dataset.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// The query of the dataset.
    pub input: Arc<LogicalPlan>,
    /// The dataset that declares them, as people see its name.
    pub dataset: String,
    /// In the order of declaration.
    pub expectations: Vec<BoundExpectation>,
    /// Where the counts go.
    pub metrics: Arc<ExpectationMetrics>,
}

impl Expectations {
    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialEq for Expectations {
    fn eq(&self, other: &Self) -> bool {
        self.dataset == other.dataset && self.expectations == other.expectations && self.input == other.input
    }
}

impl Eq for Expectations {}

impl Hash for Expectations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dataset.hash(state);
        self.expectations.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for Expectations {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.expectations.partial_cmp(&other.expectations) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

/// No filter moves below this node and no column is pruned above it: the counts are over the rows and the
/// columns that the dataset has.
impl UserDefinedLogicalNodeCore for Expectations {
    fn name(&self) -> &str {
        "Expectations"
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
        write!(f, "Expectations: {}", self.dataset)?;
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
        Ok(Self {
            input: Arc::new(input),
            dataset: self.dataset.clone(),
            expectations,
            metrics: Arc::clone(&self.metrics),
        })
    }
}

/// Plans [`Expectations`] nodes.
#[derive(Debug, Default)]
pub struct ExpectationPlanner;

#[async_trait]
impl ExtensionPlanner for ExpectationPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<Expectations>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(DataFusionError::Internal("expectations have one input".to_owned()));
        };
        let predicates = node
            .expectations
            .iter()
            .map(|expectation| {
                planner.create_physical_expr(&expectation.predicate, node.input.schema(), session, context)
            })
            .collect::<DataFusionResult<Vec<_>>>()?;
        let exec = exec::ExpectationExec::new(Arc::clone(input), node, predicates);
        Ok(Some(Arc::new(exec)))
    }
}

/// The counters of every expectation in a plan, views' included, in the order of a pre-order walk.
pub fn metrics_of(plan: &LogicalPlan) -> DataFusionResult<Vec<Arc<ExpectationMetrics>>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(node) = extension.node.as_any().downcast_ref::<Expectations>()
        {
            found.push(Arc::clone(&node.metrics));
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
