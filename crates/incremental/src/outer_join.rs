//! Outer and semi joins of two streams: rows without a partner are given out once none can come any more.
//!
//! The rows of both sides are kept until the watermark has passed all that may be joined with them. A batch joins all of
//! them anew, and gives out
//!
//! - pairs of which one row is new;
//! - rows of a preserved side that have no partner, by the batch whose watermark passes the latest time that one could have had.
//!   The rows of the other side are kept for so long that a partner which came is still there to be found;
//! - of a semi join, rows that have a partner now and had none before.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{
    EmptyRelation, Expr, ExprSchemable as _, Extension, Join, LogicalPlan, LogicalPlanBuilder, ident, lit,
};
use deltaworks_spark::error::{Error, Result};

use crate::aggregate::EXPIRES;
use crate::event_time::event_time_column;
use crate::join::AllRows;
use crate::join_bounds::{Bound, Bounds};
use crate::state::{NewRows, OperatorState};
use crate::watermark::{InTime, Watermarks};

/// What becomes of the rows of one side.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// Rows that are late by it are left out: an event time, or a window.
    time: Option<Column>,
    /// Until when they may find partners, if rows without one are given out, or the first partner counts.
    emitted: Option<Bound>,
    /// Until when they are kept: a time of theirs, and so much more. For ever if there is no telling.
    pub kept: Option<(Expr, i64)>,
}

/// The sides whose rows the join preserves, or gives out once: left and right.
pub(crate) fn preserved(join_type: JoinType) -> [bool; 2] {
    match join_type {
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => [true, false],
        JoinType::Right => [false, true],
        JoinType::Full => [true, true],
        _ => [false, false],
    }
}

/// Both sides of `join`; `None` if rows of a preserved one might find a partner for ever.
pub(crate) fn sides(join: &Join) -> Option<[Side; 2]> {
    let Bounds { left, right } = Bounds::of(join);
    let [of_left, of_right] = preserved(join.join_type);
    if (of_left && left.is_none()) || (of_right && right.is_none()) {
        return None;
    }
    let side = |input: &LogicalPlan, own: &Option<Bound>, is_preserved: bool, other: &Option<Bound>, other_is: bool| {
        let bounded = other.as_ref().map(|other| other.partner.clone());
        Side {
            time: bounded.or_else(|| event_time_column(input).map(|(column, _)| column)),
            emitted: own.clone().filter(|_| is_preserved),
            kept: kept(own, other, other_is),
        }
    };
    Some([side(&join.left, &left, of_left, &right, of_right), side(&join.right, &right, of_right, &left, of_left)])
}

/// Until when rows are kept: as long as partners may come, and as long as one that is here waits to be given out.
fn kept(own: &Option<Bound>, other: &Option<Bound>, other_is_preserved: bool) -> Option<(Expr, i64)> {
    let own = own.as_ref()?;
    let longer_us = match (other_is_preserved, other) {
        (false, _) => 0,
        (true, Some(Bound { of_own: Some((time, after_us)), .. })) if *time == own.partner => (*after_us).max(0),
        (true, _) => return None,
    };
    Some((own.time.clone(), own.plus_us.checked_add(longer_us)?))
}

/// `join` with the rows of earlier batches, and those that can find no partner any more.
pub(crate) fn bind(index: usize, join: &Join, sides: &[Side; 2], states: [&OperatorState; 2]) -> Result<LogicalPlan> {
    let bound = |place: usize, input: &Arc<LogicalPlan>| -> Result<LogicalPlan> {
        all_rows(index + place, input, &sides[place], states[place])
    };
    let (left, right) = (bound(0, &join.left)?, bound(1, &join.right)?);
    let flags = [old(index), old(index + 1)];
    let either_is_new = flags[0].clone().is_false().or(flags[1].clone().is_false());
    let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    if join.join_type == JoinType::LeftSemi {
        let candidates = joined(join, left, right.clone(), JoinType::LeftSemi, Some(either_is_new))?;
        let first = match kept_rows(index + 1, &right, states[1])? {
            Some(before) => joined(join, candidates, before, JoinType::LeftAnti, Some(flags[0].clone()))?,
            None => candidates,
        };
        return Ok(LogicalPlanBuilder::from(first).project(columns)?.build()?);
    }
    let of = |place: usize| unpaired(&flags[place], &sides[place], [&join.left, &join.right][place], states[place]);
    let (no_left, no_right) = (flags[0].clone().is_null(), flags[1].clone().is_null());
    let pairs = flags[0].clone().is_not_null().and(flags[1].clone().is_not_null()).and(either_is_new);
    let (all, wanted) = match join.join_type {
        JoinType::LeftAnti => (JoinType::Left, no_right.and(of(0)?)),
        JoinType::Left => (JoinType::Left, pairs.or(no_right.and(of(0)?))),
        JoinType::Right => (JoinType::Right, pairs.or(no_left.and(of(1)?))),
        _ => (JoinType::Full, pairs.or(no_right.and(of(0)?)).or(no_left.and(of(1)?))),
    };
    let rows = joined(join, left, right, all, None)?;
    Ok(LogicalPlanBuilder::from(rows).filter(wanted)?.project(columns)?.build()?)
}

