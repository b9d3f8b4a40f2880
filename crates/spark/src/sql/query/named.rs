//! A select item as it is before Spark names the column after it: stars within calls are columns, columns have no
//! qualifiers, windows no names, and times stand as they are in the session's zone.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    NamedWindowDefinition, NamedWindowExpr, Select, TypedString, UnaryOperator, Value, WildcardAdditionalOptions,
    WindowSpec, WindowType, visit_expressions_mut,
};

use super::interval::AnsiInterval;
use super::names::MOVED;
use super::outside::outside_subqueries;
use super::rewrite;
use super::scope::{Scope, ScopeColumn, ident, unresolved};
use crate::cast::calendar;
use crate::cast::format::{write_date, write_timestamp};
use crate::cast::parse;
use crate::error::{Error, Result};
use crate::sql::spellings::{STAR, STRUCT_OF_STAR};
use crate::types::struct_fields;

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
    if let Expr::Struct { values, .. } = expr {
        let mut all = Vec::with_capacity(values.len());
        for value in std::mem::take(values) {
            match starred(&value) {
                Some(qualifier) => all.extend(columns_of(qualifier, scope)?),
                None => all.push(value),
            }
        }
        *values = all;
        return Ok(());
    }
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

/// What stands before the star that is a field of `struct(…)`.
fn starred(value: &Expr) -> Option<&[Ident]> {
    let (last, qualifier) = match value {
        Expr::Identifier(name) => (name, &[][..]),
        Expr::CompoundIdentifier(parts) => parts.split_last()?,
        _ => return None,
    };
    (last.value == STAR).then_some(qualifier)
}

/// The columns of a relation, or the fields of a structure under their names.
fn columns_of(qualifier: &[Ident], scope: &Scope) -> Result<Vec<Expr>> {
    let columns: Vec<Expr> = scope.star(qualifier).map(column).collect();
    if !columns.is_empty() {
        return Ok(columns);
    }
    let resolved = scope.resolve(qualifier)?.ok_or_else(|| unresolved(qualifier, &[scope]))?;
    let structure = scope.columns.iter().find(|column| column.expr == resolved);
    let fields = structure.and_then(|column| struct_fields(&column.data_type)).ok_or_else(|| {
        Error::unsupported("the star of a nested field in the arguments of a function").with_help("Name the fields.")
    })?;
    let field = |name: &str| {
        let parts = qualifier.iter().cloned().chain([ident(name)]).collect();
        Expr::Named { expr: Box::new(Expr::CompoundIdentifier(parts)), name: ident(name) }
    };
    Ok(fields.iter().map(|known| field(known.name())).collect())
}

fn column(column: &ScopeColumn) -> Expr {
    Expr::CompoundIdentifier(column.qualifier.iter().chain([&column.name]).map(|part| ident(part)).collect())
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
    if columns.is_empty() && !qualifier.is_empty() {
        let value = |field: Expr| match field {
            Expr::Named { expr, .. } => FunctionArg::Unnamed(FunctionArgExpr::Expr(*expr)),
            other => FunctionArg::Unnamed(FunctionArgExpr::Expr(other)),
        };
        return Ok(Some(columns_of(&qualifier, scope)?.into_iter().map(value).collect()));
    }
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
    Ok(Some(kept.map(|kept| FunctionArg::Unnamed(FunctionArgExpr::Expr(column(kept)))).collect()))
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
                let minus = *op == BinaryOperator::Minus;
                if !minus && is_date(right, scope) && (is_whole(left, scope) || is_days(left)) {
                    std::mem::swap(left, right);
                }
                if let Some(call) = moved_date(left, minus, right, scope) {
                    *expr = call;
                    return ControlFlow::Continue(());
                }
                match (is_interval(left, scope), is_interval(right, scope)) {
                    (false, true) if !is_null(left) => *op = BinaryOperator::Custom(format!("{MOVED}{op}")),
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

/// A date plus or minus days as Spark prints it: as the call that it is.
fn moved_date(left: &Expr, minus: bool, right: &Expr, scope: &Scope) -> Option<Expr> {
    if !is_date(left, scope) {
        return None;
    }
    if is_whole(right, scope) {
        let name = if minus { "date_sub" } else { "date_add" };
        return Some(rewrite::call(name, vec![left.clone(), right.clone()]));
    }
    let days = is_days(right).then(|| rewrite::call("extractansiintervaldays", vec![right.clone()]))?;
    let days = match minus {
        true => Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(days) },
        false => days,
    };
    Some(rewrite::call("date_add", vec![left.clone(), days]))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// Whether a constant interval counts days alone.
fn is_days(expr: &Expr) -> bool {
    let Expr::Interval(interval) = expr else { return false };
    matches!(AnsiInterval::read(interval), Some(AnsiInterval::Micros(_, units)) if units.last == 0)
}

fn is_date(expr: &Expr, scope: &Scope) -> bool {
    match expr {
        Expr::Nested(inner) => is_date(inner, scope),
        Expr::TypedString(typed) => typed.data_type == sqlparser::ast::DataType::Date,
        Expr::Cast { data_type, .. } => *data_type == sqlparser::ast::DataType::Date,
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let count = match &function.args {
                FunctionArguments::List(list) => list.args.len(),
                _ => 0,
            };
            matches!(
                (name.as_str(), count),
                ("date_add" | "date_sub", 2) | ("current_date" | "to_date" | "last_day", _)
            )
        }
        _ => column_type(expr, scope).is_some_and(|data_type| data_type == &DataType::Date32),
    }
}

/// Whether it is an integer that a date can be moved by.
fn is_whole(expr: &Expr, scope: &Scope) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => is_whole(inner, scope),
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(digits, false) if digits.bytes().all(|b| b.is_ascii_digit()))
        }
        _ => column_type(expr, scope).is_some_and(DataType::is_signed_integer),
    }
}

fn column_type<'a>(expr: &'a Expr, scope: &'a Scope) -> Option<&'a DataType> {
    let parts = match expr {
        Expr::Identifier(name) => std::slice::from_ref(name),
        Expr::CompoundIdentifier(parts) => parts,
        _ => return None,
    };
    let (name, qualifier) = parts.split_last()?;
    let column = scope.star(qualifier).find(|column| column.name.eq_ignore_ascii_case(&name.value))?;
    Some(&column.data_type)
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
