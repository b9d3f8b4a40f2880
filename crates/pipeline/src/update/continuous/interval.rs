//! How often a flow is triggered.

use std::time::Duration;

use deltaworks_spark::Result;

use crate::definitions::OutputKind;
use crate::graph::dataset::reads_only_delta;
use crate::graph::{ResolvedFlow, ResolvedOutput, property_of};
use crate::spec::{TRIGGER_INTERVAL, parse_interval};

/// Unless something else is said: streams,
const STREAM: Duration = Duration::from_secs(5);
/// queries over Delta tables, which tell at once whether they have changed, as functions of snapshots do,
const DELTA_QUERY: Duration = Duration::from_secs(60);
/// and any other queries, which may have to be computed to know.
const OTHER_QUERY: Duration = Duration::from_secs(600);

/// The time from one trigger of `flow` to the next: as its table says, or its settings, or by what it reads.
///
/// # Errors
/// `INVALID_CONF_VALUE.TRIGGER_INTERVAL` (`User`) if what is said is no time.
pub fn trigger_interval(flow: &ResolvedFlow, output: &ResolvedOutput) -> Result<Duration> {
    let of_table = property_of(&output.output, TRIGGER_INTERVAL).map(str::to_owned);
    match of_table.or_else(|| flow.conf.get(TRIGGER_INTERVAL)) {
        Some(text) => parse_interval(&text),
        None if flow.streaming && output.kind != OutputKind::MaterializedView => Ok(STREAM),
        // A function says at once whether it has another snapshot.
        None if flow.flow.query.snapshot_function().is_some() => Ok(DELTA_QUERY),
        None if reads_only_delta(&flow.plan)? => Ok(DELTA_QUERY),
        None => Ok(OTHER_QUERY),
    }
}
