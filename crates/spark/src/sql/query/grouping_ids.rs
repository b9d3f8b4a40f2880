//! `grouping_id()`, which names no columns.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, OrderBy, OrderByKind, Select, SelectItem,
    visit_expressions_mut,
};

use super::scope::ident;

/// `grouping_id()` as that of all keys, in the order in which they are named first.
pub(super) fn name_grouping_ids(select: &mut Select, order_by: Option<&mut OrderBy>) {
    let GroupByExpr::Expressions(keys, modifiers) = &select.group_by else { return };
    let is_set = |key: &Expr| matches!(key, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_));
    // Without sets it is an error, which is told where it stands.
    if modifiers.is_empty() && !keys.iter().any(is_set) {
        return;
    }
    let mut named: Vec<Expr> = Vec::new();
    for key in keys.iter().flat_map(parts_of_key) {
        if !named.contains(key) {
            named.push(key.clone());
        }
    }
    if named.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && is_bare_grouping_id(expr)
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: ident("grouping_id()") };
        }
    }
    let args: Vec<FunctionArg> =
        named.into_iter().map(|key| FunctionArg::Unnamed(FunctionArgExpr::Expr(key))).collect();
    let items = select.projection.iter_mut().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    let sorted = match order_by.map(|order_by| &mut order_by.kind) {
        Some(OrderByKind::Expressions(items)) => items.as_mut_slice(),
        _ => &mut [],
    };
    for expr in items.chain(&mut select.having).chain(sorted.iter_mut().map(|item| &mut item.expr)) {
        let _ = visit_expressions_mut(expr, |part| {
            if is_bare_grouping_id(part)
                && let Expr::Function(function) = part
                && let FunctionArguments::List(list) = &mut function.args
            {
                list.args.clone_from(&args);
            }
            ControlFlow::<()>::Continue(())
        });
    }
}

fn is_bare_grouping_id(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function)
        if function.name.to_string().eq_ignore_ascii_case("grouping_id")
            && matches!(&function.args, FunctionArguments::List(list) if list.args.is_empty()))
}

/// The keys that `ROLLUP`, `CUBE` and `GROUPING SETS` combine, or the key itself.
pub(super) fn parts_of_key(key: &Expr) -> Vec<&Expr> {
    match key {
        Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => sets.iter().flatten().collect(),
        key => vec![key],
    }
}
