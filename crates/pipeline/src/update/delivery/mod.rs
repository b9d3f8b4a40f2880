//! The rows of a batch, to a sink that is no table. The sink's own table has no rows: its transactions count the batches.
//!
//! Kafka gets the rows while the plan runs, and has acknowledged every one before the batch goes on; the console shows them
//! then. A function in Python is told the number of its batch, by which it can tell what it has done already: whoever tries
//! again must give it the same rows under the same number. So they are kept in files (`pending`), the progress file promises
//! them, and the function is called between that and the commit. Files in a folder (`files`) are promised in the same way
//! before its log names them. What was promised is delivered first when the flow runs again ([`keep_promise`]), unless the
//! function has raised and its flow has another query by then.

mod console;
mod files;
mod partitions;
mod pending;

use std::sync::Arc;
use std::time::Instant;

use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Table, WrittenFiles};
use deltaworks_sources::KafkaSink;
use deltaworks_spark::streaming::Backlog;
use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::console::Shown;
use self::files::{PromisedFile, SinkFolder};
use self::partitions::{Ran, run_partitions};
use super::batch::BatchReport;
use super::checkpoint::{Checkpoint, Progress};
use super::complete::hash;
use super::flow::FlowRun;
use super::report;
use super::write::{Written, leaf_rows};
use crate::definitions::python::BatchFunctions;
use crate::graph::{FileSink, SinkKind};
use crate::session::Console;

/// How one batch gets to its sink.
#[derive(Debug, Clone)]
pub struct Delivery {
    sink: String,
    batch: i64,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    /// As records of topics.
    Kafka(Arc<KafkaSink>),
    /// To a function in Python.
    Function {
        functions: BatchFunctions,
        /// As the process knows it.
        name: String,
        /// The folder of this attempt's rows.
        folder: String,
        /// The hash of the flow's query.
        query: String,
    },
    /// As files in a folder.
    Files {
        folder: Box<SinkFolder>,
        /// What the names of this attempt's files have in common.
        attempt: String,
    },
    /// To people.
    Console(Console, Shown),
    /// Nowhere.
    Noop,
}

/// The rows that belong to a batch, whoever delivers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Promise {
    /// Rows for a function.
    Rows(PromisedRows),
    /// Files of a sink that has not logged them.
    Files(PromisedFiles),
}

/// Rows that a function is going to be called with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedRows {
    /// The folder of their files, below that of the pending rows.
    pub folder: String,
    /// The hash of the query that gave them.
    pub query: String,
    /// How many they are.
    pub rows: u64,
    /// The size of their files.
    pub bytes: u64,
}

/// Files that are going to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedFiles {
    /// The files, in the sink's folder.
    pub files: Vec<PromisedFile>,
    /// How many rows they hold.
    pub rows: u64,
}

impl Promise {
    /// Rows and bytes.
    fn size(&self) -> (u64, u64) {
        match self {
            Self::Rows(promised) => (promised.rows, promised.bytes),
            Self::Files(promised) => (promised.rows, promised.files.iter().map(|file| file.bytes).sum()),
        }
    }
}

impl Delivery {
    /// How batch number `batch` of a flow is delivered; `None` if it goes to a table.
    ///
    /// # Errors
    /// `Unsupported` for functions of clients of Spark Connect, which nobody can call.
    pub fn of(run: &FlowRun, batch: i64) -> Result<Option<Self>> {
        let (flow, output) = (run.flow()?, &run.output()?.output);
        let Some(sink) = &output.sink else { return Ok(None) };
        let way = match sink.kind(&output.name.name)? {
            SinkKind::Delta => return Ok(None),
            SinkKind::Kafka(kafka) => Way::Kafka(Arc::new(kafka)),
            SinkKind::ForeachBatch(name) => Way::Function {
                functions: run.functions.clone().ok_or_else(|| {
                    Error::unsupported(format!("`foreach_batch_sink` (sink `{name}`) of a Spark Connect client"))
                        .with_help("Run the pipeline's files with `deltaworks run`.")
                })?,
                name,
                folder: run.environment.ids.next_id().to_string(),
                query: hash(&format!("{}\n{:?}", flow.plan.display_indent_schema(), flow.plan.schema())),
            },
            SinkKind::Files(sink) => Way::Files {
                folder: Box::new(folder_of(&sink, run)?),
                attempt: run.environment.ids.next_id().to_string(),
            },
            SinkKind::Console(shown) => Way::Console(run.environment.console.clone(), shown),
            SinkKind::Noop => Way::Noop,
        };
        Ok(Some(Self { sink: output.name.name.clone(), batch, way }))
    }

