//! Queries: from text to a syntax tree, and with a resolver of relations to a resolved plan.

mod block;
mod forms;
mod from;
mod function_bodies;
mod generator;
mod generator_call;
mod grouping_ids;
mod interval;
mod json_path;
mod lateral;
mod named;
mod names;
mod names_over;
mod outside;
mod parameters;
mod pivot;
mod plan;
mod provider;
mod python_rows;
mod recursive;
mod relation;
mod repeated;
mod rewrite;
mod rows;
mod sample;
mod scope;
mod select;
mod sets;
mod subqueries;
mod time_travel;
mod user_function;
mod window_calls;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use sqlparser::ast::{Query, SelectItem, Visit};
use sqlparser::tokenizer::Token;

use self::plan::Planner;
use self::provider::Provider;
use super::statement::SqlText;
use super::tokens::Source;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::python::TableFunctions;
use crate::relation::{ObjectName, RelationRequest, RelationResolver};
use crate::session::conf_of;
use crate::sql_function::SqlFunctions;

pub(crate) use function_bodies::{body_names, refuse_complex_body};
pub use function_bodies::{calls, check_body};
pub(crate) use generator_call::generator_call;
pub use parameters::Parameters;
pub(crate) use subqueries::holds_one as holds_subquery;

/// Whether a function of that name, in lower case, is a cast: `bigint(x)`.
pub(crate) fn is_cast_function(name: &str) -> bool {
    rewrite::cast_function(name).is_some()
}

/// A query as parsed, not yet resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlQuery {
    /// The syntax tree; its spans count from the start of `text`.
    pub query: Query,
    /// The text.
    pub text: String,
    /// Where the text starts in the user's file.
    pub location: SourceLocation,
}

/// Parses one query.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) at the token that does not fit.
pub fn parse_query(text: &str, location: &SourceLocation) -> Result<SqlQuery> {
    let source = Source::new(text, location);
    let mut parser = source.parser()?;
    let query = parser.parse_query().map_err(|error| source.error(&error))?;
    let _ = parser.consume_token(&Token::SemiColon);
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let place = source.place(next.span.start);
        return Err(source.syntax_error(format!("expected the end of the query, found `{}`", next.token), place));
    }
    Ok(SqlQuery { query: *query, text: text.to_owned(), location: location.clone() })
}

/// Plans a query: asks `resolver` for everything it reads, then gives it Spark's meaning.
///
/// # Errors
/// `User` errors with the exact position: `TABLE_OR_VIEW_NOT_FOUND` (from the resolver),
/// `UNRESOLVED_COLUMN`, `AMBIGUOUS_REFERENCE`, `UNRESOLVED_ROUTINE`; `Unsupported` for known constructs
/// that cannot be planned yet.
pub async fn plan_query(
    ctx: &SessionContext,
    query: &SqlQuery,
    resolver: &dyn RelationResolver,
) -> Result<LogicalPlan> {
    let state = ctx.state();
    let source = Source::new(&query.text, &query.location);
    let tree = time_travel::with_fixed_times(ctx, &query.query, &source).await?;
    let (relations, functions) = needed(&state, &tree, &source, resolver).await?;
    let planner = Planner::new(Provider::new(&state), source, relations, functions);
    let plan = planner.plan_query(tree, &HashMap::new(), &[]);
    plan.and_then(repeated::restored)
        .and_then(crate::windowing::resolve)
        .and_then(|plan| crate::subquery::resolve(plan, &conf_of(&state)))
        .and_then(crate::orderable::checked)
        .map_err(|error| error.at(query.location.clone()))
}

