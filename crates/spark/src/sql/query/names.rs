//! What Spark calls a column of a select list that has no alias.

use itertools::Itertools;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
};

use crate::naming::call_name;

/// The name of the column that holds `expr`: the last part of a name, or the expression as Spark prints it.
pub(super) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        Expr::Nested(inner) => column_name(inner),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(name))) => name.value.clone(),
            _ => pretty(expr),
        },
        Expr::JsonAccess { path, .. } => path
            .to_string()
            .trim_start_matches(':')
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .trim_matches(['`', '[', ']'])
            .to_owned(),
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, .. } => match inner.as_ref() {
            // Spark names a cast of a column after the column.
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => column_name(inner),
            _ => pretty(expr),
        },
        _ => pretty(expr),
    }
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(pretty).join(", ")
}

/// The expression as Spark prints it.
fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.iter().map(|part| part.value.as_str()).join("."),
        Expr::Nested(inner) => pretty(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Null => "NULL".to_owned(),
            Value::Number(text, _) => text.clone(),
            other => other.to_string().to_lowercase(),
        },
        Expr::BinaryOp { left, op, right } => format!("({} {} {})", pretty(left), operator(op), pretty(right)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(_) => format!("-{}", pretty(expr)),
            _ => format!("(- {})", pretty(expr)),
        },
        Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, expr } => format!("(NOT {})", pretty(expr)),
        Expr::IsNull(inner) => format!("({} IS NULL)", pretty(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", pretty(inner)),
        Expr::InList { expr, list: items, negated } => {
            negate(*negated, format!("({} IN ({}))", pretty(expr), list(items)))
        }
        Expr::Between { expr, negated, low, high } => {
            negate(*negated, format!("between({}, {}, {})", pretty(expr), pretty(low), pretty(high)))
        }
        Expr::Like { negated, expr, pattern, .. } => {
            negate(*negated, format!("{} LIKE {}", pretty(expr), pretty(pattern)))
        }
        Expr::RLike { negated, expr, pattern, .. } => {
            negate(*negated, format!("RLIKE({}, {})", pretty(expr), pretty(pattern)))
        }
        Expr::Cast { kind, expr, data_type, .. } => {
            let name = if matches!(kind, CastKind::TryCast) { "TRY_CAST" } else { "CAST" };
            format!("{name}({} AS {data_type})", pretty(expr))
        }
        Expr::TypedString(typed) => format!("{} {}", typed.data_type, typed.value),
        Expr::Case { operand, conditions, else_result, .. } => {
            let operand = operand.iter().map(|operand| format!(" {}", pretty(operand))).join("");
            let branches = conditions
                .iter()
                .map(|when| format!(" WHEN {} THEN {}", pretty(&when.condition), pretty(&when.result)))
                .join("");
            let otherwise = else_result.iter().map(|result| format!(" ELSE {}", pretty(result))).join("");
            format!("CASE{operand}{branches}{otherwise} END")
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let access = access_chain.iter().map(|access| match access {
                AccessExpr::Dot(field) => format!(".{}", pretty(field)),
                AccessExpr::Subscript(sqlparser::ast::Subscript::Index { index }) => format!("[{}]", pretty(index)),
                AccessExpr::Subscript(other) => other.to_string(),
            });
            format!("{}{}", pretty(root), access.collect::<String>())
        }
        Expr::Struct { values, .. } => format!("struct({})", list(values)),
        Expr::Named { expr, name } => format!("{} AS {}", pretty(expr), name.value),
        Expr::Trim { trim_where, trim_what: Some(what), expr, .. } => {
            let side = trim_where.map_or_else(|| "BOTH".to_owned(), |side| side.to_string());
            format!("TRIM({side} {} FROM {})", pretty(what), pretty(expr))
        }
        Expr::Trim { expr, .. } => format!("trim({})", pretty(expr)),
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let rest = substring_from.iter().chain(substring_for).map(|arg| format!(", {}", pretty(arg))).join("");
            format!("substring({}{rest})", pretty(expr))
        }
        Expr::Floor { expr, .. } => format!("FLOOR({})", pretty(expr)),
        Expr::Ceil { expr, .. } => format!("CEIL({})", pretty(expr)),
        Expr::Extract { field, expr, .. } => format!("extract({field} FROM {})", pretty(expr)),
        Expr::Subquery(_) => "scalarsubquery()".to_owned(),
        Expr::Function(function) => call(function),
        other => other.to_string().replace('`', ""),
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
    let args = match &function.args {
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
    let filter = function.filter.iter().map(|filter| format!(" FILTER (WHERE {})", pretty(filter))).join("");
    let over = function
        .over
        .iter()
        .map(|over| format!(" OVER ({})", over.to_string().trim_matches(['(', ')']).replace('`', "")))
        .join("");
    format!("{}{filter}{over}", call_name(&name, &args, distinct))
}
