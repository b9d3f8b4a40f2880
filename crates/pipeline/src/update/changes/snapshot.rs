//! Flows that follow snapshots: what changed since the last one is found by comparing it with what is stored.

use deltaworks_spark::{Error, Result};

use crate::update::flow::FlowRun;

/// Applies what the latest snapshot changes.
///
/// # Errors
/// Those of a batch.
pub async fn run(run: &FlowRun) -> Result<()> {
    Err(Error::unsupported(format!("flow `{}` from snapshots", run.name.name)))
}
