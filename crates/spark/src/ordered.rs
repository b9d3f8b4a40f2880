//! Aggregates that take rows in the order they come, over rows that are sorted.
//!
//! DataFusion drops a sort below an aggregation, which in general needs no order. `first`, `last` and `collect_list`
//! do, and Spark gives it to them: so the order of a sorted input is written into their calls. (Of SQL text the planner
//! has dropped such a sort before; this is for relations that are sorted by `orderBy`.)

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::functions::ordered_collect_list;

/// The aggregates whose result depends on the order of rows.
const ORDERED: [&str; 4] = ["first_value", "last_value", "collect_list", "listagg"];

/// Gives aggregates over sorted rows the order of these rows.
#[derive(Debug)]
pub(crate) struct OrderedAggregates;

impl AnalyzerRule for OrderedAggregates {
    fn name(&self) -> &str {
        "ordered_aggregates"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let changed = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => with_order(aggregate),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(changed.data)
    }
}

fn with_order(aggregate: Aggregate) -> DataFusionResult<Transformed<LogicalPlan>> {
    let order = order_of(&aggregate.input);
    if order.is_empty() || !aggregate.aggr_expr.iter().any(is_unordered) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let plan = LogicalPlan::Aggregate(aggregate);
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let ordered = expr.transform_up(|expr| match expr {
            Expr::AggregateFunction(mut call) if takes_order(&call) => {
                call.params.order_by.clone_from(&order);
                if call.func.name() == "collect_list" {
                    // That of DataFusion knows no order.
                    call.func = ordered_collect_list();
                }
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(ordered.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn takes_order(call: &AggregateFunction) -> bool {
    call.params.order_by.is_empty() && !call.params.distinct && ORDERED.contains(&call.func.name())
}

fn is_unordered(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(call) if takes_order(call)))).unwrap_or(false)
}

/// The order of a plan's rows in terms of its columns; as far as its columns tell it.
fn order_of(plan: &LogicalPlan) -> Vec<Sort> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let plain = |key: &&Sort| matches!(key.expr, Expr::Column(_));
            sort.expr.iter().take_while(plain).cloned().collect()
        }
        LogicalPlan::Filter(filter) => order_of(&filter.input),
        LogicalPlan::Limit(limit) => order_of(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => renamed(order_of(&alias.input), |column| {
            let at = alias.input.schema().maybe_index_of_column(column)?;
            let (table, field) = alias.schema.qualified_field(at);
            Some(Column::new(table.cloned(), field.name()))
        }),
        LogicalPlan::Projection(projection) => renamed(order_of(&projection.input), |column| {
            let is = |expr: &Expr| matches!(expr.clone().unalias(), Expr::Column(inner) if inner == *column);
            let at = projection.expr.iter().position(is)?;
            let (table, field) = projection.schema.qualified_field(at);
            Some(Column::new(table.cloned(), field.name()))
        }),
        _ => Vec::new(),
    }
}

/// The keys in terms of other columns, up to the first that has none.
fn renamed(order: Vec<Sort>, name: impl Fn(&Column) -> Option<Column>) -> Vec<Sort> {
    let key = |sort: Sort| match &sort.expr {
        Expr::Column(column) => Some(Sort { expr: Expr::Column(name(column)?), ..sort }),
        _ => None,
    };
    order.into_iter().map_while(key).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::DataType;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::logical_expr::lit;
    use datafusion::prelude::{DataFrame, SessionContext, col};

    use crate::cast::{CastMode, cast_array};
    use crate::conf::SparkConf;
    use crate::functions::{FunctionCall, call};
    use crate::session::{SessionOptions, session_context};

    fn context() -> SessionContext {
        let conf = SparkConf::pipeline_defaults();
        let runtime = Arc::new(RuntimeEnv::default());
        session_context(SessionOptions { conf, target_partitions: 2, runtime, extension_planners: Vec::new() }).unwrap()
    }

    async fn aggregated(rows: DataFrame, name: &str, args: Vec<datafusion::logical_expr::Expr>) -> String {
        let context = context();
        let aggregate = FunctionCall { name: name.to_owned(), args, ..FunctionCall::default() };
        let conf = SparkConf::pipeline_defaults();
        let aggregate = call(aggregate, rows.schema(), &conf, &context.state()).unwrap();
        let batches = rows.aggregate(Vec::new(), vec![aggregate]).unwrap().collect().await.unwrap();
        let text = cast_array(batches[0].column(0), &DataType::Utf8, CastMode::Lenient, chrono_tz::UTC).unwrap();
        text.as_string::<i32>().value(0).to_owned()
    }

    #[tokio::test]
    async fn rows_come_in_the_order_they_are_sorted() {
        let rows =
            context().sql("SELECT * FROM (VALUES (1, 'b'), (3, 'c'), (2, 'a'), (NULL, 'z')) t(k, v)").await.unwrap();
        let sorted = rows.sort(vec![col("k").sort(true, true)]).unwrap();
        for (name, args, expected) in [
            ("first", vec![col("v")], "z"),
            ("last", vec![col("v")], "c"),
            ("collect_list", vec![col("v")], "[z, b, a, c]"),
            ("listagg", vec![col("v"), lit(",")], "z,b,a,c"),
        ] {
            assert_eq!(aggregated(sorted.clone(), name, args.clone()).await, expected, "{name}");
            let some = sorted.clone().filter(col("v").not_eq(lit(""))).unwrap();
            assert_eq!(aggregated(some, name, args.clone()).await, expected, "{name} of a filter");
            let renamed = sorted.clone().select(vec![col("k").alias("key"), col("v")]).unwrap();
            assert_eq!(aggregated(renamed, name, args).await, expected, "{name} of a projection");
        }
    }
}
