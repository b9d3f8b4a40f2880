//! A stateful processor in a plan.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::StatefulProcessor;

/// A class in Python over the groups of rows, with state and timers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransformWithState {
    /// The rows: values, then keys.
    pub input: Arc<LogicalPlan>,
    /// The same of the initial state, if there is one.
    pub initial: Option<Arc<LogicalPlan>>,
    /// The class.
    pub processor: Arc<StatefulProcessor>,
    schema: DFSchemaRef,
}

impl TransformWithState {
    pub(crate) fn new(
        input: LogicalPlan,
        initial: Option<LogicalPlan>,
        processor: StatefulProcessor,
        schema: DFSchemaRef,
    ) -> Self {
        Self { input: Arc::new(input), initial: initial.map(Arc::new), processor: Arc::new(processor), schema }
    }

    /// The positions of the keys in the input.
    pub fn keys(&self) -> Range<usize> {
        self.processor.values()..self.input.schema().fields().len()
    }

    /// The node as a plan.
    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialOrd for TransformWithState {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for TransformWithState {
    fn name(&self) -> &str {
        "TransformWithState"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.input).chain(&self.initial).map(AsRef::as_ref).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "TransformWithState: {}, {}", self.processor.name(), self.processor.mode().name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let mut inputs = inputs.into_iter().map(Arc::new);
        match (inputs.next(), inputs.next(), inputs.next(), &self.initial) {
            (Some(input), initial, None, before) if initial.is_some() == before.is_some() => {
                Ok(Self { input, initial, ..self.clone() })
            }
            _ => Err(DataFusionError::Internal("TransformWithState lost an input".to_owned())),
        }
    }
}
