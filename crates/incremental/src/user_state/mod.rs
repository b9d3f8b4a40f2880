//! Functions of users that remember something of each group of a stream.
//!
//! The state is a log: a batch adds a row for each group whose state it changes, and the row of the latest batch is the
//! state of a group. A batch reads past the log once, for the groups that it has rows of; where groups may time out, the
//! rows whose time has come are looked up first, less those that a later row has overtaken. So a large state costs time
//! but no memory. [`newest`] says what is left of the log when files are merged.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, cast, ident, lit,
};
use datafusion::prelude::DataFrame;
use deltaworks_spark::error::Result;
use deltaworks_spark::python::{GroupsWithState, Timeout};
use deltaworks_spark::streaming::is_streaming;
use deltaworks_spark::types::type_name;

use crate::aggregate::stored_type;
use crate::digest::{DIGEST_BYTES, has_digest, key_digest};
use crate::event_time::watermark_column;
use crate::fingerprint;
use crate::state::{OperatorKind, OperatorState, StatefulOperator};
use crate::watermark::InTime;

mod bound;
pub(crate) mod exec;
pub(crate) mod groups;

pub(crate) use bound::BoundGroups;

/// The digest of the group's key.
pub(crate) const DIGEST: &str = "digest";
/// The number of the batch that wrote the row.
pub(crate) const BATCH: &str = "batch";
/// Whether the group has been forgotten.
pub(crate) const REMOVED: &str = "removed";
/// Whether the group has a value, and not a timeout alone.
const HAS_VALUE: &str = "has_value";
/// When the group times out, in milliseconds since the epoch.
const TIMEOUT: &str = "timeout_ms";
/// How many columns stand before keys and values.
const OWN_COLUMNS: usize = 5;

/// The function with state that `node` is over a stream.
pub(crate) fn as_groups(node: &LogicalPlan) -> Option<&GroupsWithState> {
    match node {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<GroupsWithState>(),
        _ => None,
    }
}

/// The same, if its input is a stream.
pub(crate) fn as_streaming_groups(node: &LogicalPlan) -> Option<GroupsWithState> {
    as_groups(node).filter(|groups| is_streaming(&groups.input)).cloned()
}

/// The name of a key that groups cannot have.
pub(crate) fn unfit_key(groups: &GroupsWithState) -> Option<&str> {
    let keys = &groups.input.schema().fields()[groups.keys()];
    keys.iter().find(|key| !has_digest(key.data_type())).map(|key| fingerprint::of_name(key.name()))
}

pub(crate) fn describe(index: usize, groups: &GroupsWithState) -> Result<StatefulOperator> {
    let column =
        |field: &Arc<Field>| format!("{} {}", fingerprint::of_name(field.name()), type_name(field.data_type()));
    let all = |fields: &[Arc<Field>]| fields.iter().map(column).collect::<Vec<_>>().join(", ");
    let (keys, timeout) = (&groups.input.schema().fields()[groups.keys()], groups.function.timeout());
    let fingerprint =
        format!("state({}) of groups by ({}) with {}", all(groups.function.state()), all(keys), timeout.name());
    let waits = timeout == Timeout::EventTime;
    Ok(StatefulOperator::new(index, OperatorKind::UserState, fingerprint, waits, stored_schema(groups))
        .timing_out(timeout == Timeout::ProcessingTime))
}

/// The columns of the log.
fn stored_schema(groups: &GroupsWithState) -> SchemaRef {
    let mut fields = vec![
        Field::new(DIGEST, DataType::Binary, true),
        Field::new(BATCH, DataType::Int64, true),
        Field::new(REMOVED, DataType::Boolean, true),
        Field::new(HAS_VALUE, DataType::Boolean, true),
        Field::new(TIMEOUT, DataType::Int64, true),
    ];
    debug_assert_eq!(fields.len(), OWN_COLUMNS);
    let input = groups.input.schema();
    // The names of users' columns may be such as no table has.
    let numbered = |prefix: &'static str| {
        move |(place, field): (usize, &Arc<Field>)| {
            Field::new(format!("{prefix}_{place}"), stored_type(field.data_type()), true)
        }
    };
    fields.extend(input.fields()[groups.keys()].iter().enumerate().map(numbered("key")));
    fields.extend(groups.function.state().iter().enumerate().map(numbered("value")));
    Arc::new(Schema::new(fields))
}

