//! What cannot run on a stream yet, as problems with advice.

use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Distinct, Join, LogicalPlan};
use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::error::Result;
use deltaworks_spark::streaming::is_streaming;

use crate::state::as_deduplicate;

const CONDITION: &str = "UNSUPPORTED_STREAMING_OPERATOR";
const MATERIALIZED_VIEW: &str = "Compute it in a materialized view that reads the stream's table without STREAM.";

/// Names each operator over a stream that would give other rows batch by batch than over the whole.
///
/// # Errors
/// `Internal` if the plan cannot be walked.
pub fn unsupported_streaming(plan: &LogicalPlan) -> Result<Vec<Diagnostic>> {
    let mut problems = Vec::new();
    plan.apply_with_subqueries(|node| {
        if is_streaming(node) {
            problems.extend(problem_of(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(problems)
}

fn problem_of(node: &LogicalPlan) -> Option<Diagnostic> {
    let over_stream = node.inputs().iter().any(|input| is_streaming(input));
    match node {
        LogicalPlan::TableScan(_) => None,
        LogicalPlan::Join(join) => join_problem(join),
        LogicalPlan::Union(union) if !union.inputs.iter().all(|input| is_streaming(input)) => Some(problem(
            "UNION of a stream and a table is not possible: the table would be added again by every batch",
            "Use one append flow per input, or read all inputs as streams.",
        )),
        _ if !over_stream && !node.inputs().is_empty() => Some(problem(
            "a stream cannot be read in a subquery of an expression",
            "Join with the stream, or read the table without STREAM.",
        )),
        LogicalPlan::Aggregate(_) => Some(problem("aggregation of a stream is not supported yet", MATERIALIZED_VIEW)),
        LogicalPlan::Window(_) => Some(problem(
            "window functions over rows are not possible on a stream",
            "To keep one row per key use dropDuplicates or AUTO CDC; otherwise use a materialized view.",
        )),
        LogicalPlan::Sort(_) => {
            Some(problem("ORDER BY is not possible on a stream", "Sort where the streaming table is read."))
        }
        LogicalPlan::Limit(_) => {
            Some(problem("LIMIT is not possible on a stream", "Limit where the streaming table is read."))
        }
        LogicalPlan::Distinct(Distinct::On(_)) => {
            Some(problem("DISTINCT ON is not possible on a stream", "Use dropDuplicates with the key columns."))
        }
        LogicalPlan::RecursiveQuery(_) => Some(problem("a recursive query cannot read a stream", MATERIALIZED_VIEW)),
        _ if as_deduplicate(node).is_some_and(|deduplicate| deduplicate.within_watermark) => Some(problem(
            "dropDuplicatesWithinWatermark is not supported yet on a stream",
            "Use dropDuplicates, which remembers keys for ever.",
        )),
        _ => None,
    }
}

fn join_problem(join: &Join) -> Option<Diagnostic> {
    let (left, right) = (is_streaming(&join.left), is_streaming(&join.right));
    if left && right {
        return Some(problem(
            "a join of two streams is not supported yet",
            "Read one of the two without STREAM, or join in a materialized view.",
        ));
    }
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let possible = match join.join_type {
        Inner => true,
        Left | LeftSemi | LeftAnti | LeftMark => left,
        Right | RightSemi | RightAnti | RightMark => right,
        JoinType::Full => false,
    };
    (!possible && (left || right)).then(|| {
        problem(
            &format!("a {} join that keeps rows of the static side is not possible on a stream", join.join_type),
            "Put the stream on the side whose rows are kept, or use an inner join.",
        )
    })
}

fn problem(message: &str, help: &str) -> Diagnostic {
    Diagnostic::error(message).with_condition(CONDITION).with_help(help)
}
