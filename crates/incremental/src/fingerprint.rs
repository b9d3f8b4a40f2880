//! What must stay the same of an expression for stored state to stay valid, as text.
//!
//! Names that planners make up differ from one planning to the next, and with every column that a query gains:
//! only what the user wrote counts.

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::logical_expr::Expr;

/// The expression without qualifiers and without the numbers of made-up names.
pub(crate) fn of_expr(expr: &Expr) -> String {
    let stripped = expr.clone().transform(|part| match part {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(of_name(&column.name))))),
        other => Ok(Transformed::no(other)),
    });
    stripped.map_or_else(|_| expr.to_string(), |stripped| stripped.data.schema_name().to_string())
}

/// `amount#12` as `amount`.
pub(crate) fn of_name(name: &str) -> &str {
    match name.rsplit_once('#') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => base,
        _ => name,
    }
}
