//! The rows of a plan in the order of its partitions.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::progress;

/// How many batches of a partition wait for those before it.
const WAITING: usize = 4;

/// Runs a plan: all partitions at once, their rows one partition after the other, as a client of Spark sees them.
///
/// # Errors
/// Those of planning; those of running are in the stream.
pub(super) async fn in_order(
    ctx: &SessionContext,
    plan: LogicalPlan,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let state = ctx.state();
    let mut physical = state.create_physical_plan(&plan).await?;
    progress::runs(&physical);
    let mut fetch = None;
    // What merges partitions in the order of their arrival is done here instead.
    if let Some(merge) = physical.downcast_ref::<CoalescePartitionsExec>() {
        fetch = merge.fetch();
        physical = Arc::clone(merge.input());
    }
    Ok(match fetch {
        None => partitions_in_order(physical, ctx)?,
        Some(count) => first_rows(partitions_in_order(physical, ctx)?, count),
    })
}

/// The first `count` rows of a stream.
fn first_rows(rows: BoxStream<'static, Result<RecordBatch>>, count: usize) -> BoxStream<'static, Result<RecordBatch>> {
    let start = (rows, count);
    stream::unfold(start, |(mut rows, left)| async move {
        if left == 0 {
            return None;
        }
        let batch = rows.next().await?.map(|batch| batch.slice(0, left.min(batch.num_rows())));
        let taken = batch.as_ref().map_or(0, RecordBatch::num_rows);
        Some((batch, (rows, left - taken)))
    })
    .boxed()
}

fn partitions_in_order(
    physical: Arc<dyn ExecutionPlan>,
    ctx: &SessionContext,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let mut partitions = execute_stream_partitioned(physical, ctx.task_ctx())?;
    if partitions.len() == 1 {
        return Ok(partitions.remove(0).map_err(Error::from).boxed());
    }
    // The tasks end with the stream that owns them.
    let mut tasks = JoinSet::new();
    let mut receivers = Vec::with_capacity(partitions.len());
    for mut partition in partitions {
        let (sender, receiver) = mpsc::channel(WAITING);
        receivers.push(receiver);
        tasks.spawn(async move {
            while let Some(batch) = partition.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
    }
    let rows = stream::iter(receivers).flat_map(|receiver| {
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
    });
    let owned = rows.map(move |batch| {
        let _running = &tasks;
        batch.map_err(Error::from)
    });
    Ok(owned.boxed())
}
