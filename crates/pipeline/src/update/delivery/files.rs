//! A batch as files in a folder, which count once the folder's log names them (`deltaworks_sources::SinkLog`).
//!
//! Files get their names and lie where they stay while the plan runs; the progress file promises them; an entry of the log
//! makes them count, all at once; then the batch is committed. If the process dies in between, the promised files are still
//! there: they are logged, unless they are already, and nothing is written a second time. Files that nobody promised are
//! leftovers, which no entry will ever name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use deltaworks_sources::{LoggedFile, SinkLog, logged_path};
use deltaworks_spark::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::partitions::take_partitions;
use crate::files::{RowFile, RowFormat};

/// A file of a batch in the folder of its sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was completed, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// The folder of a sink, and what its files are like.
#[derive(Debug, Clone)]
pub struct SinkFolder {
    pub path: PathBuf,
    pub format: RowFormat,
}

impl SinkFolder {
    /// Runs `plan`, whose rows are prepared, and writes a file for each partition that has some. Gives the files, and how many
    /// rows there are.
    ///
    /// # Errors
    /// Those of the plan and of the disk; what was written is removed.
    pub async fn write(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        ctx: &SessionContext,
        attempt: &str,
        cancel: &CancellationToken,
    ) -> Result<(Vec<PromisedFile>, u64)> {
        tokio::fs::create_dir_all(&self.path).await?;
        let (folder, schema, attempt_of_files) = (self.clone(), plan.schema(), attempt.to_owned());
        let written = take_partitions(plan, ctx, cancel, move |partition, rows| {
            let name = format!("part-{partition:05}-{attempt_of_files}-c000.{}", folder.format.extension());
            write_file(&folder, &schema, name, rows)
        });
        match written.await {
            Ok(written) => {
                let written: Vec<_> = written.into_iter().flatten().collect();
                let rows = written.iter().map(|(_, rows)| rows).sum();
                Ok((written.into_iter().map(|(file, _)| file).collect(), rows))
            }
            Err(error) => {
                self.remove(attempt).await;
                Err(error)
            }
        }
    }

    /// Removes the files of an attempt that failed.
    async fn remove(&self, attempt: &str) {
        let (folder, part) = (self.path.clone(), format!("-{attempt}-c000."));
        let removed = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().contains(&part) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "files of a failed batch could not be removed; no log names them");
        }
    }

    /// Whether `files` are where they were written.
    pub fn has(&self, files: &[PromisedFile]) -> bool {
        files.iter().all(|file| self.path.join(&file.name).is_file())
    }

    /// Makes files count. Those of an `earlier` attempt may do so already.
    ///
    /// # Errors
    /// `Data` if the log is damaged; those of the disk.
    pub async fn log(&self, files: &[PromisedFile], earlier: bool) -> Result<()> {
        let Some(first) = files.first() else { return Ok(()) };
        let (log, ending) = (SinkLog::new(&self.path), format!("/{}", first.name));
        let entries = files
            .iter()
            .map(|file| Ok(LoggedFile::added(logged_path(&self.path.join(&file.name))?, file.bytes, file.modified_ms)));
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let logged = tokio::task::spawn_blocking(move || {
            if earlier && log.files()?.iter().any(|file| file.path.ends_with(&ending)) {
                return Ok(());
            }
            log.add(&entries)
        });
        logged.await.map_err(|error| Error::internal(error.to_string()))?
    }
}

/// Writes the rows of a partition, durably; nothing if there are none.
fn write_file(
    folder: &SinkFolder,
    schema: &arrow::datatypes::Schema,
    name: String,
    mut rows: Receiver<RecordBatch>,
) -> Result<Option<(PromisedFile, u64)>> {
    let path = folder.path.join(&name);
    let mut file: Option<RowFile> = None;
    let mut count = 0;
    while let Some(batch) = rows.blocking_recv() {
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(folder.format.create(&path, schema)?),
        };
        file.write(&batch)?;
        count += batch.num_rows() as u64;
    }
    let Some(file) = file else { return Ok(None) };
    let (bytes, modified_ms) = synced(&file.finish()?, &path)?;
    Ok(Some((PromisedFile { name, bytes, modified_ms }, count)))
}

fn synced(file: &File, path: &Path) -> Result<(u64, i64)> {
    let synced = || {
        file.sync_all()?;
        let metadata = file.metadata()?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok::<_, std::io::Error>((metadata.len(), i64::try_from(modified.as_millis()).unwrap_or(i64::MAX)))
    };
    synced().map_err(|error| Error::from(error).context(format!("in `{}`", path.display())))
}
