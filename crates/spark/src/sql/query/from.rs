//! `FROM`: every relation becomes an internal table with a unique alias; joins become joins with `ON`.

use std::collections::HashMap;

use datafusion::catalog::TableFunctionArgs;
use datafusion::common::ExprSchema as _;
use datafusion::logical_expr::{Extension, LogicalPlan};
use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Spanned,
    TableAlias, TableFactor, TableWithJoins, UnaryOperator, Value,
};

use super::lateral::is_lateral;
use super::pivot::{Pivot, Unpivot};
use super::plan::{Ctes, Planner, range, renamed};
use super::relation::Watermark;
use super::repeated::unique;
use super::rewrite::{self, Names, call};
use super::sample::sample_of;
use super::scope::{Scope, Visibility, ident};
use super::user_function::alias_of_call;
use crate::error::{Error, Result};
use crate::table_functions::known_rows;

impl Planner<'_> {
    /// Rewrites the relations of a block in place; gives the columns they offer.
    pub(super) fn from(&self, from: &mut Vec<TableWithJoins>, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        let mut scope = Scope::default();
        let mut before: Vec<TableWithJoins> = Vec::with_capacity(from.len());
        for mut table in std::mem::take(from) {
            if is_lateral(&table.relation) {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                let join = Join { relation: table.relation, global: false, join_operator };
                (table.relation, scope) = self.lateral(std::mem::take(&mut before), scope, join, ctes, outer)?;
                scope = self.more_joins(&mut table, scope, ctes, outer)?;
            } else {
                scope.columns.extend(self.joins(&mut table, ctes, outer)?.columns);
            }
            before.push(table);
        }
        *from = before;
        Ok(scope)
    }

    fn joins(&self, table: &mut TableWithJoins, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        let scope = self.factor(&mut table.relation, ctes, outer)?;
        self.more_joins(table, scope, ctes, outer)
    }

    /// The joins of a table whose own columns are known.
    fn more_joins(&self, table: &mut TableWithJoins, mut scope: Scope, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        for mut join in std::mem::take(&mut table.joins) {
            if is_lateral(&join.relation) {
                let (relation, joins) = (table.relation.clone(), std::mem::take(&mut table.joins));
                let before = vec![TableWithJoins { relation, joins }];
                (table.relation, scope) = self.lateral(before, scope, join, ctes, outer)?;
                continue;
            }
            let right = self.factor(&mut join.relation, ctes, outer)?;
            scope = self.join(&mut join, scope, right, ctes, outer)?;
            table.joins.push(join);
        }
        Ok(scope)
    }

    fn factor(&self, factor: &mut TableFactor, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        let place = self.place(factor.span().start);
        let Some(sample) = sample_of(factor) else { return self.whole(factor, ctes, outer) };
        let scope = self.whole(factor, ctes, outer)?;
        self.sampled(factor, &sample).map_err(|error| error.at(place))?;
        Ok(scope)
    }

    fn whole(&self, factor: &mut TableFactor, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        let place = self.place(factor.span().start);
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joins(table_with_joins, ctes, outer),
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let plan = self.plan_query(subquery.as_ref().clone(), ctes, &[])?;
                let alias = alias.take();
                self.table(factor, plan, alias, Vec::new(), false)
            }
            TableFactor::Table { name, args: Some(_), .. } if let Some(function) = self.user_function(name) => {
                let plan = self.rows_of_call(&function, factor, ctes, outer).map_err(|error| error.at(place))?;
                let alias = alias_of_call(factor);
                self.table(factor, plan, alias, vec![function.name.clone()], false)
            }
            TableFactor::Table { args: Some(_), .. } if let Some(function) = self.python_function(factor) => {
                let plan = self.rows_of_python(&function, factor, ctes).map_err(|error| error.at(place))?;
                let alias = alias_of_call(factor);
                self.table(factor, plan, alias, vec![function.function.name.clone()], false)
            }
            TableFactor::Table { .. } => self.named(factor, ctes).map_err(|error| error.at(place)),
            TableFactor::Pivot { table, aggregate_functions, value_column, value_source, alias, .. } => {
                let pivot = Pivot {
                    table: table.as_ref().clone(),
                    aggregates: std::mem::take(aggregate_functions),
                    columns: std::mem::take(value_column),
                    values: value_source.clone(),
                    alias: alias.take(),
                };
                *factor = self.pivot(pivot, ctes).map_err(|error| error.at(place))?;
                self.factor(factor, ctes, outer)
            }
            TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
                let unpivot = Unpivot {
                    table: table.as_ref().clone(),
                    value: value.clone(),
                    name: name.clone(),
                    columns: std::mem::take(columns),
                    nulls: null_inclusion.take(),
                    alias: alias.take(),
                };
                *factor = self.unpivot(unpivot, ctes).map_err(|error| error.at(place))?;
                self.factor(factor, ctes, outer)
            }
            other => {
                let text = other.to_string();
                let what = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                Err(Error::unsupported(format!("`{what}` in FROM")).at(place))
            }
        }
    }

    /// A table by name: a common table expression, a resolved relation, or a function.
    fn named(&self, factor: &mut TableFactor, ctes: &Ctes) -> Result<Scope> {
        let TableFactor::Table { name, alias, args, .. } = factor else {
            return Err(Error::internal("not a table"));
        };
        let alias = alias.take();
        if let (None, [part]) = (args.as_ref(), name.0.as_slice())
            && let Some(cte) = part.as_ident()
            && let Some(plan) = ctes.get(&cte.value.to_lowercase()).and_then(|table| self.plan_of(table))
        {
            let qualifier = vec![cte.value.clone()];
            return self.table(factor, plan, alias, qualifier, false);
        }
        let Some(read) = self.read_of(factor)? else {
            let plan = self.computed(factor)?;
            return self.table(factor, plan, alias, Vec::new(), false);
        };
        let found = self.relations.iter().find(|(request, _)| *request == read.request);
        let (_, plan) = found.ok_or_else(|| self.not_resolved(factor))?;
        let plan = match &read.watermark {
            Some(watermark) => self.watermark(plan.clone(), watermark)?,
            None => plan.clone(),
        };
        let mut qualifier = read.name;
        if qualifier.len() > 1 && qualifier[0].eq_ignore_ascii_case("live") {
            qualifier.remove(0);
        }
        self.table(factor, plan, alias, qualifier, true)
    }

    /// The error for a relation that nobody was asked for.
    fn not_resolved(&self, factor: &TableFactor) -> Error {
        match self.frames.borrow().last() {
            Some(frame) => Error::unsupported(format!(
                "function `{}`, which reads `{factor}`, in an expression of a DataFrame",
                frame.function.title()
            ))
            .with_help("Call it in SQL: spark.sql(\"SELECT …\")."),
            None => Error::internal(format!("relation `{factor}` was not resolved")),
        }
    }

    /// A table function that reads nothing.
    fn computed(&self, factor: &TableFactor) -> Result<LogicalPlan> {
        let TableFactor::Table { name, args: Some(args), .. } = factor else {
            return Err(Error::unsupported(format!("`{factor}`")));
        };
        if let Some(plan) = known_rows(&name.to_string(), args.args.len())? {
            return Ok(plan);
        }
        let bounds = args.args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(bound)) => integer(bound),
            _ => None,
        });
        let bounds = bounds
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::unsupported("`range` with arguments that are not constant integers"))?;
        let exprs: Vec<_> = bounds.into_iter().map(datafusion::logical_expr::lit).collect();
        let functions = self.provider.state().table_functions();
        let function = functions.get("range").ok_or_else(|| self.unknown_function("range"))?;
        let table = function.create_table_provider_with_args(TableFunctionArgs::new(&exprs, self.provider.state()))?;
        let source = datafusion::datasource::provider_as_source(table);
        range(datafusion::logical_expr::LogicalPlanBuilder::scan("range", source, None)?.build()?)
    }

    fn watermark(&self, plan: LogicalPlan, watermark: &Watermark) -> Result<LogicalPlan> {
        let Watermark { event_time, name, delay } = watermark;
        let (plan, column) = match (self.plain_expression(event_time.clone(), &plan)?, name) {
            (datafusion::logical_expr::Expr::Column(column), None) => (plan, column),
            (expr, Some(name)) => {
                let columns = plan.schema().columns().into_iter().map(datafusion::logical_expr::Expr::Column);
                let columns: Vec<_> = columns.chain([expr.alias(name)]).collect();
                let plan = datafusion::logical_expr::LogicalPlanBuilder::from(plan).project(columns)?.build()?;
                (plan, datafusion::common::Column::from_name(name))
            }
            (_, None) => {
                return Err(Error::user(format!("the event time `{event_time}` needs a name"))
                    .with_help(format!("Write `WATERMARK {event_time} AS name DELAY OF {delay}`.")));
            }
        };
        let delay_us = match self.plain_expression(delay.clone(), &plan)? {
            datafusion::logical_expr::Expr::Literal(value, _) => crate::sql::query::interval::microseconds(&value),
            _ => None,
        };
        let delay_us = delay_us
            .ok_or_else(|| Error::user(format!("the delay of a watermark, `{delay}`, is not a constant interval")))?;
        if delay_us < 0 {
            return Err(Error::user(format!("the delay of a watermark, `{delay}`, is negative")));
        }
        if !matches!(plan.schema().field_from_column(&column)?.data_type(), arrow::datatypes::DataType::Timestamp(..)) {
            return Err(Error::user(format!("the event time `{event_time}` must be a timestamp"))
                .with_condition("EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE"));
        }
        let node = crate::operators::EventTimeWatermark { input: plan.into(), event_time: column, delay_us };
        Ok(LogicalPlan::Extension(Extension { node: std::sync::Arc::new(node) }))
    }

    /// Puts a named internal table in the place of `factor`.
    fn table(
        &self,
        factor: &mut TableFactor,
        plan: LogicalPlan,
        alias: Option<TableAlias>,
        qualifier: Vec<String>,
        base: bool,
    ) -> Result<Scope> {
        let columns: Vec<String> =
            alias.iter().flat_map(|alias| &alias.columns).map(|column| column.name.value.clone()).collect();
        let plan = unique(renamed(plan, &columns)?)?;
        let qualifier = alias.map_or(qualifier, |alias| vec![alias.name.value]);
        let unique = self.alias(qualifier.last().map_or("__subquery", String::as_str));
        let scope = Scope::relation(plan.schema(), &qualifier, &unique, base);
        *factor = self.factor_of(plan, &unique);
        Ok(scope)
    }

    /// A table factor that stands for `plan`.
    pub(super) fn factor_of(&self, plan: LogicalPlan, alias: &str) -> TableFactor {
        TableFactor::Table {
            name: ObjectName::from(vec![ident(&self.add(plan))]),
            alias: Some(TableAlias { explicit: true, name: ident(alias), columns: Vec::new(), at: None }),
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        }
    }

    fn join(&self, join: &mut Join, left: Scope, right: Scope, ctes: &Ctes, outer: &[&Scope]) -> Result<Scope> {
        let place = self.place(join.relation.span().start);
        let mut all = Scope { columns: left.columns.iter().chain(&right.columns).cloned().collect() };
        let using = match constraint(&mut join.join_operator) {
            Some(JoinConstraint::On(condition)) => {
                let mut scopes = vec![&all];
                scopes.extend(outer);
                let aliases = HashMap::new();
                rewrite::expression(self, condition, Names { scopes: &scopes, aliases: &aliases, ctes })?;
                Vec::new()
            }
            Some(JoinConstraint::Using(columns)) => {
                columns.iter().filter_map(|name| name.0.last().and_then(|part| part.as_ident()).cloned()).collect()
            }
            Some(JoinConstraint::Natural) => natural(&left, &right),
            Some(JoinConstraint::None) => Vec::new(),
            None => return Err(Error::unsupported("this kind of join").at(place)),
        };
        if !using.is_empty() {
            all = self.using(join, &left, &right, &using).map_err(|error| error.at(place))?;
        } else if let Some(constraint @ JoinConstraint::Natural) = constraint(&mut join.join_operator) {
            *constraint = JoinConstraint::None;
        }
        cross(&mut join.join_operator);
        Ok(match join.join_operator {
            JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) => {
                left
            }
            JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => right,
            _ => all,
        })
    }

    /// `USING (a, b)` as `ON l.a = r.a AND l.b = r.b`; the columns come first, once.
    fn using(&self, join: &mut Join, left: &Scope, right: &Scope, names: &[Ident]) -> Result<Scope> {
        let mut condition: Option<Expr> = None;
        let mut merged = Scope::default();
        let (mut rest_left, mut rest_right) = (left.columns.clone(), right.columns.clone());
        for name in names {
            let side = |scope: &Scope| {
                scope.resolve(std::slice::from_ref(name))?.ok_or_else(|| {
                    super::scope::unresolved(std::slice::from_ref(name), &[scope]).at(self.place(name.span.start))
                })
            };
            let (l, r) = (side(left)?, side(right)?);
            let equal =
                Expr::BinaryOp { left: Box::new(l.clone()), op: BinaryOperator::Eq, right: Box::new(r.clone()) };
            condition = Some(match condition.take() {
                Some(before) => {
                    Expr::BinaryOp { left: Box::new(before), op: BinaryOperator::And, right: Box::new(equal) }
                }
                None => equal,
            });
            let Some(column) = left.columns.iter().find(|column| column.expr == l) else { continue };
            let mut column = column.clone();
            column.qualifier = Vec::new();
            column.expr = match join.join_operator {
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => r.clone(),
                JoinOperator::FullOuter(_) => call("coalesce", vec![l.clone(), r.clone()]),
                _ => l.clone(),
            };
            merged.columns.push(column);
            for column in
                rest_left.iter_mut().chain(&mut rest_right).filter(|column| column.expr == l || column.expr == r)
            {
                column.visibility = Visibility::Qualified;
            }
        }
        if let (Some(place), Some(condition)) = (constraint(&mut join.join_operator), condition) {
            *place = JoinConstraint::On(condition);
        }
        merged.columns.extend(rest_left.into_iter().chain(rest_right));
        Ok(merged)
    }
}