    /// Runs `plan`, and sends its rows or keeps them for [`Self::deliver`]: then the progress file must hold the promise.
    ///
    /// # Errors
    /// Those of the plan, and of the sink: whatever has been sent by then is sent again by the next attempt.
    pub async fn write(
        &self,
        ctx: &SessionContext,
        plan: LogicalPlan,
        checkpoint: &Checkpoint,
        cancel: &CancellationToken,
    ) -> Result<(Written, Option<Promise>)> {
        let plan = match &self.way {
            Way::Files { folder, .. } => folder.format.prepare(ctx, plan, 0)?,
            _ => plan,
        };
        let plan = ctx.state().create_physical_plan(&plan).await?;
        let mut promise = None;
        let (rows, bytes) = match &self.way {
            Way::Kafka(kafka) => {
                let writer = kafka.writer(&plan.schema()).map_err(|error| self.of_sink(error))?;
                let senders = vec![writer.rows(); plan.output_partitioning().partition_count()];
                let ran = run_partitions(&plan, ctx, senders, cancel).await;
                // What the sink has to say comes first: it may be why the plan was broken off.
                let sent = match ran {
                    Ok(Ran::Completely) => writer.finish().await,
                    Ok(Ran::UntilUnwanted) => {
                        writer.finish().await.and(Err(Error::internal("Kafka took no more rows")))
                    }
                    Err(error) => return Err(error),
                };
                sent.map_err(|error| self.of_sink(error))?
            }
            Way::Function { folder, query, .. } => {
                // Rows of attempts that came to nothing.
                checkpoint.forget_pending().await?;
                let (rows, bytes) =
                    pending::write(&plan, ctx, &checkpoint.pending_folder().join(folder), cancel).await?;
                let (folder, query) = (folder.clone(), query.clone());
                promise = Some(Promise::Rows(PromisedRows { folder, query, rows, bytes }));
                (rows, bytes)
            }
            Way::Files { folder, attempt } => {
                let written = folder.write(&plan, ctx, attempt, cancel).await;
                let (files, rows) = written.map_err(|error| self.of_sink(error))?;
                let bytes = files.iter().map(|file| file.bytes).sum();
                if !files.is_empty() {
                    promise = Some(Promise::Files(PromisedFiles { files, rows }));
                }
                (rows, bytes)
            }
            Way::Console(console, shown) => {
                let (text, rows) = console::text(&plan, ctx, *shown, self.batch, cancel).await?;
                console.print(&text);
                (rows, 0)
            }
            Way::Noop => (console::drain(&plan, ctx, cancel).await?, 0),
        };
        let files = WrittenFiles { rows, bytes, ..WrittenFiles::default() };
        Ok((Written { files, input_rows: leaf_rows(&plan) }, promise))
    }

