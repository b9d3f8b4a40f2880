//! Stateful processors of users: `transformWithState`.
//!
//! The state is a log, as that of functions with state (`user_state`), but of entries: a batch adds a row for each value,
//! row of a list, row of a map and timer that it changes, and the row of the latest batch is in force. A batch looks up the
//! timers that have expired, reads past the log once, and keeps the entries of the groups that have rows or such timers.
//! [`latest_entries`] says what is left of the log when files are merged. What the variables hold is declared by the
//! processor while it runs, and kept beside the log ([`OperatorState::variables`]).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore as _, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::DataFrame;
use deltaworks_spark::error::Result;
use deltaworks_spark::python::{Moment, TIMERS, TimeMode, TransformWithState};
use deltaworks_spark::types::type_name;

use crate::aggregate::stored_type;
use crate::digest::{DIGEST_BYTES, DigestKey, digests, key_digest};
use crate::event_time::watermark_column;
use crate::fingerprint;
use crate::map_exec::MapExec;
use crate::state::{OperatorKind, OperatorState, StatefulOperator};
use crate::user_state::{BATCH, DIGEST, REMOVED, digest_of_stored, scan};
use crate::watermark::InTime;

mod bound;
mod entries;

pub(crate) use bound::BoundProcessor;

/// The state variable, or [`TIMERS`].
const VARIABLE: &str = "variable";
/// The key of a row of a map, as text.
const ENTRY: &str = "entry";
/// The place of a row in a list, or the time of a timer in milliseconds since the epoch.
const PLACE: &str = "place";
/// The row, as text.
const VALUE: &str = "value";
/// From when on it does not count any more, in milliseconds since the epoch.
const EXPIRES: &str = "expires_ms";
/// The columns before the keys.
const OWN_COLUMNS: [(&str, DataType); 8] = [
    (DIGEST, DataType::Binary),
    (BATCH, DataType::Int64),
    (VARIABLE, DataType::Utf8),
    (ENTRY, DataType::Utf8),
    (PLACE, DataType::Int64),
    (REMOVED, DataType::Boolean),
    (VALUE, DataType::Utf8),
    (EXPIRES, DataType::Int64),
];

/// The stateful processor that `node` is.
pub(crate) fn as_processor(node: &LogicalPlan) -> Option<&TransformWithState> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<TransformWithState>(),
        _ => None,
    }
}

pub(crate) fn describe(index: usize, node: &TransformWithState) -> StatefulOperator {
    let column =
        |field: &Arc<Field>| format!("{} {}", fingerprint::of_name(field.name()), type_name(field.data_type()));
    let keys = &node.input.schema().fields()[node.keys()];
    let keys = keys.iter().map(column).collect::<Vec<_>>().join(", ");
    let mode = node.processor.mode();
    let fingerprint = format!("processor of groups by ({keys}) with {}", mode.name());
    let waits = mode == TimeMode::EventTime;
    StatefulOperator::new(index, OperatorKind::Processor, fingerprint, waits, stored_schema(node))
        .timing_out(mode == TimeMode::ProcessingTime)
}

/// The columns of the log.
fn stored_schema(node: &TransformWithState) -> SchemaRef {
    let own = OWN_COLUMNS.into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
    let keys = node.input.schema().fields()[node.keys()].iter().enumerate();
    // The names of users' columns may be such as no table has.
    let keys = keys.map(|(place, field)| Field::new(format!("key_{place}"), stored_type(field.data_type()), true));
    Arc::new(Schema::new(own.chain(keys).collect::<Vec<_>>()))
}

/// `node` with what earlier batches kept.
pub(crate) fn bind(index: usize, node: &TransformWithState, state: &OperatorState) -> Result<LogicalPlan> {
    let mode = node.processor.mode();
    let watermark = watermark_column(&node.input);
    let mut input = node.input.as_ref().clone();
    if let (Some(time), TimeMode::EventTime) = (&watermark, mode) {
        input = InTime::over(input, time, state.watermarks, &state.late_rows);
    }
    let mut moment = state.moment;
    // A stream has a watermark from the beginning, as in Spark.
    let final_us = state.watermarks.final_us.filter(|_| watermark.is_some());
    moment.watermark_ms = Some(final_us.map_or(0, |us| us.div_euclid(1000)));
    let mut inputs = vec![with_digest(index, input, node.processor.values(), state)?];
    // Initial state is what there is before the first batch.
    let initial = node.initial.as_ref().filter(|_| state.batch == 0).zip(node.processor.initial_values());
    if let Some((initial, values)) = initial {
        inputs.push(with_digest(index, initial.as_ref().clone(), values, state)?);
    }
    let mut has_due = false;
    if let Some(prior) = &state.prior {
        if let Some(due_ms) = node.processor.due_ms(moment) {
            inputs.push(due(index, prior, due_ms)?);
            has_due = true;
        }
        inputs.push(all_entries(index, prior)?);
    }
    let bound = BoundProcessor {
        inputs,
        has_initial: initial.is_some(),
        has_due,
        processor: Arc::clone(&node.processor),
        state: Some(state.new_rows.clone()),
        variables: state.variables.clone(),
        batch: state.batch,
        moment,
        late_us: state.watermarks.late_us,
        schema: Arc::clone(node.schema()),
    };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(bound) }))
}

/// The rows of `input`, with the digest of the keys, which stand behind the values, in a last column.
fn with_digest(
    index: usize,
    input: LogicalPlan,
    values: usize,
    state: &OperatorState,
) -> DataFusionResult<LogicalPlan> {
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut key = columns[values..].to_vec();
    if key.is_empty() {
        // Without keys all rows are one group.
        key.push(lit(true));
    }
    let digest = key_digest(state.key).call(key).alias(format!("__digest_{index}"));
    LogicalPlanBuilder::from(input).project(columns.into_iter().chain([digest]))?.build()
}

