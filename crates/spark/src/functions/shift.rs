//! `lag` and `lead` whose default differs by row. DataFusion's take a constant.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Expr, PartitionEvaluator, ReversedUDWF, Signature, Volatility, WindowFunctionDefinition, WindowUDF, WindowUDFImpl,
};

use super::form::Env;
use crate::error::{Error, Result};

/// Has a call of `lag` or `lead` look at its default in every row, unless it is a constant.
///
/// # Errors
/// `NotSupported` with `IGNORE NULLS`.
pub(super) fn default_by_row(function: &mut WindowFunction, env: Env<'_>) -> Result<()> {
    let WindowFunctionDefinition::WindowUDF(udwf) = &function.fun else { return Ok(()) };
    let back = match udwf.name() {
        "lag" => true,
        "lead" => false,
        _ => return Ok(()),
    };
    let [value, _, default] = function.params.args.as_mut_slice() else { return Ok(()) };
    if udwf.inner().is::<Shift>() || matches!(default, Expr::Literal(..)) {
        return Ok(());
    }
    if function.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Err(Error::unsupported(format!(
            "`{}` with IGNORE NULLS and a default that is no constant",
            udwf.name()
        )));
    }
    *default = env.cast(std::mem::take(default), &env.type_of(value)?)?;
    function.fun = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::new_from_impl(Shift { back })));
    Ok(())
}

/// The value some rows before or after, or a default of the row itself where there is no such row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift {
    back: bool,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(3, Volatility::Immutable));

impl WindowUDFImpl for Shift {
    fn name(&self) -> &str {
        if self.back { "lag" } else { "lead" }
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DataFusionResult<FieldRef> {
        let data_type = args.input_fields().first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(args.name(), data_type, true)))
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> DataFusionResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(ShiftEvaluator { back: self.back }))
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }
}

#[derive(Debug)]
struct ShiftEvaluator {
    back: bool,
}

impl PartitionEvaluator for ShiftEvaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DataFusionResult<ArrayRef> {
        let [values, offset, defaults] = values else {
            return Err(Error::internal("`lag` and `lead` take a value, an offset and a default").into());
        };
        let offset = cast(offset, &DataType::Int64)?;
        let offset = offset.as_primitive::<Int64Type>();
        // It is a constant, and counts as none where it is NULL.
        let offset = if offset.is_empty() || offset.is_null(0) { 0 } else { offset.value(0) };
        let forward = if self.back { offset.saturating_neg() } else { offset };
        let place = |row: usize| {
            let other = i64::try_from(row).ok().and_then(|row| row.checked_add(forward));
            match other.and_then(|other| usize::try_from(other).ok()).filter(|other| *other < rows) {
                Some(other) => (0, other),
                None => (1, row),
            }
        };
        let places: Vec<_> = (0..rows).map(place).collect();
        Ok(interleave(&[values.as_ref(), defaults.as_ref()], &places)?)
    }
}
