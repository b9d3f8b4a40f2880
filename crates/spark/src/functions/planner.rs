//! Calls that DataFusion's SQL planner would send to functions of its own.

use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};

use super::{map, text};

/// Sends `substring` and `map` to Spark's functions of these names.
#[derive(Debug)]
pub(crate) struct FunctionPlanner;

impl ExprPlanner for FunctionPlanner {
    fn plan_substring(&self, args: Vec<Expr>) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(text::SUBSTRING.call(args)))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(map::MAP.call(args)))
    }
}