/// `node` over tables, whose rows `inputs` give: a single batch at `now_ms`, before which nothing was kept.
pub(crate) fn over_tables(
    node: &TransformWithState,
    inputs: &[Arc<dyn ExecutionPlan>],
    now_ms: i64,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let bound = BoundProcessor {
        inputs: node.inputs().into_iter().cloned().collect(),
        has_initial: node.initial.is_some(),
        has_due: false,
        processor: Arc::clone(&node.processor),
        state: None,
        variables: Default::default(),
        batch: 0,
        moment: Moment { processing_ms: now_ms, watermark_ms: None },
        late_us: None,
        schema: Arc::clone(node.schema()),
    };
    let values = [Some(node.processor.values()), node.processor.initial_values()];
    let inputs: Vec<_> =
        inputs.iter().zip(values.into_iter().flatten()).map(|(input, values)| digested(input, values)).collect();
    bound.plan(&inputs)
}

/// The rows of `input`, with the digest of their keys in a last column. It outlives no query, and needs no key of its own.
fn digested(input: &Arc<dyn ExecutionPlan>, values: usize) -> Arc<dyn ExecutionPlan> {
    let mut fields = input.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("__digest", DataType::FixedSizeBinary(DIGEST_BYTES), false)));
    let schema = Arc::new(Schema::new(fields));
    let rows = Arc::clone(&schema);
    let map = MapExec::new("KeyDigestExec", Arc::clone(input), schema, move |batch, _| {
        let digests = digests(&batch.columns()[values..], batch.num_rows(), DigestKey::new([0; 16]))?;
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(digests));
        Ok(RecordBatch::try_new(Arc::clone(&rows), columns)?)
    });
    Arc::new(map)
}

/// The whole log, without the keys.
fn all_entries(index: usize, prior: &Arc<dyn TableProvider>) -> DataFusionResult<LogicalPlan> {
    let columns = OWN_COLUMNS.iter().map(|(name, _)| match *name {
        DIGEST => digest_of_stored().alias(DIGEST),
        name => ident(name),
    });
    scan(&format!("__entries_{index}"), prior)?.project(columns.collect::<Vec<_>>())?.build()
}

/// The digests and keys of groups that have timers until `due_ms`: rows of the log that no later row of the same timer
/// follows.
fn due(index: usize, prior: &Arc<dyn TableProvider>, due_ms: i64) -> DataFusionResult<LogicalPlan> {
    let (due, later) = (format!("__due_{index}"), format!("__later_{index}"));
    let is_due = || ident(VARIABLE).eq(lit(TIMERS)).and(ident(PLACE).lt_eq(lit(due_ms)));
    let schema = prior.schema();
    let keys = schema.fields().iter().skip(OWN_COLUMNS.len()).map(|field| ident(field.name()));
    let columns = [digest_of_stored().alias(DIGEST), ident(PLACE), ident(BATCH)];
    let candidates = scan(&due, prior)?
        .filter(is_due().and(ident(REMOVED).is_not_true()))?
        .project(columns.clone().into_iter().chain(keys.clone()).collect::<Vec<_>>())?;
    let candidates = candidates.alias(due.as_str())?.build()?;
    let all = scan(&later, prior)?.filter(is_due())?.project(columns.to_vec())?.alias(later.as_str())?.build()?;
    let of = |table: &str, name: &str| Column::new(Some(table), name);
    let follows = Expr::Column(of(&later, BATCH)).gt(Expr::Column(of(&due, BATCH)));
    let both = |table: &str| vec![of(table, DIGEST), of(table, PLACE)];
    LogicalPlanBuilder::from(candidates)
        .join_detailed(
            all,
            JoinType::LeftAnti,
            (both(&due), both(&later)),
            Some(follows),
            NullEquality::NullEqualsNothing,
        )?
        .project([ident(DIGEST)].into_iter().chain(keys).collect::<Vec<_>>())?
        .build()
}

/// Whether a processor's state in `prior` has a timer until `due_ms`, as a plan that has a row if so.
///
/// # Errors
/// `Internal` if `prior` is no such state.
pub fn first_timer(prior: &Arc<dyn TableProvider>, due_ms: i64) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::from(due(0, prior, due_ms)?).limit(0, Some(1))?.build()?)
}

/// The rows of a log of entries that are in force after the batch of `state`: the latest of each entry, of variables that
/// are declared; with `whole`, without what has been removed or has expired, since no older row is left that it must hide.
///
/// # Errors
/// `Internal` if they are no rows of such a log.
pub fn latest_entries(log: DataFrame, state: &OperatorState, whole: bool) -> Result<DataFrame> {
    const NUMBER: &str = "__number";
    let columns: Vec<Expr> = log.schema().fields().iter().map(|field| ident(field.name())).collect();
    let number = row_number()
        .partition_by([DIGEST, VARIABLE, ENTRY, PLACE].map(ident).to_vec())
        .order_by(vec![ident(BATCH).sort(false, false)])
        .build()?
        .alias(NUMBER);
    let declared = state.variables.all().into_iter().fold(ident(VARIABLE).eq(lit(TIMERS)), |any, (name, variable)| {
        any.or(ident(VARIABLE).eq(lit(name)).and(ident(BATCH).gt_eq(lit(variable.since))))
    });
    let mut latest = log.filter(declared)?.window(vec![number])?.filter(ident(NUMBER).eq(lit(1_u64)))?;
    if whole {
        let lives = ident(EXPIRES).is_null().or(ident(EXPIRES).gt(lit(state.moment.processing_ms)));
        latest = latest.filter(ident(REMOVED).is_not_true().and(lives))?;
    }
    Ok(latest.select(columns)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
