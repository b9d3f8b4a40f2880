//! A function with state in the plan of one batch: beside its rows stand the states that earlier batches kept.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use deltaworks_spark::python::{Moment, StatefulFunction};

use super::exec::GroupsExec;
use crate::map_exec::MapExec;
use crate::state::NewRows;

/// A function with state over the rows of a batch, with their digests; then, if there are any, the states kept, and
/// those that have timed out.
#[derive(Debug, Clone)]
pub(crate) struct BoundGroups {
    pub inputs: Vec<LogicalPlan>,
    pub function: Arc<StatefulFunction>,
    /// Takes the states that the batch changes.
    pub state: NewRows,
    /// The number of the batch.
    pub batch: i64,
    pub moment: Moment,
    pub schema: DFSchemaRef,
}

impl BoundGroups {
    pub(crate) fn plan(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Arc::new(self.clone());
        let schema = Arc::new(Schema::clone(self.schema.as_arrow()));
        let groups = Arc::new(GroupsExec::new(node, inputs.to_vec(), Arc::clone(&schema)));
        let pass = MapExec::new("GroupsWithStateExec", groups, schema, |batch, _| Ok(batch));
        Ok(Arc::new(pass.reading_to_the_end(self.state.completion())))
    }
}

impl PartialEq for BoundGroups {
    fn eq(&self, other: &Self) -> bool {
        self.inputs == other.inputs && self.function == other.function && self.state.is(&other.state)
    }
}

impl Eq for BoundGroups {}

impl Hash for BoundGroups {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.inputs, &self.function).hash(state);
    }
}

impl PartialOrd for BoundGroups {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for BoundGroups {
    fn name(&self) -> &str {
        "BoundGroups"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "BoundGroups: batch {}, {}", self.batch, self.function.timeout().name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if inputs.len() != self.inputs.len() {
            return Err(DataFusionError::Internal("a function with state lost an input".to_owned()));
        }
        Ok(Self { inputs, ..self.clone() })
    }
}
