//! What cannot run on a stream yet, as problems with advice.

use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan};
use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::error::Result;
use deltaworks_spark::python::{GroupsWithState, TimeMode, Timeout, TransformWithState};
use deltaworks_spark::streaming::is_streaming;
use deltaworks_spark::windowing::session_of;

use crate::aggregate::{Emission, emission};
use crate::digest::has_digest;
use crate::event_time::{event_time_column, watermark_column};
use crate::fingerprint;
use crate::grouping_sets::keys;
use crate::join::is_of_streams;
use crate::outer_join;
use crate::processor::as_processor;
use crate::state::{as_deduplicate, expiry};
use crate::user_state::{as_groups, unfit_key};

const CONDITION: &str = "UNSUPPORTED_STREAMING_OPERATOR";
const MATERIALIZED_VIEW: &str = "Compute it in a materialized view that reads the stream's table without STREAM.";

/// Kinds of operators that a stream cannot have everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOperator {
    /// `GROUP BY` and aggregates without it.
    Aggregate,
    /// `DISTINCT`, `dropDuplicates`
    Distinct,
    /// `JOIN`
    Join,
    /// `applyInPandasWithState`
    GroupsWithState,
    /// `transformWithState`
    Processor,
    /// `LIMIT`, `OFFSET`
    Limit,
    /// `WITH RECURSIVE`
    Recursion,
    /// `ORDER BY`, `SORT BY`
    Sort,
    /// A subquery in an expression.
    Subquery,
    /// `UNION`
    Union,
    /// Functions `OVER` rows.
    Window,
}

/// An operator that cannot run on a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamProblem {
    /// Its kind.
    pub operator: StreamOperator,
    /// Why, as a whole sentence, and what to do. It has no place: plans do not know theirs.
    pub diagnostic: Diagnostic,
}

