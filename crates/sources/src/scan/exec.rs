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
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use deltaworks_spark::{Error, Result};
use futures::stream::{BoxStream, StreamExt};

use super::{Evolution, Role, ScanSpec, metadata};
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
struct Scan {
    spec: Arc<ScanSpec>,
    projection: Vec<usize>,
    schema: SchemaRef,
    evolution: Option<Arc<dyn Evolution>>,
}

impl FileScanExec {
    pub(super) fn try_new(
        spec: Arc<ScanSpec>,
        tasks: Vec<Vec<FileTask>>,
        projection: Vec<usize>,
        evolution: Option<Arc<dyn Evolution>>,
    ) -> DataFusionResult<Self> {
        let schema = Arc::new(spec.columns.schema.project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(tasks.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let scan = Arc::new(Scan { spec, projection, schema, evolution });
        Ok(Self { scan, tasks, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
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
        let scan = Arc::clone(&self.scan);
        let request = Arc::new(scan.request(context.session_config().batch_size()));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = futures::stream::iter(tasks).flat_map(move |task| scan.task(task, Arc::clone(&request))).map(
            move |batch| {
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

impl Scan {
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

    /// The rows of one task. A file that may be missing or broken ends without an error.
    fn task(self: &Arc<Self>, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<RecordBatch>> {
        let scan = Arc::clone(self);
        let rows = self.spec.format.read(task.clone(), request);
        rows.filter_map(move |decoded| {
            let scan = Arc::clone(&scan);
            let task = task.clone();
            async move {
                match decoded {
                    Ok(decoded) => Some(scan.batch(&task, decoded)),
                    Err(error) => scan.failure(error).await.map(Err),
                }
            }
        })
        .boxed()
    }

    async fn failure(&self, error: Error) -> Option<Error> {
        if self.spec.passed_over.covers(&error) {
            tracing::warn!(%error, "file skipped");
            return None;
        }
        match &self.evolution {
            Some(evolution) if is_schema_evolved(&error) => Some(evolution.evolve(error).await),
            _ => Some(error),
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
