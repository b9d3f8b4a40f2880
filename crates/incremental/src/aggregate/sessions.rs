//! Merges sessions of the same keys that overlap or touch.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StructArray};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
    PhysicalSortRequirement, ScalarFunctionExpr,
};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::TryStreamExt as _;

use crate::watermark::{Times, times_of};

/// Gives each row the whole of the session that its own session is part of.
///
/// All rows of a key are in one partition, in the order in which their sessions start: in memory are those of one session.
#[derive(Debug)]
pub(super) struct MergeSessionsExec {
    input: Arc<dyn ExecutionPlan>,
    /// The columns up to this one are the keys.
    keys: usize,
    /// The key that is the session.
    session: usize,
    /// When it starts.
    start: Arc<dyn PhysicalExpr>,
    properties: Arc<PlanProperties>,
}

impl MergeSessionsExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, keys: usize, session: usize) -> Result<Self> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            input.boundedness(),
        );
        let schema = input.schema();
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(session).name(), session));
        let (field, config) = (datafusion::functions::core::get_field(), Arc::new(ConfigOptions::default()));
        let start = ScalarFunctionExpr::try_new(field, vec![column, lit("start")], &schema, config)?;
        Ok(Self { input, keys, session, start: Arc::new(start), properties: Arc::new(properties) })
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

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let by = self.key_columns().into_iter().chain([Arc::clone(&self.start)]);
        let by = by.map(|expr| PhysicalSortRequirement::from(PhysicalSortExpr::new(expr, SortOptions::default())));
        vec![LexRequirement::new(by).map(OrderingRequirements::new)]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for column in self.key_columns().into_iter().chain([Arc::clone(&self.start)]) {
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
        let sessions = Sessions { input, keys: self.other_keys(), session: self.session, open: None, reservation };
        let rows = futures::stream::try_unfold(sessions, async |mut sessions| {
            Ok(sessions.next().await?.map(|merged| (merged, sessions)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// The sessions of a partition, one after the other.
struct Sessions {
    input: SendableRecordBatchStream,
    keys: Vec<usize>,
    session: usize,
    /// The rows of the last session so far.
    open: Option<RecordBatch>,
    reservation: MemoryReservation,
}

impl Sessions {
    /// The rows of sessions that are whole.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(batch) = self.input.try_next().await? {
            let rows = match self.open.take() {
                Some(open) => concat_batches(&batch.schema(), [&open, &batch])?,
                None => batch,
            };
            if rows.num_rows() == 0 {
                continue;
            }
            let (rows, last) = merge(&rows, &self.keys, self.session)?;
            let open = rows.slice(last, rows.num_rows() - last);
            self.reservation.try_resize(open.get_array_memory_size())?;
            self.open = Some(open);
            if last > 0 {
                return Ok(Some(rows.slice(0, last)));
            }
        }
        Ok(self.open.take())
    }
}

/// The rows, which are in the order of keys and starts of sessions, each with the whole of its session as far as it is
/// known; and where the last session begins.
fn merge(rows: &RecordBatch, keys: &[usize], session: usize) -> Result<(RecordBatch, usize)> {
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
    let is_same = |a: usize, b: usize| encoded.as_ref().is_none_or(|encoded| encoded.row(a) == encoded.row(b));
    let count = rows.num_rows();
    let (mut whole_starts, mut whole_ends) = (vec![0; count], vec![0; count]);
    let (mut first, mut last) = (0, 0);
    while first < count {
        let (start, mut end) = (starts.value(first), ends.value(first));
        let mut next = first + 1;
        while next < count && is_same(first, next) && starts.value(next) <= end {
            end = end.max(ends.value(next));
            next += 1;
        }
        whole_starts[first..next].fill(start);
        whole_ends[first..next].fill(end);
        (last, first) = (first, next);
    }
    let mut columns = rows.columns().to_vec();
    columns[session] = sessions(rows.schema_ref(), session, whole_starts, whole_ends)?;
    Ok((RecordBatch::try_new(rows.schema(), columns)?, last))
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
