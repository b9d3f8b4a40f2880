//! A stateful processor in the plan of one batch: beside its rows stand the entries that earlier batches kept.

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
use deltaworks_spark::python::{Moment, StatefulProcessor, Variables};
use deltaworks_spark::session::conf_of;
use futures::TryStreamExt as _;

use super::entries::Groups;
use crate::map_exec::MapExec;
use crate::state::NewRows;
use crate::user_state::exec::{GroupsExec, PerPartition, collect};
use crate::user_state::groups::Rows;

/// A stateful processor over the rows of a batch and over the initial state, if there is any, both with digests; then, if
/// there are any, the groups whose timers have expired, and all entries kept.
#[derive(Debug, Clone)]
pub(crate) struct BoundProcessor {
    pub inputs: Vec<LogicalPlan>,
    pub has_initial: bool,
    pub has_due: bool,
    pub processor: Arc<StatefulProcessor>,
    /// Takes the entries that the batch changes; `None` if nothing is kept.
    pub state: Option<NewRows>,
    pub variables: Variables,
    /// The number of the batch.
    pub batch: i64,
    pub moment: Moment,
    pub late_us: Option<i64>,
    pub schema: DFSchemaRef,
}

impl BoundProcessor {
    pub(crate) fn plan(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(Schema::clone(self.schema.as_arrow()));
        let groups = Arc::new(GroupsExec::new(Arc::new(self.clone()), inputs.to_vec(), Arc::clone(&schema)));
        let Some(state) = &self.state else { return Ok(groups) };
        let pass = MapExec::new("ProcessorExec", groups, schema, |batch, _| Ok(batch));
        Ok(Arc::new(pass.reading_to_the_end(state.completion())))
    }
}

#[async_trait]
impl PerPartition for BoundProcessor {
    fn label(&self) -> &'static str {
        self.processor.mode().name()
    }

    fn has_rows(&self, input: usize) -> bool {
        input == 0 || (input == 1 && self.has_initial)
    }

    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        mut reservation: MemoryReservation,
        context: &TaskContext,
    ) -> Result<Vec<RecordBatch>> {
        let mut inputs = inputs.into_iter();
        let Some(rows) = inputs.next() else {
            return Err(DataFusionError::Internal("a stateful processor has an input".to_owned()));
        };
        let rows = Rows::group(&collect(rows, &mut reservation).await?)?;
        let initial = match inputs.next() {
            Some(initial) if self.has_initial => Some(Rows::group(&collect(initial, &mut reservation).await?)?),
            Some(other) => {
                inputs = std::iter::once(other).chain(inputs).collect::<Vec<_>>().into_iter();
                None
            }
            None => None,
        };
        let mut groups = Groups::of(self, &rows, initial.as_ref())?;
        if self.has_due
            && let Some(due) = inputs.next()
        {
            groups.add_due(&collect(due, &mut reservation).await?)?;
        }
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(mut kept) = inputs.next() {
            while let Some(batch) = kept.try_next().await? {
                reservation.try_grow(groups.see(self, &batch)?)?;
            }
        }
        let conf = conf_of(&**context.session_config().options());
        let given = groups.call(self, &rows, initial.as_ref(), &conf)?;
        if let Some(state) = &self.state {
            groups.hand_over(state, self.batch, context)?;
        }
        Ok(given)
    }
}

impl PartialEq for BoundProcessor {
    fn eq(&self, other: &Self) -> bool {
        let same_state = match (&self.state, &other.state) {
            (Some(state), Some(other)) => state.is(other),
            (None, None) => true,
            _ => false,
        };
        same_state && self.inputs == other.inputs && self.processor == other.processor
    }
}

impl Eq for BoundProcessor {}

impl Hash for BoundProcessor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.inputs, &self.processor).hash(state);
    }
}

impl PartialOrd for BoundProcessor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for BoundProcessor {
    fn name(&self) -> &str {
        "BoundProcessor"
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
        write!(f, "BoundProcessor: batch {}, {}", self.batch, self.processor.mode().name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if inputs.len() != self.inputs.len() {
            return Err(DataFusionError::Internal("a stateful processor lost an input".to_owned()));
        }
        Ok(Self { inputs, ..self.clone() })
    }
}
