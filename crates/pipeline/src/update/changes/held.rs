//! What a merge holds in memory, counted in the pool of the pipeline: too much is an error, and not the end of the process.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::size_of_rows;
use deltaworks_spark::{Error, Result};
use futures::TryStreamExt as _;

/// The events of a batch, and the stored rows of their keys.
#[derive(Debug, Clone)]
pub struct Held(Arc<MemoryReservation>);

impl Held {
    /// Nothing yet.
    pub fn new(ctx: &SessionContext) -> Self {
        let consumer = MemoryConsumer::new("events of AUTO CDC and the rows of their keys");
        Self(Arc::new(consumer.register(&ctx.runtime_env().memory_pool)))
    }

    /// The rows of a plan.
    ///
    /// # Errors
    /// `UNABLE_TO_ACQUIRE_MEMORY` if there is no room for them.
    pub async fn rows(&self, ctx: &SessionContext, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
        self.collect(ctx, ctx.state().create_physical_plan(plan).await?).await
    }

    /// The rows of a plan that may run.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub async fn collect(&self, ctx: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
        let mut partitions = JoinSet::new();
        for (place, mut rows) in execute_stream_partitioned(plan, ctx.task_ctx())?.into_iter().enumerate() {
            let memory = Arc::clone(&self.0);
            partitions.spawn(async move {
                let mut batches = Vec::new();
                while let Some(batch) = rows.try_next().await? {
                    memory.try_grow(size_of_rows(&batch)?)?;
                    batches.push(batch);
                }
                Ok::<_, Error>((place, batches))
            });
        }
        let mut collected = Vec::new();
        while let Some(partition) = partitions.join_next().await {
            collected.push(partition.map_err(|died| Error::internal(format!("a reading task died: {died}")))??);
        }
        collected.sort_by_key(|(place, _)| *place);
        Ok(collected.into_iter().flat_map(|(_, batches)| batches).collect())
    }

    /// Makes sure that there is room for a copy of `batches`, which takes their place.
    ///
    /// # Errors
    /// `UNABLE_TO_ACQUIRE_MEMORY` if there is none.
    pub fn room_for_copy(&self, batches: &[RecordBatch]) -> Result<()> {
        let bytes = batches.iter().map(size_of_rows).sum::<Result<usize, _>>()?;
        self.0.try_grow(bytes)?;
        self.0.shrink(bytes);
        Ok(())
    }
}
