//! What the query of a stream cannot have.

use datafusion::logical_expr::LogicalPlan;
use deltaworks_incremental::{StreamProblem, unsupported_streaming};
use deltaworks_spark::{Error, Kind, Result};

use super::positions;
use crate::definitions::FlowQuery;

/// Refuses operators that cannot run on a stream, where they stand.
///
/// # Errors
/// `UNSUPPORTED_STREAMING_OPERATOR` (`Unsupported`) for the first of them.
pub fn check(plan: &LogicalPlan, query: &FlowQuery) -> Result<()> {
    let Some(StreamProblem { operator, diagnostic }) = unsupported_streaming(plan)?.into_iter().next() else {
        return Ok(());
    };
    let mut error = Error::new(Kind::Unsupported, diagnostic.message);
    if let Some(condition) = diagnostic.condition {
        error = error.with_condition(condition);
    }
    if let Some(help) = diagnostic.help {
        error = error.with_help(help);
    }
    let place = match query {
        FlowQuery::Sql(query) => positions::of_operator(query, operator),
        _ => None,
    };
    Err(match place {
        Some(place) => error.at(place),
        None => error,
    })
}
