//! What commits did to a table, file by file: the base of streaming reads.

use std::collections::{BTreeMap, HashMap};

use deltalake::kernel::{Action, CommitInfo};
use deltalake::logstore::get_actions;
use deltaworks_spark::error::{Error, Result};

use crate::error::from_delta;
use crate::table::Table;

/// A data file of a table, and a version at which the table has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataFile {
    /// Its path below the table.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its rows, if its statistics say so: those of a file with a deletion vector do not.
    pub rows: Option<u64>,
    /// When it was written, in milliseconds since the epoch.
    pub modified_ms: i64,
    /// Whether it brought new rows; `false` if it only holds rows that were there before (compaction).
    pub data_change: bool,
    /// A version at which the table has it.
    pub version: u64,
}

/// A data file that left the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedFile {
    /// Its path below the table.
    pub path: String,
    /// Whether its rows left with it; `false` if they went to another file (compaction).
    pub data_change: bool,
}

/// What one commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitChanges {
    /// The version it made.
    pub version: u64,
    /// When, in milliseconds since the epoch, if the commit says so.
    pub timestamp_ms: Option<i64>,
    /// What it calls itself: `WRITE`, `STREAMING UPDATE`, `DELETE`, `OPTIMIZE`.
    pub operation: Option<String>,
    /// Files it added.
    pub added: Vec<DataFile>,
    /// Files it removed.
    pub removed: Vec<RemovedFile>,
    /// Whether it changed schema, properties or comment (or created the table).
    pub metadata_changed: bool,
    /// Whether it wrote change data files, which say more than the files it added and removed.
    pub has_change_data: bool,
}

impl CommitChanges {
    /// Whether rows that were there before left or changed.
    pub fn removes_rows(&self) -> bool {
        self.removed.iter().any(|file| file.data_change)
    }

    /// The files with new rows.
    pub fn new_rows(&self) -> impl Iterator<Item = &DataFile> {
        self.added.iter().filter(|file| file.data_change)
    }
}

impl Table {
    /// What the commits `from` to `to`, both included, did; ascending.
    ///
    /// # Errors
    /// `DELTA_VERSIONS_NOT_CONTIGUOUS` (`Data`) if the log no longer has one of them.
    pub async fn changes(&self, from: u64, to: u64) -> Result<Vec<CommitChanges>> {
        let log_store = self.inner().log_store();
        let mut changes = Vec::new();
        for version in from..=to {
            let entry = log_store.read_commit_entry(version).await.map_err(from_delta)?.ok_or_else(|| {
                Error::data(format!("the log of the table at `{}` has no version {version}", self.location()))
                    .with_condition("DELTA_VERSIONS_NOT_CONTIGUOUS")
                    .with_help("The log was cleaned up before everything was read; refresh the reading table fully.")
            })?;
            changes.push(changes_of(version, get_actions(version, &entry).map_err(from_delta)?));
        }
        Ok(changes)
    }

    /// All files of the table at this version, in the order they were written.
    pub fn files(&self) -> Result<Vec<DataFile>> {
        let mut files = self.files_in_log_order()?;
        files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        Ok(files)
    }

    /// All files of the table at this version by the values of its partition columns, each in the order they were written.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub fn files_by_partition(&self) -> Result<Vec<Vec<DataFile>>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        let partitions: HashMap<String, BTreeMap<String, Option<String>>> = log
            .iter()
            .map(|file| (file.path().into_owned(), file.partition_values_map().into_iter().collect()))
            .collect();
        let mut by_partition: BTreeMap<Option<&BTreeMap<String, Option<String>>>, Vec<DataFile>> = BTreeMap::new();
        for file in self.files()? {
            by_partition.entry(partitions.get(&file.path)).or_default().push(file);
        }
        Ok(by_partition.into_values().collect())
    }

    pub(crate) fn files_in_log_order(&self) -> Result<Vec<DataFile>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        Ok(log
            .iter()
            .map(|file| DataFile {
                path: file.path().into_owned(),
                size_bytes: file.size().unsigned_abs(),
                rows: match file.deletion_vector_descriptor() {
                    Some(_) => None,
                    None => file.num_records().map(|rows| rows as u64),
                },
                modified_ms: file.modification_time(),
                data_change: true,
                version: self.version(),
            })
            .collect())
    }

    /// The latest version there is, which may be later than this one.
    pub async fn latest_version(&self) -> Result<u64> {
        self.inner().get_latest_version().await.map_err(from_delta)
    }
}

fn changes_of(version: u64, actions: Vec<Action>) -> CommitChanges {
    let mut changes = CommitChanges {
        version,
        timestamp_ms: None,
        operation: None,
        added: Vec::new(),
        removed: Vec::new(),
        metadata_changed: false,
        has_change_data: false,
    };
    for action in actions {
        match action {
            Action::Add(add) => changes.added.push(DataFile {
                rows: match add.deletion_vector {
                    Some(_) => None,
                    None => add.stats.as_deref().and_then(rows_of_stats),
                },
                path: add.path,
                size_bytes: add.size.unsigned_abs(),
                modified_ms: add.modification_time,
                data_change: add.data_change,
                version,
            }),
            Action::Remove(remove) => {
                changes.removed.push(RemovedFile { path: remove.path, data_change: remove.data_change });
            }
            Action::CommitInfo(CommitInfo { timestamp, in_commit_timestamp, operation, .. }) => {
                changes.timestamp_ms = in_commit_timestamp.or(timestamp);
                changes.operation = operation;
            }
            Action::Metadata(_) => changes.metadata_changed = true,
            Action::Cdc(_) => changes.has_change_data = true,
            Action::Protocol(_) | Action::Txn(_) | Action::DomainMetadata(_) => {}
        }
    }
    changes
}

fn rows_of_stats(stats: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        num_records: Option<u64>,
    }
    serde_json::from_str::<Stats>(stats).ok()?.num_records
}
