//! Spark's functions by name: DataFusion's where the meaning is Spark's, ours where it is not.
//!
//! A planner asks [`kind`] what a name is, and has [`call`] build the expression with Spark's implicit
//! casts. `explode` and its kin ([`is_generator`]) are names only: a planner unnests their argument.

mod aggregate;
mod build;
mod datetime;
mod json;
mod math;
mod pattern;
mod string;
#[cfg(test)]
pub(crate) mod testing;
mod udf;

use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;

pub use build::{FunctionCall, Kind, call, is_generator, kind};
pub(crate) use pattern::Pattern;

use crate::error::Result;

/// Adds Spark's functions to a session's registry; a name that is there already gets Spark's meaning.
///
/// # Errors
/// If the registry refuses one.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for udf in scalar_functions() {
        registry.register_udf(udf)?;
    }
    aggregate::register(registry)
}

fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let families: &[&[udf::Function]] =
        &[datetime::FUNCTIONS, json::FUNCTIONS, math::FUNCTIONS, &[math::ROUND], string::FUNCTIONS];
    families.iter().flat_map(|family| family.iter().map(|f| f.udf())).collect()
}
