//! The physical scan of files.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use deltaworks_spark::{Error, Kind, Result};
use futures::stream::{BoxStream, StreamExt, try_unfold};

use super::{Evolution, Role, ScanSpec, metadata};
use crate::bad_records::{BadRecords, BadRecordsWriter};
use crate::errors::is_schema_evolved;
use crate::format::{Decoded, FileTask, ReadRequest};
use crate::text::TextColumn;

/// Reads files, each partition its own tasks in order.
pub(super) struct FileScanExec {
    scan: Arc<Scan>,
    tasks: Vec<Vec<FileTask>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What all partitions share.
#[derive(Debug)]
pub(super) struct Scan {
    spec: Arc<ScanSpec>,
    projection: Vec<usize>,
    schema: SchemaRef,
    evolution: Option<Arc<dyn Evolution>>,
    bad_records: Option<Arc<BadRecords>>,
}

impl FileScanExec {
    pub(super) fn new(scan: Scan, tasks: Vec<Vec<FileTask>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&scan.schema)),
            Partitioning::UnknownPartitioning(tasks.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (scan, properties) = (Arc::new(scan), Arc::new(properties));
        Self { scan, tasks, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for FileScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileScanExec").field("partitions", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl DisplayAs for FileScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: usize = self.tasks.iter().map(Vec::len).sum();
        let columns: Vec<_> = self.scan.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "FileScanExec: tasks={tasks}, columns=[{}]", columns.join(", "))
    }
}

impl ExecutionPlan for FileScanExec {
    fn name(&self) -> &str {
        "FileScanExec"
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
        let tasks = self.tasks.get(partition).cloned().unwrap_or_default();
        let request = Arc::new(self.scan.request(context.session_config().batch_size()));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        // Under the name that scans of DataFusion have for it.
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition);
        let rows = PartitionRows::new(Arc::clone(&self.scan), partition, tasks, request, bytes);
        let batches = try_unfold(rows, async |mut rows| Ok(rows.next().await?.map(|batch| (batch, rows)))).map(
            move |batch: Result<RecordBatch>| {
                if let Ok(batch) = &batch {
                    metrics.record_output(batch.num_rows());
                }
                batch.map_err(Into::into)
            },
        );
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.scan.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows of one partition.
struct PartitionRows {
    scan: Arc<Scan>,
    decoded: BoxStream<'static, (FileTask, Result<Decoded>)>,
    bad_records: Option<BadRecordsWriter>,
}

impl PartitionRows {
    fn new(scan: Arc<Scan>, partition: usize, tasks: Vec<FileTask>, request: Arc<ReadRequest>, bytes: Count) -> Self {
        let bad_records = scan.bad_records.as_ref().map(|place| place.writer(&scan.spec, partition, &tasks));
        let format = Arc::clone(&scan.spec.format);
        let read = move |task: FileTask| {
            bytes.add(usize::try_from(task.end - task.start).unwrap_or(usize::MAX));
            format.read(task.clone(), Arc::clone(&request)).map(move |decoded| (task.clone(), decoded))
        };
        Self { decoded: futures::stream::iter(tasks).flat_map(read).boxed(), scan, bad_records }
    }

    /// The next rows. There are none left only when what was dropped is written.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some((task, decoded)) = self.decoded.next().await {
            let mut decoded = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.failed(&task, error).await?;
                    continue;
                }
            };
            if let Some(writer) = &mut self.bad_records {
                writer.records(&task.file, std::mem::take(&mut decoded.bad)).await?;
            }
            if decoded.rows > 0 {
                return self.scan.batch(&task, decoded).map(Some);
            }
        }
        if let Some(writer) = &mut self.bad_records {
            writer.finish().await?;
        }
        Ok(None)
    }

    /// A file that may be missing or broken ends without an error.
    async fn failed(&mut self, task: &FileTask, error: Error) -> Result<()> {
        if let Some(writer) = &mut self.bad_records
            && error.kind() == Kind::Data
        {
            return writer.file(&task.file, &error).await;
        }
        if self.scan.spec.passed_over.covers(&error) {
            tracing::warn!(%error, "file skipped");
            return Ok(());
        }
        match &self.scan.evolution {
            Some(evolution) if is_schema_evolved(&error) => Err(evolution.evolve(error).await),
            _ => Err(error),
        }
    }
}

impl Scan {
    pub(super) fn new(
        spec: Arc<ScanSpec>,
        projection: Vec<usize>,
        evolution: Option<Arc<dyn Evolution>>,
        bad_records: Option<Arc<BadRecords>>,
    ) -> DataFusionResult<Self> {
        let schema = Arc::new(spec.columns.schema.project(&projection)?);
        Ok(Self { spec, projection, schema, evolution, bad_records })
    }

    fn request(&self, batch_rows: usize) -> ReadRequest {
        let columns = &self.spec.columns;
        let projected = |role: Role| self.projection.iter().any(|index| columns.roles[*index] == role);
        ReadRequest {
            wanted: (0..columns.data.len()).map(|index| projected(Role::Data(index))).collect(),
            fields: columns.data.clone(),
            rescue: projected(Role::Rescued),
            has_rescue: columns.roles.contains(&Role::Rescued),
            corrupt: projected(Role::Corrupt),
            has_corrupt: columns.roles.contains(&Role::Corrupt),
            report_unknown: self.evolution.is_some(),
            report_nested: self.evolution.as_ref().is_some_and(|evolution| evolution.reports_nested()),
            report_wider: self
                .evolution
                .as_ref()
                .is_some_and(|evolution| evolution.reports_nested() && evolution.widens()),
            null_mismatches: self.spec.null_mismatches,
            ignored: columns.partition.iter().map(|field| field.name().clone()).collect(),
            case_sensitive: self.spec.case_sensitive,
            batch_rows,
        }
    }

    fn batch(&self, task: &FileTask, mut decoded: Decoded) -> Result<RecordBatch> {
        let rows = decoded.rows;
        let mut arrays = Vec::with_capacity(self.projection.len());
        for (index, field) in self.projection.iter().zip(self.schema.fields()) {
            let array = match self.spec.columns.roles[*index] {
                Role::Data(slot) => decoded.columns.get_mut(slot).and_then(Option::take),
                Role::Partition(slot) => Some(self.partition_value(task, slot, rows)?),
                Role::Rescued => decoded.rescued.take(),
                Role::Corrupt => decoded.corrupt.take(),
                Role::Metadata => Some(metadata::array(task, rows)?),
            };
            arrays.push(array.unwrap_or_else(|| new_null_array(field.data_type(), rows)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    fn partition_value(&self, task: &FileTask, slot: usize, rows: usize) -> Result<ArrayRef> {
        let field = &self.spec.columns.partition[slot];
        let mut column = TextColumn::new(field.data_type())?;
        let value = task.file.partition.iter().find(|(key, _)| key.eq_ignore_ascii_case(field.name()));
        match value {
            Some((_, Some(text))) => {
                column.append(text, &self.spec.parser);
            }
            _ => column.append_null(),
        }
        Ok(take(&column.finish(), &UInt32Array::from_value(0, rows), None)?)
    }
}
