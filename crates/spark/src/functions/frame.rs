//! Frames of windows: what a number is a distance in, and sums of floating-point numbers over frames that slide.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::{Accumulator, WindowFrameBound, WindowFrameUnits};

use super::form::Env;
use crate::error::{Error, Result};
use crate::types::sql_type_name;

/// Makes days of the numbers that bound a range of dates, as Spark means them.
///
/// # Errors
/// `DATATYPE_MISMATCH.RANGE_FRAME_INVALID_TYPE` (`User`) if the window is ordered by what has no distance in numbers.
pub(super) fn bound_by_days(params: &mut WindowFunctionParams, env: Env<'_>) -> Result<()> {
    let ([key], WindowFrameUnits::Range) = (params.order_by.as_slice(), params.window_frame.units) else {
        return Ok(());
    };
    let data_type = env.type_of(&key.expr)?;
    let frame = &mut params.window_frame;
    for bound in [&mut frame.start_bound, &mut frame.end_bound] {
        let (WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance)) = bound else { continue };
        let Some(number) = number(distance) else { continue };
        match &data_type {
            DataType::Date32 => *distance = ScalarValue::Utf8(Some(format!("{number} days"))),
            numeric if numeric.is_numeric() || numeric.is_null() => {}
            other => {
                return Err(Error::user(format!(
                    "the frame of a window ordered by {} cannot be bounded by a number",
                    sql_type_name(other)
                ))
                .with_condition("DATATYPE_MISMATCH.RANGE_FRAME_INVALID_TYPE")
                .with_help(
                    "Write an interval, as `INTERVAL '1' DAY`, or order by a number, such as `unix_timestamp(time)`.",
                ));
            }
        }
    }
    Ok(())
}

/// The number that a bound is, written as text or not; `None` for intervals and bounds without a distance.
fn number(distance: &ScalarValue) -> Option<String> {
    let text = match distance.try_as_str() {
        Some(text) => text?.to_owned(),
        None if distance.data_type().is_numeric() && !distance.is_null() => distance.to_string(),
        None => return None,
    };
    text.parse::<f64>().is_ok().then_some(text)
}

/// The sum, or the average, of the numbers in a frame that slides. They are added anew for every frame: of a number that is taken
/// from a sum again, rounding stays, and of infinity and NaN everything.
#[derive(Debug)]
pub(super) struct FloatsInFrame {
    average: bool,
    values: VecDeque<f64>,
}

impl FloatsInFrame {
    /// Of no numbers.
    pub(super) fn new(average: bool) -> Self {
        Self { average, values: VecDeque::new() }
    }
}

fn floats(values: &[ArrayRef]) -> DataFusionResult<Vec<f64>> {
    let values = cast(&values[0], &DataType::Float64)?;
    Ok(values.as_primitive::<Float64Type>().iter().flatten().collect())
}

impl Accumulator for FloatsInFrame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.values.extend(floats(values)?);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.values.drain(..floats(values)?.len());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> DataFusionResult<()> {
        Err(DataFusionError::Internal("windows are not merged".to_owned()))
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        if self.values.is_empty() {
            return Ok(ScalarValue::Float64(None));
        }
        let sum: f64 = self.values.iter().sum();
        Ok(ScalarValue::Float64(Some(if self.average { sum / self.values.len() as f64 } else { sum })))
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a window has no state".to_owned()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }
}
