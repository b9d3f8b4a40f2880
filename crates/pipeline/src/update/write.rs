//! Runs a bound plan into data files of its target: all partitions at once, nothing committed yet.

use std::sync::Arc;

use datafusion::common::runtime::JoinSet;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Table, Writer, WriterOptions, WrittenFiles};
use deltaworks_spark::{Error, Kind, Result, progress};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

/// The data files of a batch.
#[derive(Debug, Default)]
pub struct Written {
    /// The files, not yet part of any version.
    pub files: WrittenFiles,
    /// Rows that the plan's leaves produced, those of state and ledgers included.
    pub input_rows: u64,
}

/// Runs `plan` and writes its rows as data files that no reader sees until they are committed.
///
/// # Errors
/// Whatever the plan or the writer meets; the files written so far are removed.
pub async fn write_plan(
    ctx: &SessionContext,
    plan: LogicalPlan,
    table: &Table,
    options: &WriterOptions,
    cancel: &CancellationToken,
) -> Result<Written> {
    let physical = ctx.state().create_physical_plan(&plan).await?;
    progress::runs(&physical);
    let mut tasks = JoinSet::new();
    for partition in 0..physical.output_partitioning().partition_count() {
        let writer = Writer::new(table, options.clone())?;
        tasks.spawn(write_partition(Arc::clone(&physical), partition, ctx.clone(), writer));
    }
    let outcome = tokio::select! {
        () = cancel.cancelled() => Err(Error::new(Kind::Cancelled, "the update was cancelled")),
        outcome = collect(&mut tasks) => outcome,
    };
    if outcome.is_err() {
        tasks.shutdown().await;
    }
    Ok(Written { files: outcome?, input_rows: leaf_rows(&physical) })
}

/// Runs `plan` and writes its rows in order, so that as few files as possible come of them.
///
/// # Errors
/// Those of [`write_plan`].
pub async fn write_one_by_one(
    ctx: &SessionContext,
    plan: LogicalPlan,
    table: &Table,
    options: &WriterOptions,
) -> Result<WrittenFiles> {
    let physical = ctx.state().create_physical_plan(&plan).await?;
    progress::runs(&physical);
    let physical: Arc<dyn ExecutionPlan> = match physical.output_partitioning().partition_count() {
        1 => physical,
        _ => Arc::new(CoalescePartitionsExec::new(physical)),
    };
    write_partition(physical, 0, ctx.clone(), Writer::new(table, options.clone())?).await
}

async fn collect(tasks: &mut JoinSet<Result<WrittenFiles>>) -> Result<WrittenFiles> {
    let mut all = WrittenFiles::default();
    while let Some(finished) = tasks.join_next().await {
        let files = finished.map_err(|error| Error::internal(format!("a writing task died: {error}")))??;
        all.extend(files);
    }
    Ok(all)
}

async fn write_partition(
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    ctx: SessionContext,
    mut writer: Writer,
) -> Result<WrittenFiles> {
    let written = async {
        let mut batches = plan.execute(partition, ctx.task_ctx())?;
        while let Some(batch) = batches.try_next().await? {
            if batch.num_rows() > 0 {
                writer.write(batch).await?;
            }
        }
        Ok::<_, Error>(())
    }
    .await;
    match written {
        Ok(()) => writer.close().await,
        Err(error) => {
            if let Err(leftover) = writer.abort().await {
                tracing::warn!(error = %leftover, "files of a failed batch could not be removed; no reader sees them");
            }
            Err(error)
        }
    }
}

/// The rows that came out of the leaves of a plan that has run.
pub fn leaf_rows(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        return plan.metrics().and_then(|metrics| metrics.output_rows()).map_or(0, |rows| rows as u64);
    }
    children.into_iter().map(leaf_rows).sum()
}
