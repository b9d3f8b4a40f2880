//! Totals over no rows: Spark has none, as its grouping sets are copies of rows.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::optimizer::AnalyzerRule;

/// How many rows a group has.
const ROWS: &str = "__rows";

/// Leaves out the grand total of ROLLUP, CUBE and GROUPING SETS where there are no rows: DataFusion gives one, as without GROUP BY.
#[derive(Debug)]
pub(crate) struct NoTotalOfNothing;

impl AnalyzerRule for NoTotalOfNothing {
    fn name(&self) -> &str {
        "no_total_of_nothing"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) if has_grand_total(&aggregate) => {
                Ok(Transformed::yes(without_empty(aggregate)?))
            }
            other => Ok(Transformed::no(other)),
        })?;
        plan.data.recompute_schema()
    }
}

fn has_grand_total(aggregate: &Aggregate) -> bool {
    let is_done = |expr: &Expr| matches!(expr, Expr::Alias(alias) if alias.name == ROWS);
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return false };
    let has_total = match sets {
        GroupingSet::Rollup(_) | GroupingSet::Cube(_) => true,
        GroupingSet::GroupingSets(sets) => sets.iter().any(Vec::is_empty),
    };
    has_total && !aggregate.aggr_expr.iter().any(is_done)
}

fn without_empty(aggregate: Aggregate) -> Result<LogicalPlan> {
    let columns: Vec<_> = aggregate
        .schema
        .iter()
        .map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name())))
        .collect();
    let mut aggregates = aggregate.aggr_expr;
    aggregates.push(count(lit(1_i64)).alias(ROWS));
    let counted = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregates)?;
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(counted))
        .filter(col(ROWS).gt(lit(0_i64)))?
        .project(columns)?
        .build()
}