/// What `tree` reads, bodies of functions included, and the functions that it may call.
async fn needed(
    state: &SessionState,
    tree: &impl Visit,
    source: &Source<'_>,
    resolver: &dyn RelationResolver,
) -> Result<(Vec<(RelationRequest, LogicalPlan)>, SqlFunctions)> {
    let mut functions = SqlFunctions::of(state);
    let zone = conf_of(state).time_zone;
    let used = function_bodies::used(function_bodies::calls_of(tree), &mut functions, resolver).await?;
    let python = TableFunctions::of(state);
    let is_function = |name: &ObjectName| {
        user_function::called(&functions, name, None).is_some()
            || matches!(name.0.as_slice(), [one] if python.get(one).is_some())
    };
    let mut reads = relation::reads(tree, source, zone, &is_function).into_iter().collect::<Result<Vec<_>>>()?;
    for function in &used {
        reads.extend(function_bodies::reads_of_body(function, &functions, zone)?);
    }
    let mut relations = Vec::with_capacity(reads.len());
    for read in reads {
        let request = read.request;
        let plan = resolver.resolve(&request).await.map_err(|error| match &request.location {
            Some(location) => error.at(location.clone()),
            None => error,
        })?;
        relations.push((request, plan));
    }
    Ok((relations, functions))
}

/// Plans an expression over the columns of `schema`, whose subqueries may read what `resolver` knows. These are left to
/// whoever makes a plan of it ([`crate::subquery::resolve`]).
///
/// # Errors
/// As [`plan_query`].
pub async fn plan_expression_with(
    ctx: &SessionContext,
    expression: &SqlText,
    schema: &DFSchema,
    resolver: &dyn RelationResolver,
) -> Result<Expr> {
    let state = ctx.state();
    let source = Source::new(&expression.text, &expression.location);
    let items = items_of(&source)?;
    let (relations, functions) = needed(&state, &items, &source, resolver).await?;
    let planner = Planner::new(Provider::new(&state), source, relations, functions);
    let mut planned =
        planner.plan_items(items, schema, false).map_err(|error| error.at(expression.location.clone()))?;
    match (planned.pop(), planned.is_empty()) {
        (Some(planned), true) => Ok(planned.unalias()),
        _ => Err(Error::internal("an expression that is several")),
    }
}

/// Plans an expression over the columns of `schema`: a condition, or the argument of `expr()`.
///
/// An alias at its end is kept.
///
/// # Errors
/// As [`plan_query`]; `Unsupported` if it holds a subquery that reads tables.
pub fn plan_expression(ctx: &SessionContext, text: &str, schema: &DFSchema, location: &SourceLocation) -> Result<Expr> {
    let mut all = expressions(ctx, text, schema, location, false)?;
    match all.len() {
        1 => Ok(all.remove(0)),
        _ => Err(Source::new(text, location).syntax_error("expected one expression", location.clone())),
    }
}

/// Plans a select list over the columns of `schema`: every item has its output name.
///
/// # Errors
/// As [`plan_expression`].
pub fn plan_expressions(
    ctx: &SessionContext,
    text: &str,
    schema: &DFSchema,
    location: &SourceLocation,
) -> Result<Vec<Expr>> {
    expressions(ctx, text, schema, location, true)
}

fn expressions(
    ctx: &SessionContext,
    text: &str,
    schema: &DFSchema,
    location: &SourceLocation,
    named: bool,
) -> Result<Vec<Expr>> {
    let source = Source::new(text, location);
    let items = items_of(&source)?;
    if let Some(table) = relation::first_read(&items, &source) {
        return Err(Error::user(format!("a subquery that reads a table (`{table}`) cannot stand in this expression"))
            .with_condition("UNSUPPORTED_EXPR_FOR_OPERATOR")
            .with_help("Join with the table in the query, and use the joined column here.")
            .at(location.clone()));
    }
    let state = ctx.state();
    let planner = Planner::new(Provider::new(&state), source, Vec::new(), SqlFunctions::of(&state));
    planner.plan_items(items, schema, named).map_err(|error| error.at(location.clone()))
}

/// The select list that a text is.
fn items_of(source: &Source<'_>) -> Result<Vec<SelectItem>> {
    let mut parser = source.parser()?;
    let items = parser.parse_projection().map_err(|error| source.error(&error))?;
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let place = source.place(next.span.start);
        return Err(source.syntax_error(format!("expected the end of the expression, found `{}`", next.token), place));
    }
    Ok(items)
}
