//! User-defined functions in Python, run by the worker that PySpark itself ships.
//!
//! [`PythonWorkers`] starts `pyspark.daemon` of the user's interpreter, which forks workers; a worker is given a
//! task ([`worker`]), Arrow batches in and out over a socket, and is used again for the next. [`function`] is
//! such a function among the engine's own.

mod daemon;
mod function;
mod worker;

pub use daemon::PythonWorkers;
pub(crate) use function::PythonFunction;

use std::any::Any;

use datafusion::logical_expr::ScalarUDF;

/// Whether a function is the user's own in Python.
pub fn is_python(function: &ScalarUDF) -> bool {
    (function.inner().as_ref() as &dyn Any).is::<PythonFunction>()
}
