//! `applyInPandasWithState`: a Python function of groups that remembers something of each.
//!
//! In a plan it is a [`GroupsWithState`] node over a stream. Where state is kept, this module does not know: who runs a
//! batch hands a [`StatefulFunction`] the groups of a batch with what is known of each, and gets rows and what is to be
//! kept.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::common::{DFSchemaRef, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::relation::{PythonInput, RelationFunction};
use crate::error::{Error, Result};
use crate::types::canonical;

mod answer;
mod run;
mod task;
pub(super) mod values;

pub use run::{Change, GroupCall, Groups, Moment, Outcome};
pub(super) use task::without_upper_case;

/// When the function is called for a group that gets no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timeout {
    /// Never.
    Never,
    /// When the clock has passed what the function has set.
    ProcessingTime,
    /// When the watermark has passed what the function has set.
    EventTime,
}

impl Timeout {
    /// Reads what users write (`GroupStateTimeout`).
    ///
    /// # Errors
    /// `User` if it is none of the three.
    pub(crate) fn read(name: &str) -> Result<Self> {
        [Self::Never, Self::ProcessingTime, Self::EventTime].into_iter().find(|one| one.name() == name).ok_or_else(
            || {
                Error::user(format!("`{name}` is no timeout of applyInPandasWithState")).with_help(
                    "It is one of NoTimeout, ProcessingTimeTimeout and EventTimeTimeout (GroupStateTimeout).",
                )
            },
        )
    }

    /// What users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "NoTimeout",
            Self::ProcessingTime => "ProcessingTimeTimeout",
            Self::EventTime => "EventTimeTimeout",
        }
    }
}

/// A function with state, apart from the rows that it is given.
#[derive(Debug, Clone)]
pub struct StatefulFunction {
    function: RelationFunction,
    /// What the function calls the values of its rows.
    names: Vec<String>,
    state: Fields,
    timeout: Timeout,
    output: SchemaRef,
}

impl StatefulFunction {
    /// `state` are the columns of its state.
    ///
    /// # Errors
    /// `Unsupported` for state that cannot be kept.
    pub(crate) fn new(
        function: RelationFunction,
        names: Vec<String>,
        state: &Schema,
        timeout: Timeout,
        output: SchemaRef,
    ) -> Result<Self> {
        let DataType::Struct(state) = canonical(&DataType::Struct(state.fields().clone())) else {
            return Err(Error::internal("the state of a function is no row"));
        };
        let state: Fields = state.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        values::check_types(&state)
            .map_err(|error| error.context(format!("in the Python function `{}`", function.name)))?;
        Ok(Self { function, names, state, timeout, output })
    }

    /// The columns of the state of a group.
    pub fn state(&self) -> &Fields {
        &self.state
    }

    /// When it is called for groups without rows.
    pub fn timeout(&self) -> Timeout {
        self.timeout
    }

    /// The columns that it gives.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// How many first columns of its rows are values; those behind them are the keys.
    pub fn values(&self) -> usize {
        self.names.len()
    }
}

impl PartialEq for StatefulFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && self.function.command == other.function.command
            && self.names == other.names
            && self.state == other.state
            && self.timeout == other.timeout
            && self.output == other.output
    }
}

impl Eq for StatefulFunction {}

impl Hash for StatefulFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.function.name, &self.function.command, &self.names, self.timeout).hash(state);
    }
}

/// A Python function of the groups of a stream, with state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupsWithState {
    /// The rows: values, then keys.
    pub input: Arc<LogicalPlan>,
    /// The function.
    pub function: Arc<StatefulFunction>,
    schema: DFSchemaRef,
}

impl GroupsWithState {
    pub(crate) fn new(input: PythonInput, function: StatefulFunction, schema: DFSchemaRef) -> Self {
        Self { input: Arc::new(input.plan), function: Arc::new(function), schema }
    }

    /// The positions of the keys.
    pub fn keys(&self) -> Range<usize> {
        self.function.values()..self.input.schema().fields().len()
    }

    /// The node as a plan.
    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialOrd for GroupsWithState {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for GroupsWithState {
    fn name(&self) -> &str {
        "GroupsWithState"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GroupsWithState: {}, {}", self.function.function.name, self.function.timeout.name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input: Arc::new(input), ..self.clone() }),
            Err(inputs) => Err(DataFusionError::Internal(format!("GroupsWithState has {} inputs", inputs.len()))),
        }
    }
}