/// Names each operator over a stream that would give other rows batch by batch than over the whole.
///
/// # Errors
/// `Internal` if the plan cannot be walked.
pub fn unsupported_streaming(plan: &LogicalPlan) -> Result<Vec<StreamProblem>> {
    let mut problems = Vec::new();
    plan.apply_with_subqueries(|node| {
        if is_streaming(node) {
            problems.extend(problem_of(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(problems)
}

fn problem_of(node: &LogicalPlan) -> Option<StreamProblem> {
    let over_stream = node.inputs().iter().any(|input| is_streaming(input));
    match node {
        LogicalPlan::TableScan(_) => None,
        _ if keeps_state(node) && node.inputs().iter().any(|input| is_complete(input)) => Some(problem(
            StreamOperator::Aggregate,
            "a stateful operator over an aggregation without a watermark is not possible: that gives out all groups by each batch",
            "Group by a window over a column with a watermark, or do the rest in a materialized view.",
        )),
        LogicalPlan::Join(join) => join_problem(join),
        LogicalPlan::Union(union) if union.inputs.iter().any(|input| is_complete(input)) => Some(problem(
            StreamOperator::Union,
            "UNION with an aggregation without a watermark is not possible on a stream: each batch replaces all rows",
            "Give the aggregation a watermark and a window, or a table of its own.",
        )),
        LogicalPlan::Union(union) if !union.inputs.iter().all(|input| is_streaming(input)) => Some(problem(
            StreamOperator::Union,
            "UNION of a stream and a table is not possible: the table would be added again by every batch",
            "Use one append flow per input, or read all inputs as streams.",
        )),
        _ if reads_stream_in_expression(node) || (!over_stream && !node.inputs().is_empty()) => Some(problem(
            StreamOperator::Subquery,
            "a stream cannot be read in a subquery of an expression",
            "Join with the stream, or read the table without STREAM.",
        )),
        LogicalPlan::Aggregate(aggregate) => aggregate_problem(aggregate),
        LogicalPlan::Extension(_) if as_groups(node).is_some() => as_groups(node).and_then(groups_problem),
        LogicalPlan::Extension(_) if as_processor(node).is_some() => as_processor(node).and_then(processor_problem),
        LogicalPlan::Window(_) => Some(problem(
            StreamOperator::Window,
            "window functions over rows are not possible on a stream",
            "To keep one row per key use dropDuplicates or AUTO CDC; otherwise use a materialized view.",
        )),
        // All rows are written anew by each batch, in any order.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() && is_complete(&sort.input) => None,
        LogicalPlan::Sort(_) => Some(problem(
            StreamOperator::Sort,
            "ORDER BY is not possible on a stream",
            "Sort where the streaming table is read.",
        )),
        LogicalPlan::Limit(_) => Some(problem(
            StreamOperator::Limit,
            "LIMIT is not possible on a stream",
            "Limit where the streaming table is read.",
        )),
        LogicalPlan::Distinct(Distinct::On(_)) => Some(problem(
            StreamOperator::Distinct,
            "DISTINCT ON is not possible on a stream",
            "Use dropDuplicates with the key columns.",
        )),
        LogicalPlan::RecursiveQuery(_) => {
            Some(problem(StreamOperator::Recursion, "a recursive query cannot read a stream", MATERIALIZED_VIEW))
        }
        _ if as_deduplicate(node)
            .is_some_and(|deduplicate| joins_streams(&deduplicate.input) && expiry(&deduplicate).is_some()) =>
        {
            Some(problem(
                StreamOperator::Distinct,
                "deduplication by event time over a join of two streams is not supported: what the join gives out may be late",
                "Write the join to a streaming table and deduplicate that, with a watermark of its own.",
            ))
        }
        _ if as_deduplicate(node).is_some_and(|deduplicate| {
            deduplicate.within_watermark && event_time_column(&deduplicate.input).is_none()
        }) =>
        {
            Some(problem(
                StreamOperator::Distinct,
                "dropDuplicatesWithinWatermark needs a watermark on the stream",
                "Declare it: withWatermark(\"column\", \"10 minutes\"). Or use dropDuplicates, which remembers keys for ever.",
            ))
        }
        _ => None,
    }
}

/// Whether an expression of `node` has a subquery that reads a stream: it would see a batch of it where it needs all rows.
fn reads_stream_in_expression(node: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = node.apply_expressions(|expr| {
        expr.apply(|expr| {
            let subquery = match expr {
                Expr::ScalarSubquery(subquery) => Some(subquery),
                Expr::Exists(exists) => Some(&exists.subquery),
                Expr::InSubquery(within) => Some(&within.subquery),
                Expr::SetComparison(comparison) => Some(&comparison.subquery),
                _ => None,
            };
            found |= subquery.is_some_and(|subquery| is_streaming(&subquery.subquery));
            Ok(TreeNodeRecursion::Continue)
        })
    });
    walked.is_ok() && found
}

fn keeps_state(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(_))
        || matches!(node, LogicalPlan::Join(join) if is_of_streams(join))
        || as_deduplicate(node).is_some()
        || as_groups(node).is_some()
        || as_processor(node).is_some()
}

/// Whether a join of two streams is in `plan`: a row that comes may be joined with any that came before.
fn joins_streams(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(join) if is_of_streams(join)))).unwrap_or_default()
}

fn aggregate_problem(aggregate: &Aggregate) -> Option<StreamProblem> {
    match emission(aggregate) {
        Some(Emission::WhenFinal { .. }) if joins_streams(&aggregate.input) => Some(problem(
            StreamOperator::Aggregate, "an aggregation by event time over a join of two streams is not supported yet: what the join gives out may be late",
            "Write the join to a streaming table and aggregate that, with a watermark of its own.",
        )),
        Some(Emission::WhenFinal { .. }) => None,
        Some(Emission::Complete) => {
            keys(aggregate).into_iter().any(|key| session_of(key, &aggregate.input).is_some()).then(|| {
                problem(
                    StreamOperator::Aggregate, "session_window on a stream needs a watermark on its time",
                    "Declare it: withWatermark(\"column\", \"10 minutes\"), or WATERMARK column DELAY OF INTERVAL 10 MINUTES.",
                )
            })
        }
        None => Some(problem(
            StreamOperator::Aggregate, "an aggregation of a stream with a watermark must group by the watermark's column or a window over it",
            "Group by window(column, …) too, or leave the watermark out: then each batch rewrites the whole table.",
        )),
    }
}

/// Keys that have no order, and what a timeout by event time cannot do without.
fn groups_problem(groups: &GroupsWithState) -> Option<StreamProblem> {
    if let Some(key) = unfit_key(groups) {
        return Some(problem(
            StreamOperator::GroupsWithState,
            &format!("applyInPandasWithState cannot group rows by `{key}`, which holds a map"),
            "Group by its entries as an array, or by its text.",
        ));
    }
    if groups.function.timeout() != Timeout::EventTime {
        return None;
    }
    if watermark_column(&groups.input).is_none() {
        return Some(problem(
            StreamOperator::GroupsWithState,
            "applyInPandasWithState with EventTimeTimeout needs a watermark on the stream",
            "Declare it before groupBy: withWatermark(\"column\", \"10 minutes\").",
        ));
    }
    joins_streams(&groups.input).then(|| {
        problem(
            StreamOperator::GroupsWithState,
            "applyInPandasWithState with EventTimeTimeout over a join of two streams is not supported: what the join gives out may be late",
            "Write the join to a streaming table and read that, with a watermark of its own.",
        )
    })
}

/// Keys that have no order, and what timers by event time cannot do without.
fn processor_problem(node: &TransformWithState) -> Option<StreamProblem> {
    let of = |message: &str, help: &str| Some(problem(StreamOperator::Processor, message, help));
    let mut keys = node.input.schema().fields()[node.keys()].iter();
    if let Some(key) = keys.find(|key| !has_digest(key.data_type())) {
        let key = fingerprint::of_name(key.name());
        let message = format!("transformWithState cannot group rows by `{key}`, which holds a map");
        return of(&message, "Group by its entries as an array, or by its text.");
    }
    let is_timed = node.processor.mode() == TimeMode::EventTime || node.processor.event_time().is_some();
    if !is_timed {
        return None;
    }
    if watermark_column(&node.input).is_none() {
        let help = "Declare it before groupBy: withWatermark(\"column\", \"10 minutes\").";
        if node.processor.event_time().is_none() {
            return of("transformWithState in the time mode EventTime needs a watermark on the stream", help);
        }
        let mut found = problem(
            StreamOperator::Processor,
            "transformWithState with an event time column needs a watermark on the stream",
            help,
        );
        found.diagnostic = found.diagnostic.with_condition("CANNOT_ASSIGN_EVENT_TIME_COLUMN_WITHOUT_WATERMARK");
        return Some(found);
    }
    joins_streams(&node.input).then(|| {
        problem(
            StreamOperator::Processor,
            "transformWithState by event time over a join of two streams is not supported: what the join gives out may be late",
            "Write the join to a streaming table and read that, with a watermark of its own.",
        )
    })
}

/// What the batches of a streaming query do to their target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Each adds rows.
    Append,
    /// Each gives the whole result as it is then.
    Complete,
}

