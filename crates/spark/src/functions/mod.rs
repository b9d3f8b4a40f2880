//! Spark's functions by name: DataFusion's where the meaning is Spark's, ours where it is not.
//!
//! A planner asks [`kind`] what a name is, and has [`call`] build the expression with Spark's implicit
//! casts. One that only knows the registry finds every function there too; the analyzer ([`expand`])
//! then does what [`call`] would have done. `explode` and its kin ([`is_generator`]) are names only: a
//! planner unnests their argument.

mod aes;
mod aggregate;
mod array;
mod average;
mod avro;
mod binary;
mod bitmap;
mod build;
mod builtins;
mod clock;
mod conditional;
mod correlation;
mod csv;
mod datetime;
mod distinct;
pub(crate) mod element_field;
mod encoding;
mod exponential;
mod float_extreme;
mod form;
mod format_string;
mod frame;
mod gather;
mod grouping;
mod higher_order;
mod hll;
mod interval;
mod json;
mod like;
mod lists;
mod map;
mod map_order;
mod math;
mod misc;
mod nested;
mod number;
mod number_pattern;
mod options;
#[cfg(test)]
mod page;
mod pattern;
mod planner;
mod poisson;
mod protobuf;
mod random;
mod rank;
mod shift;
mod sliding;
mod string;
mod sum;
#[cfg(test)]
pub(crate) mod testing;
mod text;
mod time;
mod time_window;
mod udf;
mod url;
mod variant;
mod vector;
mod words;
mod wrapped;
mod xml;
mod xpath;
mod zip;

use std::sync::Arc;

use datafusion::execution::FunctionRegistry;

pub(crate) use aggregate::{over_window, resolve_aggregate, resolve_window};
pub use build::{FunctionCall, Kind, call, is_generator, kind};
pub(crate) use builtins::refusal;
pub use builtins::{is_spark_builtin, is_supported, names as builtin_names};
pub(crate) use form::expand;
pub(crate) use gather::ordered_collect_list;
pub(crate) use grouping::is_grouping_id;
pub(crate) use like::like_pattern;
pub(crate) use map_order::{IN_ORDER, holds_map};
pub(crate) use nested::ARRAY_ITEM;
pub(crate) use pattern::{Pattern, ZoneNames};
pub(crate) use planner::FunctionPlanner;
pub(crate) use random::times_drawn;
pub(crate) use string::java_pattern;
pub(crate) use time_window::{WINDOWS, WindowLengths, as_known, known};
pub(crate) use zip::zip as arrays_zip;

use crate::conf::SparkConf;
use crate::error::Result;

const FUNCTIONS: &[&[udf::Function]] = &[
    aes::FUNCTIONS,
    array::FUNCTIONS,
    binary::FUNCTIONS,
    clock::FUNCTIONS,
    csv::FUNCTIONS,
    datetime::FUNCTIONS,
    encoding::FUNCTIONS,
    hll::FUNCTIONS,
    interval::FUNCTIONS,
    json::FUNCTIONS,
    map::FUNCTIONS,
    math::FUNCTIONS,
    misc::FUNCTIONS,
    nested::FUNCTIONS,
    number::FUNCTIONS,
    number_pattern::FUNCTIONS,
    string::FUNCTIONS,
    text::FUNCTIONS,
    time::FUNCTIONS,
    time_window::FUNCTIONS,
    variant::FUNCTIONS,
    vector::FUNCTIONS,
    words::FUNCTIONS,
    xml::FUNCTIONS,
    xpath::FUNCTIONS,
];

const FORMS: &[&[form::Form]] = &[
    avro::FORMS,
    conditional::FORMS,
    csv::FORMS,
    encoding::FORMS,
    format_string::FORMS,
    json::FORMS,
    misc::FORMS,
    nested::FORMS,
    number::FORMS,
    number_pattern::FORMS,
    protobuf::FORMS,
    random::FORMS,
    text::FORMS,
    time::FORMS,
    url::FORMS,
    variant::FORMS,
    xml::FORMS,
];

/// The schema that `schema_of_json`, `schema_of_csv` or `schema_of_xml` gives for a sample, as DDL text.
///
/// # Errors
/// If the sample cannot be read.
pub(crate) fn schema_of(function: &str, sample: &str, tz: chrono_tz::Tz) -> Result<String> {
    match function {
        "schema_of_csv" => csv::schema_of(sample, &Default::default(), tz),
        "schema_of_xml" => xml::schema_of(sample, &Default::default(), tz),
        _ => json::schema_of(&crate::json::Relaxed::default().strict(sample)),
    }
}

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
