//! `BETWEEN` over an operand that must be evaluated once, because it has another value each time: `rand()`.

use std::sync::LazyLock;

use arrow::compute::kernels::boolean::{and_kleene, not};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::{call, mismatch, types};
use crate::cast::{CastMode, spark_cast};
use crate::conf::SparkConf;
use crate::error::Result;
use crate::types::canonical;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(3, Volatility::Immutable));

/// Whether the first of three comparable arguments lies between the others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BetweenOnce {
    negated: bool,
}

/// `value BETWEEN low AND high` with the value evaluated once.
pub(super) fn between_once(between: Between, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let Between { expr, negated, low, high } = between;
    let type_of = |expr: &Expr| -> Result<DataType> { Ok(canonical(&expr.get_type(schema)?)) };
    let (value, bounds) = (type_of(&expr)?, (type_of(&low)?, type_of(&high)?));
    let common = types::for_comparison(&value, &bounds.0, conf.ansi)
        .zip(types::for_comparison(&value, &bounds.1, conf.ansi))
        .and_then(|(with_low, with_high)| types::for_comparison(&with_low, &with_high, conf.ansi))
        .ok_or_else(|| mismatch(&expr, Operator::GtEq, &low, &(value.clone(), bounds.0.clone())))?;
    let mode = CastMode::of(conf.ansi);
    let args = vec![
        spark_cast(*expr, &value, &common, mode, conf)?,
        spark_cast(*low, &bounds.0, &common, mode, conf)?,
        spark_cast(*high, &bounds.1, &common, mode, conf)?,
    ];
    Ok(call(BetweenOnce { negated }, args))
}

impl ScalarUDFImpl for BetweenOnce {
    fn name(&self) -> &str {
        if self.negated { "spark_not_between" } else { "spark_between" }
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [value, low, high] = ColumnarValue::values_to_arrays(&args.args)?
            .try_into()
            .map_err(|_| DataFusionError::Internal("BETWEEN takes three operands".to_owned()))?;
        let both = and_kleene(&gt_eq(&value, &low)?, &lt_eq(&value, &high)?)?;
        let outcome = if self.negated { not(&both)? } else { both };
        Ok(ColumnarValue::Array(std::sync::Arc::new(outcome)))
    }
}