/// The output mode of a plan that [`unsupported_streaming`] has no problem with.
pub fn output_mode(plan: &LogicalPlan) -> OutputMode {
    if is_complete(plan) { OutputMode::Complete } else { OutputMode::Append }
}

/// Whether a streaming aggregation in `plan` gives out all groups by each batch.
fn is_complete(plan: &LogicalPlan) -> bool {
    plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Aggregate(aggregate)
            if is_streaming(&aggregate.input) && emission(aggregate) == Some(Emission::Complete)))
    })
    .unwrap_or_default()
}

fn join_problem(join: &Join) -> Option<StreamProblem> {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let (left, right) = (is_streaming(&join.left), is_streaming(&join.right));
    if left && right {
        return outer_join_problem(join);
    }
    let possible = match join.join_type {
        Inner => true,
        Left | LeftSemi | LeftAnti | LeftMark => left,
        Right | RightSemi | RightAnti | RightMark => right,
        JoinType::Full => false,
    };
    (!possible && (left || right)).then(|| {
        problem(
            StreamOperator::Join,
            &format!("a {} join that keeps rows of the static side is not possible on a stream", join.join_type),
            "Put the stream on the side whose rows are kept, or use an inner join.",
        )
    })
}

/// What is missing for rows without a partner to be given out.
fn outer_join_problem(join: &Join) -> Option<StreamProblem> {
    let (name, sides) = match join.join_type {
        JoinType::Inner => return None,
        JoinType::Left => ("left outer", "the right one"),
        JoinType::LeftSemi => ("left semi", "the right one"),
        JoinType::LeftAnti => ("left anti", "the right one"),
        JoinType::Right => ("right outer", "the left one"),
        JoinType::Full => ("full outer", "both"),
        other => {
            return Some(problem(
                StreamOperator::Join,
                &format!("a {other} join of two streams is not supported"),
                "Use an inner or an outer join, read one of the two without STREAM, or join in a materialized view.",
            ));
        }
    };
    if joins_streams(&join.left) || joins_streams(&join.right) {
        return Some(problem(
            StreamOperator::Join,
            &format!("a {name} join over a join of two streams is not supported: what that gives out may be late"),
            "Write the other join to a streaming table, and read that, with a watermark of its own.",
        ));
    }
    outer_join::sides(join).is_none().then(|| {
        problem(
            StreamOperator::Join,
            &format!(
                "a {name} join of two streams needs a watermark on {sides}, and a condition on event times that says how \
                 late a partner may come"
            ),
            "Declare watermarks on both (withWatermark, WATERMARK … DELAY OF …), and bound the times in the condition: \
             `b.at BETWEEN a.at AND a.at + INTERVAL 1 HOUR`, or `a.at = b.at`.",
        )
    })
}

fn problem(operator: StreamOperator, message: &str, help: &str) -> StreamProblem {
    StreamProblem { operator, diagnostic: Diagnostic::error(message).with_condition(CONDITION).with_help(help) }
}
