//! The partitions of a plan, run at once, each into somebody who takes its rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use deltaworks_spark::{Error, Kind, Result};
use futures::TryStreamExt;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

/// How many batches of a partition wait for who takes them.
pub(super) const WAITING: usize = 2;

/// How a plan was run.
pub(super) enum Ran {
    /// All rows were taken.
    Completely,
    /// Somebody does not take any more.
    UntilUnwanted,
}

/// Runs all partitions of a plan at once, each into the sender of its number.
pub(super) async fn run_partitions(
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

/// Runs all partitions of a plan at once, the rows of each into `take`, off the threads that wait for I/O. Gives what became of
/// each partition, in their order.
///
/// # Errors
/// Those of the plan, and of `take`, which then has ended everywhere.
pub(super) async fn take_partitions<T, F>(
    plan: &Arc<dyn ExecutionPlan>,
    ctx: &SessionContext,
    cancel: &CancellationToken,
    take: F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Fn(usize, Receiver<RecordBatch>) -> Result<T> + Send + Sync + 'static,
{
    let take = Arc::new(take);
    let (mut takers, mut senders) = (Vec::new(), Vec::new());
    for partition in 0..plan.output_partitioning().partition_count() {
        let (sender, rows) = mpsc::channel(WAITING);
        let take = Arc::clone(&take);
        senders.push(sender);
        takers.push(tokio::task::spawn_blocking(move || take(partition, rows)));
    }
    let ran = run_partitions(plan, ctx, senders, cancel).await;
    let mut taken = Vec::with_capacity(takers.len());
    let mut failed = None;
    for taker in takers {
        match taker.await.map_err(|error| Error::internal(format!("a writing task died: {error}")))? {
            Ok(part) => taken.push(part),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // What those who took the rows have to say comes first: it may be why the plan was broken off.
    match (failed, ran?) {
        (Some(error), _) => Err(error),
        (None, Ran::UntilUnwanted) => Err(Error::internal("the rows of a batch were not taken to their end")),
        (None, Ran::Completely) => Ok(taken),
    }
}
