//! The entry: a relation of the protocol as a logical plan.

use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;

use super::artifacts::Artifacts;
use super::context::Planner;
use super::expression::Expressions;
use super::proto;
use super::scope::Scope;
use crate::error::Result;
use crate::relation::RelationResolver;
use crate::session::conf_of;
use crate::windowing;

/// Turns a relation of the Spark Connect protocol into a resolved plan.
///
/// Whatever the relation reads is asked of `resolver`. The plan's columns are those `df.columns`
/// shows; columns of the same name, which Spark allows, differ by a qualifier.
///
/// # Errors
/// `User` with Spark's condition names for names and types that do not resolve; `Unsupported` for
/// relations and expressions that cannot be run here; what `resolver` returns.
pub async fn plan_relation(
    ctx: &SessionContext,
    relation: &proto::Relation,
    resolver: &dyn RelationResolver,
) -> Result<LogicalPlan> {
    plan_relation_with(ctx, relation, resolver, &Artifacts::default()).await
}

/// As [`plan_relation`], for a session that has uploaded `artifacts` (large local relations).
///
/// # Errors
/// As [`plan_relation`].
pub async fn plan_relation_with(
    ctx: &SessionContext,
    relation: &proto::Relation,
    resolver: &dyn RelationResolver,
    artifacts: &Artifacts,
) -> Result<LogicalPlan> {
    let plan = windowing::resolve(Planner::new(ctx, resolver, artifacts).scope(relation).await?.finish()?)?;
    crate::orderable::checked(crate::subquery::resolve(plan, &conf_of(&ctx.state()))?)
}

/// Turns one expression of the protocol into an expression over the columns of `input`.
///
/// # Errors
/// As [`plan_relation`].
pub fn plan_expression(
    ctx: &SessionContext,
    expression: &proto::Expression,
    input: &LogicalPlan,
    resolver: &dyn RelationResolver,
) -> Result<datafusion::logical_expr::Expr> {
    let artifacts = Artifacts::default();
    let planner = Planner::new(ctx, resolver, &artifacts);
    let scope = Scope::new(input.clone(), &[]);
    Expressions::new(&planner, &scope).plan(expression)
}
