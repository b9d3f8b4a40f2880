//! Subqueries in expressions: how Spark prints them, and several columns compared with those of one.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, TableAlias, TableAliasColumnDef, UnaryOperator,
    visit_expressions,
};

use super::block::{select, subquery};
use super::outside::outside_subqueries;
use super::plan::Planner;
use super::repeated::shown;
use super::rewrite::{Names, call};
use super::rows::structure;
use super::scope::{Scope, ident, text};
use crate::error::Result;

/// Whether a part of `expr` is a subquery.
pub(crate) fn holds_one(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::Exists { .. } | Expr::InSubquery { .. } | Expr::Subquery(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The item with its subqueries as Spark prints them: by the outer columns that they name.
///
/// # Errors
/// What a subquery holds that cannot be resolved.
pub(super) fn printed(planner: &Planner<'_>, expr: &Expr, scope: &Scope, names: Names<'_>) -> Result<Expr> {
    let mut printed = expr.clone();
    let printer = Printer { planner, scope, names };
    outside_subqueries(&mut printed, |part| printer.print(part))?;
    Ok(printed)
}

struct Printer<'a, 'b> {
    planner: &'a Planner<'b>,
    scope: &'a Scope,
    names: Names<'a>,
}

impl Printer<'_, '_> {
    fn print(&self, expr: &mut Expr) -> Result<()> {
        let printed = match expr {
            Expr::Exists { subquery, negated } => {
                let exists = call("exists", self.outer_columns(subquery)?);
                match negated {
                    true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(exists) },
                    false => exists,
                }
            }
            Expr::InSubquery { expr: value, subquery, negated } => {
                let list = vec![call("listquery", self.outer_columns(subquery)?)];
                let value = match value.as_ref() {
                    Expr::Tuple(values) => quoted(structure(values.clone())),
                    other => other.clone(),
                };
                Expr::InList { expr: Box::new(value), list, negated: *negated }
            }
            Expr::Subquery(subquery) => call("scalarsubquery", self.outer_columns(subquery)?),
            _ => return Ok(()),
        };
        *expr = printed;
        Ok(())
    }

    /// The columns of the scope that the subquery names, as often as it does.
    fn outer_columns(&self, subquery: &Query) -> Result<Vec<Expr>> {
        let mut exact = subquery.clone();
        self.planner.rewrite_query(&mut exact, self.names.ctes, self.names.scopes)?;
        let mut found = Vec::new();
        let _ = visit_expressions(&exact, |part| {
            if let Some(column) = self.scope.columns.iter().find(|column| column.expr == *part) {
                found.push(Expr::Identifier(ident(shown(&column.name))));
            }
            ControlFlow::<()>::Continue(())
        });
        Ok(found)
    }
}

/// The names of a structure's fields in quotes, as Spark prints them in a comparison with a subquery.
fn quoted(structure: Expr) -> Expr {
    let Expr::Function(mut function) = structure else { return structure };
    if let FunctionArguments::List(list) = &mut function.args {
        for arg in list.args.iter_mut().step_by(2) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(name)) = arg {
                *name = Expr::Identifier(ident(&name.to_string()));
            }
        }
    }
    Expr::Function(function)
}

/// `(a, b) IN (SELECT x, y …)` as one structure among others; the subquery's names are exact already.
pub(super) fn of_structures(planner: &Planner<'_>, values: &[Expr], query: &Query) -> (Expr, Query) {
    let alias = planner.alias("__in");
    let names: Vec<String> = (0..values.len()).map(|i| format!("col{i}")).collect();
    let structure = |columns: Vec<Expr>| {
        let fields = names.iter().zip(columns).flat_map(|(name, column)| [text(name), column]);
        call("named_struct", fields.collect())
    };
    let column = |name: &String| Expr::CompoundIdentifier(vec![ident(&alias), ident(name)]);
    let columns = names.iter().map(|name| TableAliasColumnDef { name: ident(name), data_type: None }).collect();
    let table = TableAlias { explicit: true, name: ident(&alias), columns, at: None };
    let item = super::block::named(structure(names.iter().map(column).collect()), ident("structure"));
    let rows = select(vec![item], subquery(query.clone(), Some(table)), None, Vec::new());
    (structure(values.to_vec()), rows)
}
