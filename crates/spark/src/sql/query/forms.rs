//! Spark's forms of expressions that stand for others: `LIKE ANY`, `count(a, b)`, `grouping_id(a, b)`.

use chrono_tz::Tz;
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, UnaryOperator, Value,
};

use super::provider::CAST;
use super::rewrite::{call, cast, number};
use super::rows::structure;
use crate::cast::parse;
use crate::error::{Error, Result};

/// Functions that stand in the registry, but that Spark's SQL has not.
pub(super) const ONLY_OURS: [&str; 4] = ["any_match", "array_any_match", "list_any_match", "product"];

/// That `DATE'…'` or `TIMESTAMP'…'` is one.
pub(super) fn typed_literal(typed: &ast::TypedString, tz: Tz) -> Result<()> {
    let Value::SingleQuotedString(text) = &typed.value.value else { return Ok(()) };
    let valid = match &typed.data_type {
        DataType::Date => parse::date(text).is_some(),
        DataType::Timestamp(..) => parse::timestamp(text, tz).is_some(),
        _ => true,
    };
    if valid {
        return Ok(());
    }
    Err(Error::user(format!("the value of the typed literal {} '{text}' is invalid", typed.data_type))
        .with_condition("INVALID_TYPED_LITERAL"))
}

/// `grouping_id(a, b)` as the bits of `grouping(a)` and `grouping(b)`.
pub(super) fn grouping_bits(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let bits = list.args.iter().map(|arg| positional(arg).map(|key| call("grouping", vec![key])));
    let bits: Vec<Expr> = bits.collect::<Option<_>>()?;
    let op = |left: Expr, op: BinaryOperator, right: Expr| {
        Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
    };
    let all = bits
        .into_iter()
        .reduce(|bits, bit| op(op(bits, BinaryOperator::Multiply, number("2", "")), BinaryOperator::Plus, bit));
    all.and_then(|all| cast(CAST, all, &DataType::BigInt(None)).ok())
}

/// The order `WITHIN GROUP` as an argument: of `listagg` as `ORDER BY` among them, of `percentile_disc` as the value itself,
/// whose sign turns with the order. What becomes of the call if it is not merely changed.
pub(super) fn ordered_within(function: &mut Function, name: &str) -> Option<Expr> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    match (name, function.within_group.as_slice()) {
        ("listagg" | "string_agg", [_, ..]) => {
            let order = std::mem::take(&mut function.within_group);
            list.clauses.push(FunctionArgumentClause::OrderBy(order));
            None
        }
        ("percentile_disc", [key]) => {
            let (value, descending) = (key.expr.clone(), key.options.asc == Some(false));
            let minus = |expr: Expr| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(expr) };
            let value = if descending { minus(Expr::Nested(Box::new(value))) } else { value };
            list.args.insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
            function.within_group.clear();
            descending.then(|| minus(Expr::Function(function.clone())))
        }
        _ => None,
    }
}

/// The keys of a window with the parts of a structure in its place, which sort as it does.
pub(super) fn spread_structures(keys: &mut Vec<ast::OrderByExpr>) {
    for key in std::mem::take(keys) {
        let parts = match key.expr {
            Expr::Struct { values, fields } if fields.is_empty() => values,
            expr => vec![expr],
        };
        let part = |expr: Expr| match expr {
            Expr::Named { expr, .. } => *expr,
            other => other,
        };
        let (options, with_fill) = (key.options, key.with_fill);
        keys.extend(parts.into_iter().map(|expr| ast::OrderByExpr {
            expr: part(expr),
            options,
            with_fill: with_fill.clone(),
        }));
    }
}

/// `count(a, b)` counts the rows in which all are known, `count(DISTINCT a, b)` those that differ.
pub(super) fn count_rows(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let values: Option<Vec<Expr>> = list.args.iter().map(positional).collect();
    let Some(values) = values.filter(|values| values.len() > 1) else { return };
    let known = values
        .iter()
        .map(|value| Expr::IsNotNull(Box::new(value.clone())))
        .reduce(|left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) });
    let Some(condition) = known else { return };
    let result = structure(values.into_iter().map(|value| Expr::Nested(Box::new(value))).collect());
    let row = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition, result }],
        else_result: None,
    };
    list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(row))];
}

fn positional(arg: &FunctionArg) -> Option<Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// Whether a pattern of `LIKE` is `ALL (…)`, which sqlparser takes for a call.
pub(super) fn is_all(pattern: &Expr) -> bool {
    matches!(pattern, Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("all"))
}

/// `x LIKE ANY (p, q)` as `x LIKE p OR x LIKE q`; with `ALL`, or `NOT` before `ANY`, all must hold.
pub(super) fn quantified(negated: bool, fold_case: bool, all: bool, value: &Expr, patterns: &Expr) -> Option<Expr> {
    let patterns: Vec<Expr> = match patterns {
        Expr::Tuple(patterns) => patterns.clone(),
        Expr::Nested(pattern) => vec![pattern.as_ref().clone()],
        Expr::Function(Function { args: FunctionArguments::List(list), .. }) => {
            list.args.iter().map(positional).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let like = |pattern: Expr| {
        let (expr, pattern) = (Box::new(value.clone()), Box::new(pattern));
        match fold_case {
            true => Expr::ILike { negated, any: false, expr, pattern, escape_char: None },
            false => Expr::Like { negated, any: false, expr, pattern, escape_char: None },
        }
    };
    let op = if all { BinaryOperator::And } else { BinaryOperator::Or };
    let folded = patterns.into_iter().map(like).reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    });
    folded.map(|folded| Expr::Nested(Box::new(folded)))
}

/// The function and the text in `schema_of_json('…')`, `schema_of_csv('…')`.
pub(super) fn sample(expr: &Expr) -> Option<(String, &str)> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice() else { return None };
    let function = name.0.as_slice().first()?.as_ident()?.value.to_ascii_lowercase();
    match &value.value {
        Value::SingleQuotedString(sample)
            if matches!(function.as_str(), "schema_of_json" | "schema_of_csv" | "schema_of_xml") =>
        {
            Some((function, sample))
        }
        _ => None,
    }
}

/// `map('k', 'v', …)` of constants as the JSON text of it, for functions whose type depends on their options.
pub(super) fn options_text(expr: &Expr) -> Option<String> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    if !name.to_string().eq_ignore_ascii_case("map") {
        return None;
    }
    let constant = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    let texts = list.args.iter().map(constant).collect::<Option<Vec<String>>>()?;
    let (pairs, []) = texts.as_chunks::<2>() else { return None };
    let object: serde_json::Map<String, serde_json::Value> =
        pairs.iter().map(|[name, value]| (name.clone(), value.clone().into())).collect();
    Some(serde_json::Value::Object(object).to_string())
}
