//! Watermarks of a stream: the event times that a batch has seen, and the rows that come too late.

use std::cmp::Ordering as Order;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, PrimitiveArray};
use arrow::compute::{filter_record_batch, max};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::operators::EventTimeWatermark;
use deltaworks_spark::streaming::is_streaming;

use crate::map_exec::MapExec;

pub(crate) type Times = PrimitiveArray<TimestampMicrosecondType>;

/// The watermarks that one batch works with, in microseconds since the epoch; `None` before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// The watermark of the batch before: rows whose window ended by then are late.
    pub late_us: Option<i64>,
    /// The watermark of this batch: groups that end by then are final after it.
    pub final_us: Option<i64>,
}

/// The latest event time that the rows of a batch have. Clones share it.
#[derive(Debug, Clone)]
pub struct LatestEventTime(Arc<AtomicI64>);

impl Default for LatestEventTime {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl LatestEventTime {
    /// In microseconds since the epoch; `None` if no row had one.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Acquire)).filter(|time| *time != i64::MIN)
    }

    /// Takes note of an event time, in microseconds since the epoch.
    pub fn see_us(&self, time: i64) {
        self.0.fetch_max(time, Ordering::AcqRel);
    }

    fn see(&self, times: &Times) {
        max(times).into_iter().for_each(|latest| self.see_us(latest));
    }
}

/// How many rows came too late. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LateRows(Arc<AtomicU64>);

impl LateRows {
    /// The rows so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The delay of each watermark that a streaming plan declares, in microseconds, in an order that
/// [`bind_watermarks`] keeps to.
///
/// # Errors
/// `Internal` if the plan cannot be walked.
pub fn watermark_delays(plan: &LogicalPlan) -> Result<Vec<i64>> {
    let mut delays = Vec::new();
    rewrite(plan.clone(), &mut |watermark| {
        delays.push(watermark.delay_us);
        Ok(None)
    })?;
    Ok(delays)
}

/// Has the watermarks of `plan` tell the latest event time that passes them.
///
/// # Errors
/// `Internal` if there are not as many of `latest` as watermarks.
pub fn bind_watermarks(plan: LogicalPlan, latest: &[LatestEventTime]) -> Result<LogicalPlan> {
    let mut next = latest.iter();
    rewrite(plan, &mut |watermark| {
        let latest = next.next().ok_or_else(|| Error::internal("more watermarks than before"))?.clone();
        let node = Observe { watermark: watermark.clone(), latest };
        Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
    })
}

type Replace<'a> = dyn FnMut(&EventTimeWatermark) -> Result<Option<LogicalPlan>> + 'a;

fn rewrite(plan: LogicalPlan, replace: &mut Replace<'_>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(watermark) = extension.node.as_any().downcast_ref::<EventTimeWatermark>() else {
            return Ok(Transformed::no(node));
        };
        if !is_streaming(&watermark.input) {
            return Ok(Transformed::no(node));
        }
        let replaced = replace(watermark)?;
        Ok(replaced.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    Ok(rewritten.data)
}

/// The event times of a column: of a window, its end. Local times count as if they were in UTC.
pub(crate) fn times_of(column: &ArrayRef) -> DataFusionResult<Times> {
    let not_a_time = || DataFusionError::Internal(format!("{} is no event time", column.data_type()));
    match column.data_type() {
        DataType::Struct(_) => {
            let windows = column.as_struct();
            let end = times_of(windows.column_by_name("end").ok_or_else(not_a_time)?)?;
            let nulls = arrow::buffer::NullBuffer::union(end.nulls(), windows.nulls());
            Ok(Times::new(end.values().clone(), nulls))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            Ok(Times::new(times.values().clone(), times.nulls().cloned()))
        }
        DataType::Timestamp(_, zone) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            times_of(&arrow::compute::cast(column, &micros)?)
        }
        _ => Err(not_a_time()),
    }
}

/// Whether each time is over at `watermark`; what has no time never is.
pub(crate) fn over_at(times: &Times, watermark: Option<i64>) -> BooleanArray {
    times.iter().map(|time| Some(time.zip(watermark).is_some_and(|(time, watermark)| time <= watermark))).collect()
}

