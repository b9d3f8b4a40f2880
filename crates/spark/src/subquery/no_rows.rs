//! A scalar subquery without rows is NULL, whatever its column says: the optimizer must not take it for a value that
//! is always there.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, Subquery, Volatility,
};

use crate::coercion::call;

/// The subquery with a column that may be NULL. One that refers to the rows around it becomes a join, which sees to it.
pub(crate) fn may_be_null(subquery: Subquery) -> DataFusionResult<Subquery> {
    let [field] = subquery.subquery.schema().fields().as_ref() else { return Ok(subquery) };
    if field.is_nullable() || !subquery.outer_ref_columns.is_empty() {
        return Ok(subquery);
    }
    let (qualifier, field) = subquery.subquery.schema().qualified_field(0);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let value = call(MayBeNull, vec![column]).alias(field.name());
    let plan: LogicalPlan =
        LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project(vec![value])?.build()?;
    Ok(subquery.with_plan(Arc::new(plan)))
}

/// The value itself.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MayBeNull;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(1, Volatility::Immutable));

impl ScalarUDFImpl for MayBeNull {
    fn name(&self) -> &str {
        "may_be_null"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        args.first().cloned().ok_or_else(missing)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let field = args.arg_fields.first().ok_or_else(missing)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        args.args.into_iter().next().ok_or_else(missing)
    }
}

fn missing() -> DataFusionError {
    DataFusionError::Internal("no value that may be NULL".to_owned())
}
