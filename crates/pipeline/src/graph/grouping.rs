//! `grouping` and `grouping_id`, which say something only of grouping sets.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use deltaworks_spark::{Error, Result};

use super::positions;
use crate::definitions::FlowQuery;

/// Refuses `grouping` and `grouping_id` where there are no grouping sets, and `grouping_id` where the planner has not
/// made `grouping` of it.
///
/// # Errors
/// `UNSUPPORTED_GROUPING_EXPRESSION` (`User`); `Unsupported` for `grouping_id` over grouping sets in SQL.
pub fn check(plan: &LogicalPlan, query: &FlowQuery) -> Result<()> {
    let mut refused: Option<(String, bool)> = None;
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else { return Ok(TreeNodeRecursion::Continue) };
        let sets = aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)));
        for expr in &aggregate.aggr_expr {
            expr.apply(|part| {
                if let Expr::AggregateFunction(call) = part
                    && let name @ ("grouping" | "grouping_id") = call.func.name()
                    && (!sets || name == "grouping_id")
                {
                    refused = Some((name.to_owned(), sets));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    let Some((name, sets)) = refused else { return Ok(()) };
    let error = match sets {
        true => Error::unsupported(format!("`{name}` in SQL"))
            .with_help("Use `grouping(column)` for each column, or `grouping_id` in the `agg` of a DataFrame."),
        false => Error::user(format!("`{name}` says something only of GROUPING SETS, ROLLUP or CUBE"))
            .with_condition("UNSUPPORTED_GROUPING_EXPRESSION")
            .with_help("Group with one of them, or leave it out."),
    };
    let place = match query {
        FlowQuery::Sql(query) => positions::of_function(query, &[name.as_str()]),
        _ => None,
    };
    Err(match place {
        Some(place) => error.at(place),
        None => error,
    })
}
