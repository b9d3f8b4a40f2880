//! Snapshots that a function gives: the rows of the latest one, as a plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::cdc::{END_AT, START_AT};
use deltaworks_spark::connect;
use deltaworks_spark::connect::artifacts::Artifacts;
use deltaworks_spark::relation::RelationResolver;
use deltaworks_spark::streaming::is_streaming;
use deltaworks_spark::{Error, Result};

use super::environment::Environment;
use super::resolve::{Resolver, Trail, UPSTREAM_FAILED};
use super::{ResolvedFlow, schema};
use crate::definitions::cdc::ScdType;
use crate::definitions::snapshots::{SnapshotAnswer, SnapshotFunction};
use crate::definitions::{AutoCdc, Definitions, Flow, Output};

/// The snapshot that `function` has given, and the type of its version.
///
/// Where there is none, it is the columns that the target is stored with: nothing changes.
///
/// # Errors
/// `User` for a stream; `TABLE_OR_VIEW_NOT_FOUND` if there is no snapshot and nothing is stored.
pub(super) async fn source(
    ctx: &SessionContext,
    cdc: &AutoCdc,
    function: &SnapshotFunction,
    target: Option<&Output>,
    relations: &dyn RelationResolver,
    environment: &Environment,
) -> Result<(LogicalPlan, DataType)> {
    let answer = function.answer.as_ref().ok_or_else(|| Error::internal("a snapshot has not been asked for"))?;
    let Some(next) = &answer.next else { return stored(cdc, answer, target, environment).await };
    let artifacts = Artifacts::with_python(Some(Arc::clone(&environment.python)));
    let plan = connect::plan::plan_relation_with(ctx, &next.relation, relations, &artifacts).await?;
    if is_streaming(&plan) {
        return Err(Error::user(format!("a snapshot of `{}` is a stream", cdc.construct))
            .with_condition("APPLY_CHANGES_FROM_SNAPSHOT_ERROR.INVALID_SNAPSHOT")
            .with_help("Return all rows there are at the version: spark.read instead of spark.readStream."));
    }
    Ok((schema::selected(plan)?, next.version.version_type.data_type()))
}

async fn stored(
    cdc: &AutoCdc,
    answer: &SnapshotAnswer,
    target: Option<&Output>,
    environment: &Environment,
) -> Result<(LogicalPlan, DataType)> {
    let target = target.ok_or_else(|| Error::internal("a flow has no target"))?;
    let table = environment.lake.open(&environment.table_location(target)?, None).await?.ok_or_else(|| {
        Error::user(format!("dataset `{}` has not been computed yet", target.name.name))
            .with_condition("TABLE_OR_VIEW_NOT_FOUND")
            .with_help("Refresh it together with the datasets that read it.")
    })?;
    let of_versions = |name: &str| cdc.scd_type == ScdType::Two && [START_AT, END_AT].contains(&name);
    let (versions, columns): (Vec<_>, Vec<_>) =
        table.schema().fields().iter().cloned().partition(|field| of_versions(field.name()));
    let version_type = match (&answer.after, versions.first()) {
        (Some(after), _) => after.version_type.data_type(),
        (None, Some(start)) => start.data_type().clone(),
        (None, None) => DataType::Int64,
    };
    let schema = Arc::new(DFSchema::try_from(Schema::new(columns))?);
    Ok((LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema }), version_type))
}

/// `flow`, one of `definitions`, with the snapshot that its function has given since the graph was resolved; and the columns
/// that its target has by it.
///
/// # Errors
/// What is wrong with it; [`super::is_pending`] if it reads what is not known yet.
pub async fn replan(
    definitions: &Definitions,
    environment: &Arc<Environment>,
    flow: &Flow,
) -> Result<(ResolvedFlow, SchemaRef)> {
    let resolver = Resolver::new(definitions, Arc::clone(environment), &mut Vec::new());
    let resolved = resolver.dataset(&flow.target, &Trail::default()).await;
    let dataset = resolved.map_err(|error| cause(&resolver, error))?;
    let dataset = dataset.ok_or_else(|| Error::internal(format!("`{}` is not defined", flow.target)))?;
    match dataset.flows.iter().find(|resolved| resolved.flow.name == flow.name) {
        Some(resolved) => Ok((resolved.clone(), Arc::clone(&dataset.schema))),
        None => Err(Error::internal(format!("flow `{}` is not defined", flow.name))),
    }
}

/// What stands behind the failure of a dataset.
fn cause(resolver: &Resolver<'_>, error: Error) -> Error {
    let Some(problem) = resolver.first_problem().filter(|_| error.condition() == Some(UPSTREAM_FAILED)) else {
        return error;
    };
    let mut cause = Error::user(problem.message);
    if let Some(condition) = problem.condition {
        cause = cause.with_condition(condition);
    }
    if let Some(help) = problem.help {
        cause = cause.with_help(help);
    }
    match problem.location {
        Some(location) => cause.at(location),
        None => cause,
    }
}
