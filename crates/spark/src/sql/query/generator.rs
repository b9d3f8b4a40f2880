//! Generators: `explode` and its kin, in `LATERAL VIEW` and in the select list.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion::common::{Column, NullHandling, UnnestOptions};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_nested::expr_fn::{array_length, gen_series, map_keys, map_values};
use datafusion::logical_expr::{Expr as Plan, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Select, SelectItem, Spanned,
    TableWithJoins, Value,
};

use super::plan::{Ctes, Planner};
use super::rewrite::{self, Names};
use super::scope::{Scope, ScopeColumn, Visibility, ident, text};
use crate::error::{Error, Result};
use crate::types::array;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Explode,
    PosExplode,
    Inline,
}

/// The generator that `expr` is a call of, and whether it keeps rows without elements.
pub(super) fn generator_of(expr: &Expr) -> Option<(Kind, bool, &Function)> {
    let Expr::Function(function) = expr else { return None };
    let (kind, outer) = match function.name.to_string().to_ascii_lowercase().as_str() {
        "explode" => (Kind::Explode, false),
        "explode_outer" => (Kind::Explode, true),
        "posexplode" => (Kind::PosExplode, false),
        "posexplode_outer" => (Kind::PosExplode, true),
        "inline" | "stack" | "json_tuple" | "variant_explode" => (Kind::Inline, false),
        "inline_outer" | "variant_explode_outer" => (Kind::Inline, true),
        _ => return None,
    };
    Some((kind, outer, function))
}

fn explodes_variant(function: &Function) -> bool {
    let name = function.name.to_string();
    name.eq_ignore_ascii_case("variant_explode") || name.eq_ignore_ascii_case("variant_explode_outer")
}

fn argument(function: &Function) -> Result<Expr> {
    let name = function.name.to_string();
    if name.eq_ignore_ascii_case("stack") {
        return stacked(function);
    }
    if name.eq_ignore_ascii_case("json_tuple") {
        return match &function.args {
            FunctionArguments::List(list) if list.args.len() > 1 => {
                Ok(rewrite::call("array", vec![Expr::Function(function.clone())]))
            }
            _ => Err(Error::user("`json_tuple` takes a text and the names of fields")
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")),
        };
    }
    // What is unnested is the argument, or of a VARIANT the array of what is in it.
    let exploded = |expr: &Expr| match explodes_variant(function) {
        true => rewrite::call("variant_explode", vec![expr.clone()]),
        false => expr.clone(),
    };
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Ok(exploded(expr)),
            [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. }]
                if explodes_variant(function) && name.value.eq_ignore_ascii_case("input") =>
            {
                Ok(exploded(expr))
            }
            _ => Err(Error::user(format!("`{}` takes one argument", function.name))
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")),
        },
        _ => Err(Error::user(format!("`{}` takes one argument", function.name))),
    }
}

/// `stack(2, a, b, c)` as the array of two rows that `inline` makes of it; what is missing in the last is NULL.
fn stacked(function: &Function) -> Result<Expr> {
    let FunctionArguments::List(list) = &function.args else { return Err(no_rows()) };
    let mut values = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
        _ => Err(no_rows()),
    });
    let rows = match values.next().transpose()? {
        Some(Expr::Value(value)) => match value.value {
            Value::Number(digits, _) => digits.parse::<usize>().ok().filter(|rows| *rows > 0),
            _ => None,
        },
        _ => None,
    };
    let (Some(rows), values) = (rows, values.collect::<Result<Vec<_>>>()?) else { return Err(no_rows()) };
    let width = values.len().div_ceil(rows).max(1);
    let row = |row: usize| {
        let fields = (0..width).flat_map(|column| {
            let value = values.get(row * width + column).cloned();
            [text(&format!("col{column}")), value.unwrap_or_else(|| Expr::value(Value::Null))]
        });
        rewrite::call("named_struct", fields.collect())
    };
    Ok(rewrite::call("array", (0..rows).map(row).collect()))
}

fn no_rows() -> Error {
    Error::user("the first argument of `stack` must be a constant number of rows, above zero")
        .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")
}

