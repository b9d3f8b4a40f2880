//! A function with state in the plan of one batch: beside its rows stand the states that earlier batches kept.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use deltaworks_spark::python::{Moment, StatefulFunction};
use deltaworks_spark::session::conf_of;
use futures::TryStreamExt as _;

use super::exec::{GroupsExec, PerPartition, collect};
use super::groups::{Rows, States};
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

#[async_trait]
impl PerPartition for BoundGroups {
    fn label(&self) -> &'static str {
        self.function.timeout().name()
    }

    fn has_rows(&self, input: usize) -> bool {
        input == 0
    }

    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        mut reservation: MemoryReservation,
        context: &TaskContext,
    ) -> Result<Vec<RecordBatch>> {
        let mut inputs = inputs.into_iter();
        let Some(rows) = inputs.next() else {
            return Err(DataFusionError::Internal("a function with state has an input".to_owned()));
        };
        let rows = Rows::group(&collect(rows, &mut reservation).await?)?;
        let mut states = States::of(self, &rows)?;
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
        let mut given = states.call_for_rows(self, &rows, &conf)?;
        given.extend(states.call_for_timeouts(self, &rows, &conf)?);
        states.hand_over(self, context)?;
        Ok(given)
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
