//! From a name and arguments to an expression.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, ScalarFunction, Sort};
use datafusion::logical_expr::{Case, Expr, ExprSchemable, Operator, lit};

use crate::cast::{CastMode, spark_cast};
use crate::coercion::{binary_op, cast_to_common};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::types::canonical;

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
    const NAMES: [&str; 8] =
        ["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack", "json_tuple"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a name stands for, if there is such a function.
pub fn kind(name: &str, registry: &dyn FunctionRegistry) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    if is_generator(&name) {
        Some(Kind::Generator)
    } else if REWRITTEN_AGGREGATES.contains(&name.as_str()) || registry.udaf(&name).is_ok() {
        Some(Kind::Aggregate)
    } else if registry.udwf(&name).is_ok() {
        Some(Kind::Window)
    } else if SPECIAL.contains(&name.as_str()) || registry.udf(&name).is_ok() {
        Some(Kind::Scalar)
    } else {
        None
    }
}

const REWRITTEN_AGGREGATES: [&str; 3] = ["count_if", "countdistinct", "count_distinct"];

/// Functions that are expressions of another form.
const SPECIAL: [&str; 15] = [
    "coalesce",
    "nvl",
    "ifnull",
    "nvl2",
    "if",
    "iff",
    "nullif",
    "isnull",
    "isnotnull",
    "equal_null",
    "not",
    "mod",
    "when",
    "current_timestamp",
    "now",
];

/// The expression of a scalar or aggregate call, with Spark's implicit casts.
///
/// # Errors
/// `UNRESOLVED_ROUTINE` (`User`) if there is no such function; the type errors of its arguments.
pub fn call(call: FunctionCall, schema: &DFSchema, conf: &SparkConf, registry: &dyn FunctionRegistry) -> Result<Expr> {
    let name = call.name.to_ascii_lowercase();
    if name == "input_file_name" {
        return Err(Error::unsupported("`input_file_name()`").with_help("Use the column `_metadata.file_path`."));
    }
    if SPECIAL.contains(&name.as_str()) {
        return special(&name, call.args, schema, conf);
    }
    if REWRITTEN_AGGREGATES.contains(&name.as_str()) || registry.udaf(&name).is_ok() {
        return aggregate(&name, call, schema, conf, registry);
    }
    match registry.udf(&name) {
        Ok(udf) => Ok(Expr::ScalarFunction(ScalarFunction::new_udf(udf, call.args))),
        Err(_) => Err(unresolved(&call.name, registry)),
    }
}

fn unresolved(name: &str, registry: &dyn FunctionRegistry) -> Error {
    let known = registry.udfs().into_iter().chain(registry.udafs()).chain(registry.udwfs());
    let nearest = known
        .map(|known| (strsim::jaro_winkler(&known, &name.to_ascii_lowercase()), known))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let error = Error::user(format!("cannot resolve the function `{name}`")).with_condition("UNRESOLVED_ROUTINE");
    match nearest {
        Some((_, nearest)) => error.with_help(format!("Did you mean `{nearest}`?")),
        None => error,
    }
}

/// A function that is an expression of another form; its arguments are done already.
pub(crate) fn special(name: &str, args: Vec<Expr>, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let count = args.len();
    let mut args = args.into_iter();
    let mut next = || args.next().unwrap_or_else(|| lit(ScalarValue::Null));
    Ok(match (name, count) {
        ("current_timestamp" | "now", 0) => {
            let now = datafusion::functions::datetime::expr_fn::now();
            crate::cast::cast_expr(now, crate::types::timestamp())
        }
        ("isnull", 1) => next().is_null(),
        ("isnotnull", 1) => next().is_not_null(),
        ("not", 1) => crate::coercion::resolve(Expr::Not(Box::new(next())), schema, conf)?,
        ("mod", 2) => binary_op(next(), Operator::Modulo, next(), schema, conf)?,
        ("equal_null", 2) => binary_op(next(), Operator::IsNotDistinctFrom, next(), schema, conf)?,
        ("if" | "iff", 3) => choose(next(), next(), next(), schema, conf)?,
        ("nvl2", 3) => choose(next().is_not_null(), next(), next(), schema, conf)?,
        ("nullif", 2) => {
            let (value, unwanted) = (next(), next());
            let equal = binary_op(value.clone(), Operator::Eq, unwanted, schema, conf)?;
            let null = ScalarValue::try_from(&canonical(&value.get_type(schema)?))?;
            choose(equal, lit(null), value, schema, conf)?
        }
        ("coalesce" | "nvl" | "ifnull", 1..) => {
            let args = std::iter::once(next()).chain(args).collect();
            datafusion::functions::core::expr_fn::coalesce(cast_to_common(args, schema, conf)?)
        }
        ("when", 2..) => {
            let all: Vec<_> = args.collect();
            let (pairs, rest) = all.split_at(count / 2 * 2);
            let when_then = pairs.chunks(2).map(|p| (Box::new(p[0].clone()), Box::new(p[1].clone()))).collect();
            let case = Case::new(None, when_then, rest.first().cloned().map(Box::new));
            crate::coercion::resolve(Expr::Case(case), schema, conf)?
        }
        _ => {
            return Err(Error::user(format!("`{name}` does not take {count} arguments"))
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
        }
    })
}

fn choose(when: Expr, then: Expr, otherwise: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let case = Case::new(None, vec![(Box::new(when), Box::new(then))], Some(Box::new(otherwise)));
    crate::coercion::resolve(Expr::Case(case), schema, conf)
}

fn aggregate(
    name: &str,
    mut call: FunctionCall,
    schema: &DFSchema,
    conf: &SparkConf,
    registry: &dyn FunctionRegistry,
) -> Result<Expr> {
    let mut udaf = name;
    match name {
        "count_if" => {
            // A condition that is not true counts as NULL.
            let condition = call.args.pop().unwrap_or_else(|| lit(false));
            let one = Case::new(None, vec![(Box::new(condition), Box::new(lit(1_i64)))], None);
            call.args = vec![crate::coercion::resolve(Expr::Case(one), schema, conf)?];
            udaf = "count";
        }
        "countdistinct" | "count_distinct" => {
            call.distinct = true;
            udaf = "count";
        }
        "count" if call.args.is_empty() => call.args.push(lit(1_i64)),
        "first" | "last" | "any_value" | "first_value" | "last_value" if call.args.len() == 2 => {
            call.ignore_nulls = matches!(call.args.pop(), Some(Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
        }
        "sum" | "avg" | "mean" | "stddev" | "stddev_samp" | "std" | "stddev_pop" | "variance" | "var_samp"
        | "var_pop" => {
            let text = |arg: Expr| {
                let from = canonical(&arg.get_type(schema)?);
                let to = if matches!(from, DataType::Utf8 | DataType::Null) { DataType::Float64 } else { from.clone() };
                spark_cast(arg, &from, &to, CastMode::of(conf.ansi), conf)
            };
            call.args = call.args.into_iter().map(text).collect::<Result<_>>()?;
        }
        _ => {}
    }
    let nulls = call.ignore_nulls.then_some(NullTreatment::IgnoreNulls);
    let filter = call.filter.map(Box::new);
    let udaf = registry.udaf(udaf)?;
    Ok(Expr::AggregateFunction(AggregateFunction::new_udf(
        udaf,
        call.args,
        call.distinct,
        filter,
        call.order_by,
        nulls,
    )))
}