/// A watermark that is being watched.
#[derive(Debug, Clone)]
pub(crate) struct Observe {
    watermark: EventTimeWatermark,
    latest: LatestEventTime,
}

impl Observe {
    pub(crate) fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let column = self.watermark.input.schema().index_of_column(&self.watermark.event_time)?;
        let latest = self.latest.clone();
        let schema = input.schema();
        Ok(Arc::new(MapExec::new("EventTimeExec", input, schema, move |batch, _| {
            latest.see(&times_of(batch.column(column))?);
            Ok(batch)
        })))
    }
}

impl PartialEq for Observe {
    fn eq(&self, other: &Self) -> bool {
        self.watermark == other.watermark && Arc::ptr_eq(&self.latest.0, &other.latest.0)
    }
}

impl Eq for Observe {}

impl Hash for Observe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.watermark.hash(state);
    }
}

impl PartialOrd for Observe {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        self.watermark.partial_cmp(&other.watermark)
    }
}

impl UserDefinedLogicalNodeCore for Observe {
    fn name(&self) -> &str {
        "ObserveEventTime"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.watermark.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.watermark.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.watermark.expressions()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ObserveEventTime: {}", self.watermark.event_time.flat_name())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        Ok(Self { watermark: self.watermark.with_exprs_and_inputs(exprs, inputs)?, latest: self.latest.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        with_column(&self.watermark.input, output_columns, &self.watermark.event_time)
    }
}

/// The rows of which a stateful operator still keeps a place for their group.
#[derive(Debug, Clone)]
pub(crate) struct InTime {
    pub input: Arc<LogicalPlan>,
    /// An event time, or a window.
    pub time: Column,
    pub late_us: i64,
    pub late_rows: LateRows,
}

impl InTime {
    /// The rows of `input` that are not late; all of them as long as there is no watermark.
    pub(crate) fn over(input: LogicalPlan, time: &Column, watermarks: Watermarks, late_rows: &LateRows) -> LogicalPlan {
        let Some(late_us) = watermarks.late_us else { return input };
        let node = Self { input: Arc::new(input), time: time.clone(), late_us, late_rows: late_rows.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    pub(crate) fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let column = self.input.schema().index_of_column(&self.time)?;
        let (late_us, late_rows) = (self.late_us, self.late_rows.clone());
        let schema = input.schema();
        Ok(Arc::new(MapExec::new("InTimeExec", input, schema, move |batch, _| {
            let late = over_at(&times_of(batch.column(column))?, Some(late_us));
            if late.true_count() == 0 {
                return Ok(batch);
            }
            late_rows.0.fetch_add(late.true_count() as u64, Ordering::AcqRel);
            Ok(filter_record_batch(&batch, &arrow::compute::not(&late)?)?)
        })))
    }
}

impl PartialEq for InTime {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.time == other.time && Arc::ptr_eq(&self.late_rows.0, &other.late_rows.0)
    }
}

impl Eq for InTime {}

impl Hash for InTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.time.hash(state);
    }
}

impl PartialOrd for InTime {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        match self.time.partial_cmp(&other.time) {
            Some(Order::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for InTime {
    fn name(&self) -> &str {
        "InTime"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time.clone())]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "InTime: {} after {} us", self.time.flat_name(), self.late_us)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (exprs.as_slice(), <[LogicalPlan; 1]>::try_from(inputs)) {
            ([Expr::Column(time)], Ok([input])) => {
                Ok(Self { input: Arc::new(input), time: time.clone(), ..self.clone() })
            }
            _ => Err(DataFusionError::Internal("rows in time have one input and one time".to_owned())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        with_column(&self.input, output_columns, &self.time)
    }
}

fn with_column(input: &LogicalPlan, columns: &[usize], column: &Column) -> Option<Vec<Vec<usize>>> {
    let mut needed = columns.to_vec();
    needed.push(input.schema().maybe_index_of_column(column)?);
    needed.sort_unstable();
    needed.dedup();
    Some(vec![needed])
}
