//! Aggregation below a join: `SELECT c.name, sum(o.amount) FROM orders o JOIN customers c ON o.cid = c.id GROUP BY c.name` adds the
//! orders up by `cid` first, and joins a row per customer instead of one per order.
//!
//! The rows of one key meet the same rows of the other input, and an aggregate's state may be merged as often as they do. So the first
//! phase of an aggregation, which makes states of rows, may stand below an inner join whose keys it groups by; the second, which
//! merges them, stays where it is. (Yan and Larson, "Eager Aggregation and Lazy Aggregation", VLDB 1995.)
//!
//! Before:
//! ```text
//! Aggregate(Final, by name)
//!   Aggregate(Partial, by name, sum(amount))
//!     HashJoin(id = cid)
//!       customers
//!       orders
//! ```
//! After:
//! ```text
//! Aggregate(Final, by name)
//!   Projection(name, state of sum(amount))
//!     HashJoin(id = cid)
//!       customers
//!       Aggregate(Partial, by cid, sum(amount))
//!         orders
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::{CardinalityEffect, replace_children_if_necessary};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::harmless::is_harmless;

/// With fewer rows there is nothing to win.
const LEAST_ROWS: usize = 50_000;
/// How many rows of the larger input a row of the smaller should have, so that few states are left ..
const LEAST_RATIO: usize = 4;
/// .. and above which the smaller input is no longer thought to hold all keys of the larger: a join that keeps few rows had better come
/// first.
const MOST_RATIO: usize = 256;
/// Aggregates whose result does not depend on the order of their rows, and whose states are small.
const AGGREGATES: [&str; 9] = ["avg", "bit_and", "bit_or", "bool_and", "bool_or", "count", "max", "min", "sum"];

/// The rule. It knows what is read, but not what is in it: it takes inner joins with a much smaller input of which no row was left out,
/// as those of facts with a dimension are.
#[derive(Debug)]
pub(super) struct EagerAggregation;

impl PhysicalOptimizerRule for EagerAggregation {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let ansi = config.execution.enable_ansi_mode;
        plan.transform_up(|node| {
            let Some(last) = node.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(node)) };
            let merges = matches!(last.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
            let Some(first) = last.input().downcast_ref::<AggregateExec>().filter(|_| merges) else {
                return Ok(Transformed::no(node));
            };
            match below_join(first, ansi)? {
                Some(states) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![states])?)),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "eager_aggregation"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Expressions for the columns of a plan.
type Columns = Vec<Arc<dyn PhysicalExpr>>;

/// The plan that gives the states of `aggregate` with its rows grouped below the join; `None` where that cannot be, or would not pay.
fn below_join(aggregate: &AggregateExec, ansi: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let by = aggregate.group_expr();
    if *aggregate.mode() != AggregateMode::Partial
        || by.has_grouping_set()
        || by.is_empty()
        || aggregate.limit_options().is_some()
    {
        return Ok(None);
    }
    let Some((columns, join)) = joined(aggregate.input())? else { return Ok(None) };
    let Some(sides) = Sides::of(join) else { return Ok(None) };
    let groups = by.expr().iter().map(|(expr, _)| in_terms_of(expr, &columns)).collect::<Result<Vec<_>>>()?;
    if !groups.iter().all(|group| sides.knows(group)) {
        return Ok(None);
    }
    let (facts, schema) = (Arc::clone(join.right()), join.right().schema());
    let Some((functions, filters)) = sides.functions(aggregate, &columns, &schema, ansi)? else { return Ok(None) };
    if !pays(join)? {
        return Ok(None);
    }
    let keys = sides.keys.iter().map(|key| (column(&schema, *key), schema.field(*key).name().clone()));
    let keys = PhysicalGroupBy::new_single(keys.collect());
    let first = AggregateExec::try_new(AggregateMode::Partial, keys, functions, filters, facts, schema)?;
    // The input may be a join as well.
    let first: Arc<dyn ExecutionPlan> = match below_join(&first, ansi)? {
        Some(states) => states,
        None => Arc::new(first),
    };
    sides.joined_with(join, first, groups, aggregate).map(Some)
}

