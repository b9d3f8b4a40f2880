//! What a flow has done: progress files, and which of them is true.
//!
//! Batch N of a flow counts if and only if its target table's application transaction for the flow says
//! N. What batch N read up to is in `<checkpoint>/<generation>/<N>.json`, written before the table's
//! commit. A file without its commit means nothing and is overwritten by the next attempt.
//!
//! A full refresh starts a new generation. Which generation is current is said by the table too, by a
//! transaction of its own in the commit that empties it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deltaworks_lake::Table;
use deltaworks_spark::python::Variable;
use deltaworks_spark::streaming::Offset;
use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::delivery::Promise;
use crate::definitions::snapshots::SnapshotVersion;
use crate::name::DatasetName;
use crate::storage::write_atomically;

/// The format of progress files, in their `version` field.
const FORMAT_VERSION: u32 = 1;

/// The progress of so many batches is kept, as Spark keeps it.
const KEPT_BATCHES: i64 = 100;

/// What one batch read up to, and the versions of the state that belong to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The format of this file.
    pub version: u32,
    /// The batch.
    pub batch: i64,
    /// One entry per streaming read, in plan order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceProgress>,
    /// One entry per stateful operator, in plan order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorProgress>,
    /// Streams with a watermark: how far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<WatermarkProgress>,
    /// Complete recomputations: what the result was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_from: Option<ComputedFrom>,
    /// Comparison of snapshots: the version of the snapshot, a number or microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_version: Option<i64>,
    /// Snapshots that a function gives: the version of the last one, with which the function is called next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<SnapshotVersion>,
    /// Sinks that are told the number of a batch: its rows, which any attempt to deliver it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

/// How far one source has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Which source this is.
    pub identity: String,
    /// The end of the batch in the source's own terms; `null` if nothing has been read yet.
    pub offset: Option<Offset>,
    /// The version of the source's ledger table, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<u64>,
}

/// The state of one operator after the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorProgress {
    /// What must not change between updates.
    pub fingerprint: String,
    /// The version of the operator's state table, if it has state yet.
    pub state_version: Option<u64>,
    /// With what digests in its state are made: a UUID, chosen at random for the first batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_key: Option<String>,
    /// The variables that a stateful processor has declared, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
}

/// The watermarks of a stream after a batch, in microseconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkProgress {
    /// The one that the batch worked with: groups that end by then have been given out.
    pub current_us: Option<i64>,
    /// The one that the next batch works with.
    pub next_us: Option<i64>,
    /// For each watermark of the query, in plan order: the latest event time less the delay.
    pub inputs_us: Vec<Option<i64>>,
}

/// What a materialized view was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputedFrom {
    /// The query and everything of the definition that changes the result.
    pub definition: String,
    /// The version of each input table.
    pub inputs: BTreeMap<String, InputVersion>,
    /// For each other read, in plan order, a hash of the state it saw; `None` if one could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Vec<String>>,
}

/// A version of a particular table; a table made anew has another id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputVersion {
    /// Delta's table id.
    pub table_id: String,
    /// Delta's version.
    pub version: u64,
}

impl Progress {
    /// The progress of `batch`, with nothing read.
    pub fn new(batch: i64) -> Self {
        Self {
            version: FORMAT_VERSION,
            batch,
            sources: Vec::new(),
            operators: Vec::new(),
            watermark: None,
            computed_from: None,
            snapshot_version: None,
            source_version: None,
            promise: None,
        }
    }
}

/// The checkpoint of one flow into one table, at one generation.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    app_id: String,
}

impl Checkpoint {
    /// The checkpoint of `flow` at the generation that `table` says is current.
    pub async fn open(folder: &Path, pipeline_id: &str, flow: &DatasetName, table: &Table) -> Result<Self> {
        let generation = current_generation(table, pipeline_id).await?;
        Ok(Self { folder: folder.join(generation.to_string()), app_id: flow_app_id(pipeline_id, flow, generation) })
    }

    /// The application id of the flow's transactions in the target table.
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The folder of a state table that belongs to this checkpoint: `state/<operator>`, `ledger/<source>`.
    pub fn state_folder(&self, kind: &str, index: usize) -> PathBuf {
        self.folder.join(kind).join(index.to_string())
    }

    /// The progress of the last batch that `table` says is committed; `None` before the first.
    ///
    /// # Errors
    /// `Internal` if the table says a batch was committed but its progress file is gone or unreadable.
    pub async fn committed(&self, table: &Table) -> Result<Option<Progress>> {
        let Some(batch) = table.transaction_version(&self.app_id).await? else { return Ok(None) };
        let path = self.progress_file(batch);
        let text = tokio::fs::read(&path).await.map_err(|error| {
            Error::new(
                Kind::Data,
                format!("progress file `{}` of committed batch {batch} cannot be read", path.display()),
            )
            .with_help("Restore the file, or run a full refresh of the table.")
            .with_source(error)
        })?;
        parse(&path, &text).map(Some)
    }

