//! Spark's functions by name: DataFusion's where the meaning is Spark's, ours where it is not.
//!
//! A planner asks [`kind`] what a name is, and has [`call`] build the expression with Spark's implicit
//! casts. One that only knows the registry finds every function there too; the analyzer ([`expand`])
//! then does what [`call`] would have done. `explode` and its kin ([`is_generator`]) are names only: a
//! planner unnests their argument.

mod aggregate;
mod array;
mod binary;
mod build;
mod conditional;
mod datetime;
mod encoding;
mod form;
mod gather;
mod higher_order;
mod interval;
mod json;
mod lists;
mod map;
mod math;
mod misc;
mod nested;
mod number;
mod pattern;
mod planner;
mod rank;
mod string;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod time;
mod udf;

use std::sync::Arc;

use datafusion::execution::FunctionRegistry;

pub(crate) use aggregate::{resolve_aggregate, resolve_window};
pub use build::{FunctionCall, Kind, call, is_generator, kind};
pub(crate) use form::expand;
pub(crate) use json::schema_of;
pub(crate) use pattern::Pattern;
pub(crate) use planner::FunctionPlanner;

use crate::conf::SparkConf;
use crate::error::Result;

const FUNCTIONS: &[&[udf::Function]] = &[
    array::FUNCTIONS,
    binary::FUNCTIONS,
    datetime::FUNCTIONS,
    encoding::FUNCTIONS,
    interval::FUNCTIONS,
    json::FUNCTIONS,
    map::FUNCTIONS,
    math::FUNCTIONS,
    misc::FUNCTIONS,
    nested::FUNCTIONS,
    number::FUNCTIONS,
    string::FUNCTIONS,
    text::FUNCTIONS,
    time::FUNCTIONS,
];

const FORMS: &[&[form::Form]] = &[
    conditional::FORMS,
    encoding::FORMS,
    json::FORMS,
    misc::FORMS,
    nested::FORMS,
    number::FORMS,
    text::FORMS,
    time::FORMS,
];

/// Adds Spark's functions to a session's registry; a name that is there already gets Spark's meaning.
///
/// # Errors
/// If the registry refuses one.
pub fn register(registry: &mut dyn FunctionRegistry, conf: &SparkConf) -> Result<()> {
    for function in FUNCTIONS.iter().copied().flatten() {
        registry.register_udf(function.udf())?;
    }
    let conf = Arc::new(conf.clone());
    for form in FORMS.iter().copied().flatten() {
        registry.register_udf(form.udf(&conf))?;
    }
    let any_match = registry.higher_order_function("array_any_match")?;
    registry.register_higher_order_function(Arc::new(any_match.as_ref().clone().with_aliases(["exists"])))?;
    higher_order::register(registry)?;
    rank::register(registry)?;
    aggregate::register(registry)
}
