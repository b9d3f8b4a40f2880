//! User-defined functions in Python, run by the worker that PySpark itself ships.
//!
//! [`PythonWorkers`] starts `pyspark.daemon` of the user's interpreter ([`daemon`]), which forks workers; a worker is given
//! a task ([`worker`]), Arrow batches in and out over a socket, and is used again for the next. One whose task is cancelled
//! ([`crate::cancel`]) is killed. [`function`] is
//! such a function among the engine's own, [`aggregate`] one of groups, [`relation`] one of whole relations,
//! [`table_call`] a call of a table function, whose columns its static method may tell ([`analyze`]), [`with_state`] one
//! of the groups of a stream that remembers something of each ([`pickle`]: in which form), [`processor`] a class that
//! does so in variables and with timers.

use std::any::Any;
use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;

mod aggregate;
mod analyze;
mod daemon;
mod execution;
mod function;
mod options;
mod ordered_groups;
mod pickle;
mod pool;
mod processor;
mod relation;
mod table_call;
mod with_state;
mod worker;

pub(crate) use aggregate::{PythonAggregate, is_aggregate};
pub(crate) use execution::PythonPlanner;
pub(crate) use function::PythonFunction;
pub use options::{Machine, MemoryBound, PythonOptions};
pub(crate) use ordered_groups::OrderedGroups;
pub use pool::PythonWorkers;
pub(crate) use processor::Key;
pub use processor::{
    Content, GroupState, Layout, Place, ProcessorCall, ProcessorGroups, StatefulProcessor, TIMERS, TimeMode,
    TransformWithState, Variable, VariableKind, Variables, Written,
};
pub(crate) use relation::{PythonInput, PythonRelation, RelationFunction, Shape};
pub(crate) use table_call::{Argument, Carried, TableArgument, TableCall, TableFunction, TableFunctions};
pub use with_state::{Change, GroupCall, Groups, GroupsWithState, Moment, Outcome, StatefulFunction, Timeout};

/// A function of the user's that SQL knows by a name.
#[derive(Debug, Clone)]
pub enum NamedFunction {
    /// One value per row.
    OfRows(Arc<ScalarUDF>),
    /// One value per group.
    OfGroups(Arc<AggregateUDF>),
}

impl NamedFunction {
    /// Makes it known to a session, in the place of whatever had its name.
    pub fn register(&self, ctx: &SessionContext) {
        match self {
            Self::OfRows(function) => ctx.register_udf(function.as_ref().clone()),
            Self::OfGroups(function) => ctx.register_udaf(function.as_ref().clone()),
        }
    }
}

/// Whether a function of rows is the user's own in Python.
pub fn is_python(function: &ScalarUDF) -> bool {
    (function.inner().as_ref() as &dyn Any).is::<PythonFunction>()
}