/// The value of an expression of integers alone.
fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => integer(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => integer(expr)?.checked_neg(),
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (integer(left)?, integer(right)?);
            match op {
                BinaryOperator::Plus => left.checked_add(right),
                BinaryOperator::Minus => left.checked_sub(right),
                BinaryOperator::Multiply => left.checked_mul(right),
                _ => None,
            }
        }
        _ => None,
    }
}

fn natural(left: &Scope, right: &Scope) -> Vec<Ident> {
    let common = left.star(&[]).filter(|l| right.star(&[]).any(|r| r.name.eq_ignore_ascii_case(&l.name)));
    common.map(|column| ident(&column.name)).collect()
}

pub(super) fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c) => Some(c),
        _ => None,
    }
}

/// An inner join without a condition is a cross join; the words alone do not tell.
fn cross(operator: &mut JoinOperator) {
    match operator {
        JoinOperator::Join(JoinConstraint::None) | JoinOperator::Inner(JoinConstraint::None) => {
            *operator = JoinOperator::CrossJoin(JoinConstraint::None);
        }
        // Every pair fits.
        JoinOperator::Left(c @ JoinConstraint::None)
        | JoinOperator::LeftOuter(c @ JoinConstraint::None)
        | JoinOperator::Right(c @ JoinConstraint::None)
        | JoinOperator::RightOuter(c @ JoinConstraint::None)
        | JoinOperator::FullOuter(c @ JoinConstraint::None) => {
            *c = JoinConstraint::On(Expr::value(sqlparser::ast::Value::Boolean(true)));
        }
        JoinOperator::Semi(c) => *operator = JoinOperator::LeftSemi(c.clone()),
        JoinOperator::Anti(c) => *operator = JoinOperator::LeftAnti(c.clone()),
        _ => {}
    }
}
