//! What a batch adds to the stored groups, and how rows of the same group become one.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{col, lit};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use deltaworks_spark::error::{Error, Result};
use parking_lot::Mutex;

use super::exec::restored;
use super::storage::{EXPIRES, stored_schema, to_stored};
use super::{Emission, GroupShape};
use crate::completion::Completion;
use crate::map_exec::MapExec;
use crate::spool::Spool;
use crate::watermark::times_of;

/// An aggregation as it was planned.
pub(crate) struct Aggregation {
    /// The keys, as columns of partial rows.
    pub keys: PhysicalGroupBy,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// The rows that are aggregated.
    pub input_schema: SchemaRef,
    /// The rows of partial aggregation: keys, then the states of accumulators.
    pub partial_schema: SchemaRef,
    pub emission: Emission,
}

impl Aggregation {
    pub(super) fn key_count(&self) -> usize {
        self.keys.input_exprs().len()
    }

    /// The rows as they are stored.
    pub(super) fn stored_schema(&self) -> SchemaRef {
        stored_schema(&self.partial_schema, self.key_count(), self.emission != Emission::Complete)
    }

    /// Makes one row of those of a group that lie in one partition.
    pub(super) fn merged(&self, partial: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let merged = AggregateExec::try_new(
            AggregateMode::PartialReduce,
            self.keys.clone(),
            self.aggregates.clone(),
            vec![None; self.aggregates.len()],
            partial,
            Arc::clone(&self.input_schema),
        )?;
        Ok(Arc::new(merged))
    }
}

/// Collects the groups that a batch adds to the state while its plan runs. Clones share them.
#[derive(Clone, Default)]
pub struct GroupState {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    aggregation: OnceLock<Aggregation>,
    kept: Mutex<Spool>,
    completion: Completion,
}

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupState").finish_non_exhaustive()
    }
}

impl GroupState {
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn completion(&self) -> Completion {
        self.inner.completion.clone()
    }

    pub(super) fn planned(&self, aggregation: Aggregation) {
        // A plan that is made twice is made of the same aggregation.
        let _first = self.inner.aggregation.set(aggregation);
    }

    pub(super) fn keep(&self, groups: RecordBatch, context: &TaskContext) -> DataFusionResult<()> {
        self.inner.kept.lock().push("groups of a stream", groups, context)
    }

    /// Whether the batch adds nothing.
    pub fn is_empty(&self) -> bool {
        self.inner.kept.lock().is_empty()
    }

    /// Whether what the batch adds takes the place of all that was stored.
    pub fn replaces_all(&self) -> bool {
        let session = |aggregation: &Aggregation| {
            matches!(aggregation.emission, Emission::WhenFinal { shape: GroupShape::Session, .. })
        };
        self.inner.aggregation.get().is_some_and(session)
    }

    /// The groups of this batch and those of `stored` that do not expire by `final_us`, one row per group.
    ///
    /// # Errors
    /// `Internal` if the batch has not run; those of reading the state.
    pub async fn merged(
        &self,
        ctx: &SessionContext,
        stored: Option<Arc<dyn TableProvider>>,
        final_us: Option<i64>,
    ) -> Result<(SchemaRef, SendableRecordBatchStream)> {
        let aggregation =
            self.inner.aggregation.get().ok_or_else(|| Error::internal("an aggregation has not been planned"))?;
        let schema = aggregation.stored_schema();
        let new = self.inner.kept.lock().take().table(Arc::clone(&schema))?;
        let new = ctx.read_table(new)?.create_physical_plan().await?;
        let mut parts = vec![restored(&new, &aggregation.partial_schema)];
        if let Some(stored) = stored {
            let mut rows = ctx.read_table(stored)?;
            if let (Some(final_us), true) = (final_us, aggregation.emission != Emission::Complete) {
                let watermark = ScalarValue::TimestampMicrosecond(Some(final_us), Some("UTC".into()));
                rows = rows.filter(col(EXPIRES).is_null().or(col(EXPIRES).gt(lit(watermark))))?;
            }
            parts.push(restored(&rows.create_physical_plan().await?, &aggregation.partial_schema));
        }
        let all: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(UnionExec::try_new(parts)?));
        let merged = aggregation.merged(all)?;
        let (stored, emission) = (Arc::clone(&schema), aggregation.emission.clone());
        let rows = MapExec::new("StoredGroupsExec", merged, Arc::clone(&schema), move |batch, _| {
            let expires = match &emission {
                Emission::Complete => None,
                Emission::WhenFinal { place, .. } => Some(times_of(batch.column(*place))?),
            };
            to_stored(&batch, expires.as_ref(), &stored)
        });
        let rows = execute_stream(Arc::new(rows), ctx.task_ctx())?;
        Ok((schema, rows))
    }
}
