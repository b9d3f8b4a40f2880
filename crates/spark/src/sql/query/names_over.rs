//! What Spark prints behind a call: its window, and the order within its group.

use itertools::Itertools;
use sqlparser::ast::{
    Function, NullTreatment, OrderByExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use super::names::pretty;

/// Where a frame begins and ends that is not written.
const UP_TO_HERE: &str = "BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";
const EVERYTHING: &str = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING";

/// The name of the function over a window, the arguments that are implied, and `OVER (…)`; `None` without a window.
pub(super) fn over(function: &Function, name: &str) -> Option<(String, Option<Vec<String>>, String)> {
    let WindowType::WindowSpec(spec) = function.over.as_ref()? else { return None };
    let count = match &function.args {
        sqlparser::ast::FunctionArguments::List(list) => list.args.len(),
        _ => 0,
    };
    let (frame, implied) = match (name, count) {
        ("lag" | "lead", _) => {
            let offset = match &function.args {
                sqlparser::ast::FunctionArguments::List(list) => list.args.get(1).map(ToString::to_string),
                _ => None,
            };
            let offset = offset.unwrap_or_else(|| "1".to_owned());
            let sign = if name == "lag" { "-" } else { "" };
            let implied = ["1", "NULL"][count.clamp(1, 3) - 1..].iter().map(|arg| (*arg).to_owned()).collect();
            (format!("ROWS BETWEEN {sign}{offset} FOLLOWING AND {sign}{offset} FOLLOWING"), Some(implied))
        }
        ("rank" | "dense_rank" | "percent_rank" | "row_number" | "ntile", _) => (format!("ROWS {UP_TO_HERE}"), None),
        ("cume_dist", _) => (format!("RANGE {UP_TO_HERE}"), None),
        _ => (frame(spec), None),
    };
    let name = match (name, treatment(function)) {
        ("rank" | "dense_rank" | "percent_rank", _) => name.to_uppercase(),
        ("first_value", Some(NullTreatment::IgnoreNulls)) => "first".to_owned(),
        ("last_value", Some(NullTreatment::IgnoreNulls)) => "last".to_owned(),
        _ => name.to_owned(),
    };
    let mut parts = Vec::new();
    if !spec.partition_by.is_empty() {
        parts.push(format!("PARTITION BY {}", spec.partition_by.iter().map(pretty).join(", ")));
    }
    if !spec.order_by.is_empty() {
        parts.push(format!("ORDER BY {}", spec.order_by.iter().map(key).join(", ")));
    }
    parts.push(frame);
    Some((name, implied, format!(" OVER ({})", parts.join(" "))))
}

fn treatment(function: &Function) -> Option<NullTreatment> {
    let within = match &function.args {
        sqlparser::ast::FunctionArguments::List(list) => list.clauses.iter().find_map(|clause| match clause {
            sqlparser::ast::FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => Some(*treatment),
            _ => None,
        }),
        _ => None,
    };
    function.null_treatment.or(within)
}

/// A key with its direction and the place of NULLs.
fn key(key: &OrderByExpr) -> String {
    let ascending = key.options.asc.unwrap_or(true);
    let first = key.options.nulls_first.unwrap_or(ascending);
    let (direction, nulls) = (if ascending { "ASC" } else { "DESC" }, if first { "FIRST" } else { "LAST" });
    format!("{} {direction} NULLS {nulls}", pretty(&key.expr))
}

fn frame(spec: &WindowSpec) -> String {
    let Some(WindowFrame { units, start_bound, end_bound }) = &spec.window_frame else {
        return if spec.order_by.is_empty() { EVERYTHING.to_owned() } else { format!("RANGE {UP_TO_HERE}") };
    };
    let units = match units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => "GROUPS",
    };
    let end = end_bound.as_ref().map_or_else(|| "CURRENT ROW".to_owned(), bound);
    format!("{units} BETWEEN {} AND {end}", bound(start_bound))
}

fn bound(bound: &WindowFrameBound) -> String {
    match bound {
        WindowFrameBound::CurrentRow => "CURRENT ROW".to_owned(),
        WindowFrameBound::Preceding(None) => "UNBOUNDED PRECEDING".to_owned(),
        WindowFrameBound::Following(None) => "UNBOUNDED FOLLOWING".to_owned(),
        WindowFrameBound::Preceding(Some(distance)) => format!("{} PRECEDING", pretty(distance)),
        WindowFrameBound::Following(Some(distance)) => format!("{} FOLLOWING", pretty(distance)),
    }
}

/// ` WITHIN GROUP (ORDER BY …)`; of a percentile the direction is not said unless it is downwards.
pub(super) fn within_group(function: &Function) -> String {
    if function.within_group.is_empty() {
        return String::new();
    }
    let percentile = function.name.to_string().to_lowercase().starts_with("percentile");
    let keys = function.within_group.iter().map(|item| match (percentile, item.options.asc) {
        (true, Some(false)) => format!("{} DESC", pretty(&item.expr)),
        (true, _) => pretty(&item.expr),
        _ => key(item),
    });
    format!(" WITHIN GROUP (ORDER BY {})", keys.collect::<Vec<_>>().join(", "))
}
