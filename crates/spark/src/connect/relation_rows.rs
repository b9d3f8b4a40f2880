//! Relations that keep the columns: filters, sorts, limits, samples, de-duplication, watermarks.

use std::sync::Arc;

use datafusion::common::{Column, NullHandling, UnnestOptions};
use datafusion::functions_nested::expr_fn::array_repeat;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Sort, lit};

use super::context::Planner;
use super::correlated::may_be_correlated;
use super::expression::{Expressions, required};
use super::faces;
use super::proto;
use super::scope::{Output, Scope, split_identifier};
use crate::cast::delay_us;
use crate::error::{Error, Result};
use crate::functions::times_drawn;
use crate::operators::{Deduplicate, EventTimeWatermark};

impl Planner<'_> {
    pub(super) async fn filter(&self, filter: &proto::Filter) -> Result<Scope> {
        let condition = required(filter.condition.as_ref())?;
        let scope = self.input(&filter.input).await?;
        let width = scope.columns.len();
        if self.names_dropped(&scope, &[condition])? {
            let scope = self.input_with_dropped(&filter.input).await?;
            return self.narrowed(self.filtered(scope, condition).await?, width);
        }
        let error = match self.filtered(scope, condition).await {
            Err(error) if may_be_correlated(&error) => error,
            done => return done,
        };
        let scope = self.input_with_dropped(&filter.input).await?;
        self.narrowed(self.filtered(scope, condition).await.map_err(|_| error)?, width)
    }

    async fn filtered(&self, scope: Scope, condition: &proto::Expression) -> Result<Scope> {
        let (planner, scope) = self.with_correlated(scope, [condition]).await?;
        let condition = Expressions::new(&planner, &scope).condition(condition)?;
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).filter(condition)?.build()?;
        Ok(scope.with_plan(plan))
    }

    pub(super) async fn sort(&self, sort: &proto::Sort) -> Result<Scope> {
        let scope = self.input(&sort.input).await?;
        let width = scope.columns.len();
        let keys: Vec<_> = sort.order.iter().filter_map(|order| order.child.as_deref()).collect();
        if self.names_dropped(&scope, &keys)? {
            let scope = self.input_with_dropped(&sort.input).await?;
            return self.narrowed(self.sorted(scope, sort)?, width);
        }
        let error = match self.sorted(scope, sort) {
            Err(error) if may_be_correlated(&error) => error,
            done => return done,
        };
        let scope = self.input_with_dropped(&sort.input).await?;
        self.narrowed(self.sorted(scope, sort).map_err(|_| error)?, width)
    }

    fn sorted(&self, scope: Scope, sort: &proto::Sort) -> Result<Scope> {
        let expressions = Expressions::new(self, &scope);
        let order = sort.order.iter().map(|order| expressions.sort(order)).collect::<Result<Vec<_>>>()?;
        // The builder would take a column for the expression that another column of the projection is made of.
        let plan = LogicalPlan::Sort(Sort { expr: order, input: Arc::new(scope.plan.clone()), fetch: None });
        Ok(scope.with_plan(plan))
    }

    pub(super) async fn limit(
        &self,
        input: &Option<Box<proto::Relation>>,
        skip: i32,
        fetch: Option<i32>,
    ) -> Result<Scope> {
        let scope = self.input(input).await?;
        let count = |value: i32| {
            usize::try_from(value).map_err(|_| {
                Error::user(format!("a limit or offset must not be negative, got {value}"))
                    .with_condition("INVALID_LIMIT_LIKE_EXPRESSION.IS_NEGATIVE")
            })
        };
        let plan =
            LogicalPlanBuilder::from(scope.plan.clone()).limit(count(skip)?, fetch.map(count).transpose()?)?.build()?;
        Ok(scope.with_plan(plan))
    }

    /// A random part of the rows: those whose random number lies between the bounds.
    pub(super) async fn sample(&self, sample: &proto::Sample) -> Result<Scope> {
        let scope = self.input(&sample.input).await?;
        if sample.with_replacement() {
            return self.sampled_with_replacement(scope, sample.upper_bound - sample.lower_bound, sample.seed);
        }
        let random = self.names.unique("sample");
        let number = Expr::Column(Column::new_unqualified(random.as_str()));
        let inside = number.clone().gt_eq(lit(sample.lower_bound)).and(number.lt(lit(sample.upper_bound)));
        self.sampled(scope, sample.seed, &random, inside)
    }

    /// Every row as often as it is drawn: `fraction` times on average.
    fn sampled_with_replacement(&self, scope: Scope, fraction: f64, seed: Option<i64>) -> Result<Scope> {
        if fraction < 0.0 {
            return Err(Error::user(format!("the fraction of a sample must not be negative, got {fraction}")));
        }
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 as i64);
        let list = self.names.unique("drawn");
        let drawn = array_repeat(lit(true), times_drawn(fraction, seed)?);
        let outputs: Vec<_> = scope
            .columns
            .iter()
            .map(|column| (Output::passed(column), column.hidden))
            .chain([(Output::computed(drawn, list.as_str()), true)])
            .collect();
        let scope = scope.project_exactly(outputs, &self.names)?;
        let options = UnnestOptions::new().with_null_handling(NullHandling::Drop);
        let lists = vec![Column::new_unqualified(list.as_str())];
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).unnest_columns_with_options(lists, options)?.build()?;
        self.without(scope.with_plan(plan), &list)
    }

    /// All columns but one of the plan's.
    fn without(&self, scope: Scope, column: &str) -> Result<Scope> {
        let outputs = scope
            .columns
            .iter()
            .filter(|other| other.column.name != column)
            .map(|other| (Output::passed(other), other.hidden))
            .collect();
        scope.project_exactly(outputs, &self.names)
    }

    /// The rows for which `condition` holds, which may use a random number in the column `random`.
    pub(super) fn sampled(&self, scope: Scope, seed: Option<i64>, random: &str, condition: Expr) -> Result<Scope> {
        let outputs: Vec<_> = scope
            .columns
            .iter()
            .map(|column| (Output::passed(column), column.hidden))
            .chain([(Output::computed(faces::random(self, seed)?, random), true)])
            .collect();
        let scope = scope.project_exactly(outputs, &self.names)?;
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).filter(condition)?.build()?;
        self.without(scope.with_plan(plan), random)
    }

    pub(super) async fn deduplicate(&self, deduplicate: &proto::Deduplicate) -> Result<Scope> {
        let scope = self.input(&deduplicate.input).await?;
        let keys = if deduplicate.all_columns_as_keys() || deduplicate.column_names.is_empty() {
            scope.visible().map(|column| column.column.clone()).collect()
        } else {
            let mut keys: Vec<Column> = Vec::new();
            for name in &deduplicate.column_names {
                let found: Vec<_> = scope.visible().filter(|column| self.same(&column.name, name)).collect();
                if found.is_empty() {
                    scope.resolve(std::slice::from_ref(name), None, self.conf.case_sensitive)?;
                }
                for column in found {
                    if !keys.contains(&column.column) {
                        keys.push(column.column.clone());
                    }
                }
            }
            keys
        };
        let node =
            Deduplicate { input: Arc::new(scope.plan.clone()), keys, within_watermark: deduplicate.within_watermark() };
        Ok(scope.with_plan(node.into_plan()))
    }

    pub(super) async fn subquery_alias(&self, alias: &proto::SubqueryAlias) -> Result<Scope> {
        let mut scope = self.input(&alias.input).await?;
        for column in &mut scope.columns {
            column.qualifier = alias.qualifier.iter().cloned().chain([alias.alias.clone()]).collect();
        }
        Ok(scope)
    }

    /// How rows are spread over partitions is the engine's business: the rows are the same.
    pub(super) async fn repartition(&self, repartition: &proto::Repartition) -> Result<Scope> {
        if repartition.num_partitions <= 0 {
            return Err(Error::user(format!(
                "the number of partitions must be positive, got {}",
                repartition.num_partitions
            )));
        }
        self.input(&repartition.input).await
    }

    /// As [`Self::repartition`]; the expressions must resolve.
    pub(super) async fn repartition_by_expression(
        &self,
        repartition: &proto::RepartitionByExpression,
    ) -> Result<Scope> {
        let scope = self.input(&repartition.input).await?;
        Expressions::new(self, &scope).plan_all(&repartition.partition_exprs)?;
        Ok(scope)
    }

    pub(super) async fn with_watermark(&self, watermark: &proto::WithWatermark) -> Result<Scope> {
        let scope = self.input(&watermark.input).await?;
        let parts = split_identifier(&watermark.event_time)?;
        let (column, rest) = scope.resolve(&parts, None, self.conf.case_sensitive)?;
        if !rest.is_empty() {
            return Err(Error::user(format!("the event time `{}` must be a column of its own", watermark.event_time)));
        }
        if !matches!(scope.data_type(column)?, arrow::datatypes::DataType::Timestamp(..)) {
            return Err(Error::user(format!("the event time `{}` must be a timestamp", watermark.event_time))
                .with_condition("EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE"));
        }
        let node = EventTimeWatermark {
            input: Arc::new(scope.plan.clone()),
            event_time: column.column.clone(),
            delay_us: delay_us(&watermark.delay_threshold)?,
        };
        Ok(scope.with_plan(node.into_plan()))
    }
}
