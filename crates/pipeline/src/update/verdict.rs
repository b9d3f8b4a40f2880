//! Expectations on datasets as a whole, between the writing of a batch and its commit.
//!
//! The aggregates have run over the batch's rows while they were written. Where rows stay in the table, the
//! same aggregates run over those, reading only the columns they need, and the states are merged.

use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::utils::expr_to_columns;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use deltaworks_lake::Table;
use deltaworks_spark::Result;
use futures::TryStreamExt;

use super::batch::Effect;
use super::conform::to_schema;
use crate::expectation::aggregate::{AggregateExpectations, Scope, Verdict, nodes_of};
use crate::expectation::metrics::ExpectationCount;

/// The conditions on all rows that a batch must meet.
pub struct DatasetConditions {
    nodes: Vec<AggregateExpectations>,
}

impl DatasetConditions {
    /// Those in `plan`, with nothing seen yet.
    pub fn of(plan: &LogicalPlan) -> Result<Self> {
        let nodes = nodes_of(plan)?;
        nodes.iter().for_each(|node| node.tally.reset());
        Ok(Self { nodes })
    }

    /// Whether what they say depends on the rows that are in the target already.
    pub fn depend_on_target(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Append(_)) && self.nodes.iter().any(|node| node.scope == Scope::Stored)
    }

    /// Evaluates them, with `table` as it is before the batch. One record per condition: the dataset.
    ///
    /// # Errors
    /// `EXPECTATION_VIOLATION` (`Data`) if a fail condition does not hold.
    pub async fn evaluate(
        &self,
        ctx: &SessionContext,
        table: &Table,
        effect: &Effect,
    ) -> Result<Vec<ExpectationCount>> {
        let mut counts = Vec::new();
        for node in &self.nodes {
            for verdict in verdicts(node, ctx, table, effect).await? {
                if let Some(violation) = verdict.violation() {
                    return Err(violation);
                }
                counts.extend(verdict.counts());
            }
        }
        Ok(counts)
    }
}

async fn verdicts(
    node: &AggregateExpectations,
    ctx: &SessionContext,
    table: &Table,
    effect: &Effect,
) -> Result<Vec<Verdict>> {
    match (node.scope, effect) {
        (Scope::Passing, _) => {
            node.tally.finished().iter().map(|run| Ok(run.verdict(&[])?)).collect::<Result<Vec<_>>>()
        }
        (Scope::Stored, Effect::Replace(_)) => Ok(vec![node.tally.complete()?.verdict(&[])?]),
        (Scope::Stored, Effect::Append(_) | Effect::Merge(_) | Effect::Deliver(_)) => {
            let stored = over_stored_rows(node, ctx, table).await?;
            Ok(vec![node.tally.complete()?.verdict(&[stored.tally.complete()?])?])
        }
    }
}

/// Runs the aggregates over the rows of `table`.
async fn over_stored_rows(
    node: &AggregateExpectations,
    ctx: &SessionContext,
    table: &Table,
) -> Result<AggregateExpectations> {
    let schema = Arc::new(node.input.schema().as_arrow().clone());
    let stored = provider_as_source(to_schema(table.provider()?, &schema)?);
    let rows = LogicalPlanBuilder::scan("stored", stored, None)?.project(columns(node)?)?.build()?;
    let stored = node.over(rows);
    let physical = ctx.state().create_physical_plan(&stored.clone().into_plan()).await?;
    let mut rows = execute_stream(physical, ctx.task_ctx())?;
    while rows.try_next().await?.is_some() {}
    Ok(stored)
}

/// The columns that the aggregates read; the first one if they only count rows.
fn columns(node: &AggregateExpectations) -> Result<Vec<Expr>> {
    let mut used = std::collections::HashSet::new();
    for expectation in &node.expectations {
        expr_to_columns(&expectation.predicate, &mut used)?;
    }
    let schema = node.input.schema();
    let mut names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    let is_used = |name: &String| used.iter().any(|column| column.name == *name);
    if names.iter().any(|name| is_used(name)) {
        names.retain(|name| is_used(name));
    } else {
        names.truncate(1);
    }
    Ok(names.into_iter().map(|name| Expr::Column(datafusion::common::Column::from_name(name)).alias(name)).collect())
}
