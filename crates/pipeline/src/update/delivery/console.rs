//! Batches for people to look at: their first rows, as Spark's console shows them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::Result;
use deltaworks_spark::connect::service::show_rows;
use deltaworks_spark::session::conf_of;
use tokio_util::sync::CancellationToken;

use super::partitions::take_partitions;

/// What is shown of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// So many rows.
    pub rows: usize,
    /// Cells longer than this are cut; 0: never.
    pub truncate: usize,
}

/// Runs `plan` to its end; gives the text of batch number `batch`, and how many rows there are.
///
/// # Errors
/// Those of the plan.
pub async fn text(
    plan: &Arc<dyn ExecutionPlan>,
    ctx: &SessionContext,
    shown: Shown,
    batch: i64,
    cancel: &CancellationToken,
) -> Result<(String, u64)> {
    // One more tells that there are more.
    let wanted = shown.rows.saturating_add(1);
    let partitions = take_partitions(plan, ctx, cancel, move |_, mut rows| {
        let (mut first, mut kept, mut count) = (Vec::<RecordBatch>::new(), 0, 0);
        while let Some(batch) = rows.blocking_recv() {
            count += batch.num_rows() as u64;
            let taken = batch.num_rows().min(wanted - kept);
            if taken > 0 {
                kept += taken;
                first.push(batch.slice(0, taken));
            }
        }
        Ok((first, count))
    });
    let partitions = partitions.await?;
    let count = partitions.iter().map(|(_, count)| count).sum();
    let first: Vec<_> = partitions.into_iter().flat_map(|(first, _)| first).collect();
    let first = concat_batches(&plan.schema(), &first)?;
    let table = show_rows(&first, shown.rows, shown.truncate, conf_of(&ctx.state()).time_zone)?;
    let rule = "-------------------------------------------";
    Ok((format!("{rule}\nBatch: {batch}\n{rule}\n{table}\n"), count))
}

/// Runs `plan` to its end, for nothing but what it does on the way; gives how many rows there are.
///
/// # Errors
/// Those of the plan.
pub async fn drain(plan: &Arc<dyn ExecutionPlan>, ctx: &SessionContext, cancel: &CancellationToken) -> Result<u64> {
    let counts = take_partitions(plan, ctx, cancel, |_, mut rows| {
        let mut count = 0;
        while let Some(batch) = rows.blocking_recv() {
            count += batch.num_rows() as u64;
        }
        Ok(count)
    });
    Ok(counts.await?.into_iter().sum())
}
