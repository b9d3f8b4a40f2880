//! Which input of a join is kept in memory, and which one streams past it, so that rows come in Spark's order.
//!
//! Spark gives the rows of a join in the order of the input that streams, and lets the left one stream if the right one
//! is small. DataFusion keeps the smaller one, or the left one of two that are alike. Here small inputs are as in Spark:
//! the left one streams past a hash table. (Of an outer join, the rows of a batch without a partner come last.) Where
//! there is no equality to join by, DataFusion goes through the rows that are kept, so the left one is kept.
//!
//! A `NOT IN` has to keep the left one, because it is another question as soon as there is a NULL. Where files say that there is none, it is
//! a plain anti join.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::join_selection::JoinSelection;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use super::never_null::is_never_null;

/// In the place of DataFusion's rule, which still decides all but the sides.
#[derive(Debug, Default)]
pub(super) struct JoinSides {
    selection: JoinSelection,
}

impl PhysicalOptimizerRule for JoinSides {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.optimizer.join_reordering {
            return self.selection.optimize(plan, config);
        }
        let plan = plan.transform_up(|plan| swapped(plan, config)).data()?;
        let mut config = config.clone();
        config.optimizer.join_reordering = false;
        self.selection.optimize(plan, &config)
    }

    fn name(&self) -> &str {
        self.selection.name()
    }

    fn schema_check(&self) -> bool {
        self.selection.schema_check()
    }
}

/// DataFusion's joins keep their left input: the inputs are swapped where that must be the right one.
fn swapped(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        if join.null_aware {
            // It works on one side only.
            return match without_nulls(join)? {
                Some(join) => Ok(Transformed::yes(swapped(join, config)?.data)),
                None => Ok(Transformed::no(plan)),
            };
        }
        if keeps_right(*join.join_type(), Size::of(join.left())?, Size::of(join.right())?, config) {
            return Ok(Transformed::yes(join.swap_inputs(*join.partition_mode())?));
        }
    } else if let Some(join) = plan.downcast_ref::<CrossJoinExec>() {
        if streams_left(Size::of(join.left())?, Size::of(join.right())?, config) {
            return Ok(Transformed::yes(join.swap_inputs()?));
        }
    } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && streams_left(Size::of(join.left())?, Size::of(join.right())?, config)
    {
        return Ok(Transformed::yes(join.swap_inputs()?));
    }
    Ok(Transformed::no(plan))
}

/// A join that is aware of NULLs as one that is not, if its keys have none.
fn without_nulls(join: &HashJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    for (left, right) in join.on() {
        if !is_never_null(join.left(), left)? || !is_never_null(join.right(), right)? {
            return Ok(None);
        }
    }
    Ok(Some(join.builder().with_null_aware(false).build_exec()?))
}

/// Whether the left input is too large to be kept by a join that goes through what it keeps.
fn streams_left(left: Size, right: Size, config: &ConfigOptions) -> bool {
    !left.is_small(config) && left.compare(&right).is_some_and(|order| order.is_gt())
}

/// Whether the right input of a hash join is the one to be kept.
fn keeps_right(join_type: JoinType, left: Size, right: Size, config: &ConfigOptions) -> bool {
    use JoinType::{Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    match join_type {
        Left | LeftSemi | LeftAnti | LeftMark if right.is_small(config) => true,
        Right | RightSemi | RightAnti | RightMark if left.is_small(config) => false,
        _ => match left.compare(&right) {
            Some(order) => order.is_ge(),
            None => right.is_small(config) && !left.is_small(config),
        },
    }
}

/// What is known of the size of an input.
#[derive(Debug, Clone, Copy)]
struct Size {
    bytes: Option<usize>,
    rows: Option<usize>,
}

impl Size {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        let statistics: Arc<Statistics> = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
        Ok(Self {
            bytes: statistics.total_byte_size.get_value().copied(),
            rows: statistics.num_rows.get_value().copied(),
        })
    }

    /// By bytes, or else by rows.
    fn compare(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self.bytes, other.bytes) {
            (Some(bytes), Some(others)) => Some(bytes.cmp(&others)),
            _ => Some(self.rows?.cmp(&other.rows?)),
        }
    }

    /// Whether every partition of the other input may have its rows at hand.
    fn is_small(&self, config: &ConfigOptions) -> bool {
        let limits = &config.optimizer;
        match (self.bytes, self.rows) {
            (Some(bytes), _) => bytes < limits.hash_join_single_partition_threshold,
            (None, Some(rows)) => rows < limits.hash_join_single_partition_threshold_rows,
            (None, None) => false,
        }
    }
}

#[cfg(test)]
#[path = "join_sides_tests.rs"]
mod tests;
