//! Ranges of Kafka topics as a table that DataFusion scans.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;

use super::decode::{Rows, kafka_schema};
use super::fetch::{Fetching, fetch};
use super::options::KafkaOptions;
use super::positions::batch_ranges;
use super::slices::{Range, groups, pieces};

/// Batches that wait for whoever takes them, in each reader.
const WAITING_BATCHES: usize = 2;

/// A slice of a stream, or a read at once, whose ranges are found when it is scanned.
pub(crate) struct KafkaTable {
    pub(crate) fetching: Fetching,
    pub(crate) options: Arc<KafkaOptions>,
    pub(crate) schema: SchemaRef,
    /// What is read; `None`: from the starting to the ending offsets of the options.
    pub(crate) ranges: Option<Vec<Range>>,
}

impl fmt::Debug for KafkaTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTable")
            .field("subscription", &self.options.subscription.to_string())
            .finish_non_exhaustive()
    }
}

impl KafkaTable {
    pub(crate) fn new(fetching: Fetching, options: Arc<KafkaOptions>, ranges: Option<Vec<Range>>) -> Self {
        let schema = kafka_schema(options.headers);
        Self { fetching, options, schema, ranges }
    }
}

#[async_trait]
impl TableProvider for KafkaTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let ranges = match &self.ranges {
            Some(ranges) => ranges.clone(),
            None => batch_ranges(&self.fetching.cluster, &self.options).await?,
        };
        let pieces = pieces(ranges, self.options.min_partitions, self.options.max_records);
        let readers = groups(pieces, state.config().target_partitions());
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(KafkaScanExec::try_new(self, readers, projection)?))
    }
}

/// Reads ranges, each partition its own, one after the other.
struct KafkaScanExec {
    fetching: Fetching,
    topics: String,
    readers: Vec<Vec<Range>>,
    projection: Vec<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl KafkaScanExec {
    fn try_new(table: &KafkaTable, readers: Vec<Vec<Range>>, projection: Vec<usize>) -> DataFusionResult<Self> {
        let schema = Arc::new(table.schema.project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(readers.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            fetching: table.fetching.clone(),
            topics: table.options.subscription.to_string(),
            readers,
            projection,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl fmt::Debug for KafkaScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaScanExec").field("partitions", &self.readers.len()).finish_non_exhaustive()
    }
}

impl DisplayAs for KafkaScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets: u64 = self.readers.iter().flatten().map(Range::len).sum();
        write!(f, "KafkaScanExec: topics=[{}], offsets={offsets}", self.topics)
    }
}

impl ExecutionPlan for KafkaScanExec {
    fn name(&self) -> &str {
        "KafkaScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let ranges = self.readers.get(partition).cloned().unwrap_or_default();
        let rows = Rows::new(Arc::clone(&self.schema), &self.projection);
        let batch_rows = context.session_config().batch_size();
        let fetching = self.fetching.clone();
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), WAITING_BATCHES);
        let batches = stream.tx();
        stream.spawn_blocking(move || fetch(&fetching, &ranges, rows, batch_rows, batches));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counted = stream.build().inspect(move |batch| {
            if let Ok(batch) = batch {
                metrics.record_output(batch.num_rows());
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
