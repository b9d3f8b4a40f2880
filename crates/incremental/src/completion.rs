//! Runs the inputs of stateful operators to their end, also when nobody wants their rows.
//!
//! A join with an empty table stops reading its other side. What a stateful operator below it should have kept would be
//! lost: its rows are read once.

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The partitions of a stateful operator that are running. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Completion(Arc<Mutex<JoinSet<Result<()>>>>);

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").finish_non_exhaustive()
    }
}

impl Completion {
    /// Runs `partition` in the background.
    pub(crate) fn spawn(&self, partition: impl Future<Output = Result<()>> + Send + 'static) {
        self.0.lock().spawn(partition);
    }

    /// Waits until all partitions have ended.
    ///
    /// # Errors
    /// The first error of a partition, whether or not somebody has seen it.
    pub(crate) async fn finished(&self) -> Result<()> {
        let mut running = std::mem::take(&mut *self.0.lock());
        while let Some(ended) = running.join_next().await {
            ended.map_err(|died| DataFusionError::Internal(format!("a stateful operator died: {died}")))??;
        }
        Ok(())
    }
}
