//! Window functions that turn out to be the same are computed once.
//!
//! `sum(i) OVER w` and `sum(CAST(i AS BIGINT)) OVER w` are one call under two names once their types are known. Elimination
//! of common subexpressions would move it out of its operator, where it cannot be run.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Window};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Leaves one of equal window functions, and gives their names to its result. Runs after type coercion.
#[derive(Debug)]
pub(crate) struct SharedWindowFunctions;

impl AnalyzerRule for SharedWindowFunctions {
    fn name(&self) -> &str {
        "shared_window_functions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let changed = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Window(window) => shared(window),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(changed.data)
    }
}

fn shared(window: Window) -> DataFusionResult<Transformed<LogicalPlan>> {
    let mut kept: Vec<Expr> = Vec::new();
    let mut columns: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    for expr in &window.window_expr {
        let call = expr.clone().unalias();
        let (relation, name) = expr.qualified_name();
        match kept.iter().find(|first| (*first).clone().unalias() == call) {
            Some(first) => {
                let (of_first, its_name) = first.qualified_name();
                columns.push(Expr::Column(Column::new(of_first, its_name)).alias_qualified(relation, name));
            }
            None => {
                columns.push(Expr::Column(Column::new(relation, name)));
                kept.push(expr.clone());
            }
        }
    }
    if kept.len() == window.window_expr.len() || kept.iter().any(Expr::is_volatile) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let computed = LogicalPlan::Window(Window::try_new(kept, window.input)?);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(computed))?)))
}
