//! Expressions that may be computed for rows of which nobody asked for them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// Functions that give NULL where they have no answer, outside ANSI mode.
const LENIENT: [&str; 4] = ["spark_add", "spark_subtract", "spark_multiply", "spark_divide"];

/// Whether the expression gives a value, and always the same, for any row of that schema. Of forms not known here, no.
pub(super) fn is_harmless(expr: &Arc<dyn PhysicalExpr>, schema: &Schema, ansi: bool) -> Result<bool> {
    let mut harmless = true;
    expr.apply(|part| {
        harmless = is_plain(part)
            || part.downcast_ref::<BinaryExpr>().is_some_and(|binary| is_total(binary, ansi))
            || !ansi && part.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| LENIENT.contains(&call.name()))
            || match part.downcast_ref::<CastExpr>() {
                Some(cast) => widens(&cast.expr().data_type(schema)?, cast.cast_type()),
                None => false,
            };
        Ok(if harmless { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(harmless)
}

fn is_plain(part: &Arc<dyn PhysicalExpr>) -> bool {
    part.downcast_ref::<Column>().is_some()
        || part.downcast_ref::<Literal>().is_some()
        || part.downcast_ref::<CaseExpr>().is_some()
        || part.downcast_ref::<InListExpr>().is_some()
        || part.downcast_ref::<IsNullExpr>().is_some()
        || part.downcast_ref::<IsNotNullExpr>().is_some()
        || part.downcast_ref::<NotExpr>().is_some()
}

/// Integers wrap around outside ANSI mode.
fn is_total(binary: &BinaryExpr, ansi: bool) -> bool {
    match binary.op() {
        Operator::Plus | Operator::Minus | Operator::Multiply => !ansi,
        Operator::And | Operator::Or => true,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => true,
        _ => false,
    }
}

/// Whether every value of the first type is one of the second.
fn widens(from: &DataType, to: &DataType) -> bool {
    let rank = |data_type: &DataType| match data_type {
        DataType::Int8 => Some(1),
        DataType::Int16 => Some(2),
        DataType::Int32 => Some(3),
        DataType::Int64 => Some(4),
        DataType::Float32 => Some(5),
        DataType::Float64 => Some(6),
        _ => None,
    };
    rank(from).zip(rank(to)).is_some_and(|(from, to)| from <= to)
}