    /// What was going to be committed as `batch`, if an attempt came as far as that.
    ///
    /// # Errors
    /// `Data` if its progress file is unreadable.
    pub async fn attempted(&self, batch: i64) -> Result<Option<Progress>> {
        let path = self.progress_file(batch);
        match tokio::fs::read(&path).await {
            Ok(text) => parse(&path, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder of the rows of a batch that is about to be delivered.
    pub fn pending_folder(&self) -> PathBuf {
        self.folder.join("pending")
    }

    /// Removes the rows of a batch that was about to be delivered.
    pub async fn forget_pending(&self) -> Result<()> {
        let folder = self.pending_folder();
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from(error).context(format!("while removing `{}`", folder.display())))
            }
            _ => Ok(()),
        }
    }

    /// Writes the progress of a batch that is about to be committed: complete or not at all.
    pub async fn write(&self, progress: &Progress) -> Result<()> {
        let path = self.progress_file(progress.batch);
        let text = serde_json::to_vec_pretty(progress)
            .map_err(|error| Error::internal(format!("progress cannot be serialised: {error}")))?;
        tokio::task::spawn_blocking(move || write_atomically(&path, &text))
            .await
            .map_err(|error| Error::internal(error.to_string()))?
    }

    /// Removes the progress of the batch that has become too old with `latest`: a target that is restored to an earlier
    /// version goes on from there if that is not longer ago than [`KEPT_BATCHES`].
    pub async fn forget_before(&self, latest: i64) {
        let path = self.progress_file(latest - KEPT_BATCHES);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(%error, path = %path.display(), "an old progress file stays");
            }
            _ => {}
        }
    }

    fn progress_file(&self, batch: i64) -> PathBuf {
        self.folder.join(format!("{batch}.json"))
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Progress> {
    let progress: Progress = serde_json::from_slice(text).map_err(|error| {
        Error::new(Kind::Data, format!("progress file `{}` is not valid: {error}", path.display()))
            .with_help("Restore the file, or run a full refresh of the table.")
    })?;
    if progress.version > FORMAT_VERSION {
        return Err(Error::unsupported(format!(
            "progress file `{}` of format {}, written by a newer version,",
            path.display(),
            progress.version
        )));
    }
    Ok(progress)
}

/// The application id whose transaction version is the last batch of `flow` in a generation of its table.
pub fn flow_app_id(pipeline_id: &str, flow: &DatasetName, generation: i64) -> String {
    format!("{pipeline_id}/{}/{generation}", flow.to_string().to_lowercase())
}

/// The application id whose transaction version counts the full refreshes of a table.
pub fn generation_app_id(pipeline_id: &str) -> String {
    format!("{pipeline_id}/generation")
}

/// How often `table` has been fully refreshed by this pipeline.
pub async fn current_generation(table: &Table, pipeline_id: &str) -> Result<i64> {
    Ok(table.transaction_version(&generation_app_id(pipeline_id)).await?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use deltaworks_spark::python::VariableKind;

    use super::*;

    #[tokio::test]
    async fn old_progress_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { folder: folder.path().to_owned(), app_id: "flow".to_owned() };
        for batch in 0..105 {
            checkpoint.write(&Progress::new(batch)).await.unwrap();
            checkpoint.forget_before(batch).await;
        }
        let kept = |batch| checkpoint.progress_file(batch).exists();
        assert_eq!((0..105).filter(|batch| kept(*batch)).count(), 100);
        assert!(!kept(4) && kept(5) && kept(104));
    }

    #[test]
    fn progress_reads_back_as_written() {
        let progress = Progress {
            sources: vec![SourceProgress {
                identity: "cloudFiles:/data".into(),
                offset: Some(serde_json::json!({"files": 3})),
                ledger_version: Some(2),
            }],
            operators: vec![OperatorProgress {
                fingerprint: "dedup[order_id]".into(),
                state_version: None,
                digest_key: Some("9f2b6c1e-7a51-4c0e-8f0d-2b7d6c1e7a51".into()),
                variables: BTreeMap::from([(
                    "seen".to_owned(),
                    Variable { kind: VariableKind::Map, key: Some("string".into()), value: "int".into(), since: 3 },
                )]),
            }],
            watermark: Some(WatermarkProgress {
                current_us: None,
                next_us: Some(1_000),
                inputs_us: vec![Some(1_000), None],
            }),
            ..Progress::new(7)
        };
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }
}
