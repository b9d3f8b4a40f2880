//! From a name and arguments to an expression.

use datafusion::common::DFSchema;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, ScalarFunction, Sort};
use datafusion::logical_expr::{Expr, lit};

use crate::conf::SparkConf;
use crate::error::{Error, Result};

/// What a function name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value per row.
    Scalar,
    /// One value per group; also usable over a window.
    Aggregate,
    /// Only usable over a window.
    Window,
    /// Several rows per row: the planner unnests.
    Generator,
}

/// A call as it is written.
#[derive(Debug, Clone, Default)]
pub struct FunctionCall {
    /// The name, in any case.
    pub name: String,
    /// The arguments.
    pub args: Vec<Expr>,
    /// `DISTINCT` (aggregates).
    pub distinct: bool,
    /// `FILTER (WHERE …)` (aggregates).
    pub filter: Option<Expr>,
    /// The order within the group (aggregates).
    pub order_by: Vec<Sort>,
    /// `IGNORE NULLS` (`first`, `last`).
    pub ignore_nulls: bool,
}

/// Whether a name is one of the functions that make rows.
pub fn is_generator(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "explode",
        "explode_outer",
        "posexplode",
        "posexplode_outer",
        "inline",
        "inline_outer",
        "stack",
        "json_tuple",
        "variant_explode",
        "variant_explode_outer",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a name stands for, if there is such a function.
pub fn kind(name: &str, registry: &dyn FunctionRegistry) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    if is_generator(&name) {
        Some(Kind::Generator)
    } else if COUNTS_DISTINCT.contains(&name.as_str()) || registry.udaf(&name).is_ok() {
        Some(Kind::Aggregate)
    } else if registry.udwf(&name).is_ok() {
        Some(Kind::Window)
    } else if registry.udf(&name).is_ok() {
        Some(Kind::Scalar)
    } else {
        None
    }
}

/// The names under which PySpark sends `count(DISTINCT …)`.
const COUNTS_DISTINCT: [&str; 2] = ["countdistinct", "count_distinct"];

/// The expression of a scalar or aggregate call, with Spark's implicit casts.
///
/// # Errors
/// `UNRESOLVED_ROUTINE` (`User`) if there is no such function; the type errors of its arguments.
pub fn call(call: FunctionCall, schema: &DFSchema, conf: &SparkConf, registry: &dyn FunctionRegistry) -> Result<Expr> {
    let name = call.name.to_ascii_lowercase();
    if COUNTS_DISTINCT.contains(&name.as_str()) || registry.udaf(&name).is_ok() {
        return aggregate(&name, call, schema, conf, registry);
    }
    match registry.udf(&name) {
        Ok(udf) => super::expand(ScalarFunction::new_udf(udf, call.args), schema, conf),
        Err(_) => Err(unresolved(&call.name, registry)),
    }
}

fn unresolved(name: &str, registry: &dyn FunctionRegistry) -> Error {
    if let Some(refusal) = super::refusal(name) {
        return refusal;
    }
    let known = registry.udfs().into_iter().chain(registry.udafs()).chain(registry.udwfs());
    let nearest = known
        .map(|known| (strsim::jaro_winkler(&known, &name.to_ascii_lowercase()), known))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let error = Error::user(format!("cannot resolve the function `{name}`"))
        .with_condition("UNRESOLVED_ROUTINE")
        .with_parameter("routineName", name);
    match nearest {
        Some((_, nearest)) => error.with_help(format!("Did you mean `{nearest}`?")),
        None => error,
    }
}

fn aggregate(
    name: &str,
    mut call: FunctionCall,
    schema: &DFSchema,
    conf: &SparkConf,
    registry: &dyn FunctionRegistry,
) -> Result<Expr> {
    let counts_distinct = COUNTS_DISTINCT.contains(&name);
    let udaf = registry.udaf(if counts_distinct { "count" } else { name })?;
    if name == "count" && call.args.is_empty() {
        call.args.push(lit(1_i64));
    }
    let nulls = call.ignore_nulls.then_some(NullTreatment::IgnoreNulls);
    let distinct = call.distinct || counts_distinct;
    let filter = call.filter.map(Box::new);
    let function = AggregateFunction::new_udf(udaf, call.args, distinct, filter, call.order_by, nulls);
    super::resolve_aggregate(function, schema, conf).map(Expr::AggregateFunction)
}
