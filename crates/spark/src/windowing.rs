//! What windows of time mean for the rows of a query: Spark's rules for `window` and `session_window`.
//!
//! - A row whose time is NULL is in no window: it leaves.
//! - A row is in each of several windows that overlap: it comes once for each.
//! - Grouping by `session_window` merges sessions of the same other keys that overlap or touch.
//!   On a stream sessions grow from batch to batch; the aggregate is left as it is, for a stateful operator.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullHandling, ScalarValue, UnnestOptions};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, col, lit, when,
};

use crate::error::{Error, Result};
use crate::functions::{WINDOWS, WindowLengths, as_known, known};
use crate::streaming::is_streaming;

/// The column that holds the windows of a row, and then one of them.
const WINDOW: &str = "__window";

/// Gives the calls of `window` and `session_window` in `plan` the meaning that they have for its rows.
///
/// # Errors
/// `User` if the lengths of a window are no constants; `Unsupported` for several windows in one select list.
pub fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    let resolved = plan.transform_up_with_subqueries(|node| {
        let node = with_windows(node)?;
        node.transform_data(|node| merged_sessions(node).map_err(DataFusionError::from))
    })?;
    if !resolved.transformed {
        return Ok(resolved.data);
    }
    // That a window is not NULL is known above it, too.
    Ok(resolved.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))?.data)
}

/// What `resolve` has put around a window, taken away.
pub fn window_of(call: &ScalarFunction) -> Option<&Expr> {
    as_known(call)
}

/// The call of `session_window` that the column or expression `expr` over `input` is.
pub fn session_of(expr: &Expr, input: &LogicalPlan) -> Option<Expr> {
    match expr {
        Expr::Alias(alias) => session_of(&alias.expr, input),
        Expr::ScalarFunction(call) => match as_known(call) {
            Some(window) => session_of(window, input),
            None => (call.name() == "session_window").then(|| expr.clone()),
        },
        Expr::Column(column) => match input {
            LogicalPlan::Projection(projection) => {
                let index = projection.schema.maybe_index_of_column(column)?;
                session_of(&projection.expr[index], &projection.input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let index = alias.schema.maybe_index_of_column(column)?;
                let below = Expr::Column(Column::from(alias.input.schema().qualified_field(index)));
                session_of(&below, &alias.input)
            }
            LogicalPlan::Filter(filter) => session_of(expr, &filter.input),
            _ => None,
        },
        _ => None,
    }
}

fn with_windows(node: LogicalPlan) -> DataFusionResult<Transformed<LogicalPlan>> {
    if !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
        return Ok(Transformed::no(node));
    }
    let calls = window_calls(&node)?;
    let (call, input) = match (calls.as_slice(), node.inputs().as_slice()) {
        ([call], [input]) => (call.clone(), (*input).clone()),
        ([], _) => return Ok(Transformed::no(node)),
        _ => {
            let error = Error::unsupported("several windows of time in one select list or GROUP BY")
                .with_help("Compute all but one in an inner query.");
            return Err(error.into());
        }
    };
    let window = Expr::ScalarFunction(call.clone());
    let (input, replacement) = match call.name() {
        "window" if lengths(&call)?.overlap() => (one_row_per_window(input, &call)?, col(WINDOW)),
        "window" => {
            (LogicalPlanBuilder::from(input).filter(call.args[0].clone().is_not_null())?.build()?, window.clone())
        }
        _ => (LogicalPlanBuilder::from(input).filter(window.clone().is_not_null())?.build()?, window.clone()),
    };
    let names = NamePreserver::new(&node);
    let replaced = |expr: Expr| -> DataFusionResult<Expr> {
        let name = names.save(&expr);
        let replaced = expr.transform_down(|part| match part == window {
            true => Ok(Transformed::new(known(replacement.clone()), true, TreeNodeRecursion::Jump)),
            false => Ok(Transformed::no(part)),
        })?;
        Ok(name.restore(replaced.data))
    };
    let exprs = node.expressions().into_iter().map(replaced).collect::<DataFusionResult<Vec<_>>>()?;
    Ok(Transformed::yes(node.with_new_exprs(exprs, vec![input])?))
}

