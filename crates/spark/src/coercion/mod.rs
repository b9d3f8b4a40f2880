//! Spark's implicit casts, put into expressions when they are built.
//!
//! A planner gives [`binary_op`] the operands of an operator and gets the expression with the casts in
//! it, or hands any node whose children are done to [`resolve`]. [`SparkSemantics`] does the same for
//! plans that were built without us.

mod arithmetic;
mod between;
mod lenient;
mod nodes;
mod rule;
mod temporal;
pub(crate) mod types;

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF, ScalarUDFImpl};

pub(crate) use arithmetic::{Arithmetic, division_by_zero, overflow};
pub use lenient::{LenientCast, lenient_casts, lenient_casts_of};
pub use nodes::{cast_to_common, common_type, resolve};
pub use rule::SparkSemantics;
pub(crate) use rule::{analyzed, analyzed_expr, widen_union};

use crate::cast::{CastMode, implied_text_cast, spark_cast};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::orderable::{compares, has_no_order};
use crate::types::{canonical, sql_type_name, timestamp};

/// `left op right` with Spark's implicit casts and Spark's meaning of the operator.
///
/// # Errors
/// `DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES` (`User`) if the types have nothing in common.
pub fn binary_op(left: Expr, op: Operator, right: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let types = (canonical(&left.get_type(schema)?), canonical(&right.get_type(schema)?));
    match op {
        Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo
        | Operator::IntegerDivide => calculation(left, op, right, types, conf),
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => comparison(left, op, right, types, conf),
        Operator::And | Operator::Or => {
            let left = to_boolean(left, &types.0, op, conf)?;
            let right = to_boolean(right, &types.1, op, conf)?;
            Ok(plain(left, op, right))
        }
        Operator::StringConcat => {
            let mode = CastMode::of(conf.ansi);
            let left = spark_cast(left, &types.0, &DataType::Utf8, mode, conf)?;
            let right = spark_cast(right, &types.1, &DataType::Utf8, mode, conf)?;
            Ok(plain(left, op, right))
        }
        Operator::BitwiseAnd | Operator::BitwiseOr | Operator::BitwiseXor => {
            let common = types::numeric(&types.0, &types.1, conf.ansi).filter(DataType::is_integer);
            let common = common.ok_or_else(|| mismatch(&left, op, &right, &types))?;
            let mode = CastMode::of(conf.ansi);
            let left = spark_cast(left, &types.0, &common, mode, conf)?;
            let right = spark_cast(right, &types.1, &common, mode, conf)?;
            Ok(plain(left, op, right))
        }
        _ => Ok(plain(left, op, right)),
    }
}

fn plain(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

pub(crate) fn call(udf: impl ScalarUDFImpl + 'static, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(udf)), args))
}

/// Whether a function stands for an operator between its two arguments.
pub(crate) fn is_operator(udf: &ScalarUDF) -> bool {
    udf.name().starts_with("spark_") && !display_operator(udf).is_empty()
}

/// The operator as it is written.
pub(crate) fn display_operator(udf: &ScalarUDF) -> &'static str {
    match udf.name() {
        "spark_add" | "spark_time_add" => "+",
        "spark_subtract" | "spark_time_subtract" => "-",
        "spark_multiply" | "spark_interval_multiply" => "*",
        "spark_divide" | "spark_interval_divide" => "/",
        "spark_remainder" => "%",
        "spark_div" => "div",
        _ => "",
    }
}

fn mismatch(left: &Expr, op: Operator, right: &Expr, types: &(DataType, DataType)) -> Error {
    let is_unordered = compares(op) && (has_no_order(&types.0) || has_no_order(&types.1));
    let condition = match is_unordered {
        true => "DATATYPE_MISMATCH.INVALID_ORDERING_TYPE",
        false => "DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES",
    };
    Error::user(format!(
        "cannot resolve `{left} {op} {right}`: the operands have the types {} and {}",
        sql_type_name(&types.0),
        sql_type_name(&types.1)
    ))
    .with_condition(condition)
    .with_help("Cast one of them.")
}

fn to_boolean(expr: Expr, from: &DataType, op: Operator, conf: &SparkConf) -> Result<Expr> {
    match from {
        DataType::Boolean | DataType::Null | DataType::Utf8 => {
            spark_cast(expr, from, &DataType::Boolean, CastMode::of(conf.ansi), conf)
        }
        other => Err(Error::user(format!("`{op}` needs BOOLEAN operands, but `{expr}` is {}", sql_type_name(other)))
            .with_condition("DATATYPE_MISMATCH.BINARY_OP_WRONG_TYPE")),
    }
}

