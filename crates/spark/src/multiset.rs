//! Set operations that count equal rows.

use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt as _, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;

/// `INTERSECT ALL` (as a semi join) and `EXCEPT ALL` (as an anti join): equal rows are numbered on both sides, so that
/// each of the left side has at most one partner; those with one, or those without, are the result.
///
/// `unique` gives a name that no other column has; both sides have columns of the same types.
pub(crate) fn matched(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    unique: &dyn Fn(&str) -> String,
) -> Result<LogicalPlan> {
    let numbered = |plan: LogicalPlan, prefix: &str| -> Result<(LogicalPlan, Vec<Column>)> {
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let number = row_number().partition_by(columns).build()?;
        let plan = LogicalPlanBuilder::window_plan(plan, vec![number])?;
        let renamed = plan.schema().columns().into_iter().map(|column| Expr::Column(column).alias(unique(prefix)));
        let renamed = renamed.collect::<Vec<_>>();
        let plan = LogicalPlanBuilder::from(plan).project(renamed)?.build()?;
        let columns = plan.schema().columns();
        Ok((plan, columns))
    };
    let names: Vec<String> = left.schema().columns().into_iter().map(|column| column.name).collect();
    let ((left, left_keys), (right, right_keys)) = (numbered(left, "left")?, numbered(right, "right")?);
    let keys = (left_keys.clone(), right_keys);
    let joined = LogicalPlanBuilder::from(left)
        .join_detailed(right, join_type, keys, None, NullEquality::NullEqualsNull)?
        .project(left_keys.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name)))?;
    Ok(joined.build()?)
}
