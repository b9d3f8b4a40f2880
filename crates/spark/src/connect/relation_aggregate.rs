//! `groupBy`, `rollup`, `cube` and `pivot`.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlanBuilder, lit, when};

use super::context::Planner;
use super::expression::{Expressions, required};
use super::literal;
use super::proto::{self, aggregate::GroupType};
use super::scope::{Output, Scope};
use crate::error::{Error, Result};
use crate::functions::is_grouping_id;
use crate::streaming::is_streaming;

/// The most values a pivot without a value list may find, as in Spark.
const MAX_PIVOT_VALUES: usize = 10_000;

/// Which combinations of the grouping columns are grouped by.
pub(super) enum Sets {
    Rollup,
    Cube,
    Listed(Vec<Vec<Expr>>),
}

impl Sets {
    /// The combinations of `keys`; those of a list must be keys themselves.
    fn over(self, keys: Vec<Expr>) -> Result<GroupingSet> {
        match self {
            Self::Rollup => Ok(GroupingSet::Rollup(keys)),
            Self::Cube => Ok(GroupingSet::Cube(keys)),
            Self::Listed(sets) if sets.iter().flatten().all(|expr| keys.contains(expr)) => {
                Ok(GroupingSet::GroupingSets(sets))
            }
            Self::Listed(_) => Err(Error::unsupported("`groupingSets` over expressions")
                .with_help("Compute the expressions with withColumn and group by the columns.")),
        }
    }
}

impl Planner<'_> {
    pub(super) async fn aggregate(&self, aggregate: &proto::Aggregate) -> Result<Scope> {
        let scope = self.input(&aggregate.input).await?;
        let groups = Expressions::new(self, &scope).outputs(&aggregate.grouping_expressions)?;
        let outputs = Expressions::new(self, &scope).outputs(&aggregate.aggregate_expressions)?;
        match aggregate.group_type() {
            GroupType::Groupby | GroupType::Unspecified => self.aggregated(scope, groups, None, outputs),
            GroupType::Rollup => self.aggregated(scope, groups, Some(Sets::Rollup), outputs),
            GroupType::Cube => self.aggregated(scope, groups, Some(Sets::Cube), outputs),
            GroupType::Pivot => {
                let pivot = required(aggregate.pivot.as_ref())?;
                let outputs = self.pivoted(&scope, pivot, outputs).await?;
                self.aggregated(scope, groups, None, outputs)
            }
            GroupType::GroupingSets => {
                let expressions = Expressions::new(self, &scope);
                let mut sets = Vec::with_capacity(aggregate.grouping_sets.len());
                for set in &aggregate.grouping_sets {
                    sets.push(expressions.plan_all(&set.grouping_set)?.into_iter().map(Expr::unalias).collect());
                }
                self.aggregated(scope, groups, Some(Sets::Listed(sets)), outputs)
            }
        }
    }

    /// The grouping columns, then the outputs, which are made of aggregates, groups and literals.
    pub(super) fn aggregated(
        &self,
        scope: Scope,
        groups: Vec<Output>,
        sets: Option<Sets>,
        outputs: Vec<Output>,
    ) -> Result<Scope> {
        let (scope, groups) = self.with_group_columns(scope, groups)?;
        let keys: Vec<Expr> = groups.iter().map(|group| group.expr.clone()).collect();
        let outputs = outputs.into_iter().map(|output| with_grouping_id(output, &keys)).collect::<Result<Vec<_>>>()?;
        let aggregates = find_aggregate_exprs(outputs.iter().map(|output| &output.expr));
        check_grouped(&outputs, &keys)?;
        let group_expr = match sets {
            Some(sets) if !keys.is_empty() => vec![Expr::GroupingSet(sets.over(keys)?)],
            _ => keys,
        };
        let plan = if aggregates.is_empty() && group_expr.is_empty() {
            LogicalPlanBuilder::from(scope.plan.clone()).limit(0, Some(1))?.build()?
        } else {
            LogicalPlanBuilder::from(scope.plan.clone()).aggregate(group_expr, aggregates)?.build()?
        };
        let outputs = groups.into_iter().chain(outputs).map(|output| (output, false)).collect();
        scope.with_plan(plan).project_exactly(outputs, &self.names)
    }

    /// Computes the grouping expressions that are no columns yet, so that groups are columns.
    fn with_group_columns(&self, scope: Scope, groups: Vec<Output>) -> Result<(Scope, Vec<Output>)> {
        let computed = |group: &Output| !matches!(group.expr, Expr::Column(_));
        if !groups.iter().any(computed) {
            return Ok((scope, groups));
        }
        let mut outputs: Vec<_> = scope.columns.iter().map(|column| (Output::passed(column), column.hidden)).collect();
        let mut renamed = Vec::with_capacity(groups.len());
        for group in groups {
            if computed(&group) {
                let column = self.names.unique(&group.name);
                outputs.push((Output::computed(group.expr, column.as_str()), true));
                renamed.push(Output {
                    expr: Expr::Column(Column::new_unqualified(column)),
                    name: group.name,
                    passed: None,
                });
            } else {
                renamed.push(group);
            }
        }
        Ok((scope.project_exactly(outputs, &self.names)?, renamed))
    }

    /// One output per value of the pivot column and aggregate.
    async fn pivoted(
        &self,
        scope: &Scope,
        pivot: &proto::aggregate::Pivot,
        outputs: Vec<Output>,
    ) -> Result<Vec<Output>> {
        let expressions = Expressions::new(self, scope);
        let column = expressions.plan(required(pivot.col.as_ref())?)?.unalias();
        let values = if pivot.values.is_empty() {
            self.distinct_values(scope, &column).await?
        } else {
            pivot.values.iter().map(literal::scalar).collect::<Result<Vec<_>>>()?
        };
        let mut pivoted = Vec::with_capacity(values.len() * outputs.len());
        for value in values {
            let shown = if value.is_null() { "null".to_owned() } else { value_text(&value)? };
            let wanted = if value.is_null() {
                column.clone().is_null()
            } else {
                expressions.binary(column.clone(), datafusion::logical_expr::Operator::Eq, lit(value))?
            };
            for output in &outputs {
                let name = if outputs.len() == 1 { shown.clone() } else { format!("{shown}_{}", output.name) };
                pivoted.push(Output::computed(only_where(output.expr.clone(), &wanted)?, name));
            }
        }
        Ok(pivoted)
    }

    /// The values of the pivot column, in order: Spark runs this query when `pivot` is called.
    pub(super) async fn distinct_values(&self, scope: &Scope, column: &Expr) -> Result<Vec<ScalarValue>> {
        if is_streaming(&scope.plan) {
            return Err(Error::unsupported("`pivot` without values on a stream")
                .with_help("Give the values: pivot(\"x\", [..])."));
        }
        let plan = LogicalPlanBuilder::from(scope.plan.clone())
            .project(vec![column.clone().alias("value")])?
            .distinct()?
            .sort(vec![Expr::Column(Column::new_unqualified("value")).sort(true, true)])?
            .limit(0, Some(MAX_PIVOT_VALUES + 1))?
            .build()?;
        let mut values = Vec::new();
        for batch in DataFrame::new(self.state.as_ref().clone(), plan).collect().await? {
            for row in 0..batch.num_rows() {
                values.push(ScalarValue::try_from_array(batch.column(0), row)?);
            }
        }
        if values.len() > MAX_PIVOT_VALUES {
            return Err(Error::user(format!("the pivot column has more than {MAX_PIVOT_VALUES} values"))
                .with_condition("PIVOT_VALUE_DATA_TYPE_MISMATCH"));
        }
        Ok(values)
    }
}

