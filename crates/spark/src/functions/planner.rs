//! Calls that DataFusion's SQL planner would send to functions of its own.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};

use super::element_field::ELEMENT_FIELD;
use super::{map, text};
use crate::types::struct_fields;

/// Sends `substring` and `map` to Spark's functions of these names, and `structs.field` of an array to its elements.
#[derive(Debug)]
pub(crate) struct FunctionPlanner;

impl ExprPlanner for FunctionPlanner {
    fn plan_substring(&self, args: Vec<Expr>) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(text::SUBSTRING.call(args)))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(map::MAP.call(args)))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawFieldAccessExpr>> {
        if let GetFieldAccess::NamedStructField { name } = &access.field_access
            && let Some(wanted) = name.try_as_str().flatten()
            && let Ok(DataType::List(element)) = access.expr.get_type(schema)
            && let Some(fields) = struct_fields(element.data_type())
            && let Some(field) = fields.iter().find(|field| field.name().eq_ignore_ascii_case(wanted))
        {
            return Ok(PlannerResult::Planned(ELEMENT_FIELD.call(vec![access.expr, lit(field.name().as_str())])));
        }
        Ok(PlannerResult::Original(access))
    }
}
