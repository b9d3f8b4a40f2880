//! `PIVOT` and `UNPIVOT`: queries in their place, which group twice or take each row several times.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, ExprWithAlias, Ident, NullInclusion, PivotValueSource, SelectItem, Spanned as _, TableAlias,
    TableFactor, UnaryOperator, Value, Visit as _, Visitor, WildcardAdditionalOptions,
};

use super::block::{case, named, select, subquery};
use super::names::{column_name, pretty};
use super::plan::{Ctes, Planner};
use super::repeated::shown;
use super::rewrite::call;
use super::scope::{ident, text};
use crate::error::{Error, Result};

/// `table PIVOT (aggregates FOR columns IN (values)) AS alias`
pub(super) struct Pivot {
    pub(super) table: TableFactor,
    pub(super) aggregates: Vec<ExprWithAlias>,
    pub(super) columns: Vec<Expr>,
    pub(super) values: PivotValueSource,
    pub(super) alias: Option<TableAlias>,
}

/// `table UNPIVOT (value FOR name IN (columns)) AS alias`
pub(super) struct Unpivot {
    pub(super) table: TableFactor,
    pub(super) value: Expr,
    pub(super) name: Ident,
    pub(super) columns: Vec<ExprWithAlias>,
    pub(super) nulls: Option<NullInclusion>,
    pub(super) alias: Option<TableAlias>,
}

impl Planner<'_> {
    /// One row for each group of the columns that are neither aggregated nor pivoted, with the aggregates of each value.
    ///
    /// The inner query groups by the pivoted columns, too; the outer one picks the group of each value. A value without
    /// rows is NULL, also where the aggregate of no rows would not be: `count`.
    pub(super) fn pivot(&self, pivot: Pivot, ctes: &Ctes) -> Result<TableFactor> {
        let Pivot { table, aggregates, columns, values, alias } = pivot;
        let PivotValueSource::List(values) = values else {
            return Err(Error::unsupported("`PIVOT` over values that are not listed")
                .with_help("List them: FOR column IN ('a', 'b')."));
        };
        let mut used = Used::default();
        for expr in aggregates.iter().map(|aggregate| &aggregate.expr).chain(&columns) {
            let _ = expr.visit(&mut used);
        }
        let names = self.columns_of(&table, ctes)?;
        let groups: Vec<Ident> = names.iter().filter(|name| !used.holds(name)).map(|name| ident(name)).collect();
        let group = |name: &Ident| SelectItem::UnnamedExpr(Expr::Identifier(name.clone()));
        let part = |kind: &str, i: usize| ident(&format!("__{kind}_{i}"));

        let mut items: Vec<SelectItem> = groups.iter().map(group).collect();
        items.extend(columns.iter().enumerate().map(|(i, column)| named(column.clone(), part("pivot", i))));
        items.extend(aggregates.iter().enumerate().map(|(i, one)| named(one.expr.clone(), part("aggregate", i))));
        let keys = groups.iter().cloned().map(Expr::Identifier).chain(columns.iter().cloned()).collect();
        let inner = subquery(select(items, table, None, keys), None);

        let mut items: Vec<SelectItem> = groups.iter().map(group).collect();
        for value in values {
            let parts = match &value.expr {
                Expr::Tuple(parts) => parts.clone(),
                one => vec![one.clone()],
            };
            if parts.len() != columns.len() {
                return Err(Error::user(format!(
                    "the value `{}` of PIVOT does not have a part for each of the {} columns",
                    value.expr,
                    columns.len()
                ))
                .with_condition("PIVOT_VALUE_DATA_TYPE_MISMATCH")
                .at(self.place(value.expr.span().start)));
            }
            let label = match &value.alias {
                Some(alias) => alias.value.clone(),
                None => label(&value.expr).map_err(|error| error.at(self.place(value.expr.span().start)))?,
            };
            let is_value = parts
                .into_iter()
                .enumerate()
                .map(|(i, value)| binary(Expr::Identifier(part("pivot", i)), BinaryOperator::Spaceship, value));
            let is_value = is_value.reduce(|left, right| binary(left, BinaryOperator::And, right));
            let is_value = is_value.ok_or_else(|| Error::internal("a pivot without columns"))?;
            for (i, aggregate) in aggregates.iter().enumerate() {
                let name = match (aggregates.len(), &aggregate.alias) {
                    (1, _) => label.clone(),
                    (_, Some(alias)) => format!("{label}_{}", alias.value),
                    (_, None) => format!("{label}_{}", pretty(&aggregate.expr)),
                };
                let picked = case([(is_value.clone(), Expr::Identifier(part("aggregate", i)))]);
                let picked = call("first", vec![picked, Expr::value(Value::Boolean(true))]);
                items.push(named(picked, ident(&name)));
            }
        }
        let keys = groups.into_iter().map(Expr::Identifier).collect();
        Ok(subquery(select(items, inner, None, keys), alias))
    }

    /// Each row once for every column, or group of columns, of the list; those that are NULL are left out unless told.
    pub(super) fn unpivot(&self, unpivot: Unpivot, ctes: &Ctes) -> Result<TableFactor> {
        let Unpivot { table, value, name, columns, nulls, alias } = unpivot;
        let parts = |expr: Expr| match expr {
            Expr::Tuple(parts) => parts,
            Expr::Nested(inner) => vec![*inner],
            one => vec![one],
        };
        let place = self.place(value.span().start);
        let values: Vec<Ident> = parts(value)
            .into_iter()
            .map(|part| match part {
                Expr::Identifier(name) => Ok(name),
                other => Err(Error::user(format!("expected the name of a column, found `{other}`"))
                    .with_condition("PARSE_SYNTAX_ERROR")
                    .at(place.clone())),
            })
            .collect::<Result<_>>()?;
        let mut used = Used::default();
        let mut taken: Vec<(String, Vec<Expr>)> = Vec::with_capacity(columns.len());
        for ExprWithAlias { expr, alias } in columns {
            let place = self.place(expr.span().start);
            let _ = expr.visit(&mut used);
            let exprs = parts(expr);
            if exprs.len() != values.len() {
                return Err(Error::user(format!("expected {} columns, found {}", values.len(), exprs.len()))
                    .with_condition("UNPIVOT_VALUE_SIZE_MISMATCH")
                    .at(place));
            }
            let label = match alias {
                Some(alias) => alias.value,
                None => exprs.iter().map(column_name).collect::<Vec<_>>().join("_"),
            };
            taken.push((label, exprs));
        }
        let others: Vec<String> =
            self.columns_of(&table, ctes)?.into_iter().filter(|column| !used.holds(column)).collect();

        // The columns are read in the inner query, where they may be qualified by the table.
        let turn = ident("__turn");
        let turns = (0..taken.len()).map(number).collect();
        let part = |i: usize, j: usize| ident(&format!("__value_{i}_{j}"));
        let mut items: Vec<SelectItem> =
            others.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(ident(name)))).collect();
        for (i, (_, exprs)) in taken.iter().enumerate() {
            items.extend(exprs.iter().enumerate().map(|(j, expr)| named(expr.clone(), part(i, j))));
        }
        items.push(named(call("explode", vec![call("array", turns)]), turn.clone()));
        let inner = subquery(select(items, table, None, Vec::new()), None);

        let is_turn = |i: usize| binary(Expr::Identifier(turn.clone()), BinaryOperator::Eq, number(i));
        let mut items: Vec<SelectItem> =
            others.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(ident(name)))).collect();
        let labels = taken.iter().enumerate().map(|(i, (label, _))| (is_turn(i), text(label)));
        items.push(named(case(labels), name));
        for (j, value) in values.iter().enumerate() {
            let branches = (0..taken.len()).map(|i| (is_turn(i), Expr::Identifier(part(i, j))));
            items.push(named(case(branches), value.clone()));
        }
        let rows = select(items, inner, None, Vec::new());
        if matches!(nulls, Some(NullInclusion::IncludeNulls)) {
            return Ok(subquery(rows, alias));
        }
        let known = values.into_iter().map(|value| Expr::IsNotNull(Box::new(Expr::Identifier(value))));
        let known = known.reduce(|left, right| binary(left, BinaryOperator::Or, right));
        let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        Ok(subquery(select(all, subquery(rows, None), known, Vec::new()), alias))
    }

    /// The names of what `SELECT *` gives of `table`.
    fn columns_of(&self, table: &TableFactor, ctes: &Ctes) -> Result<Vec<String>> {
        let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        let plan = self.plan_query(select(all, table.clone(), None, Vec::new()), ctes, &[])?;
        Ok(plan.schema().fields().iter().map(|field| shown(field.name()).to_owned()).collect())
    }
}

