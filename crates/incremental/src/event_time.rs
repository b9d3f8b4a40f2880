//! Which columns of a streaming plan are event times under a watermark, or windows of one.

use datafusion::common::Column;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use deltaworks_spark::operators::EventTimeWatermark;
use deltaworks_spark::python::StatefulProcessor;
use deltaworks_spark::windowing::window_of;

use crate::grouping_sets::{Expand, keys};
use crate::join::AllRows;
use crate::processor::{BoundProcessor, as_processor};
use crate::user_state::{BoundGroups, as_groups};

/// What a value says of the event time of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It is the event time.
    Instant,
    /// It is a window around the event time, of the lengths given.
    Window(String),
    /// It is the session that the event opens, with the gap given.
    Session(String),
}

/// An event time that a watermark is declared for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventTime {
    pub shape: Shape,
    /// How much later than the latest event time a row may come.
    pub delay_us: i64,
}

impl EventTime {
    fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }
}

/// The event time that `expr` over the rows of `input` is; `None` if it is not one, or has no watermark.
pub(crate) fn event_time(expr: &Expr, input: &LogicalPlan) -> Option<EventTime> {
    match expr {
        Expr::Alias(alias) => event_time(&alias.expr, input),
        Expr::Column(column) => of_column(column, input),
        Expr::ScalarFunction(call) => of_call(call, input),
        _ => None,
    }
}

/// The first column of `plan` that is an event time itself.
pub(crate) fn event_time_column(plan: &LogicalPlan) -> Option<(Column, EventTime)> {
    plan.schema().columns().into_iter().find_map(|column| {
        let time = of_column(&column, plan)?;
        (time.shape == Shape::Instant).then_some((column, time))
    })
}

/// The column of `plan` that says whether a row is late: an event time, or else a window of one.
pub(crate) fn watermark_column(plan: &LogicalPlan) -> Option<Column> {
    let window = || plan.schema().columns().into_iter().find(|column| of_column(column, plan).is_some());
    event_time_column(plan).map(|(column, _)| column).or_else(window)
}

fn of_call(call: &ScalarFunction, input: &LogicalPlan) -> Option<EventTime> {
    if let Some(window) = window_of(call) {
        return event_time(window, input);
    }
    let time = event_time(call.args.first()?, input)?;
    match (call.name(), &time.shape) {
        // A window of windows is around their last instants.
        ("window" | "windows", _) => Some(time.shaped(Shape::Window(lengths(call, input)))),
        ("session_window", _) => Some(time.shaped(Shape::Session(lengths(call, input)))),
        ("window_time", Shape::Window(_) | Shape::Session(_)) => Some(time.shaped(Shape::Instant)),
        _ => None,
    }
}

/// The event time that a processor says a column of its output is; its watermark is that of the input.
fn given_by(processor: &StatefulProcessor, index: usize, input: &LogicalPlan) -> Option<EventTime> {
    let time = event_time_column(input).map(|(_, time)| time);
    time.or_else(|| of_column(&watermark_column(input)?, input))
        .filter(|_| processor.event_time() == Some(index))
        .map(|time| time.shaped(Shape::Instant))
}

/// The arguments after the time, as text.
fn lengths(call: &ScalarFunction, input: &LogicalPlan) -> String {
    let lengths: Vec<_> = call
        .args
        .iter()
        .skip(1)
        .map(|arg| match arg {
            Expr::Literal(value, _) => value.to_string(),
            other => crate::fingerprint::of_expr(other, input.schema()),
        })
        .collect();
    lengths.join(", ")
}

fn of_column(column: &Column, plan: &LogicalPlan) -> Option<EventTime> {
    let index = plan.schema().maybe_index_of_column(column)?;
    let same_place = |input: &LogicalPlan| {
        let (qualifier, field) = input.schema().qualified_field(index);
        of_column(&Column::new(qualifier.cloned(), field.name()), input)
    };
    match plan {
        LogicalPlan::Projection(projection) => event_time(&projection.expr[index], &projection.input),
        LogicalPlan::Aggregate(aggregate) => event_time(keys(aggregate).get(index)?, &aggregate.input),
        LogicalPlan::SubqueryAlias(alias) => same_place(&alias.input),
        LogicalPlan::Union(union) => {
            let times: Vec<_> = union.inputs.iter().map(|input| same_place(input)).collect::<Option<_>>()?;
            let delay_us = times.iter().map(|time| time.delay_us).max()?;
            let first = times.first()?.clone();
            times.iter().all(|time| time.shape == first.shape).then_some(EventTime { delay_us, ..first })
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Join(_) => plan.inputs().into_iter().find_map(|input| of_column(column, input)),
        LogicalPlan::Extension(extension) => {
            if let Some(watermark) = extension.node.as_any().downcast_ref::<EventTimeWatermark>()
                && watermark.input.schema().maybe_index_of_column(&watermark.event_time) == Some(index)
            {
                return Some(EventTime { shape: Shape::Instant, delay_us: watermark.delay_us });
            }
            if let Some(aggregate) = extension.node.as_any().downcast_ref::<crate::aggregate::StatefulAggregate>() {
                return event_time(aggregate.group_expr.get(index)?, &aggregate.input);
            }
            if let Some(rows) = extension.node.as_any().downcast_ref::<AllRows>() {
                return of_column(column, &rows.input);
            }
            if let Some(rows) = extension.node.as_any().downcast_ref::<Expand>() {
                return of_column(column, &rows.input);
            }
            if as_groups(plan).is_some() || extension.node.as_any().is::<BoundGroups>() {
                return None;
            }
            if let Some(processor) = as_processor(plan) {
                return given_by(&processor.processor, index, &processor.input);
            }
            if let Some(bound) = extension.node.as_any().downcast_ref::<BoundProcessor>() {
                return given_by(&bound.processor, index, bound.inputs.first()?);
            }
            // Others either pass all columns on or make new ones.
            match extension.node.inputs().as_slice() {
                [input] if input.schema() == extension.node.schema() => of_column(column, input),
                _ => None,
            }
        }
        _ => None,
    }
}
