//! Values in parentheses, `(a, b)`: structures.

use sqlparser::ast::{BinaryOperator, Expr};

use super::names::column_name;
use super::rewrite::{call, suffixed};
use super::scope::text;

/// The values of `(a, b)` as a structure that is like that of other pairs.
pub(super) fn tuple(expr: &mut Expr) {
    let Expr::Tuple(values) = expr else { return };
    let values = std::mem::take(values).into_iter().enumerate();
    let fields = values.flat_map(|(i, value)| [text(&format!("col{}", i + 1)), value]);
    *expr = call("named_struct", fields.collect());
}

/// Two of them that are compared, under the same names.
pub(super) fn compared(left: &mut Expr, op: &BinaryOperator, right: &mut Expr) {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, Spaceship};
    if matches!((&left, &right), (Expr::Tuple(_), Expr::Tuple(_)))
        && matches!(op, Eq | NotEq | Spaceship | Lt | LtEq | Gt | GtEq)
    {
        tuple(left);
        tuple(right);
    }
}

/// `struct(a, b AS c, 1)` as `named_struct('a', a, 'c', b, 'col3', 1)`.
pub(super) fn structure(values: Vec<Expr>) -> Expr {
    let args = values.into_iter().enumerate().flat_map(|(i, value)| match value {
        Expr::Named { expr, name } => [text(&name.value), *expr],
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => [text(&column_name(&value)), value],
        other => [text(&format!("col{}", i + 1)), other],
    });
    call("named_struct", args.collect())
}

/// `(a, s.b, 1)` as `named_struct('a', a, 'b', s.b, 'col3', 1)`.
pub(super) fn row(values: Vec<Expr>) -> Expr {
    let args = values.into_iter().enumerate().flat_map(|(i, value)| [text(&field_name(i, &value)), value]);
    call("named_struct", args.collect())
}

/// The name of a field of `(a, b)`: that of a column or of a field, or the place.
pub(super) fn field_name(i: usize, value: &Expr) -> String {
    match value {
        Expr::Identifier(name) if suffixed(name).is_none() => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        Expr::Nested(inner) => field_name(i, inner),
        _ => format!("col{}", i + 1),
    }
}
