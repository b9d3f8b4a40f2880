//! How many rows a batch of a stream gets from its sources: all that the slices hold, whatever the query makes of
//! them. State and the static side of a join are no input.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use deltaworks_spark::streaming::Slice;
use futures::StreamExt;

/// The rows of a batch's slices, counted while they are read if their sources do not know them.
#[derive(Debug, Clone, Default)]
pub struct InputRows(Arc<AtomicU64>);

impl InputRows {
    /// The rows so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::Relaxed);
    }

    /// The input of `slice`, whose rows are counted here.
    pub fn counted(&self, slice: &Slice) -> Arc<dyn TableProvider> {
        match slice.rows {
            // Filters may skip files of it by their statistics, which changes nothing of what has arrived.
            Some(rows) => {
                self.add(rows);
                Arc::clone(&slice.input)
            }
            None => Arc::new(CountedInput { input: Arc::clone(&slice.input), rows: self.clone() }),
        }
    }
}

/// An input that is read as a whole, without filters or limits, which would hide rows from the count.
#[derive(Debug)]
struct CountedInput {
    input: Arc<dyn TableProvider>,
    rows: InputRows,
}

#[async_trait]
impl TableProvider for CountedInput {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn table_type(&self) -> TableType {
        self.input.table_type()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.input.scan(session, projection, &[], None).await?;
        Ok(Arc::new(CountExec { input, rows: self.rows.clone() }))
    }
}

/// Passes everything through, and counts it.
#[derive(Debug)]
struct CountExec {
    input: Arc<dyn ExecutionPlan>,
    rows: InputRows,
}

impl CountExec {
    fn of(&self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, rows: self.rows.clone() })
    }
}

impl DisplayAs for CountExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountExec")
    }
}

/// No filter, limit or projection moves below this node.
impl ExecutionPlan for CountExec {
    fn name(&self) -> &'static str {
        "CountExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(self.of(input)),
            Err(inputs) => Err(DataFusionError::Internal(format!("CountExec has {} inputs", inputs.len()))),
        }
    }

    /// A large file is split as if nobody counted.
    fn repartitioned(&self, partitions: usize, config: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.input.repartitioned(partitions, config)?.map(|input| self.of(input)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.rows.clone();
        let batches = self.input.execute(partition, context)?.inspect(move |batch| {
            if let Ok(batch) = batch {
                rows.add(batch.num_rows() as u64);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.input.schema(), batches)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let [input] = inputs else {
            return Err(DataFusionError::Internal(format!("CountExec has {} inputs", inputs.len())));
        };
        // Exact numbers would let an aggregation do without the rows, which then nobody counts.
        Ok(Arc::new(input.as_ref().clone().to_inexact()))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int32Array, RecordBatch};
    use datafusion::datasource::MemTable;
    use datafusion::logical_expr::{col, lit};
    use datafusion::prelude::SessionContext;
    use deltaworks_spark::streaming::Backlog;

    use super::*;

    /// Rows that the count has, and rows that are left, after a filter and a limit on a slice of ten rows.
    async fn read(known: Option<u64>) -> (u64, usize) {
        let column = Arc::new(Int32Array::from_iter_values(0..10)) as _;
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let input = Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap());
        let slice = Slice {
            end: serde_json::Value::Null,
            input,
            rows: known,
            size: None,
            ledger: None,
            backlog: Backlog::default(),
        };
        let counted = InputRows::default();
        let frame = SessionContext::new().read_table(counted.counted(&slice)).unwrap();
        let left = frame.filter(col("n").gt(lit(7))).unwrap().count().await.unwrap();
        (counted.count(), left)
    }

    #[tokio::test]
    async fn rows_that_a_filter_leaves_out_are_input() {
        assert_eq!(read(None).await, (10, 2));
    }

    #[tokio::test]
    async fn what_a_source_knows_is_not_counted_again() {
        assert_eq!(read(Some(12)).await, (12, 2));
    }
}
