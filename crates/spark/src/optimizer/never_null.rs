//! Columns in which no value is NULL, although their type would allow it: every column of a file may be NULL for Spark, but files say
//! how many values are.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::stats::Precision;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// Whether no value of an expression over the rows of `plan` is NULL, as far as it is a column that comes from a file as it is.
pub(super) fn is_never_null(plan: &Arc<dyn ExecutionPlan>, expr: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    match expr.downcast_ref::<Column>() {
        Some(column) => column_is_never_null(plan, column.index()),
        None => Ok(false),
    }
}

fn column_is_never_null(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Result<bool> {
    if plan.schema().fields().get(column).is_some_and(|field| !field.is_nullable()) {
        return Ok(true);
    }
    if plan.children().is_empty() {
        let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
        let column = statistics.column_statistics.get(column);
        return Ok(column.is_some_and(|column| column.null_count == Precision::Exact(0)));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return match projection.expr().get(column) {
            Some(projected) => is_never_null(projection.input(), &projected.expr),
            None => Ok(false),
        };
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return column_is_never_null(filter.input(), projected(filter.projection().as_deref(), column));
    }
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        return column_is_never_null(repartition.input(), column);
    }
    if let Some(coalesced) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return column_is_never_null(coalesced.input(), column);
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let column = projected(join.projection.as_deref(), column);
        let of_left = join.left().schema().fields().len();
        return match join.join_type() {
            JoinType::Inner if column < of_left => column_is_never_null(join.left(), column),
            JoinType::Inner => column_is_never_null(join.right(), column - of_left),
            JoinType::LeftSemi | JoinType::LeftAnti => column_is_never_null(join.left(), column),
            JoinType::RightSemi | JoinType::RightAnti => column_is_never_null(join.right(), column),
            _ => Ok(false),
        };
    }
    Ok(false)
}

/// Where a column stands before the projection that an operator does on the way.
fn projected(projection: Option<&[usize]>, column: usize) -> usize {
    projection.and_then(|projection| projection.get(column)).copied().unwrap_or(column)
}
