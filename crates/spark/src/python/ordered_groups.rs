//! The groups of Python functions come in the order of their keys.
//!
//! Spark sorts rows by their group before it gives them to `pandas_udf` or `arrow_udf`, and gives the groups out as it
//! met them. Ours are met by hash: so they are sorted afterwards, which next to a call of Python each costs nothing.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ExprSchema, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Sort};
use datafusion::optimizer::AnalyzerRule;

use super::PythonAggregate;
use crate::streaming::is_streaming;

/// Sorts the groups of aggregations with Python functions by their keys.
#[derive(Debug)]
pub(crate) struct OrderedGroups;

impl AnalyzerRule for OrderedGroups {
    fn name(&self) -> &str {
        "ordered_groups"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_down_with_subqueries(with_order)?.data)
    }
}

/// What is right below a sort needs no other: the user's, or the one that this rule has put there before.
fn with_order(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(sort) if matches!(sort.input.as_ref(), LogicalPlan::Aggregate(_)) => {
            Ok(Transformed::new(LogicalPlan::Sort(sort), false, TreeNodeRecursion::Jump))
        }
        LogicalPlan::Aggregate(aggregate) if calls_python(&aggregate) && !is_streaming(&aggregate.input) => {
            let keys = aggregate.schema.columns().into_iter().take(aggregate.group_expr_len()?);
            let sortable = |column| Ok(!aggregate.schema.field_from_column(column)?.data_type().is_nested());
            let keys: Vec<_> = keys.collect();
            if keys.is_empty() || !keys.iter().map(sortable).collect::<Result<Vec<_>>>()?.into_iter().all(|is| is) {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            let expr = keys.into_iter().map(|key| Expr::Column(key).sort(true, true)).collect();
            let input = LogicalPlan::Aggregate(aggregate).into();
            let sort = LogicalPlan::Sort(Sort { expr, input, fetch: None });
            Ok(Transformed::new(sort, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn calls_python(aggregate: &Aggregate) -> bool {
    let is_python = |expr: &Expr| match expr {
        Expr::AggregateFunction(call) => call.func.inner().downcast_ref::<PythonAggregate>().is_some(),
        _ => false,
    };
    aggregate.aggr_expr.iter().any(|expr| expr.exists(|part| Ok(is_python(part))).unwrap_or(false))
}
