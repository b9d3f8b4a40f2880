//! What Spark calls a column of a select list that has no alias.

use itertools::Itertools;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    LambdaFunction, UnaryOperator, Value, visit_expressions_mut,
};

use super::forms::is_all;
use super::interval::AnsiInterval;
use super::json_path;
use super::rewrite::{self, cast_function, suffixed};
use super::rows::field_name;
use crate::cast::format::java_double;
use crate::naming::call_name;

/// Marks `+` and `-` of a time and an interval.
pub(super) const MOVED: &str = "moved ";

/// The name of the column that holds `expr`: the last part of a name, or the expression as Spark prints it.
pub(super) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) if suffixed(name).is_none() => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        Expr::Nested(inner) => column_name(inner),
        // A field of what a call makes, or of an element, is named with it.
        Expr::CompoundFieldAccess { root, access_chain }
            if matches!(root.as_ref(), Expr::Function(_))
                || access_chain.iter().any(|access| matches!(access, AccessExpr::Subscript(_))) =>
        {
            pretty(expr)
        }
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(name))) => name.value.clone(),
            _ => pretty(expr),
        },
        Expr::JsonAccess { path, .. } => json_path::name(path),
        Expr::Cast { expr: inner, .. } => match inner.as_ref() {
            // Spark names a cast of a column after the column.
            Expr::Identifier(name) if suffixed(name).is_none() => column_name(inner),
            Expr::CompoundIdentifier(_) | Expr::JsonAccess { .. } => column_name(inner),
            _ => pretty(expr),
        },
        _ => pretty(expr),
    }
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(pretty).join(", ")
}

