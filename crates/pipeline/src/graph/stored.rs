//! Queries from outside a pipeline: what they read is what is stored now.

use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::sql::SqlQuery;
use deltaworks_spark::{Result, sql};
use parking_lot::Mutex;
use std::sync::Arc;

use super::environment::Environment;
use super::relations::FlowRelations;
use super::resolve::{Resolver, Trail};
use super::schema;
use crate::definitions::Definitions;

/// The plan of `query` over the tables in the pipeline's storage.
///
/// # Errors
/// `TABLE_OR_VIEW_NOT_FOUND` for names that are not stored; those of SQL analysis.
pub async fn plan_stored(
    ctx: &SessionContext,
    query: &SqlQuery,
    environment: &Arc<Environment>,
) -> Result<LogicalPlan> {
    let definitions = Definitions::default();
    let resolver = Resolver::new(&definitions, Arc::clone(environment), &mut Vec::new());
    let relations = FlowRelations {
        resolver: &resolver,
        namespace: &environment.namespace,
        flow: None,
        trail: Trail::default(),
        references: Mutex::default(),
        pending: Mutex::default(),
        depth: 0,
    };
    schema::selected(sql::plan_query(ctx, query, &relations).await?)
}

/// The plan of one relation while definitions are still coming in.
///
/// # Errors
/// The condition `DELTAWORKS_DATASET_NOT_READY` if it depends on a dataset whose flow is not defined yet.
pub async fn plan_partial(
    request: &RelationRequest,
    definitions: &Definitions,
    environment: &Arc<Environment>,
) -> Result<LogicalPlan> {
    let mut problems = Vec::new();
    let resolver = Resolver::new(definitions, Arc::clone(environment), &mut problems);
    let relations = FlowRelations {
        resolver: &resolver,
        namespace: &environment.namespace,
        flow: None,
        trail: Trail::default(),
        references: Mutex::default(),
        pending: Mutex::default(),
        depth: 0,
    };
    let resolved = relations.resolve(request).await;
    resolved.map_err(|error| resolver.cause(error))
}