/// The different calls of `window` and `session_window` in the expressions of a node.
fn window_calls(node: &LogicalPlan) -> DataFusionResult<Vec<ScalarFunction>> {
    let mut calls: Vec<ScalarFunction> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            if matches!(part, Expr::ScalarFunction(call) if as_known(call).is_some()) {
                // The plan of a view has been resolved with the view.
                return Ok(TreeNodeRecursion::Jump);
            }
            if let Expr::ScalarFunction(call) = part
                && matches!(call.name(), "window" | "session_window")
                && !calls.contains(call)
            {
                calls.push(call.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(calls)
}

fn lengths(call: &ScalarFunction) -> Result<WindowLengths> {
    let constant = |arg: &Expr| -> Option<ScalarValue> {
        match arg {
            Expr::Literal(value, _) => Some(value.clone()),
            Expr::Alias(alias) => alias.expr.as_literal().cloned(),
            _ => None,
        }
    };
    let values: Vec<_> = call.args.iter().skip(1).map(constant).collect();
    WindowLengths::of(&values.iter().map(Option::as_ref).collect::<Vec<_>>())
}

fn one_row_per_window(input: LogicalPlan, call: &ScalarFunction) -> DataFusionResult<LogicalPlan> {
    let columns = input.schema().columns().into_iter().map(Expr::Column);
    let windows = WINDOWS.call(call.args.clone()).alias(WINDOW);
    LogicalPlanBuilder::from(input)
        .project(columns.collect::<Vec<_>>().into_iter().chain([windows]))?
        .unnest_columns_with_options(
            vec![Column::from_name(WINDOW)],
            UnnestOptions::new().with_null_handling(NullHandling::Drop),
        )?
        .build()
}

/// Grouping by sessions over a table: which session an event belongs to is told by the events before it.
fn merged_sessions(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
    let is_session = |expr: &Expr| session_of(expr, &aggregate.input).is_some();
    let Some(session) = aggregate.group_expr.iter().position(is_session) else {
        let in_sets = aggregate.group_expr.iter().any(|expr| match expr {
            Expr::GroupingSet(sets) => sets.distinct_expr().into_iter().any(is_session),
            _ => false,
        });
        return match in_sets {
            true => Err(Error::unsupported("`session_window` in ROLLUP, CUBE or GROUPING SETS")),
            false => Ok(Transformed::no(node)),
        };
    };
    if is_streaming(&aggregate.input) {
        return Ok(Transformed::no(node));
    }
    Ok(Transformed::yes(of_table(aggregate, session)?))
}

fn of_table(aggregate: &Aggregate, session: usize) -> Result<LogicalPlan> {
    let input = aggregate.input.as_ref();
    let key = |i: usize| format!("__key_{i}");
    let keys: Vec<usize> = (0..aggregate.group_expr.len()).filter(|i| *i != session).collect();
    let all = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let mut columns = all(input);
    columns.extend(keys.iter().map(|i| aggregate.group_expr[*i].clone().unalias().alias(key(*i))));
    let window = aggregate.group_expr[session].clone().unalias();
    columns.extend([window.clone().field("start").alias("__start"), window.field("end").alias("__end")]);
    let plan = LogicalPlanBuilder::from(input.clone()).project(columns)?.build()?;

    // An event opens a session if it comes after all earlier ones are over.
    let by: Vec<Expr> = keys.iter().map(|i| col(key(*i))).collect();
    let reach = over(max_udaf(), col("__end"), &by, WindowFrameBound::Preceding(ScalarValue::UInt64(Some(1))))?;
    let plan = LogicalPlanBuilder::from(plan).window(vec![reach.alias("__reach")])?.build()?;
    let opens =
        when(col("__reach").is_null().or(col("__start").gt(col("__reach"))), lit(1_i64)).otherwise(lit(0_i64))?;
    let columns: Vec<_> = all(&plan).into_iter().chain([opens.alias("__opens")]).collect();
    let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
    let number = over(sum_udaf(), col("__opens"), &by, WindowFrameBound::CurrentRow)?;
    let plan = LogicalPlanBuilder::from(plan).window(vec![number.alias("__session")])?.build()?;

    let groups: Vec<Expr> = by.into_iter().chain([col("__session")]).collect();
    let bounds = [min(col("__start")).alias("__start"), max(col("__end")).alias("__end")];
    let aggregates: Vec<Expr> = aggregate.aggr_expr.iter().cloned().chain(bounds).collect();
    let plan = LogicalPlanBuilder::from(plan).aggregate(groups, aggregates)?.build()?;

    let whole = known(named_struct(vec![lit("start"), col("__start"), lit("end"), col("__end")]));
    let named = aggregate.schema.iter().enumerate().map(|(i, (qualifier, field))| {
        let column = match i {
            i if i == session => whole.clone(),
            i if i < aggregate.group_expr.len() => col(key(i)),
            _ => return Expr::Column(Column::new(qualifier.cloned(), field.name())),
        };
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(LogicalPlanBuilder::from(plan).project(named.collect::<Vec<_>>())?.build()?)
}

/// `function` over the rows of the same keys up to `last`, in the order of their sessions.
fn over(
    function: std::sync::Arc<datafusion::logical_expr::AggregateUDF>,
    arg: Expr,
    keys: &[Expr],
    last: WindowFrameBound,
) -> Result<Expr> {
    let first = WindowFrameBound::Preceding(ScalarValue::UInt64(None));
    let call = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![arg]);
    Ok(Expr::from(call)
        .partition_by(keys.to_vec())
        .order_by(vec![col("__start").sort(true, true)])
        .window_frame(WindowFrame::new_bounds(WindowFrameUnits::Rows, first, last))
        .build()?)
}