fn value_text(value: &ScalarValue) -> Result<String> {
    Ok(arrow::util::display::array_value_to_string(&value.to_array()?, 0)?)
}

/// The aggregates of `expr` over the rows where `wanted` holds; NULL where there are none, also for counts.
fn only_where(expr: Expr, wanted: &Expr) -> Result<Expr> {
    let rewritten = expr.transform_up(|node| match node {
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            let condition = match params.filter.take() {
                Some(filter) => filter.and(wanted.clone()),
                None => wanted.clone(),
            };
            params.filter = Some(Box::new(condition));
            let is_count = func.name() == "count";
            let aggregate = Expr::AggregateFunction(AggregateFunction { func, params });
            Ok(Transformed::yes(if is_count {
                when(aggregate.clone().gt(lit(0_i64)), aggregate).end()?
            } else {
                aggregate
            }))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

/// `grouping_id()` as the bits of all keys, those that a row is not grouped by set.
fn with_grouping_id(output: Output, keys: &[Expr]) -> Result<Output> {
    let rewritten = output.expr.transform_up(|node| match node {
        Expr::AggregateFunction(AggregateFunction { func, mut params }) if is_grouping_id(&func) => {
            if params.args.is_empty() {
                params.args = keys.to_vec();
            }
            let bits = AggregateFunction { func: grouping_udaf(), params };
            Ok(Transformed::yes(crate::cast::cast_expr(Expr::AggregateFunction(bits), DataType::Int64)))
        }
        // A bit is a TINYINT.
        Expr::AggregateFunction(bit) if bit.func.name() == "grouping" => {
            Ok(Transformed::yes(crate::cast::cast_expr(Expr::AggregateFunction(bit), DataType::Int8)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Output { expr: rewritten.data, ..output })
}

/// Every column outside an aggregate must be grouped by.
fn check_grouped(outputs: &[Output], keys: &[Expr]) -> Result<()> {
    for output in outputs {
        let stripped = output.expr.clone().transform_down(|node| match node {
            Expr::AggregateFunction(_) => {
                Ok(Transformed::new(lit(true), true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        for column in stripped.data.column_refs() {
            if !keys.iter().any(|key| matches!(key, Expr::Column(key) if key == column)) {
                return Err(Error::user(format!("column `{}` is neither grouped by nor aggregated", column.name))
                    .with_condition("MISSING_AGGREGATION")
                    .with_help("Add it to groupBy, or use any_value() if it does not matter which value you get."));
            }
        }
    }
    Ok(())
}
