//! Calls over windows that Spark refuses: what they would give depends on an order that there is not, or on a frame.

use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArguments, WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};

use crate::error::{Error, Result};

/// Functions that mean something in an order only.
const ORDERED: [&str; 9] =
    ["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "nth_value"];
/// Aggregates of all rows of a partition, not of a frame.
const WHOLE: [&str; 3] = ["median", "percentile_cont", "percentile_disc"];

/// Refuses a call of `name`, in lower case, that Spark does.
///
/// # Errors
/// `WINDOW_FUNCTION_FRAME_NOT_ORDERED`, `INVALID_WINDOW_SPEC_FOR_AGGREGATION_FUNC`,
/// `DISTINCT_WINDOW_FUNCTION_UNSUPPORTED` (`User`).
pub(super) fn check(function: &Function, name: &str) -> Result<()> {
    let Some(over) = &function.over else { return Ok(()) };
    if let FunctionArguments::List(list) = &function.args
        && list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
    {
        return Err(Error::user(format!("`{name}` with DISTINCT over a window"))
            .with_condition("DISTINCT_WINDOW_FUNCTION_UNSUPPORTED")
            .with_help("Use size(collect_set(…)) over the window, or aggregate in a subquery."));
    }
    let WindowType::WindowSpec(spec) = over else { return Ok(()) };
    if ORDERED.contains(&name) && spec.order_by.is_empty() && spec.window_name.is_none() {
        return Err(Error::user(format!("`{name}` needs a window with an order"))
            .with_condition("WINDOW_FUNCTION_FRAME_NOT_ORDERED")
            .with_help("Add ORDER BY to the window."));
    }
    if WHOLE.contains(&name) && !is_whole(spec) {
        return Err(Error::user(format!("`{name}` over a window with an order or a frame"))
            .with_condition("INVALID_WINDOW_SPEC_FOR_AGGREGATION_FUNC")
            .with_help("Leave PARTITION BY alone in the window, or use `percentile`, which takes a frame."));
    }
    Ok(())
}

fn is_whole(spec: &WindowSpec) -> bool {
    let whole = |frame: &WindowFrame| {
        matches!(frame.start_bound, WindowFrameBound::Preceding(None))
            && matches!(frame.end_bound, Some(WindowFrameBound::Following(None)))
    };
    spec.order_by.is_empty() && spec.window_frame.as_ref().is_none_or(whole)
}