/// The expression as Spark prints it.
pub(super) fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => match suffixed(name) {
            Some((digits, "d" | "D" | "f" | "F")) => double(digits),
            Some((digits, _)) => digits.to_owned(),
            None => name.value.clone(),
        },
        Expr::CompoundIdentifier(parts) => parts.iter().map(|part| part.value.as_str()).join("."),
        Expr::Nested(inner) => pretty(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Null => "NULL".to_owned(),
            Value::Number(text, _) if text.contains(['e', 'E']) => double(text),
            Value::Number(text, _) => text.clone(),
            Value::HexStringLiteral(digits) => format!("X'{}'", digits.to_uppercase()),
            other => other.to_string().to_lowercase(),
        },
        // What moves a time is printed without parentheses.
        Expr::BinaryOp { left, op: BinaryOperator::Custom(op), right } if op.starts_with(MOVED) => {
            format!("{} {} {}", pretty(left), op.trim_start_matches(MOVED), pretty(right))
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            format!("concat({}, {})", pretty(left), pretty(right))
        }
        Expr::BinaryOp { left, op: BinaryOperator::NotEq, right } => {
            format!("(NOT ({} = {}))", pretty(left), pretty(right))
        }
        Expr::BinaryOp { left, op, right } => format!("({} {} {})", pretty(left), operator(op), pretty(right)),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => format!("(+ {})", pretty(expr)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(_) => format!("-{}", pretty(expr)),
            Expr::Identifier(name) if suffixed(name).is_some() => format!("-{}", pretty(expr)),
            _ => format!("(- {})", pretty(expr)),
        },
        Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, expr } => format!("(NOT {})", pretty(expr)),
        Expr::IsNull(inner) => format!("({} IS NULL)", pretty(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", pretty(inner)),
        Expr::IsUnknown(inner) => format!("({} IS NULL)", pretty(inner)),
        Expr::IsNotUnknown(inner) => format!("({} IS NOT NULL)", pretty(inner)),
        Expr::IsTrue(inner) => format!("({} <=> true)", pretty(inner)),
        Expr::IsNotTrue(inner) => format!("(NOT ({} <=> true))", pretty(inner)),
        Expr::IsFalse(inner) => format!("({} <=> false)", pretty(inner)),
        Expr::IsNotFalse(inner) => format!("(NOT ({} <=> false))", pretty(inner)),
        Expr::IsNotDistinctFrom(left, right) => format!("({} <=> {})", pretty(left), pretty(right)),
        Expr::IsDistinctFrom(left, right) => format!("(NOT ({} <=> {}))", pretty(left), pretty(right)),
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => format!("~{}", pretty(expr)),
        Expr::InList { expr, list: items, negated } => {
            negate(*negated, format!("({} IN ({}))", pretty(expr), list(items)))
        }
        Expr::Between { expr, negated, low, high } => {
            negate(*negated, format!("between({}, {}, {})", pretty(expr), pretty(low), pretty(high)))
        }
        Expr::Like { negated, any, expr, pattern, .. } | Expr::ILike { negated, any, expr, pattern, .. }
            if *any || is_all(pattern) =>
        {
            // The patterns are no part of it.
            let (not, word) = (if *negated { "not" } else { "" }, if *any { "any" } else { "all" });
            format!("{not}like{word}({})", pretty(expr))
        }
        Expr::ILike { negated, expr, pattern, .. } => {
            negate(*negated, format!("ilike({}, {})", pretty(expr), pretty(pattern)))
        }
        Expr::Like { negated, expr, pattern, escape_char, .. } => {
            let escape = escape_char.as_ref().map(|escape| escape.to_string()).filter(|escape| escape != r"'\'");
            let escape = escape.map_or_else(String::new, |escape| format!(" ESCAPE {escape}"));
            negate(*negated, format!("{} LIKE {}{escape}", pretty(expr), pretty(pattern)))
        }
        Expr::RLike { negated, expr, pattern, .. } => {
            negate(*negated, format!("RLIKE({}, {})", pretty(expr), pretty(pattern)))
        }
        // Spark leaves out a cast to a nested type.
        Expr::Cast { expr, data_type: DataType::Array(_) | DataType::Struct(..), .. } => pretty(expr),
        Expr::Cast { kind, expr, data_type, .. } => {
            let data_type = match data_type {
                DataType::Custom(..) => data_type.to_string().to_uppercase(),
                other => other.to_string(),
            };
            let name = if matches!(kind, CastKind::TryCast) { "TRY_CAST" } else { "CAST" };
            format!("{name}({} AS {data_type})", pretty(expr))
        }
        Expr::Collate { expr, collation } => format!("collate({}, {collation})", pretty(expr)),
        Expr::TypedString(typed) => format!("{} {}", typed.data_type, typed.value),
        Expr::Interval(interval) => match AnsiInterval::read(interval) {
            Some(ansi) => ansi.literal(),
            None => interval.to_string(),
        },
        Expr::Case { operand, conditions, else_result, .. } => {
            let condition = |when: &Expr| match operand {
                Some(operand) => format!("({} = {})", pretty(operand), pretty(when)),
                None => pretty(when),
            };
            let branches = conditions
                .iter()
                .map(|when| format!(" WHEN {} THEN {}", condition(&when.condition), pretty(&when.result)))
                .join("");
            let otherwise = else_result.iter().map(|result| format!(" ELSE {}", pretty(result))).join("");
            format!("CASE{branches}{otherwise} END")
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let access = access_chain.iter().map(|access| match access {
                AccessExpr::Dot(field) => format!(".{}", pretty(field)),
                AccessExpr::Subscript(sqlparser::ast::Subscript::Index { index }) => format!("[{}]", pretty(index)),
                AccessExpr::Subscript(other) => other.to_string(),
            });
            format!("{}{}", pretty(root), access.collect::<String>())
        }
        Expr::JsonAccess { value, path } => {
            format!("variant_get({}, {}) AS {}", pretty(value), json_path::text(path), json_path::name(path))
        }
        Expr::Tuple(values) => {
            let fields =
                values.iter().enumerate().map(|(i, value)| format!("{}, {}", field_name(i, value), pretty(value)));
            format!("named_struct({})", fields.collect::<Vec<_>>().join(", "))
        }
        Expr::Struct { values, .. } => format!("struct({})", list(values)),
        Expr::Named { expr, name } => format!("{} AS {}", pretty(expr), name.value),
        Expr::Trim { trim_where, trim_what: Some(what), expr, .. } => {
            let side = trim_where.map_or_else(|| "BOTH".to_owned(), |side| side.to_string());
            format!("TRIM({side} {} FROM {})", pretty(what), pretty(expr))
        }
        Expr::Trim { expr, .. } => format!("trim({})", pretty(expr)),
        Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
            let args: Vec<String> =
                [expr].into_iter().chain(substring_from).chain(substring_for).map(|arg| pretty(arg)).collect();
            call_name(if *shorthand { "substr" } else { "substring" }, &args, false)
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let length = overlay_for.as_ref().map_or_else(|| "-1".to_owned(), |length| pretty(length));
            format!("overlay({}, {}, {}, {length})", pretty(expr), pretty(overlay_what), pretty(overlay_from))
        }
        Expr::Position { expr, r#in } => call_name("locate", &[pretty(expr), pretty(r#in)], false),
        Expr::Lambda(lambda) => {
            let params = lambda.params.iter().map(|_| "namedlambdavariable()").join(", ");
            format!("lambdafunction({}, {params})", pretty(&unnamed(lambda)))
        }
        Expr::Floor { expr, .. } => format!("FLOOR({})", pretty(expr)),
        Expr::Ceil { expr, .. } => format!("CEIL({})", pretty(expr)),
        Expr::Extract { field, expr, .. } => format!("extract({field} FROM {})", pretty(expr)),
        Expr::Subquery(_) => "scalarsubquery()".to_owned(),
        Expr::Function(function) => call(function),
        other => other.to_string().replace('`', ""),
    }
}

