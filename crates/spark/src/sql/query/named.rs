//! A select item as it is before Spark names the column after it: stars within calls are columns, columns have no
//! qualifiers, windows no names, and times stand as they are in the session's zone.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    NamedWindowDefinition, NamedWindowExpr, Select, TypedString, Value, WildcardAdditionalOptions, WindowSpec,
    WindowType, visit_expressions_mut,
};

use super::names::MOVED;
use super::outside::outside_subqueries;
use super::rewrite;
use super::scope::{Scope, ScopeColumn, ident, unresolved};
use crate::cast::calendar;
use crate::cast::format::{write_date, write_timestamp};
use crate::cast::parse;
use crate::error::Result;
use crate::sql::spellings::STRUCT_OF_STAR;

/// The windows of a block by lower-case name.
pub(super) type Windows = HashMap<String, WindowSpec>;

/// The windows that the `WINDOW` clause names.
pub(super) fn windows(select: &Select) -> Windows {
    let specification = |NamedWindowDefinition(name, window): &NamedWindowDefinition| match window {
        NamedWindowExpr::WindowSpec(spec) => Some((name.value.to_lowercase(), spec.clone())),
        NamedWindowExpr::NamedWindow(_) => None,
    };
    select.named_window.iter().filter_map(specification).collect()
}

/// `f(*)` as `f(a, b)`, but for `count(*)`; stars of subqueries stand for the columns of those.
///
/// # Errors
/// `UNRESOLVED_COLUMN` (`User`) if a column is left out that is none.
pub(super) fn expand_stars(expr: &mut Expr, scope: &Scope) -> Result<()> {
    outside_subqueries(expr, |part| expand(part, scope))
}

fn expand(expr: &mut Expr, scope: &Scope) -> Result<()> {
    let Expr::Function(function) = expr else { return Ok(()) };
    let name = function.name.to_string();
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    // Rows are counted whatever they hold; distinct ones by their columns.
    let is_count = name.eq_ignore_ascii_case("count") && list.duplicate_treatment != Some(DuplicateTreatment::Distinct);
    if is_count || !list.args.iter().any(is_star) {
        return Ok(());
    }
    let mut args = Vec::new();
    for arg in std::mem::take(&mut list.args) {
        match columns(&arg, scope)? {
            Some(columns) => args.extend(columns),
            None => args.push(arg),
        }
    }
    list.args = args;
    if name == STRUCT_OF_STAR {
        let value = |arg: FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        };
        let values = std::mem::take(&mut list.args).into_iter().filter_map(value).collect();
        *expr = Expr::Struct { values, fields: Vec::new() };
    }
    Ok(())
}

fn is_star(arg: &FunctionArg) -> bool {
    use FunctionArgExpr::{QualifiedWildcard, Wildcard, WildcardWithOptions};
    matches!(arg, FunctionArg::Unnamed(Wildcard | WildcardWithOptions(_) | QualifiedWildcard(_)))
}

/// The columns that a star stands for; `None` if it is none.
fn columns(arg: &FunctionArg, scope: &Scope) -> Result<Option<Vec<FunctionArg>>> {
    let no_options = WildcardAdditionalOptions::default();
    let FunctionArg::Unnamed(arg) = arg else { return Ok(None) };
    let (qualifier, options) = match arg {
        FunctionArgExpr::Wildcard => (Vec::new(), &no_options),
        FunctionArgExpr::WildcardWithOptions(options) => (Vec::new(), options),
        FunctionArgExpr::QualifiedWildcard(name) => {
            (name.0.iter().filter_map(|part| part.as_ident().cloned()).collect::<Vec<Ident>>(), &no_options)
        }
        FunctionArgExpr::Expr(_) => return Ok(None),
    };
    let columns: Vec<&ScopeColumn> = scope.star(&qualifier).collect();
    let except: Vec<&Ident> = options
        .opt_except
        .iter()
        .flat_map(|except| std::iter::once(&except.first_element).chain(&except.additional_elements))
        .collect();
    let is = |column: &ScopeColumn, name: &Ident| column.name.eq_ignore_ascii_case(&name.value);
    if let Some(missing) = except.iter().find(|name| !columns.iter().any(|column| is(column, name))) {
        return Err(unresolved(std::slice::from_ref(missing), &[scope]));
    }
    let kept = columns.into_iter().filter(|column| !except.iter().any(|name| is(column, name)));
    let column = |column: &ScopeColumn| {
        let parts = column.qualifier.iter().chain([&column.name]).map(|part| ident(part)).collect();
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))
    };
    Ok(Some(kept.map(column).collect()))
}

