//! Log checkpoints: the state of the log in one Parquet file, so that opening stays cheap.

use deltalake::protocol::checkpoints;

use crate::table::Table;

/// Commits between two log checkpoints, unless the table says otherwise; Delta's default.
const DEFAULT_INTERVAL: u64 = 10;

/// Writes a log checkpoint if the table's version calls for one, and removes expired log files.
///
/// The commit has already happened: a failure here costs readers time, and is no reason to fail.
pub(crate) async fn write_if_due(table: &Table) {
    let interval = table
        .state()
        .ok()
        .and_then(|state| state.metadata().configuration().get("delta.checkpointInterval")?.parse().ok())
        .filter(|interval| *interval > 0)
        .unwrap_or(DEFAULT_INTERVAL);
    if table.version() == 0 || !table.version().is_multiple_of(interval) {
        return;
    }
    if let Err(error) = checkpoints::create_checkpoint(table.inner(), None).await {
        tracing::warn!(table = %table.location(), version = table.version(), %error, "log checkpoint failed");
        return;
    }
    if let Err(error) = checkpoints::cleanup_metadata(table.inner(), None).await {
        tracing::warn!(table = %table.location(), version = table.version(), %error, "log clean-up failed");
    }
}
