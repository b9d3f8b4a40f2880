//! Subqueries that use columns of the query around them.
//!
//! A client sends such a subquery as a relation of its own, which cannot be planned alone: a name that it does not
//! have is looked up in the relation around it. Planning waits until that relation is known.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::ExprSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;

use super::context::Planner;
use super::dropped::parts;
use super::expression::Expressions;
use super::proto::{Expression, Relation, expression::ExprType};
use super::scope::Scope;
use crate::error::{Error, Result};

/// The relations of subqueries that could not be planned alone, by plan id.
pub(super) type Waiting = Arc<HashMap<i64, Relation>>;

/// Whether a relation may be a part of a query that has the column it lacks.
pub(super) fn may_be_correlated(error: &Error) -> bool {
    error.condition().is_some_and(|condition| condition.starts_with("UNRESOLVED_COLUMN"))
}

impl<'a> Planner<'a> {
    /// A planner that knows the subqueries in `exprs`, which may use the columns of `scope`; and that scope, whose
    /// columns have names of their own then.
    pub(super) async fn with_correlated<'e>(
        &self,
        scope: Scope,
        exprs: impl IntoIterator<Item = &'e Expression>,
    ) -> Result<(Planner<'a>, Scope)> {
        let mut ids = Vec::new();
        for expr in exprs {
            subqueries(expr, &mut ids);
        }
        ids.retain(|id| self.waiting.contains_key(id));
        if ids.is_empty() {
            return Ok((self.clone(), scope));
        }
        let scope = scope.renamed_apart(&self.names)?;
        let inner = Planner { outer: Some(Arc::new(scope.clone())), ..self.clone() };
        let mut planner = self.clone();
        for id in ids {
            if let Some(relation) = self.waiting.get(&id) {
                planner.subqueries.insert(id, inner.scope(relation).await?.finish()?);
            }
        }
        Ok((planner, scope))
    }
}

impl Expressions<'_> {
    /// A column of the query around this one.
    pub(super) fn outer_attribute(&self, parts: &[String], plan_id: Option<i64>) -> Option<Result<Expr>> {
        let outer = self.planner.outer.as_ref()?;
        let (column, rest) = outer.resolve(parts, plan_id, self.planner.conf.case_sensitive).ok()?;
        let around = Expressions::new(self.planner, outer);
        let expr = if rest.is_empty() { Ok(column.expr()) } else { around.nested(column, rest).map(|(expr, _)| expr) };
        Some(expr.and_then(|expr| outside(expr, outer)))
    }
}

/// An expression over the columns of the query around.
fn outside(expr: Expr, outer: &Scope) -> Result<Expr> {
    let rewritten = expr.transform(|node| match node {
        Expr::Column(column) => {
            let field = Arc::clone(outer.schema().field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

/// The plan ids of the subqueries in an expression.
fn subqueries(expr: &Expression, ids: &mut Vec<i64>) {
    if let Some(ExprType::SubqueryExpression(subquery)) = &expr.expr_type {
        ids.push(subquery.plan_id);
    }
    parts(expr).into_iter().for_each(|part| subqueries(part, ids));
}