/// The item as it is printed.
pub(super) fn shown(expr: &Expr, scope: &Scope, windows: &Windows, tz: Tz) -> Expr {
    let mut shown = expr.clone();
    let _ = visit_expressions_mut(&mut shown, |expr| {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                let kept = unqualified(parts, scope);
                *expr = match kept {
                    [name] => Expr::Identifier(name.clone()),
                    parts => Expr::CompoundIdentifier(parts.to_vec()),
                };
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                rewrite::whole_name(root, access_chain);
                if let Expr::CompoundIdentifier(parts) = root.as_mut() {
                    *parts = unqualified(parts, scope).to_vec();
                }
            }
            Expr::TypedString(typed) => in_zone(typed, tz),
            Expr::Function(function) => {
                if let Some(WindowType::NamedWindow(name)) = &function.over
                    && let Some(spec) = windows.get(&name.value.to_lowercase())
                {
                    function.over = Some(WindowType::WindowSpec(spec.clone()));
                }
            }
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } => {
                match (is_interval(left, scope), is_interval(right, scope)) {
                    (false, true) => *op = BinaryOperator::Custom(format!("{MOVED}{op}")),
                    (true, false) if *op == BinaryOperator::Plus => {
                        *op = BinaryOperator::Custom(format!("{MOVED}+"));
                        std::mem::swap(left, right);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    shown
}

/// The name without its table.
fn unqualified<'a>(parts: &'a [Ident], scope: &Scope) -> &'a [Ident] {
    let at = (1..parts.len()).rev().find(|at| {
        let (qualifier, rest) = parts.split_at(*at);
        let mut columns = scope.star(qualifier);
        columns.any(|column| column.name.eq_ignore_ascii_case(&rest[0].value))
    });
    &parts[at.unwrap_or(0)..]
}

fn is_interval(expr: &Expr, scope: &Scope) -> bool {
    let interval = |name: &Ident| {
        let found = scope.columns.iter().find(|column| column.name.eq_ignore_ascii_case(&name.value));
        found.is_some_and(|column| matches!(column.data_type, DataType::Interval(_) | DataType::Duration(_)))
    };
    match expr {
        Expr::Interval(_) => true,
        Expr::Nested(inner) => is_interval(inner, scope),
        Expr::Cast { data_type, .. } => matches!(data_type, sqlparser::ast::DataType::Interval { .. }),
        Expr::Identifier(name) => interval(name),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(interval),
        _ => false,
    }
}

/// `TIMESTAMP'2024-01-01T00:00Z'` as the clock of the session's zone shows it.
fn in_zone(typed: &mut TypedString, tz: Tz) {
    let Value::SingleQuotedString(text) = &mut typed.value.value else { return };
    let mut out = String::new();
    // Writing into a string cannot fail.
    let written = match &typed.data_type {
        sqlparser::ast::DataType::Timestamp(..) => {
            parse::timestamp(text, tz).map(|micros| write_timestamp(&mut out, calendar::to_local(micros, tz)))
        }
        sqlparser::ast::DataType::Date => parse::date(text).map(|days| write_date(&mut out, days.into())),
        _ => None,
    };
    if written.is_some() {
        *text = out;
    }
}
