//! Runs a bound plan into data files of its target: all partitions at once, nothing committed yet.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Table, WriterOptions, WrittenFiles, Writer};
use deltaworks_spark::{Error, Result};
use futures::TryStreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
) -> Result<WrittenFiles> {
    let state = ctx.state();
    let optimized = state.optimize(&plan)?;
    let physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
    let mut tasks = JoinSet::new();
    for partition in 0..physical.output_partitioning().partition_count() {
        let writer = Writer::new(table, options.clone()).await?;
        let task = write_partition(Arc::clone(&physical), partition, ctx.clone(), writer);
        tasks.spawn(task);
    }
    let outcome = tokio::select! {
        () = cancel.cancelled() => Err(Error::new(deltaworks_spark::Kind::Cancelled, "the update was cancelled")),
        outcome = collect(&mut tasks) => outcome,
    };
    if outcome.is_err() {
        tasks.shutdown().await;
    }
    outcome
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
            writer.abort().await;
            Err(error)
        }
    }
}