/// What the columns of a plan are in terms of those of the join below it, all of the left input and then all of the right.
fn joined(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<(Columns, &HashJoinExec)>> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let schema = join.join_schema();
        let columns = match &join.projection {
            Some(kept) => kept.iter().map(|index| column(schema, *index)).collect(),
            None => (0..schema.fields().len()).map(|index| column(schema, index)).collect(),
        };
        return Ok(Some((columns, join)));
    }
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let Some((below, join)) = joined(projection.input())? else { return Ok(None) };
    let columns = projection.expr().iter().map(|item| in_terms_of(&item.expr, &below)).collect::<Result<_>>()?;
    Ok(Some((columns, join)))
}

fn column(schema: &Schema, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

/// The expression with `columns` in the place of its own.
fn in_terms_of(expr: &Arc<dyn PhysicalExpr>, columns: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = Arc::clone(expr).transform_up(|part| {
        Ok(match part.downcast_ref::<Column>() {
            Some(column) => Transformed::yes(Arc::clone(&columns[column.index()])),
            None => Transformed::no(part),
        })
    });
    replaced.data()
}

/// The two inputs of a join, the larger of which is the right one.
struct Sides {
    /// How many columns the left input has.
    left: usize,
    /// The columns of the right input that it is joined by, each once.
    keys: Vec<usize>,
}

/// Aggregates, and the filter of each.
type Functions = (Vec<Arc<AggregateFunctionExpr>>, Vec<Option<Arc<dyn PhysicalExpr>>>);

impl Sides {
    /// `None` for joins that rows of one key may leave in different ways.
    fn of(join: &HashJoinExec) -> Option<Self> {
        if *join.join_type() != JoinType::Inner || join.filter().is_some() || join.fetch().is_some() || join.null_aware
        {
            return None;
        }
        let schema = join.right().schema();
        let mut keys = Vec::new();
        for (left, right) in join.on() {
            left.downcast_ref::<Column>()?;
            let right = right.downcast_ref::<Column>()?.index();
            // Grouping and joining need not agree on which floating point numbers are equal.
            if schema.field(right).data_type().is_floating() || schema.field(right).data_type().is_nested() {
                return None;
            }
            if !keys.contains(&right) {
                keys.push(right);
            }
        }
        Some(Self { left: join.left().schema().fields().len(), keys })
    }

    /// Whether the expression can be computed from the left input and the keys of the right.
    fn knows(&self, group: &Arc<dyn PhysicalExpr>) -> bool {
        let known = |column: &Column| column.index() < self.left || self.keys.contains(&(column.index() - self.left));
        !is_volatile(group) && collect_columns(group).iter().all(known)
    }

    /// The aggregates and their filters over the right input; `None` if they need more, or must not see rows that the join leaves out.
    fn functions(
        &self,
        aggregate: &AggregateExec,
        columns: &[Arc<dyn PhysicalExpr>],
        facts: &Schema,
        ansi: bool,
    ) -> Result<Option<Functions>> {
        let mut functions = Functions::default();
        for (function, filter) in aggregate.aggr_expr().iter().zip(aggregate.filter_expr()) {
            let takes = AGGREGATES.contains(&function.fun().name());
            if !takes || function.is_distinct() || !function.order_bys().is_empty() {
                return Ok(None);
            }
            let mut args = function.expressions();
            let of_function = args.len();
            args.extend(filter.clone());
            let mut moved = Vec::new();
            for arg in &args {
                let Some(arg) = self.of_right(in_terms_of(arg, columns)?)? else { return Ok(None) };
                if !is_harmless(&arg, facts, ansi)? {
                    return Ok(None);
                }
                moved.push(arg);
            }
            let filter = moved.split_off(of_function).pop();
            if ansi && !adds_up(function.fun().name(), &moved, facts)? {
                return Ok(None);
            }
            let Some(function) = function.with_new_expressions(moved, Vec::new()) else { return Ok(None) };
            functions.0.push(Arc::new(function));
            functions.1.push(filter);
        }
        Ok(Some(functions))
    }

    /// The expression over the right input alone.
    fn of_right(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        if collect_columns(&expr).iter().any(|column| column.index() < self.left) {
            return Ok(None);
        }
        self.renumbered(expr, |index| index - self.left).map(Some)
    }

    fn renumbered(
        &self,
        expr: Arc<dyn PhysicalExpr>,
        of_right: impl Fn(usize) -> usize,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let moved = expr.transform_up(|part| {
            Ok(match part.downcast_ref::<Column>() {
                Some(column) if column.index() >= self.left => {
                    Transformed::yes(Arc::new(Column::new(column.name(), of_right(column.index()))) as _)
                }
                _ => Transformed::no(part),
            })
        });
        moved.data()
    }

    /// The join with `states` for its right input, and of that what `aggregate` would have given.
    fn joined_with(
        &self,
        join: &HashJoinExec,
        states: Arc<dyn ExecutionPlan>,
        groups: Vec<Arc<dyn PhysicalExpr>>,
        aggregate: &AggregateExec,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let place = |key: usize| self.keys.iter().position(|of_right| *of_right == key).unwrap_or_default();
        let on = join.on().iter().map(|(left, right)| {
            let key = |column: &Column| place(column.index());
            let index = right.downcast_ref::<Column>().map(key).unwrap_or_default();
            (Arc::clone(left), column(&states.schema(), index))
        });
        let on = on.collect();
        let joined = join
            .builder()
            .with_new_children(vec![Arc::clone(join.left()), states])?
            .with_on(on)
            .with_projection(None)
            .reset_state()
            .recompute_properties()
            .build_exec()?;
        let (schema, given) = (aggregate.schema(), joined.schema());
        let first_state = self.left + self.keys.len();
        let mut items = Vec::with_capacity(schema.fields().len());
        for group in groups {
            items.push(self.renumbered(group, |index| self.left + place(index - self.left))?);
        }
        items.extend((first_state..given.fields().len()).map(|index| column(&given, index)));
        let named = items.into_iter().zip(schema.fields());
        let items = named.map(|(expr, field)| ProjectionExpr { expr, alias: field.name().clone() });
        Ok(Arc::new(ProjectionExec::try_new(items, joined)?))
    }
}

/// Whether no sum can have too many digits, which is an error in ANSI mode, though nobody may have asked for it.
fn adds_up(aggregate: &str, args: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<bool> {
    if !matches!(aggregate, "sum" | "avg") {
        return Ok(true);
    }
    for arg in args {
        let cast = arg.downcast_ref::<CastExpr>();
        let added = cast.map_or(arg, CastExpr::expr).data_type(schema)?;
        let fits = match added {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Float32 | DataType::Float64 => true,
            DataType::Decimal128(precision, _) => precision <= 28,
            _ => false,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the right input has many rows for each of the left, from which no row was left out.
fn pays(join: &HashJoinExec) -> Result<bool> {
    let rows = |plan: &Arc<dyn ExecutionPlan>| -> Result<Precision<usize>> {
        Ok(StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?.num_rows)
    };
    if !is_whole(join.left())? {
        return Ok(false);
    }
    let (Some(few), Some(many)) = (rows(join.left())?.get_value().copied(), rows(join.right())?.get_value().copied())
    else {
        return Ok(false);
    };
    Ok(many >= LEAST_ROWS && (few.saturating_mul(LEAST_RATIO)..=few.saturating_mul(MOST_RATIO)).contains(&many))
}

/// Whether the plan gives all rows of what it reads.
fn is_whole(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    match plan.children().as_slice() {
        [] => {
            let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
            Ok(statistics.num_rows.is_exact() == Some(true))
        }
        [input] => Ok(matches!(plan.cardinality_effect(), CardinalityEffect::Equal) && is_whole(input)?),
        _ => Ok(false),
    }
}

#[cfg(test)]
#[path = "eager_aggregation_tests.rs"]
mod tests;
