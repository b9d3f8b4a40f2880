//! Merges sessions of the same keys that overlap or touch.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StructArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::watermark::{Times, times_of};

/// Gives each row the whole of the session that its own session is part of.
///
/// All rows of a key are in one partition, and in memory at once, accounted in the memory pool: the open sessions
/// and those of a batch.
#[derive(Debug)]
pub(super) struct MergeSessionsExec {
    input: Arc<dyn ExecutionPlan>,
    /// The columns up to this one are the keys.
    keys: usize,
    /// The key that is the session.
    session: usize,
    properties: Arc<PlanProperties>,
}

impl MergeSessionsExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, keys: usize, session: usize) -> Result<Self> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            input.boundedness(),
        );
        Ok(Self { input, keys, session, properties: Arc::new(properties) })
    }

    fn other_keys(&self) -> Vec<usize> {
        (0..self.keys).filter(|key| *key != self.session).collect()
    }

    fn key_columns(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = self.input.schema();
        let column = |key: usize| Arc::new(Column::new(schema.field(key).name(), key)) as _;
        self.other_keys().into_iter().map(column).collect()
    }
}

impl DisplayAs for MergeSessionsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MergeSessionsExec")
    }
}

impl ExecutionPlan for MergeSessionsExec {
    fn name(&self) -> &'static str {
        "MergeSessionsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let keys = self.key_columns();
        InputDistributionRequirements::new(vec![match keys.is_empty() {
            true => Distribution::SinglePartition,
            false => Distribution::KeyPartitioned(keys),
        }])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for column in self.key_columns() {
            if f(&column)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, self.keys, self.session)?)),
            Err(inputs) => Err(DataFusionError::Internal(format!("MergeSessionsExec has {} inputs", inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let reservation =
            MemoryConsumer::new(format!("MergeSessionsExec[{partition}]")).register(context.memory_pool());
        let (schema, others, session) = (self.schema(), self.other_keys(), self.session);
        let merged = async move {
            let mut batches = Vec::new();
            let mut input = input;
            while let Some(batch) = input.try_next().await? {
                // Twice: the rows are put in order, which copies them.
                reservation.try_grow(2 * batch.get_array_memory_size())?;
                batches.push(batch);
            }
            let rows = concat_batches(&schema, &batches)?;
            drop(batches);
            let merged = merge(&rows, &others, session)?;
            drop(reservation);
            Ok(merged)
        };
        let rows = futures::stream::once(merged).boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// The rows in the order of keys and starts of sessions, each with the whole of its session.
fn merge(rows: &RecordBatch, keys: &[usize], session: usize) -> Result<RecordBatch> {
    let keys = rows.project(keys)?;
    let starts = starts_of(rows.column(session))?;
    let ends = times_of(rows.column(session))?;
    let encoded = match keys.num_columns() {
        0 => None,
        _ => {
            let fields = keys.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            Some(RowConverter::new(fields)?.convert_columns(keys.columns())?)
        }
    };
    let compare = |a: usize, b: usize| match &encoded {
        Some(encoded) => encoded.row(a).cmp(&encoded.row(b)),
        None => Ordering::Equal,
    };
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_by(|a, b| compare(*a, *b).then(starts.value(*a).cmp(&starts.value(*b))));
    let (mut whole_starts, mut whole_ends) = (vec![0; order.len()], vec![0; order.len()]);
    let mut first = 0;
    while first < order.len() {
        let (key, start, mut end) = (order[first], starts.value(order[first]), ends.value(order[first]));
        let mut next = first + 1;
        while next < order.len() && compare(key, order[next]) == Ordering::Equal && starts.value(order[next]) <= end {
            end = end.max(ends.value(order[next]));
            next += 1;
        }
        whole_starts[first..next].fill(start);
        whole_ends[first..next].fill(end);
        first = next;
    }
    let indices: UInt32Array = order.iter().map(|row| u32::try_from(*row).ok()).collect();
    let sorted = take_record_batch(rows, &indices)?;
    let mut columns = sorted.columns().to_vec();
    columns[session] = sessions(rows.schema_ref(), session, whole_starts, whole_ends)?;
    Ok(RecordBatch::try_new(sorted.schema(), columns)?)
}

fn starts_of(sessions: &ArrayRef) -> Result<Times> {
    let start = sessions.as_struct_opt().and_then(|sessions| sessions.column_by_name("start"));
    times_of(start.ok_or_else(|| DataFusionError::Internal("a session has no start".to_owned()))?)
}

fn sessions(schema: &Schema, session: usize, starts: Vec<i64>, ends: Vec<i64>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = schema.field(session).data_type() else {
        return Err(DataFusionError::Internal("a session is no struct".to_owned()));
    };
    let column = |times: Vec<i64>, field: usize| -> ArrayRef {
        Arc::new(Times::new(times.into(), None).with_data_type(fields[field].data_type().clone()))
    };
    Ok(Arc::new(StructArray::try_new(fields.clone(), vec![column(starts, 0), column(ends, 1)], None)?))
}
