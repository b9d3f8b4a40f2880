//! Puts the expectations of a dataset around its query.

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::prelude::SessionContext;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::naming::column_name;
use deltaworks_spark::python::is_python;
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result, connect, sql};

use crate::definitions::{Condition, Expectation, ExpectationAction, Output};
use crate::expectation::aggregate::{AggregateExpectations, Scope, calls_of, is_aggregate};
use crate::expectation::{BoundExpectation, ExpectationMetrics, Expectations};

/// The query with the output's conditions on rows evaluated, and its other conditions: those on all rows at once.
/// Rows that are `exempt` pass whatever they hold.
///
/// # Errors
/// One for the first expectation that is not a boolean condition over the query's columns.
pub fn guard_rows<'a>(
    plan: LogicalPlan,
    output: &'a Output,
    dataset: &str,
    ctx: &SessionContext,
    exempt: Option<&Expr>,
) -> Result<(LogicalPlan, Vec<&'a Expectation>)> {
    let mut bound: Vec<BoundExpectation> = Vec::with_capacity(output.expectations.len());
    let mut on_all_rows: Vec<&Expectation> = Vec::new();
    for (index, expectation) in output.expectations.iter().enumerate() {
        if output.expectations.iter().take(index).any(|earlier| earlier.name == expectation.name) {
            return Err(Error::user(format!("expectation `{}` of `{dataset}` is declared twice", expectation.name))
                .with_help("Names of expectations are unique per dataset.")
                .at(expectation.location.clone()));
        }
        let predicate = bind(expectation, &plan, dataset, ctx)?;
        if is_aggregate(&predicate)? {
            on_all_rows.push(expectation);
        } else {
            let predicate = exempt.cloned().map_or_else(|| predicate.clone(), |exempt| exempt.or(predicate.clone()));
            bound.push(BoundExpectation { name: expectation.name.clone(), predicate, action: expectation.action });
        }
    }
    if bound.is_empty() {
        return Ok((plan, on_all_rows));
    }
    let names = bound.iter().map(|expectation| expectation.name.clone()).collect();
    let metrics = Arc::new(ExpectationMetrics::new(dataset, names));
    let node = Expectations { input: Arc::new(plan), dataset: dataset.to_owned(), expectations: bound, metrics };
    Ok((node.into_plan(), on_all_rows))
}

/// The dataset with its conditions on all rows evaluated.
///
/// # Errors
/// As [`guard_rows`].
pub fn guard_dataset(
    plan: LogicalPlan,
    expectations: &[&Expectation],
    dataset: &str,
    scope: Scope,
    ctx: &SessionContext,
) -> Result<LogicalPlan> {
    if expectations.is_empty() {
        return Ok(plan);
    }
    let bound = expectations
        .iter()
        .map(|expectation| {
            let predicate = bind(expectation, &plan, dataset, ctx)?;
            Ok(BoundExpectation { name: expectation.name.clone(), predicate, action: expectation.action })
        })
        .collect::<Result<_>>()?;
    let node = AggregateExpectations {
        input: Arc::new(plan),
        dataset: dataset.to_owned(),
        scope,
        expectations: bound,
        tally: Arc::default(),
    };
    Ok(node.into_plan())
}

fn bind(expectation: &Expectation, plan: &LogicalPlan, dataset: &str, ctx: &SessionContext) -> Result<Expr> {
    predicate(expectation, plan, ctx).map_err(|error| {
        error.context(format!("in expectation `{}` of `{dataset}`", expectation.name)).at(expectation.location.clone())
    })
}

fn predicate(expectation: &Expectation, plan: &LogicalPlan, ctx: &SessionContext) -> Result<Expr> {
    let schema = plan.schema();
    let predicate = match &expectation.condition {
        Condition::Sql(text) if expectation.location.column == 0 => {
            // Of a text in Python only the line is known where it is handed over.
            let place = SourceLocation::new("<expectation>", 1, 1);
            sql::plan_expression(ctx, text, schema, &place).map_err(|error| error.at_origin(&expectation.location))?
        }
        Condition::Sql(text) => sql::plan_expression(ctx, text, schema, &expectation.location)?,
        Condition::Column(column) => connect::plan::plan_expression(ctx, column, plan, &NoRelations)?,
    };
    refuse_constructs(&predicate)?;
    if is_aggregate(&predicate)? {
        check_aggregates(&predicate, expectation.action)?;
    }
    let data_type = predicate.get_type(schema)?;
    if data_type != DataType::Boolean {
        return Err(Error::user(format!(
            "an expectation must be a condition, not a value of type {}",
            type_name(&data_type)
        ))
        .with_condition("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN")
        .with_help("Write a comparison, such as `amount > 0`."));
    }
    Ok(predicate)
}

/// A condition reads nothing but the dataset.
pub(super) struct NoRelations;

#[async_trait]
impl RelationResolver for NoRelations {
    async fn resolve(&self, _request: &RelationRequest) -> Result<LogicalPlan> {
        Err(Error::user("an expectation cannot contain a subquery").with_condition("INVALID_EXPECTATION"))
    }
}

/// What `expr` needs besides the columns of a row, as people call it; aggregates are for the caller to judge.
pub(super) fn beyond_its_row(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::WindowFunction(_) => Some("a window function"),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => Some("a subquery"),
        Expr::Unnest(_) => Some("a generator"),
        Expr::ScalarFunction(call) if is_python(&call.func) => Some("a function in Python"),
        _ => None,
    }
}

fn refuse_constructs(predicate: &Expr) -> Result<()> {
    let mut refused: Option<&'static str> = None;
    predicate.apply(|expr| {
        refused = beyond_its_row(expr);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match refused {
        None => Ok(()),
        Some(construct) => Err(invalid(format!("an expectation cannot contain {construct}"))
            .with_help("Compute it in a materialized view of its own and put the expectation there.")),
    }
}

/// A condition on all rows says nothing about a single one.
fn check_aggregates(predicate: &Expr, action: ExpectationAction) -> Result<()> {
    if action == ExpectationAction::Drop {
        return Err(invalid("a condition on all rows at once says of no single row whether to drop it".to_owned())
            .with_help("Use FAIL UPDATE (expect_or_fail) or only record it (expect)."));
    }
    for call in calls_of(predicate)? {
        let Expr::AggregateFunction(function) = &call else { continue };
        let arguments = function.params.args.iter().chain(function.params.filter.as_deref());
        for argument in arguments {
            if is_aggregate(argument)? {
                return Err(invalid(format!("`{}` holds an aggregate inside of an aggregate", column_name(&call)))
                    .with_help("Compute the inner one in a materialized view and put the expectation there."));
            }
        }
        if !function.params.order_by.is_empty() {
            return Err(Error::unsupported(format!("ORDER BY in `{}` of an expectation", column_name(&call)))
                .with_help("Compute it in a materialized view of its own and put the expectation there."));
        }
    }
    let mut outside = None;
    predicate.apply(|expr| match expr {
        Expr::AggregateFunction(_) => Ok(TreeNodeRecursion::Jump),
        Expr::Column(column) => {
            outside = Some(column.name.clone());
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    match outside {
        None => Ok(()),
        Some(column) => {
            Err(invalid(format!("column `{column}` stands outside of the aggregates of a condition on all rows"))
                .with_condition("MISSING_GROUP_BY")
                .with_help("Aggregate it (max(…), any_value(…)), or make two expectations of it."))
        }
    }
}

fn invalid(message: String) -> Error {
    Error::user(message).with_condition("INVALID_EXPECTATION")
}