fn comparison(left: Expr, op: Operator, right: Expr, types: (DataType, DataType), conf: &SparkConf) -> Result<Expr> {
    let common = types::for_comparison(&types.0, &types.1, conf.ansi);
    let common = common.ok_or_else(|| mismatch(&left, op, &right, &types))?;
    if matches!(common, DataType::Map(..)) {
        return Err(mismatch(&left, op, &right, &types));
    }
    let side = |expr: Expr, from: &DataType| {
        if from == &DataType::Utf8 && common.is_integer() && !conf.ansi {
            return Ok(implied_text_cast(expr, &common, conf));
        }
        spark_cast(expr, from, &common, CastMode::of(conf.ansi), conf)
    };
    Ok(plain(side(left, &types.0)?, op, side(right, &types.1)?))
}

fn calculation(left: Expr, op: Operator, right: Expr, types: (DataType, DataType), conf: &SparkConf) -> Result<Expr> {
    if is_time(&types.0) || is_time(&types.1) {
        return time_calculation(left, op, right, types, conf);
    }
    let mode = CastMode::of(conf.ansi);
    let (a, b) = (operand(&types.0, &types.1, conf.ansi), operand(&types.1, &types.0, conf.ansi));
    let (Some(a), Some(b)) = (a, b) else {
        return Err(mismatch(&left, op, &right, &types));
    };
    if is_decimal(&a, &b) || (matches!(op, Operator::IntegerDivide) && is_decimal(&a, &a)) {
        return decimal_calculation(left, op, right, types, (a, b), conf);
    }
    let common = match op {
        Operator::Divide => Some(DataType::Float64),
        Operator::IntegerDivide => Some(DataType::Int64),
        _ => types::numeric(&a, &b, conf.ansi),
    };
    let common = common.ok_or_else(|| mismatch(&left, op, &right, &types))?;
    // Text beside an integer must be an integer, even where the result is a double.
    let side = |expr: Expr, from: &DataType, number: &DataType| match from {
        DataType::Utf8 if number != &common => {
            let read = spark_cast(expr, from, number, mode, conf)?;
            spark_cast(read, number, &common, mode, conf)
        }
        _ => spark_cast(expr, from, &common, mode, conf),
    };
    let (left, right) = (side(left, &types.0, &a)?, side(right, &types.1, &b)?);
    if arithmetic::native(op, &common, conf.ansi) {
        return Ok(plain(left, op, right));
    }
    Ok(call(Arithmetic { op, ansi: conf.ansi, attempt: false, result: common }, vec![left, right]))
}

/// The number an operand stands for: text is a double, or in ANSI mode what the other side is.
fn operand(data_type: &DataType, other: &DataType, ansi: bool) -> Option<DataType> {
    match data_type {
        DataType::Utf8 if ansi && other.is_integer() => Some(DataType::Int64),
        DataType::Utf8 => Some(DataType::Float64),
        DataType::Null if other == &DataType::Null => Some(DataType::Float64),
        DataType::Null if other == &DataType::Utf8 => Some(DataType::Float64),
        DataType::Null => Some(other.clone()),
        numeric if numeric.is_numeric() => Some(numeric.clone()),
        _ => None,
    }
}

fn is_decimal(a: &DataType, b: &DataType) -> bool {
    let decimal = |t: &DataType| matches!(t, DataType::Decimal128(..));
    (decimal(a) || decimal(b)) && !a.is_floating() && !b.is_floating()
}

fn decimal_calculation(
    left: Expr,
    op: Operator,
    right: Expr,
    types: (DataType, DataType),
    operands: (DataType, DataType),
    conf: &SparkConf,
) -> Result<Expr> {
    let precise = |expr: &Expr, data_type| literal_decimal(expr).or_else(|| types::decimal_of(data_type));
    let (Some(a), Some(b)) = (precise(&left, &operands.0), precise(&right, &operands.1)) else {
        return Err(mismatch(&left, op, &right, &types));
    };
    let decimal = |(p, s): (i16, i16)| DataType::Decimal128(p as u8, s as i8);
    let mode = CastMode::of(conf.ansi);
    let left = spark_cast(left, &types.0, &decimal(a), mode, conf)?;
    let right = spark_cast(right, &types.1, &decimal(b), mode, conf)?;
    let result = match op {
        Operator::IntegerDivide => DataType::Int64,
        _ => types::decimal_result(op, a, b),
    };
    Ok(call(Arithmetic { op, ansi: conf.ansi, attempt: false, result }, vec![left, right]))
}

