//! Bounds of window frames: what a number is a distance in.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};

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