/// The body of a lambda with its parameters as Spark prints them: without their names.
fn unnamed(lambda: &LambdaFunction) -> Expr {
    let is_param = |name: &Ident| lambda.params.iter().any(|param| param.name.value.eq_ignore_ascii_case(&name.value));
    let mut body = lambda.body.as_ref().clone();
    let _ = visit_expressions_mut(&mut body, |expr| {
        match expr {
            Expr::Identifier(name) if is_param(name) => *expr = rewrite::call("namedlambdavariable", Vec::new()),
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(is_param) => {
                let fields = parts[1..].iter().map(|part| AccessExpr::Dot(Expr::Identifier(part.clone()))).collect();
                let root = Box::new(rewrite::call("namedlambdavariable", Vec::new()));
                *expr = Expr::CompoundFieldAccess { root, access_chain: fields };
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    body
}

/// A double as Java prints it.
fn double(digits: &str) -> String {
    let mut text = String::new();
    match digits.parse() {
        Ok(value) => {
            // Writing into a string cannot fail.
            let _ = java_double(&mut text, value);
            text
        }
        Err(_) => digits.to_owned(),
    }
}

fn negate(negated: bool, text: String) -> String {
    if negated { format!("(NOT {text})") } else { text }
}

fn operator(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::MyIntegerDivide => "div".to_owned(),
        BinaryOperator::NotEq => "!=".to_owned(),
        other => other.to_string(),
    }
}

fn call(function: &sqlparser::ast::Function) -> String {
    let name = function.name.to_string().replace('`', "").to_lowercase();
    let mut distinct = false;
    let mut args = match &function.args {
        FunctionArguments::List(arguments) => {
            distinct = arguments.duplicate_treatment.is_some_and(|t| t == sqlparser::ast::DuplicateTreatment::Distinct);
            let args = arguments.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => pretty(expr),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "count" => "1".to_owned(),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    format!("{} => {}", name.value, pretty(expr))
                }
                other => other.to_string(),
            });
            args.collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    if matches!(name.as_str(), "window" | "session_window") && args.len() > 1 {
        return name;
    }
    if (name.as_str(), args.len()) == ("convert_timezone", 2) {
        args.insert(0, "current_timezone()".to_owned());
    }
    let name = match (name.as_str(), args.len()) {
        ("dateadd" | "date_add", 3) => "timestampadd".to_owned(),
        ("datediff" | "date_diff", 3) => "timestampdiff".to_owned(),
        _ => name,
    };
    if let ([arg], true) = (args.as_slice(), cast_function(&name).is_some()) {
        // A cast that is written as a call is not part of the name.
        return arg.clone();
    }
    let filter = function.filter.iter().map(|filter| format!(" FILTER (WHERE {})", pretty(filter))).join("");
    let within = super::names_over::within_group(function);
    match super::names_over::over(function, &name) {
        Some((name, args_shown, over)) => {
            let args = args_shown.map_or(args.clone(), |shown| args.into_iter().chain(shown).collect());
            format!("{}{filter}{over}", call_name(&name, &args, distinct))
        }
        // Only with an order is it printed under the name of the aggregate that it is.
        None if name == "string_agg" && !within.is_empty() => {
            format!("{}{within}{filter}", call_name("listagg", &args, distinct))
        }
        None => format!("{}{within}{filter}", call_name(&name, &args, distinct)),
    }
}