impl Planner<'_> {
    /// `LATERAL VIEW` clauses: each adds columns to what `FROM` offers.
    pub(super) fn lateral_views(
        &self,
        select: &mut Select,
        mut scope: Scope,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<Scope> {
        for view in std::mem::take(&mut select.lateral_views) {
            let place = self.place(view.lateral_view.span().start);
            let Some((kind, keeps, function)) = generator_of(&view.lateral_view) else {
                return Err(Error::unsupported(format!("generator `{}`", view.lateral_view)).at(place));
            };
            let mut expr = argument(function).map_err(|error| error.at(place.clone()))?;
            self.rewrite_in(&mut expr, &scope, ctes, outer)?;
            let aliases: Vec<String> = view.lateral_col_alias.iter().map(|alias| alias.value.clone()).collect();
            let qualifier: Vec<String> = view
                .lateral_view_name
                .0
                .iter()
                .filter_map(|part| part.as_ident())
                .map(|ident| ident.value.clone())
                .collect();
            let plan = self.flat(select, &scope, None)?;
            let (next, _) = self
                .generate(
                    select,
                    plan,
                    scope,
                    expr,
                    Generator { kind, outer: keeps || view.outer, aliases, qualifier },
                    outer,
                )
                .map_err(|error| error.at(place))?;
            scope = next;
        }
        Ok(scope)
    }

    /// A generator in the select list: it works on the rows that pass `WHERE`.
    pub(super) fn select_generator(
        &self,
        select: &mut Select,
        scope: Scope,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<Scope> {
        let place = self.place(select.span().start);
        let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
            || select.having.is_some();
        if grouped {
            return Err(Error::unsupported("a generator in the select list of an aggregation").at(place));
        }
        let generates = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) => generator_of(expr).map(|g| (g.0, g.1, argument(g.2), Vec::new())),
            SelectItem::ExprWithAlias { expr, alias } => {
                generator_of(expr).map(|g| (g.0, g.1, argument(g.2), vec![alias.value.clone()]))
            }
            SelectItem::ExprWithAliases { expr, aliases } => generator_of(expr)
                .map(|g| (g.0, g.1, argument(g.2), aliases.iter().map(|alias| alias.value.clone()).collect())),
            _ => None,
        };
        let all: Vec<usize> =
            (0..select.projection.len()).filter(|&i| generates(&select.projection[i]).is_some()).collect();
        let is_table_function = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(Expr::Function(function))
            | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }
            | SelectItem::ExprWithAliases { expr: Expr::Function(function), .. } => explodes_variant(function),
            _ => false,
        };
        if select.projection.iter().any(is_table_function) {
            return Err(Error::user("`variant_explode` makes rows, and so belongs into FROM")
                .with_condition("NOT_A_SCALAR_FUNCTION")
                .with_help("Write `FROM t, LATERAL variant_explode(t.v)`.")
                .at(place));
        }
        let [at] = all.as_slice() else {
            return Err(Error::user("a select list can have only one generator")
                .with_condition("UNSUPPORTED_GENERATOR.MULTI_GENERATOR")
                .at(place));
        };
        let Some((kind, keeps, expr, aliases)) = generates(&select.projection[*at]) else { return Ok(scope) };
        let mut expr = expr.map_err(|error| error.at(place.clone()))?;
        self.rewrite_in(&mut expr, &scope, ctes, outer)?;
        let mut condition = select.selection.take();
        if let Some(condition) = &mut condition {
            self.rewrite_in(condition, &scope, ctes, outer)?;
        }
        let plan = self.flat(select, &scope, condition)?;
        let generator = Generator { kind, outer: keeps, aliases, qualifier: Vec::new() };
        let (scope, made) =
            self.generate(select, plan, scope, expr, generator, outer).map_err(|error| error.at(place))?;
        let items = made.into_iter().map(|(expr, name)| SelectItem::ExprWithAlias { expr, alias: ident(&name) });
        select.projection.splice(*at..=*at, items);
        Ok(scope)
    }

    pub(super) fn rewrite_in(&self, expr: &mut Expr, scope: &Scope, ctes: &Ctes, outer: &[&Scope]) -> Result<()> {
        let mut scopes = vec![scope];
        scopes.extend(outer);
        let aliases = HashMap::new();
        rewrite::expression(self, expr, Names { scopes: &scopes, aliases: &aliases, ctes })
    }

    /// What stands in `FROM` so far as a plan, with the columns of `scope` under internal names.
    fn flat(&self, select: &Select, scope: &Scope, condition: Option<Expr>) -> Result<LogicalPlan> {
        let items = scope.columns.iter().enumerate().map(|(i, column)| SelectItem::ExprWithAlias {
            expr: column.expr.clone(),
            alias: ident(&format!("__column_{i}")),
        });
        let mut inner = select.clone();
        inner.projection = items.collect();
        if inner.projection.is_empty() {
            inner.projection.push(SelectItem::ExprWithAlias { expr: super::scope::text(""), alias: ident("__column") });
        }
        inner.distinct = None;
        inner.lateral_views.clear();
        inner.selection = condition;
        inner.having = None;
        inner.qualify = None;
        inner.named_window.clear();
        inner.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        self.plan_block(inner)
    }

    /// The rows of `plan` with those that the generator makes of each, in the place of what `select` reads.
    pub(super) fn generate(
        &self,
        select: &mut Select,
        plan: LogicalPlan,
        scope: Scope,
        expr: Expr,
        generator: Generator,
        outer: &[&Scope],
    ) -> Result<(Scope, Vec<(Expr, String)>)> {
        let alias = self.alias(generator.qualifier.last().map_or("__generated", String::as_str));
        let column = |i: usize| Expr::CompoundIdentifier(vec![ident(&alias), ident(&format!("__column_{i}"))]);
        let mut columns: Vec<ScopeColumn> = Vec::new();
        let mut arg = expr;
        for (i, old) in scope.columns.into_iter().enumerate() {
            replace(&mut arg, &old.expr, &Expr::Identifier(ident(&format!("__column_{i}"))));
            columns.push(ScopeColumn { expr: column(i), ..old });
        }
        let arg = self.plain_within(arg, plan.schema(), outer)?;
        let (plan, names) = unnest(plan, arg, &generator)?;
        let mut made = Vec::new();
        let hidden = generator.qualifier.is_empty();
        for (internal, name) in names {
            let data_type = plan.schema().field_with_unqualified_name(&internal)?.data_type().clone();
            let expr = Expr::CompoundIdentifier(vec![ident(&alias), ident(&internal)]);
            // In a select list the new columns are only for the generator's own items, under internal names.
            let own = if hidden { Expr::Identifier(ident(&internal)) } else { expr.clone() };
            made.push((own, name.clone()));
            columns.push(ScopeColumn {
                qualifier: generator.qualifier.clone(),
                name: if hidden { internal } else { name },
                data_type,
                expr,
                visibility: if hidden { Visibility::NotInStar } else { Visibility::Full },
            });
        }
        select.from = vec![TableWithJoins { relation: self.factor_of(plan, &alias), joins: Vec::new() }];
        Ok((Scope { columns }, made))
    }
}