/// An integer literal beside a decimal has only the digits it is written with.
fn literal_decimal(expr: &Expr) -> Option<(i16, i16)> {
    let value = match expr {
        Expr::Literal(ScalarValue::Int8(Some(v)), _) => i64::from(*v),
        Expr::Literal(ScalarValue::Int16(Some(v)), _) => i64::from(*v),
        Expr::Literal(ScalarValue::Int32(Some(v)), _) => i64::from(*v),
        Expr::Literal(ScalarValue::Int64(Some(v)), _) => *v,
        _ => return None,
    };
    Some((value.unsigned_abs().max(1).ilog10() as i16 + 1, 0))
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..) | DataType::Interval(_) | DataType::Duration(_))
}

fn time_calculation(
    mut left: Expr,
    op: Operator,
    mut right: Expr,
    mut types: (DataType, DataType),
    conf: &SparkConf,
) -> Result<Expr> {
    let is_interval = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Duration(_));
    let mode = CastMode::of(conf.ansi);
    if matches!(op, Operator::Multiply | Operator::Divide) {
        return interval_multiple(left, op, right, types, conf);
    }
    if op == Operator::Plus && (is_interval(&types.0) && !is_interval(&types.1) || types.0.is_integer()) {
        std::mem::swap(&mut left, &mut right);
        types = (types.1, types.0);
    }
    // Text and an interval of days and time make text.
    if types.0 == DataType::Utf8 && is_interval(&types.1) {
        if matches!(types.1, DataType::Interval(IntervalUnit::YearMonth)) {
            return Err(mismatch(&left, op, &right, &types));
        }
        let read = spark_cast(left, &types.0, &timestamp(), mode, conf)?;
        let moved = time_calculation(read, op, right, (timestamp(), types.1), conf)?;
        return spark_cast(moved, &timestamp(), &DataType::Utf8, mode, conf);
    }
    // Nothing beside an interval is one.
    if types.0 == DataType::Null && is_interval(&types.1) {
        left = spark_cast(left, &types.0, &types.1, mode, conf)?;
        types.0 = types.1.clone();
    }
    if types.0 == DataType::Date32 && op == Operator::Plus && types.1 == DataType::Utf8 {
        return Err(mismatch(&left, op, &right, &types));
    }
    let beside = |other: &DataType| if is_interval(other) { timestamp() } else { other.clone() };
    if matches!(types.0, DataType::Utf8 | DataType::Null) {
        let wanted = beside(&types.1);
        left = spark_cast(left, &types.0, &wanted, mode, conf)?;
        types.0 = wanted;
    }
    if matches!(types.1, DataType::Utf8 | DataType::Null) {
        let wanted =
            if types.0 == DataType::Date32 && op == Operator::Plus { DataType::Int32 } else { types.0.clone() };
        right = spark_cast(right, &types.1, &wanted, mode, conf)?;
        types.1 = wanted;
    }
    let minus = op == Operator::Minus;
    let result = matches!(op, Operator::Plus | Operator::Minus)
        .then(|| temporal::result_type(&types.0, minus, &types.1, &right))
        .flatten()
        .ok_or_else(|| mismatch(&left, op, &right, &types))?;
    let udf = temporal::TemporalArithmetic { minus, result, tz: conf.time_zone };
    Ok(call(udf, vec![left, right]))
}

/// `interval * n`, `n * interval`, `interval / n`.
fn interval_multiple(
    left: Expr,
    op: Operator,
    right: Expr,
    types: (DataType, DataType),
    conf: &SparkConf,
) -> Result<Expr> {
    let interval = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Duration(_));
    let factor_first = op == Operator::Multiply && interval(&types.1);
    let (span, factor, span_type, factor_type) =
        if factor_first { (right, left, types.1, types.0) } else { (left, right, types.0, types.1) };
    if !interval(&span_type) || !(factor_type.is_numeric() || factor_type == DataType::Utf8) {
        return Err(mismatch(&span, op, &factor, &(span_type, factor_type)));
    }
    let factor = spark_cast(factor, &factor_type, &DataType::Float64, CastMode::of(conf.ansi), conf)?;
    Ok(call(temporal::IntervalMultiple { divide: op == Operator::Divide, result: span_type }, vec![span, factor]))
}

#[cfg(test)]
mod tests;
