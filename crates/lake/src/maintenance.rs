//! Upkeep of tables that changes no rows.

use std::time::Duration;

use deltaworks_spark::error::{Error, Result};

use crate::error::from_delta;
use crate::table::Table;

/// Deletes data files that left the table longer ago than `retention`, and returns their number.
///
/// Versions older than that can no longer be read, and files written by others but not yet
/// committed are lost: `retention` must be longer than any write takes.
pub async fn vacuum(table: &mut Table, retention: Duration) -> Result<u64> {
    let retention = chrono::Duration::from_std(retention)
        .map_err(|error| Error::user("the retention of a vacuum is too long").with_source(error))?;
    let (_, metrics) = table
        .inner()
        .clone()
        .vacuum()
        .with_retention_period(retention)
        .with_enforce_retention_duration(false)
        .await
        .map_err(from_delta)?;
    table.refresh().await?;
    Ok(metrics.files_deleted.len() as u64)
}