pub(super) struct Generator {
    kind: Kind,
    outer: bool,
    aliases: Vec<String>,
    qualifier: Vec<String>,
}

impl Generator {
    /// The generator that `call` is, and what it unnests.
    pub(super) fn of(
        call: &Expr,
        outer: bool,
        aliases: Vec<String>,
        qualifier: Vec<String>,
    ) -> Result<Option<(Self, Expr)>> {
        let Some((kind, keeps, function)) = generator_of(call) else { return Ok(None) };
        Ok(Some((Self { kind, outer: outer || keeps, aliases, qualifier }, argument(function)?)))
    }
}

/// Unnests `arg` over the rows of `plan`; gives the internal and the user's names of the new columns.
fn unnest(plan: LogicalPlan, arg: Plan, generator: &Generator) -> Result<(LogicalPlan, Vec<(String, String)>)> {
    let data_type = arg.get_type(plan.schema())?;
    let positions = |lists: &Plan| {
        let last = coalesce(vec![array_length(lists.clone()).cast_to_i64(), lit(0_i64)]) - lit(1_i64);
        datafusion::logical_expr::cast(gen_series(lit(0_i64), last, lit(1_i64)), array(DataType::Int32))
    };
    let mut lists: Vec<(Plan, &str)> = match (&data_type, generator.kind) {
        (DataType::List(_) | DataType::LargeList(_), Kind::Explode | Kind::Inline) => vec![(arg.clone(), "col")],
        (DataType::List(_) | DataType::LargeList(_), Kind::PosExplode) => {
            vec![(positions(&arg), "pos"), (arg.clone(), "col")]
        }
        (DataType::Map(..), Kind::Explode) => vec![(map_keys(arg.clone()), "key"), (map_values(arg.clone()), "value")],
        (DataType::Map(..), Kind::PosExplode) => {
            vec![
                (positions(&map_keys(arg.clone())), "pos"),
                (map_keys(arg.clone()), "key"),
                (map_values(arg.clone()), "value"),
            ]
        }
        _ => {
            return Err(Error::user(format!("a generator needs an array or a map, not {data_type}"))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    let internal = |i: usize| format!("__generated_{i}");
    let old: Vec<Plan> = plan.schema().columns().into_iter().map(Plan::Column).collect();
    let new = lists.iter().enumerate().map(|(i, (list, _))| list.clone().alias(internal(i)));
    let projected = LogicalPlanBuilder::from(plan).project(old.into_iter().chain(new))?;
    let nulls = if generator.outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    let columns = (0..lists.len()).map(|i| Column::from_name(internal(i))).collect();
    let plan =
        projected.unnest_columns_with_options(columns, UnnestOptions::new().with_null_handling(nulls))?.build()?;
    if generator.kind == Kind::Inline {
        return inline(plan, generator);
    }
    let defaults: Vec<String> = lists.drain(..).map(|(_, name)| name.to_owned()).collect();
    let names = named(defaults, &generator.aliases)?;
    Ok((plan, names.into_iter().enumerate().map(|(i, name)| (internal(i), name)).collect()))
}

/// The fields of the unnested struct as columns.
fn inline(plan: LogicalPlan, generator: &Generator) -> Result<(LogicalPlan, Vec<(String, String)>)> {
    let DataType::Struct(fields) = plan.schema().field_with_unqualified_name("__generated_0")?.data_type().clone()
    else {
        return Err(
            Error::user("`inline` needs an array of structs").with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
        );
    };
    let root = Plan::Column(Column::from_name("__generated_0"));
    let old = plan.schema().columns().into_iter().filter(|column| column.name != "__generated_0").map(Plan::Column);
    let new = fields
        .iter()
        .enumerate()
        .map(|(i, field)| root.clone().field(field.name().as_str()).alias(format!("__generated_{i}")));
    let exprs: Vec<Plan> = old.chain(new).collect();
    let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
    let names = named(fields.iter().map(|field| field.name().clone()).collect(), &generator.aliases)?;
    Ok((plan, names.into_iter().enumerate().map(|(i, name)| (format!("__generated_{i}"), name)).collect()))
}

fn named(defaults: Vec<String>, aliases: &[String]) -> Result<Vec<String>> {
    match aliases.len() {
        0 => Ok(defaults),
        given if given == defaults.len() => Ok(aliases.to_vec()),
        given => Err(Error::user(format!("the generator makes {} columns, {given} names are given", defaults.len()))
            .with_condition("UDTF_ALIAS_NUMBER_MISMATCH")),
    }
}

/// Replaces every occurrence of a column by another.
fn replace(expr: &mut Expr, from: &Expr, to: &Expr) {
    let _ = sqlparser::ast::visit_expressions_mut(expr, |part| {
        if part == from {
            *part = to.clone();
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
}

trait ToLong {
    fn cast_to_i64(self) -> Plan;
}

impl ToLong for Plan {
    fn cast_to_i64(self) -> Plan {
        datafusion::logical_expr::cast(self, DataType::Int64)
    }
}
