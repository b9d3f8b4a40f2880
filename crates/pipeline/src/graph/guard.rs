//! Puts the expectations of a dataset around its query.

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::prelude::SessionContext;
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result, connect, sql};

use crate::definitions::{Condition, Expectation, Output};
use crate::expectation::{BoundExpectation, ExpectationMetrics, Expectations};

/// The query with the output's expectations evaluated on its rows.
///
/// # Errors
/// One for the first expectation that is not a boolean row constraint over the query's columns.
pub fn guard(plan: LogicalPlan, output: &Output, dataset: &str, ctx: &SessionContext) -> Result<LogicalPlan> {
    if output.expectations.is_empty() {
        return Ok(plan);
    }
    let mut bound: Vec<BoundExpectation> = Vec::with_capacity(output.expectations.len());
    for expectation in &output.expectations {
        if bound.iter().any(|earlier| earlier.name == expectation.name) {
            return Err(Error::user(format!("expectation `{}` of `{dataset}` is declared twice", expectation.name))
                .with_help("Names of expectations are unique per dataset.")
                .at(expectation.location.clone()));
        }
        let predicate = bind(expectation, &plan, ctx).map_err(|error| {
            error
                .context(format!("in expectation `{}` of `{dataset}`", expectation.name))
                .at(expectation.location.clone())
        })?;
        bound.push(BoundExpectation { name: expectation.name.clone(), predicate, action: expectation.action });
    }
    let names = bound.iter().map(|expectation| expectation.name.clone()).collect();
    let metrics = Arc::new(ExpectationMetrics::new(dataset, names));
    let node = Expectations { input: Arc::new(plan), dataset: dataset.to_owned(), expectations: bound, metrics };
    Ok(node.into_plan())
}

fn bind(expectation: &Expectation, plan: &LogicalPlan, ctx: &SessionContext) -> Result<Expr> {
    let schema = plan.schema();
    let predicate = match &expectation.condition {
        Condition::Sql(text) => sql::plan_expression(ctx, text, schema, &expectation.location)?,
        Condition::Column(column) => connect::plan::plan_expression(ctx, column, plan, &NoRelations)?,
    };
    refuse_non_row_constructs(&predicate)?;
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

/// A condition on one row reads nothing else.
struct NoRelations;

#[async_trait]
impl RelationResolver for NoRelations {
    async fn resolve(&self, _request: &RelationRequest) -> Result<LogicalPlan> {
        Err(Error::user("an expectation cannot contain a subquery").with_condition("INVALID_EXPECTATION"))
    }
}

fn refuse_non_row_constructs(predicate: &Expr) -> Result<()> {
    let mut refused: Option<&'static str> = None;
    predicate.apply(|expr| {
        refused = match expr {
            Expr::AggregateFunction(_) => Some("an aggregate function"),
            Expr::WindowFunction(_) => Some("a window function"),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => Some("a subquery"),
            Expr::Unnest(_) => Some("a generator"),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })?;
    match refused {
        None => Ok(()),
        Some(construct) => {
            Err(Error::user(format!("an expectation is a condition on one row and cannot contain {construct}"))
                .with_condition("INVALID_EXPECTATION")
                .with_help("Compute it in a materialized view of its own and put the expectation there."))
        }
    }
}
