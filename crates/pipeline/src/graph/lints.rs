//! What is allowed, but probably not meant.

use deltaworks_spark::coercion::LenientCast;
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};

use super::{ResolvedFlow, positions};
use crate::definitions::FlowQuery;

/// Texts that a flow compares with whole numbers without ANSI mode, which cuts them at their point.
pub fn lenient_casts(flow: &ResolvedFlow) -> Vec<Diagnostic> {
    if flow.conf.ansi {
        return Vec::new();
    }
    let casts = deltaworks_spark::coercion::lenient_casts(&flow.plan).into_iter();
    casts
        .map(|cast| {
            let place = place_of(&cast, &flow.flow.query).unwrap_or_else(|| flow.flow.location.clone());
            Diagnostic::warning(cast.to_string()).at(place).with_help(cast.help())
        })
        .collect()
}

/// Where the text stands: plans know it of some columns, the query's text of what it writes out.
fn place_of(cast: &LenientCast, query: &FlowQuery) -> Option<SourceLocation> {
    let FlowQuery::Sql(query) = query else { return None };
    let known = cast.clone().located_in(query.location.clone()).location();
    known.or_else(|| positions::of_expression(query, &cast.expression))
}
