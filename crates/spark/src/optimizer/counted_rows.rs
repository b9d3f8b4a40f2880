//! `count(column)` where the column has no NULLs: a count of rows, for which the column need not be read.
//!
//! A table's statistics tell that, as Delta's log has them for each file. Keys are counted in most reports, and are
//! often the widest columns that these read.

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, Result};
use datafusion::datasource::source_as_provider;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, TableScan, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule. It comes before the one that says which columns a scan reads.
#[derive(Debug)]
pub(super) struct CountedRows;

impl OptimizerRule for CountedRows {
    fn name(&self) -> &str {
        "counted_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
        let counts_rows = |expr: &Expr| counted(expr).is_some_and(|column| never_null(column, &aggregate.input));
        if !aggregate.aggr_expr.iter().any(counts_rows) {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let aggregates = aggregate.aggr_expr.iter().map(|expr| match counts_rows(expr) {
            true => of_rows(expr),
            false => expr.clone(),
        });
        let aggregates = aggregates.collect();
        let counted = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregates)?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(counted)))
    }
}

/// What is counted, if that is the values of one column.
fn counted(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Alias(alias) => counted(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, params }) => match params.args.as_slice() {
            [column @ Expr::Column(_)] if func.name() == "count" && !params.distinct => Some(column),
            _ => None,
        },
        _ => None,
    }
}

/// The same aggregate of the same name, counting rows.
fn of_rows(expr: &Expr) -> Expr {
    let name = NamePreserver::new_for_projection().save(expr);
    let mut counted = expr.clone().unalias();
    if let Expr::AggregateFunction(function) = &mut counted {
        function.func = count_udaf();
        function.params.args = vec![lit(1_i64)];
    }
    name.restore(counted)
}

/// Whether statistics say that `expr` is NULL in no row of `plan`.
fn never_null(expr: &Expr, plan: &LogicalPlan) -> bool {
    match expr {
        Expr::Column(column) => {
            plan.schema().maybe_index_of_column(column).is_some_and(|index| has_no_null(plan, index))
        }
        Expr::Alias(alias) => never_null(&alias.expr, plan),
        _ => false,
    }
}

fn has_no_null(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => is_stored_without_null(scan, index),
        LogicalPlan::Projection(projection) => {
            projection.expr.get(index).is_some_and(|expr| never_null(expr, &projection.input))
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().iter().all(|input| has_no_null(input, index)),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            // An outer join has rows of NULLs for the side that has no partner.
            match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => has_no_null(&join.left, index),
                JoinType::RightSemi | JoinType::RightAnti => has_no_null(&join.right, index),
                JoinType::Inner | JoinType::Left if index < left => has_no_null(&join.left, index),
                JoinType::Inner | JoinType::Right if index >= left => has_no_null(&join.right, index - left),
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_stored_without_null(scan: &TableScan, index: usize) -> bool {
    let Ok(provider) = source_as_provider(&scan.source) else { return false };
    let stored = scan.projection.as_ref().map_or(Some(index), |kept| kept.get(index).copied());
    let statistics = provider.statistics().zip(stored);
    statistics.is_some_and(|(statistics, column)| {
        statistics.column_statistics.get(column).is_some_and(|column| column.null_count == Precision::Exact(0))
    })
}

#[cfg(test)]
#[path = "counted_rows_tests.rs"]
mod tests;
