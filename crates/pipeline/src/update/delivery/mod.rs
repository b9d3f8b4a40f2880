//! The rows of a batch, to a sink that is no table. The sink's own table has no rows: its transactions count the batches.
//!
//! Kafka gets the rows while the plan runs, and has acknowledged every one before the batch goes on. A function in Python
//! is told the number of its batch, by which it can tell what it has done already: whoever tries again must give it the
//! same rows under the same number. So they are kept in files (`pending`), the progress file promises them, and the
//! function is called between that and the commit. What was promised is delivered first when the flow runs again
//! ([`keep_promise`]), unless the function has raised and its flow has another query by then.

mod pending;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Table, WrittenFiles};
use deltaworks_sources::KafkaSink;
use deltaworks_spark::streaming::Backlog;
use deltaworks_spark::{Error, Kind, Result};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batch::BatchReport;
use super::checkpoint::{Checkpoint, Progress};
use super::complete::hash;
use super::flow::FlowRun;
use super::report;
use super::write::{Written, leaf_rows};
use crate::definitions::python::BatchFunctions;
use crate::graph::SinkKind;

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
}

/// The rows that belong to a batch, whoever delivers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The folder of their files, below that of the pending rows.
    pub folder: String,
    /// The hash of the query that gave them.
    pub query: String,
    /// How many they are.
    pub rows: u64,
    /// The size of their files.
    pub bytes: u64,
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
        };
        Ok(Some(Self { sink: output.name.name.clone(), batch, way }))
    }

    /// Runs `plan`, and sends its rows or keeps them for [`Self::deliver`].
    ///
    /// # Errors
    /// Those of the plan, and of the sink: whatever has been sent by then is sent again by the next attempt.
    pub async fn write(
        &self,
        ctx: &SessionContext,
        plan: LogicalPlan,
        checkpoint: &Checkpoint,
        cancel: &CancellationToken,
    ) -> Result<Written> {
        let plan = ctx.state().create_physical_plan(&plan).await?;
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
            Way::Function { folder, .. } => {
                // Rows of attempts that came to nothing.
                checkpoint.forget_pending().await?;
                pending::write(&plan, ctx, &checkpoint.pending_folder().join(folder), cancel).await?
            }
        };
        let files = WrittenFiles { rows, bytes, ..WrittenFiles::default() };
        Ok(Written { files, input_rows: leaf_rows(&plan) })
    }

    /// What the progress file must say of the rows that were written; nothing if they have been sent.
    pub fn promise(&self, written: &Written) -> Option<Promise> {
        match &self.way {
            Way::Kafka(_) => None,
            Way::Function { folder, query, .. } => Some(Promise {
                folder: folder.clone(),
                query: query.clone(),
                rows: written.files.rows,
                bytes: written.files.bytes,
            }),
        }
    }

    /// Hands over what `progress` promises.
    ///
    /// # Errors
    /// What the function raised, with its lines; `Cancelled`. The promise stands.
    pub async fn deliver(
        &self,
        checkpoint: &Checkpoint,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let (Way::Function { functions, name, .. }, Some(promise)) = (&self.way, &progress.promise) else {
            return Ok(());
        };
        let folder = checkpoint.pending_folder().join(&promise.folder);
        let call = functions.call(name, pending::table(&folder)?, progress.batch);
        let called = tokio::select! {
            () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
            called = call => called,
        };
        match called {
            Ok(()) => Ok(()),
            Err(error) => {
                // A function that has raised has not done its work; one whose process died may have.
                if error.traceback().is_some() {
                    pending::note_refusal(&folder).await?;
                }
                Err(self.of_sink(error.context(format!("while it was called with batch {}", progress.batch))))
            }
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
    let Way::Function { query, .. } = &delivery.way else { return Ok(None) };
    let Some(progress) = checkpoint.attempted(batch).await? else { return Ok(None) };
    let Some(promise) = &progress.promise else { return Ok(None) };
    let folder = checkpoint.pending_folder().join(&promise.folder);
    let fixed = promise.query != *query && pending::is_refused(&folder);
    if fixed || !folder.is_dir() {
        return Ok(None);
    }
    tracing::info!(batch, sink = delivery.sink, "a batch is delivered again");
    delivery.deliver(checkpoint, &progress, &run.cancel).await?;
    let commit = Commit::append(WrittenFiles::default()).transaction(checkpoint.app_id(), delivery.batch);
    let version = commit.commit(table).await?;
    delivery.clean_up(checkpoint).await;
    let report = BatchReport {
        input_rows: 0,
        output_rows: promise.rows,
        output_bytes: promise.bytes,
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

/// How a plan was run.
enum Ran {
    /// All rows were taken.
    Completely,
    /// Somebody does not take any more.
    UntilUnwanted,
}

/// Runs all partitions of a plan at once, each into the sender of its number.
async fn run_partitions(
    plan: &Arc<dyn ExecutionPlan>,
    ctx: &SessionContext,
    senders: Vec<Sender<RecordBatch>>,
    cancel: &CancellationToken,
) -> Result<Ran> {
    let mut tasks: JoinSet<Result<Ran>> = JoinSet::new();
    for (partition, rows) in senders.into_iter().enumerate() {
        let (plan, context) = (Arc::clone(plan), ctx.task_ctx());
        tasks.spawn(async move {
            let mut batches = plan.execute(partition, context)?;
            while let Some(batch) = batches.try_next().await? {
                if batch.num_rows() > 0 && rows.send(batch).await.is_err() {
                    return Ok(Ran::UntilUnwanted);
                }
            }
            Ok(Ran::Completely)
        });
    }
    let all = async {
        while let Some(finished) = tasks.join_next().await {
            let ran = finished.map_err(|error| Error::internal(format!("a task of a batch died: {error}")))?;
            if let Ran::UntilUnwanted = ran? {
                return Ok(Ran::UntilUnwanted);
            }
        }
        Ok(Ran::Completely)
    };
    tokio::select! {
        () = cancel.cancelled() => Err(Error::new(Kind::Cancelled, "the update was cancelled")),
        ran = all => ran,
    }
}