    /// Hands over what `progress` promises; `again` if an earlier attempt may have done so.
    ///
    /// # Errors
    /// What the function raised, with its lines; those of the sink's log; `Cancelled`. The promise stands.
    pub async fn deliver(
        &self,
        checkpoint: &Checkpoint,
        progress: &Progress,
        again: bool,
        cancel: &CancellationToken,
    ) -> Result<()> {
        match (&self.way, &progress.promise) {
            (Way::Function { functions, name, .. }, Some(Promise::Rows(promised))) => {
                let folder = checkpoint.pending_folder().join(&promised.folder);
                let call = functions.call(name, pending::table(&folder)?, progress.batch);
                let called = tokio::select! {
                    () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
                    called = call => called,
                };
                let Err(error) = called else { return Ok(()) };
                // A function that has raised has not done its work; one whose process died may have.
                if error.traceback().is_some() {
                    pending::note_refusal(&folder).await?;
                }
                Err(self.of_sink(error.context(format!("while it was called with batch {}", progress.batch))))
            }
            (Way::Files { folder, .. }, Some(Promise::Files(promised))) => {
                folder.log(&promised.files, again).await.map_err(|error| self.of_sink(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether what an earlier attempt has promised can be delivered, and should be.
    fn keeps(&self, promise: &Promise, checkpoint: &Checkpoint) -> bool {
        match (&self.way, promise) {
            (Way::Function { query, .. }, Promise::Rows(promised)) => {
                let folder = checkpoint.pending_folder().join(&promised.folder);
                let is_fixed = promised.query != *query && pending::is_refused(&folder);
                !is_fixed && folder.is_dir()
            }
            (Way::Files { folder, .. }, Promise::Files(promised)) => folder.has(&promised.files),
            _ => false,
        }
    }

    /// Removes rows that have been delivered.
    pub async fn clean_up(&self, checkpoint: &Checkpoint) {
        if let Way::Function { .. } = &self.way
            && let Err(error) = checkpoint.forget_pending().await
        {
            tracing::warn!(%error, "delivered rows could not be removed; the next batch tries again");
        }
    }

    fn of_sink(&self, error: Error) -> Error {
        error.context(format!("in sink `{}`", self.sink))
    }
}

/// The folder of a sink, for the rows of a flow.
fn folder_of(sink: &FileSink, run: &FlowRun) -> Result<SinkFolder> {
    let (flow, environment) = (run.flow()?, &run.environment);
    let format = sink.row_format(flow)?;
    Ok(SinkFolder { path: sink.folder(&environment.path_mappings)?, format })
}

/// Delivers and commits the batch that an earlier attempt has promised; gives its progress if there is one.
///
/// # Errors
/// Those of [`Delivery::deliver`] and of the commit.
pub async fn keep_promise(
    run: &FlowRun,
    table: &mut Table,
    checkpoint: &Checkpoint,
    committed: Option<&Progress>,
) -> Result<Option<Progress>> {
    let started = Instant::now();
    let batch = committed.map_or(0, |progress| progress.batch + 1);
    let Some(delivery) = Delivery::of(run, batch)? else { return Ok(None) };
    let Some(progress) = checkpoint.attempted(batch).await? else { return Ok(None) };
    let Some(promise) = progress.promise.as_ref().filter(|promise| delivery.keeps(promise, checkpoint)) else {
        return Ok(None);
    };
    tracing::info!(batch, sink = delivery.sink, "a batch is delivered again");
    delivery.deliver(checkpoint, &progress, true, &run.cancel).await?;
    let commit = Commit::append(WrittenFiles::default()).transaction(checkpoint.app_id(), delivery.batch);
    let version = commit.commit(table).await?;
    delivery.clean_up(checkpoint).await;
    let (output_rows, output_bytes) = promise.size();
    let report = BatchReport {
        input_rows: 0,
        output_rows,
        output_bytes,
        changes: None,
        late_rows: 0,
        dropped_rows: 0,
        expectations: Vec::new(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        version,
    };
    report::batch(&run.emitter, batch, &report, Backlog::default());
    Ok(Some(progress))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// Progress files of earlier versions have the first form.
    #[test]
    fn promises_read_back_as_written() {
        let file = PromisedFile { name: "part-0.json".into(), bytes: 3, modified_ms: 7 };
        let rows = PromisedRows { folder: "a".into(), query: "b".into(), rows: 1, bytes: 2 };
        let promises = [
            (Promise::Rows(rows), json!({"folder": "a", "query": "b", "rows": 1, "bytes": 2}), (1, 2)),
            (
                Promise::Files(PromisedFiles { files: vec![file], rows: 1 }),
                json!({"files": [{"name": "part-0.json", "bytes": 3, "modified_ms": 7}], "rows": 1}),
                (1, 3),
            ),
        ];
        for (promise, json, size) in promises {
            assert_eq!(serde_json::to_value(&promise).unwrap(), json);
            assert_eq!(serde_json::from_value::<Promise>(json).unwrap(), promise);
            assert_eq!(promise.size(), size);
        }
    }
}
