//! Finds implicit casts of text to integers, which make `'0.5' > 0` false without a word.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::cast::SparkCast;
use crate::naming::column_name;
use crate::types::sql_type_name;

/// Text that is compared with an integer and cut at its point by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LenientCast {
    /// The text expression.
    pub expression: String,
    /// Its type.
    pub from: String,
    /// The type it is cast to.
    pub to: String,
    /// What to write instead.
    pub suggestion: String,
}

/// The implicit casts of a plan that can change the meaning of its values.
pub fn lenient_casts(plan: &LogicalPlan) -> Vec<LenientCast> {
    let mut found = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            collect(expr, &mut found);
            Ok(TreeNodeRecursion::Continue)
        })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}

/// As [`lenient_casts`], of one expression.
pub fn lenient_casts_of(expr: &Expr) -> Vec<LenientCast> {
    let mut found = Vec::new();
    collect(expr, &mut found);
    found
}

fn collect(expr: &Expr, found: &mut Vec<LenientCast>) {
    let walked = expr.apply(|expr| {
        if let Some(lenient) = lenient_cast(expr)
            && !found.contains(&lenient)
        {
            found.push(lenient);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
}

fn lenient_cast(expr: &Expr) -> Option<LenientCast> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let cast = function.func.inner().downcast_ref::<SparkCast>().filter(|cast| cast.cuts_text())?;
    let expression = column_name(function.args.first()?);
    Some(LenientCast {
        from: sql_type_name(&DataType::Utf8),
        to: sql_type_name(cast.to()),
        suggestion: format!("CAST({expression} AS DOUBLE)"),
        expression,
    })
}
