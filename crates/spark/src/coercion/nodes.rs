//! Implicit casts of expressions that are not operators: CASE, IN, BETWEEN, NOT, minus, CAST.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Between, Case, InList, Like};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};

use super::{Arithmetic, binary_op, call, types};
use crate::cast::{CastMode, spark_cast};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::functions::like_pattern;
use crate::types::{canonical, sql_type_name};

/// The type all expressions can be cast to without asking, as for CASE, COALESCE, `array(…)`.
///
/// # Errors
/// `DATATYPE_MISMATCH.DATA_DIFF_TYPES` (`User`) if there is none.
pub fn common_type(exprs: &[&Expr], schema: &DFSchema, conf: &SparkConf) -> Result<DataType> {
    let found = exprs.iter().map(|e| Ok(canonical(&e.get_type(schema)?))).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        return Ok(DataType::Null);
    }
    types::widest(&found, conf.ansi).ok_or_else(|| {
        let names: Vec<_> = found.iter().map(sql_type_name).collect();
        Error::user(format!("the values should all be of one type, but they are {}", names.join(", ")))
            .with_condition("DATATYPE_MISMATCH.DATA_DIFF_TYPES")
            .with_help("Cast them to one type.")
    })
}

/// Casts all expressions to their [`common_type`].
///
/// # Errors
/// As [`common_type`].
pub fn cast_to_common(exprs: Vec<Expr>, schema: &DFSchema, conf: &SparkConf) -> Result<Vec<Expr>> {
    let common = common_type(&exprs.iter().collect::<Vec<_>>(), schema, conf)?;
    exprs.into_iter().map(|expr| cast(expr, &common, schema, conf)).collect()
}

fn cast(expr: Expr, to: &DataType, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let from = expr.get_type(schema)?;
    if canonical(&from) == *to {
        return Ok(expr);
    }
    spark_cast(expr, &from, to, CastMode::of(conf.ansi), conf)
}

/// One expression, its children done already, with Spark's implicit casts and meaning.
///
/// # Errors
/// `DATATYPE_MISMATCH.*` (`User`) if the types do not fit.
pub fn resolve(expr: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let mode = CastMode::of(conf.ansi);
    match expr {
        Expr::BinaryExpr(binary) => binary_op(*binary.left, binary.op, *binary.right, schema, conf),
        Expr::Case(case) => resolve_case(case, schema, conf),
        Expr::InList(list) => resolve_in(list, schema, conf),
        Expr::Between(between) => resolve_between(between, schema, conf),
        Expr::Like(like) => resolve_like(like, schema, conf).map(Expr::Like),
        Expr::Not(inner) => Ok(Expr::Not(Box::new(cast(*inner, &DataType::Boolean, schema, conf)?))),
        Expr::Negative(inner) => negative(*inner, schema, conf),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema)?;
            spark_cast(*cast.expr, &from, cast.field.data_type(), mode, conf)
        }
        Expr::TryCast(cast) => {
            let from = cast.expr.get_type(schema)?;
            spark_cast(*cast.expr, &from, cast.field.data_type(), CastMode::Try, conf)
        }
        Expr::ScalarFunction(function) => match crate::cast::analyzed_cast(function, schema)? {
            Expr::ScalarFunction(function) => crate::functions::expand(function, schema, conf),
            cast => Ok(cast),
        },
        Expr::AggregateFunction(function) => {
            crate::functions::resolve_aggregate(function, schema, conf).map(Expr::AggregateFunction)
        }
        Expr::WindowFunction(function) => {
            crate::functions::resolve_window(*function, schema, conf).map(|f| Expr::WindowFunction(Box::new(f)))
        }
        other => Ok(other),
    }
}