/// The name of the column that says whether a row came in an earlier batch.
pub(crate) fn old_name(index: usize) -> String {
    format!("__old_{index}")
}

fn old(index: usize) -> Expr {
    Expr::Column(Column::from_name(old_name(index)))
}

/// `left` and `right` on the condition of `join`, and on `more`.
fn joined(
    join: &Join,
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    more: Option<Expr>,
) -> Result<LogicalPlan> {
    let filter = match (&join.filter, more) {
        (Some(filter), Some(more)) => Some(filter.clone().and(more)),
        (filter, more) => filter.clone().or(more),
    };
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        filter,
        join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?))
}

/// The rows of a side that are in time, and those that are kept.
fn all_rows(index: usize, input: &Arc<LogicalPlan>, side: &Side, state: &OperatorState) -> Result<LogicalPlan> {
    let rows = match &side.time {
        Some(time) => InTime::over(input.as_ref().clone(), time, state.watermarks, &state.late_rows),
        None => input.as_ref().clone(),
    };
    let (rows, expiry_us) = match &side.kept {
        Some((time, plus_us)) => {
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            let time = time.clone().alias(format!("__time_{index}"));
            (LogicalPlanBuilder::from(rows).project(columns.chain([time]))?.build()?, Some(*plus_us))
        }
        None => (rows, None),
    };
    let prior = prior(index, state, expiry_us.is_some())?;
    let node = AllRows::new(Arc::new(rows), prior.map(Arc::new), old_name(index), state.new_rows.clone(), expiry_us)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The rows of earlier batches that the watermark of the batch before has not passed.
fn prior(index: usize, state: &OperatorState, expires: bool) -> Result<Option<LogicalPlan>> {
    let Some(prior) = &state.prior else { return Ok(None) };
    let scan = LogicalPlanBuilder::scan(format!("__rows_{index}"), provider_as_source(Arc::clone(prior)), None)?;
    Ok(Some(match state.watermarks.late_us {
        Some(late_us) if expires => {
            let watermark = lit(ScalarValue::TimestampMicrosecond(Some(late_us), Some("UTC".into())));
            scan.filter(ident(EXPIRES).gt(watermark))?.build()?
        }
        _ => scan.build()?,
    }))
}

/// Of `rows`, which are those of a side, the ones of earlier batches alone; `None` if there are none.
fn kept_rows(index: usize, rows: &LogicalPlan, state: &OperatorState) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = rows else { return Ok(None) };
    let Some(rows) = extension.node.as_any().downcast_ref::<AllRows>() else { return Ok(None) };
    let Some(prior) = prior(index, state, rows.expiry_us.is_some())? else { return Ok(None) };
    let schema = Arc::clone(rows.input.schema());
    let nothing = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
    let unused = NewRows::new(state.new_rows.schema());
    let node = AllRows::new(
        Arc::new(nothing),
        Some(Arc::new(prior)),
        format!("{}_before", old_name(index)),
        unused,
        rows.expiry_us,
    )?;
    Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// Whether rows of a preserved side, which have no partner, are given out by the batch.
fn unpaired(old: &Expr, side: &Side, input: &LogicalPlan, state: &OperatorState) -> Result<Expr> {
    let Some(bound) = &side.emitted else { return Ok(lit(false)) };
    let data_type = bound.time.get_type(input.schema())?;
    let time = match data_type {
        DataType::Struct(_) => get_field(bound.time.clone(), "end"),
        _ => bound.time.clone(),
    };
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = time.get_type(input.schema())? else {
        return Err(Error::internal(format!("`{time}` is no event time")));
    };
    let is_new = old.clone().is_false();
    // No condition holds for a time that is missing.
    let never = is_new.clone().and(time.clone().is_null());
    let until = |us: i64| {
        let watermark = ScalarValue::TimestampMicrosecond(Some(us.saturating_sub(bound.plus_us)), zone.clone());
        time.clone().lt_eq(lit(watermark))
    };
    let Watermarks { late_us, final_us } = state.watermarks;
    Ok(match (final_us, late_us) {
        (None, _) => never,
        (Some(final_us), None) => never.or(until(final_us)),
        // What the watermark had passed before has been given out, unless it has just come.
        (Some(final_us), Some(late_us)) => {
            never.or(until(final_us).and(is_new.or(Expr::Not(Box::new(until(late_us))))))
        }
    })
}
