//! Upkeep of tables that changes no rows.

use std::time::Duration;

use deltalake::operations::vacuum::VacuumMode;
use deltalake::table::config::TablePropertiesExt as _;
use deltaworks_spark::error::{Error, Result};

use crate::changes::DataFile;
use crate::error::from_delta;
use crate::table::Table;

/// What a vacuum leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VacuumOptions {
    /// How long files that left the table stay; what the table says, or a week, if `None`.
    pub retention: Option<Duration>,
    /// Whether a time shorter than what the table says is allowed. Then it must be longer than any write and any query takes.
    pub may_be_short: bool,
    /// Whether all files stay, and are only told.
    pub dry_run: bool,
}

/// Deletes data files that left the table long ago, or that no commit ever named; gives their paths below the table.
///
/// Versions older than that can no longer be read.
///
/// # Errors
/// `DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT` (`User`) if the time is shorter than what the table says, and may not be.
pub async fn vacuum(table: &mut Table, options: VacuumOptions) -> Result<Vec<String>> {
    let least = table.state()?.table_config().deleted_file_retention_duration();
    let retention = options.retention.unwrap_or(least);
    if retention < least && !options.may_be_short {
        let hours = |duration: Duration| duration.as_secs_f64() / 3600.0;
        return Err(Error::user(format!(
            "a vacuum would leave files of the last {} hours only, the table keeps those of {} hours",
            hours(retention),
            hours(least)
        ))
        .with_condition("DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT")
        .with_help(
            "Queries and writes that run may need the files. If there are none, set \
             `spark.databricks.delta.retentionDurationCheck.enabled` to false.",
        ));
    }
    let retention = chrono::Duration::from_std(retention)
        .map_err(|error| Error::user("the retention of a vacuum is too long").with_source(error))?;
    let (_, metrics) = table
        .inner()
        .clone()
        .vacuum()
        .with_mode(VacuumMode::Full)
        .with_retention_period(retention)
        .with_enforce_retention_duration(false)
        .with_dry_run(options.dry_run)
        .await
        .map_err(from_delta)?;
    table.refresh().await?;
    Ok(metrics.files_deleted)
}

/// Which of `files`, in order, go together into one file of about `target_bytes` each. What is large already stays.
pub fn bins(files: Vec<DataFile>, target_bytes: u64) -> Vec<Vec<DataFile>> {
    let mut bins: Vec<(u64, Vec<DataFile>)> = Vec::new();
    for file in files.into_iter().filter(|file| file.size_bytes < target_bytes) {
        match bins.last_mut() {
            Some((bytes, bin)) if *bytes + file.size_bytes <= target_bytes => {
                *bytes += file.size_bytes;
                bin.push(file);
            }
            _ => bins.push((file.size_bytes, vec![file])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).filter(|bin| bin.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(files: &[u64], target_bytes: u64) -> Vec<Vec<u64>> {
        let file = |size_bytes: &u64| DataFile {
            path: String::new(),
            size_bytes: *size_bytes,
            rows: None,
            modified_ms: 0,
            data_change: true,
            version: 0,
        };
        let bins = bins(files.iter().map(file).collect(), target_bytes);
        bins.iter().map(|bin| bin.iter().map(|file| file.size_bytes).collect()).collect()
    }

    #[test]
    fn small_files_go_together_and_large_ones_stay() {
        assert_eq!(sizes(&[1, 2, 3, 4], 6), [vec![1, 2, 3]]);
        assert_eq!(sizes(&[1, 9, 2, 8, 3], 6), [vec![1, 2, 3]]);
        assert_eq!(sizes(&[4, 2, 4, 2], 6), [vec![4, 2], vec![4, 2]]);
        assert_eq!(sizes(&[5], 6), Vec::<Vec<u64>>::new());
        assert_eq!(sizes(&[6, 6], 6), Vec::<Vec<u64>>::new());
    }
}