/// The columns that expressions name: of `a.b` either may be the column.
#[derive(Default)]
struct Used(Vec<String>);

impl Used {
    fn holds(&self, column: &str) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(column))
    }
}

impl Visitor for Used {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.0.push(name.value.clone()),
            Expr::CompoundIdentifier(parts) => self.0.extend(parts.iter().take(2).map(|part| part.value.clone())),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What a value without an alias is called: its text.
fn label(value: &Expr) -> Result<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(text.clone()),
            Value::Number(digits, _) => Ok(digits.clone()),
            Value::Boolean(value) => Ok(value.to_string()),
            Value::Null => Ok("null".to_owned()),
            other => Err(without_name(&other.to_string())),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(format!("-{}", label(expr)?)),
        Expr::Nested(inner) => label(inner),
        Expr::TypedString(typed) => typed.value.clone().into_string().ok_or_else(|| without_name(&value.to_string())),
        Expr::Tuple(parts) => {
            let parts = parts.iter().map(label).collect::<Result<Vec<_>>>()?;
            Ok(format!("{{{}}}", parts.join(", ")))
        }
        other => Err(without_name(&other.to_string())),
    }
}

fn without_name(value: &str) -> Error {
    Error::unsupported(format!("the value `{value}` of PIVOT without a name"))
        .with_help(format!("Name its column: {value} AS name."))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn number(i: usize) -> Expr {
    Expr::value(Value::Number(i.to_string(), false))
}