/// `groups` with what earlier batches kept.
pub(crate) fn bind(index: usize, groups: &GroupsWithState, state: &OperatorState) -> Result<LogicalPlan> {
    let timeout = groups.function.timeout();
    let watermark = watermark_column(&groups.input);
    let mut input = groups.input.as_ref().clone();
    if let (Some(time), Timeout::EventTime) = (&watermark, timeout) {
        input = InTime::over(input, time, state.watermarks, &state.late_rows);
    }
    let columns: Vec<Expr> = groups.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut key = columns[groups.keys()].to_vec();
    if key.is_empty() {
        // Without keys all rows are one group.
        key.push(lit(true));
    }
    let digest = key_digest(state.key).call(key).alias(format!("__digest_{index}"));
    let rows = LogicalPlanBuilder::from(input).project(columns.into_iter().chain([digest]))?.build()?;
    let mut moment = state.moment;
    // A stream that declares a watermark has one from the beginning, as in Spark.
    moment.watermark_ms = watermark.map(|_| state.watermarks.final_us.map_or(0, |us| us.div_euclid(1000)));
    let mut inputs = vec![rows];
    if let Some(prior) = &state.prior {
        inputs.push(all_states(index, prior)?);
        if let Some(due_ms) = moment.due_ms(timeout) {
            inputs.push(due(index, prior, due_ms)?);
        }
    }
    let node = BoundGroups {
        inputs,
        function: Arc::clone(&groups.function),
        state: state.new_rows.clone(),
        batch: state.batch,
        moment,
        schema: Arc::clone(groups_schema(groups)),
    };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn groups_schema(groups: &GroupsWithState) -> &datafusion::common::DFSchemaRef {
    use datafusion::logical_expr::UserDefinedLogicalNodeCore as _;
    groups.schema()
}

/// The digest as it comes from the rows of a batch: Arrow has no cast from the views that readers give.
pub(crate) fn digest_of_stored() -> Expr {
    cast(cast(ident(DIGEST), DataType::Binary), DataType::FixedSizeBinary(DIGEST_BYTES))
}

pub(crate) fn scan(name: &str, prior: &Arc<dyn TableProvider>) -> DataFusionResult<LogicalPlanBuilder> {
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::clone(prior)), None)
}

/// The whole log.
fn all_states(index: usize, prior: &Arc<dyn TableProvider>) -> DataFusionResult<LogicalPlan> {
    scan(&format!("__groups_{index}"), prior)?.project(stored_columns(prior))?.build()
}

/// The columns of the log, with the digest in the form of the batch.
fn stored_columns(prior: &Arc<dyn TableProvider>) -> Vec<Expr> {
    let schema = prior.schema();
    let column = |field: &Arc<Field>| match field.name().as_str() {
        DIGEST => digest_of_stored().alias(DIGEST),
        name => ident(name),
    };
    schema.fields().iter().map(column).collect()
}

/// The state of groups that time out before `due_ms`: rows of the log that no later row of the same group follows.
fn due(index: usize, prior: &Arc<dyn TableProvider>, due_ms: i64) -> DataFusionResult<LogicalPlan> {
    let (due, later) = (format!("__due_{index}"), format!("__later_{index}"));
    let candidates = scan(&due, prior)?.filter(ident(TIMEOUT).lt(lit(due_ms)))?.project(stored_columns(prior))?;
    let candidates = candidates.alias(due.as_str())?.build()?;
    let all = scan(&later, prior)?.project(vec![digest_of_stored().alias(DIGEST), ident(BATCH)])?;
    let all = all.alias(later.as_str())?.build()?;
    let of = |table: &str, name: &str| Column::new(Some(table), name);
    let follows = Expr::Column(of(&later, BATCH)).gt(Expr::Column(of(&due, BATCH)));
    let (left, right) = (vec![of(&due, DIGEST)], vec![of(&later, DIGEST)]);
    LogicalPlanBuilder::from(candidates)
        .join_detailed(all, JoinType::LeftAnti, (left, right), Some(follows), NullEquality::NullEqualsNothing)?
        .build()
}

/// Whether a group of the state in `prior` times out before `due_ms`, as a plan that has a row if so.
///
/// # Errors
/// `Internal` if `prior` is no such state.
pub fn first_due(prior: &Arc<dyn TableProvider>, due_ms: i64) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::from(due(0, prior, due_ms)?).limit(0, Some(1))?.build()?)
}

/// The rows of a log of users' state that are the latest of their group; with `whole`, without what has been forgotten,
/// since no older row is left that it must hide.
///
/// # Errors
/// `Internal` if they are no rows of such a log.
pub fn newest(log: DataFrame, whole: bool) -> Result<DataFrame> {
    const PLACE: &str = "__place";
    let columns: Vec<Expr> = log.schema().fields().iter().map(|field| ident(field.name())).collect();
    let place = row_number()
        .partition_by(vec![ident(DIGEST)])
        .order_by(vec![ident(BATCH).sort(false, false)])
        .build()?
        .alias(PLACE);
    let mut newest = log.window(vec![place])?.filter(ident(PLACE).eq(lit(1_u64)))?;
    if whole {
        newest = newest.filter(ident(REMOVED).is_not_true())?;
    }
    Ok(newest.select(columns)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
