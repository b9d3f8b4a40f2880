//! Where in the text of a query something stands that its plan no longer says the place of.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, TableFactor,
    Value, ValueWithSpan, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use deltaworks_incremental::StreamOperator;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::sql::SqlQuery;

/// The first expression that people write as `shown`: a column, or a text without its quotes.
pub fn of_expression(query: &SqlQuery, shown: &str) -> Option<SourceLocation> {
    first(query, |expr| match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::DoubleQuotedString(text),
            span,
        }) => (text == shown).then_some(*span),
        Expr::Identifier(name) => (name.value.eq_ignore_ascii_case(shown)).then_some(name.span),
        Expr::CompoundIdentifier(parts) => {
            let last = parts.last().filter(|name| name.value.eq_ignore_ascii_case(shown));
            last.and(parts.first()).map(|first| first.span)
        }
        _ => (expr.to_string() == shown).then(|| expr.span()),
    })
}

/// The first call of one of these functions.
pub fn of_function(query: &SqlQuery, names: &[&str]) -> Option<SourceLocation> {
    let is_named = |name: &ObjectName| names.iter().any(|wanted| name.to_string().eq_ignore_ascii_case(wanted));
    first(query, |expr| match expr {
        Expr::Function(call) if is_named(&call.name) => Some(call.name.span()),
        _ => None,
    })
}

/// The first operator of a kind.
pub fn of_operator(query: &SqlQuery, operator: StreamOperator) -> Option<SourceLocation> {
    let mut finder = OperatorFinder(operator);
    match query.query.visit(&mut finder) {
        ControlFlow::Break(span) => place(query, span),
        ControlFlow::Continue(()) => None,
    }
}

fn first(query: &SqlQuery, is_it: impl FnMut(&Expr) -> Option<Span>) -> Option<SourceLocation> {
    match query.query.visit(&mut ExpressionFinder(is_it)) {
        ControlFlow::Break(span) => place(query, span),
        ControlFlow::Continue(()) => None,
    }
}

struct ExpressionFinder<F>(F);

impl<F: FnMut(&Expr) -> Option<Span>> Visitor for ExpressionFinder<F> {
    type Break = Span;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
        found((self.0)(expr))
    }
}

struct OperatorFinder(StreamOperator);

impl Visitor for OperatorFinder {
    type Break = Span;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Span> {
        found(match self.0 {
            StreamOperator::Sort => query.order_by.as_ref().map(Spanned::span),
            StreamOperator::Limit => query.limit_clause.as_ref().map(|limit| match limit {
                LimitClause::LimitOffset { limit: Some(limit), .. } => limit.span(),
                other => other.span(),
            }),
            StreamOperator::Union => match query.body.as_ref() {
                SetExpr::SetOperation { right, .. } => Some(right.span()),
                _ => None,
            },
            _ => None,
        })
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Span> {
        found(match self.0 {
            StreamOperator::Aggregate => match &select.group_by {
                GroupByExpr::Expressions(keys, _) if !keys.is_empty() => keys.first().map(Spanned::span),
                GroupByExpr::All(_) | GroupByExpr::Expressions(..) => None,
            },
            StreamOperator::Join => {
                let joins = select.from.iter().flat_map(|from| &from.joins);
                joins.map(|join| relation_span(&join.relation)).next()
            }
            StreamOperator::Distinct => match &select.distinct {
                Some(Distinct::Distinct | Distinct::On(_)) => select.projection.first().map(SelectItem::span),
                _ => None,
            },
            _ => None,
        })
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
        found(match (self.0, expr) {
            (StreamOperator::Window, Expr::Function(call)) if call.over.is_some() => Some(call.name.span()),
            (StreamOperator::Subquery, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. }) => {
                Some(expr.span())
            }
            _ => None,
        })
    }
}

fn relation_span(relation: &TableFactor) -> Span {
    match relation {
        TableFactor::Table { name, .. } => name.span(),
        other => other.span(),
    }
}

fn found(span: Option<Span>) -> ControlFlow<Span> {
    match span {
        Some(span) if span.start != Location::empty() => ControlFlow::Break(span),
        _ => ControlFlow::Continue(()),
    }
}

/// A position in the query's text as one in the user's file.
fn place(query: &SqlQuery, span: Span) -> Option<SourceLocation> {
    let (line, column) = (u32::try_from(span.start.line).ok()?, u32::try_from(span.start.column).ok()?);
    let origin = &query.location;
    let column = if line == 1 { origin.column.max(1) - 1 + column } else { column };
    Some(SourceLocation::new(origin.file.clone(), origin.line.max(1) - 1 + line, column))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use deltaworks_spark::sql::parse_query;

    use super::*;

    fn query(text: &str) -> SqlQuery {
        parse_query(text, &SourceLocation::new("a.sql", 10, 5)).unwrap()
    }

    #[track_caller]
    fn check(found: Option<SourceLocation>, place: &str) {
        assert_eq!(found.map(|found| found.to_string()).as_deref(), Some(place));
    }

    #[test]
    fn expressions_are_found_as_they_are_shown() {
        let query = query("SELECT a,\n  '0.5' > 0, t.amount > 1, `b c` = 2 FROM t");
        check(of_expression(&query, "0.5"), "a.sql:11:3");
        check(of_expression(&query, "amount"), "a.sql:11:14");
        check(of_expression(&query, "b c"), "a.sql:11:28");
        check(of_expression(&query, "a"), "a.sql:10:12");
        assert_eq!(of_expression(&query, "nowhere"), None);
    }

    #[test]
    fn operators_are_found_in_the_text() {
        let query =
            query("SELECT row_number() OVER (ORDER BY x) AS n FROM t JOIN u USING (x)\nGROUP BY x\nORDER BY y LIMIT 3");
        check(of_operator(&query, StreamOperator::Window), "a.sql:10:12");
        check(of_operator(&query, StreamOperator::Join), "a.sql:10:60");
        check(of_operator(&query, StreamOperator::Aggregate), "a.sql:11:10");
        check(of_operator(&query, StreamOperator::Sort), "a.sql:12:10");
        check(of_operator(&query, StreamOperator::Limit), "a.sql:12:18");
        assert_eq!(of_operator(&query, StreamOperator::Union), None);
        check(of_function(&query, &["row_number"]), "a.sql:10:12");
    }
}
