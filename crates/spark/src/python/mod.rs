//! User-defined functions in Python, run by the worker that PySpark itself ships.
//!
//! [`PythonWorkers`] starts `pyspark.daemon` of the user's interpreter, which forks workers; a worker is given a
//! task ([`worker`]), Arrow batches in and out over a socket, and is used again for the next. [`function`] is
//! such a function among the engine's own, [`aggregate`] one of groups, [`relation`] one of whole relations.

mod aggregate;
mod daemon;
mod execution;
mod function;
mod relation;
mod worker;

pub(crate) use aggregate::{PythonAggregate, is_aggregate};
pub use daemon::PythonWorkers;
pub(crate) use execution::PythonPlanner;
pub(crate) use function::PythonFunction;
pub(crate) use relation::{PythonInput, PythonRelation, RelationFunction, Shape};