fn negative(inner: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let data_type = canonical(&inner.get_type(schema)?);
    match data_type {
        DataType::Utf8 | DataType::Null => Ok(Expr::Negative(Box::new(cast(inner, &DataType::Float64, schema, conf)?))),
        integer if integer.is_integer() && conf.ansi => {
            let zero = ScalarValue::new_zero(&integer)?;
            let udf = Arithmetic { op: Operator::Minus, ansi: true, attempt: false, result: integer };
            Ok(call(udf, vec![Expr::Literal(zero, None), inner]))
        }
        span @ (DataType::Duration(_) | DataType::Interval(IntervalUnit::YearMonth)) => {
            let nothing = Expr::Literal(ScalarValue::new_zero(&span)?, None);
            binary_op(nothing, Operator::Minus, inner, schema, conf)
        }
        // As the difference from nothing, the least integer is its own negative.
        integer if integer.is_integer() => {
            let nothing = Expr::Literal(ScalarValue::new_zero(&integer)?, None);
            binary_op(nothing, Operator::Minus, inner, schema, conf)
        }
        _ => Ok(Expr::Negative(Box::new(inner))),
    }
}

/// A condition of CASE, which must be one: nothing is cast to BOOLEAN for it.
fn condition(when: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    match canonical(&when.get_type(schema)?) {
        DataType::Boolean | DataType::Null => cast(when, &DataType::Boolean, schema, conf),
        other => Err(Error::user(format!(
            "a condition must be BOOLEAN, but `{}` is {}",
            when.schema_name(),
            sql_type_name(&other)
        ))
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
        .with_help("Compare it, or cast it to BOOLEAN.")),
    }
}

fn resolve_case(case: Case, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let results: Vec<&Expr> =
        case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref()).collect();
    let common = common_type(&results, schema, conf)?;
    let base = case.expr.map(|base| *base);
    let otherwise = case.else_expr.map(|e| cast(*e, &common, schema, conf)).transpose()?.map(Box::new);
    if let Some(base) = base.as_ref().filter(|base| base.is_volatile()) {
        // Compared with every WHEN, it must still be evaluated once.
        let (whens, thens): (Vec<_>, Vec<_>) = case.when_then_expr.into_iter().map(|(w, t)| (*w, *t)).unzip();
        let mut compared = cast_to_common([vec![base.clone()], whens].concat(), schema, conf)?;
        let base = compared.remove(0);
        let when_then = compared
            .into_iter()
            .zip(thens)
            .map(|(when, then)| Ok((Box::new(when), Box::new(cast(then, &common, schema, conf)?))))
            .collect::<Result<Vec<_>>>()?;
        return Ok(Expr::Case(Case::new(Some(Box::new(base)), when_then, otherwise)));
    }
    let when_then = case
        .when_then_expr
        .into_iter()
        .map(|(when, then)| {
            let when = match &base {
                Some(base) => binary_op(base.clone(), Operator::Eq, *when, schema, conf)?,
                None => condition(*when, schema, conf)?,
            };
            Ok((Box::new(when), Box::new(cast(*then, &common, schema, conf)?)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Expr::Case(Case::new(None, when_then, otherwise)))
}

fn resolve_in(list: InList, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let mut all = vec![*list.expr];
    all.extend(list.list);
    let types = all.iter().map(|expr| Ok(canonical(&expr.get_type(schema)?))).collect::<Result<Vec<_>>>()?;
    let mut cast = match types.iter().all(|other| types::same_structure(&types[0], other)) {
        // Structures of other names are compared field by field.
        true => all.into_iter().map(|expr| cast(expr, &types[0], schema, conf)).collect::<Result<Vec<_>>>()?,
        false => cast_to_common(all, schema, conf)?,
    };
    let expr = cast.remove(0);
    Ok(Expr::InList(InList::new(Box::new(expr), cast, list.negated)))
}

fn resolve_between(between: Between, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    if between.expr.is_volatile() {
        return super::between::between_once(between, schema, conf);
    }
    let low = binary_op(*between.expr.clone(), Operator::GtEq, *between.low, schema, conf)?;
    let high = binary_op(*between.expr, Operator::LtEq, *between.high, schema, conf)?;
    let both = low.and(high);
    Ok(if between.negated { Expr::Not(Box::new(both)) } else { both })
}

fn resolve_like(like: Like, schema: &DFSchema, conf: &SparkConf) -> Result<Like> {
    let expr = Box::new(cast(*like.expr, &DataType::Utf8, schema, conf)?);
    let pattern = cast(*like.pattern, &DataType::Utf8, schema, conf)?;
    let pattern = Box::new(like_pattern(pattern, like.escape_char)?);
    Ok(Like { expr, pattern, escape_char: None, ..like })
}
