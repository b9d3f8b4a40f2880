//! Columns that projections left out, and that a filter or a sort above them names: as in Spark, they are looked up below.
//!
//! `df.select("a").where("b > 1")` and `df.withColumn("a", …).orderBy(df.a)` are planned anew over projections that pass along
//! what they leave out, hidden; above the filter or sort it is gone again.

use super::context::Planner;
use super::proto::expression::ExprType;
use super::proto::relation::RelType;
use super::proto::{Expression, Relation};
use super::scope::{Output, Scope, split_identifier};
use crate::error::Result;

/// Whether what a relation leaves out can be passed along by it: it changes columns, or keeps them and the rows' identity.
pub(super) fn passes_along(kind: &RelType) -> bool {
    matches!(
        kind,
        RelType::Project(_)
            | RelType::WithColumns(_)
            | RelType::WithColumnsRenamed(_)
            | RelType::ToDf(_)
            | RelType::Drop(_)
            | RelType::Filter(_)
            | RelType::Sort(_)
            | RelType::Limit(_)
            | RelType::Offset(_)
            | RelType::Hint(_)
    )
}

/// The expressions directly within one.
pub(super) fn parts(expr: &Expression) -> Vec<&Expression> {
    match &expr.expr_type {
        Some(ExprType::SubqueryExpression(subquery)) => subquery.in_subquery_values.iter().collect(),
        Some(ExprType::UnresolvedFunction(call)) => call.arguments.iter().collect(),
        Some(ExprType::CallFunction(call)) => call.arguments.iter().collect(),
        Some(ExprType::Alias(alias)) => alias.expr.as_deref().into_iter().collect(),
        Some(ExprType::Cast(cast)) => cast.expr.as_deref().into_iter().collect(),
        Some(ExprType::SortOrder(order)) => order.child.as_deref().into_iter().collect(),
        Some(ExprType::UnresolvedExtractValue(extract)) => extract.child.as_deref().into_iter().collect(),
        _ => Vec::new(),
    }
}

impl Planner<'_> {
    /// Projects onto `outputs`, and passes along the rest where it may be named above.
    pub(super) fn projected(&self, scope: Scope, outputs: Vec<Output>) -> Result<Scope> {
        if !self.keeps_dropped {
            return scope.project(outputs, &self.names);
        }
        let is_there = |column: &_| outputs.iter().any(|output| output.passed.is_some() && output.expr == *column);
        let rest: Vec<_> =
            scope.columns.iter().filter(|column| !is_there(&column.expr())).map(Output::passed).collect();
        let visible = outputs.into_iter().map(|output| (output, false));
        let all = visible.chain(rest.into_iter().map(|output| (output, true))).collect();
        scope.project_exactly(all, &self.names)
    }

    /// The input of a filter or sort with what projections left out of it.
    pub(super) async fn input_with_dropped(&self, input: &Option<Box<Relation>>) -> Result<Scope> {
        Planner { keeps_dropped: true, ..self.clone() }.input(input).await
    }

    /// Whether `exprs` name a column of one DataFrame that the scope no longer has, `df.a` after `df.drop("a")`.
    pub(super) fn names_dropped(&self, scope: &Scope, exprs: &[&Expression]) -> Result<bool> {
        for expr in exprs {
            if let Some(ExprType::UnresolvedAttribute(attribute)) = &expr.expr_type
                && let Some(plan_id) = attribute.plan_id
                && let [name, ..] = split_identifier(&attribute.unparsed_identifier)?.as_slice()
                && !scope.offers(plan_id, name, self.conf.case_sensitive)
            {
                return Ok(true);
            }
            if self.names_dropped(scope, &parts(expr))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Without what was passed along beside the `width` columns there were, unless it is to be named further up.
    pub(super) fn narrowed(&self, scope: Scope, width: usize) -> Result<Scope> {
        if self.keeps_dropped || scope.columns.len() == width {
            return Ok(scope);
        }
        let outputs = scope.visible().map(Output::passed).collect();
        scope.project(outputs, &self.names)
    }
}
