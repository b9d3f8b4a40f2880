//! One `SELECT`: its columns in scope, its list expanded and named, its clauses made exact.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::logical_expr::planner::ContextProvider as _;
use sqlparser::ast::{
    Expr, GroupByExpr, Ident, ObjectName, OrderBy, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind,
    Spanned, Value, WildcardAdditionalOptions, visit_expressions,
};

use super::grouping_ids::{name_grouping_ids, parts_of_key};
use super::named;
use super::names::column_name;
use super::plan::{Ctes, Planner, is_ordinal, sort_items};
use super::repeated::{numbered, shown};
use super::rewrite::{self, Names};
use super::scope::{Scope, ScopeColumn, Visibility, ident, unresolved};
use super::subqueries;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::python::PythonFunction;
use crate::sql::spellings::{PART, REPLACES};
use crate::types::struct_fields;

/// A rewritten select list.
#[derive(Default)]
struct List {
    items: Vec<SelectItem>,
    names: Vec<String>,
    exprs: Vec<Expr>,
    /// Items with subqueries as written, and then exact: each time they are made so, they have other aliases.
    subqueries: Vec<(Expr, Expr)>,
}

impl List {
    fn push(&mut self, expr: Expr, name: &str) {
        let before = self.names.iter().filter(|known| *known == name).count();
        self.names.push(name.to_owned());
        self.exprs.push(expr.clone());
        // A column under its own name keeps its qualifier, so that a name may occur once per relation.
        let own =
            matches!(&expr, Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|part| part.value == name));
        let clashes = before > 0
            && self.items.iter().any(|item| match item {
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                    parts.last().is_some_and(|part| part.value == name) && (!own || as_parts(&expr) == parts.as_slice())
                }
                SelectItem::ExprWithAlias { alias, .. } => shown(&alias.value) == name,
                _ => false,
            });
        self.items.push(match (clashes, own) {
            (true, _) => SelectItem::ExprWithAlias { expr, alias: ident(&numbered(name, before)) },
            (false, true) => SelectItem::UnnamedExpr(expr),
            (false, false) => SelectItem::ExprWithAlias { expr, alias: ident(name) },
        });
    }

    /// The names of the items so far, and those that are known without them.
    fn aliases_over(&self, known: &HashMap<String, Expr>) -> HashMap<String, Expr> {
        let pairs = self.names.iter().zip(&self.exprs);
        let mut aliases = known.clone();
        aliases.extend(pairs.rev().map(|(name, expr)| (name.to_lowercase(), Expr::Nested(Box::new(expr.clone())))));
        aliases
    }

    /// For HAVING: the scope without the columns that are not grouped by, where an alias has the name.
    fn over_groups(&self, scope: &Scope, group_by: &GroupByExpr) -> Scope {
        let mut seen = scope.clone();
        let keys: Vec<&Expr> = match group_by {
            GroupByExpr::Expressions(keys, _) => keys.iter().flat_map(parts_of_key).collect(),
            GroupByExpr::All(_) => return seen,
        };
        for item in &self.items {
            let SelectItem::ExprWithAlias { alias, .. } = item else { continue };
            for column in &mut seen.columns {
                if column.name.eq_ignore_ascii_case(&alias.value) && !keys.contains(&&column.expr) {
                    column.visibility = Visibility::Qualified;
                }
            }
        }
        seen
    }

    /// For what sees the output before the input: the innermost scope without the columns that an alias has the name of, and
    /// the aliases, of which these are the output's columns.
    fn before_input(
        &self,
        scopes: &[&Scope],
        aliases: &HashMap<String, Expr>,
    ) -> (Option<Scope>, HashMap<String, Expr>) {
        let mut hidden = scopes.first().copied().cloned();
        let mut outputs = aliases.clone();
        for item in &self.items {
            let SelectItem::ExprWithAlias { alias, .. } = item else { continue };
            for column in hidden.iter_mut().flat_map(|scope| &mut scope.columns) {
                if column.name.eq_ignore_ascii_case(&alias.value) {
                    column.visibility = Visibility::Qualified;
                    outputs.insert(alias.value.to_lowercase(), Expr::Identifier(alias.clone()));
                }
            }
        }
        (hidden, outputs)
    }
}

fn as_parts(expr: &Expr) -> &[Ident] {
    match expr {
        Expr::CompoundIdentifier(parts) => parts,
        _ => &[],
    }
}

impl Planner<'_> {
    /// Rewrites a select in place; gives the names of its output.
    pub(super) fn select(
        &self,
        select: &mut Select,
        ctes: &Ctes,
        outer: &[&Scope],
        mut order_by: Option<&mut OrderBy>,
    ) -> Result<Vec<String>> {
        self.refuse(select)?;
        name_grouping_ids(select, order_by.as_deref_mut());
        // `FROM t` alone is all of it.
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            select.projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
        }
        select.flavor = SelectFlavor::Standard;
        let mut scope = self.from(&mut select.from, ctes, outer)?;
        if !select.lateral_views.is_empty() {
            scope = self.lateral_views(select, scope, ctes, outer)?;
        }
        if select.projection.iter().any(is_generator) {
            scope = self.select_generator(select, scope, ctes, outer)?;
        }
        let mut scopes = vec![&scope];
        scopes.extend(outer);
        let windows =
            self.grouped_windows(&select.group_by, Names { scopes: &scopes, aliases: &HashMap::new(), ctes })?;
        let from_only = Names { scopes: &scopes, aliases: &windows, ctes };
        if let Some(condition) = &mut select.selection {
            rewrite::expression(self, condition, from_only)?;
        }
        let windows_by_name = named::windows(select);
        let list = self.list(std::mem::take(&mut select.projection), &scope, from_only, &windows_by_name)?;
        let aliases = list.aliases_over(&windows);
        let with_aliases = Names { aliases: &aliases, ..from_only };
        self.group_by(select, &list, with_aliases)?;
        let grouped = list.over_groups(&scope, &select.group_by);
        let over_groups: Vec<&Scope> = std::iter::once(&grouped).chain(outer.iter().copied()).collect();
        if let Some(condition) = &mut select.having {
            // What is aggregated are the rows of the input.
            let names = match self.looks_at_input(condition) {
                true => with_aliases,
                false => Names { scopes: &over_groups, ..with_aliases },
            };
            rewrite::expression(self, condition, names)?;
        }
        if let Some(condition) = &mut select.qualify {
            rewrite::expression(self, condition, with_aliases)?;
        }
        for window in &mut select.named_window {
            if let sqlparser::ast::NamedWindowExpr::WindowSpec(spec) = &mut window.1 {
                let ordered = spec.order_by.iter_mut().map(|item| &mut item.expr);
                for expr in spec.partition_by.iter_mut().chain(ordered) {
                    rewrite::expression(self, expr, from_only)?;
                }
            }
        }
        self.order_by(order_by, &list, from_only)?;
        select.projection = list.items;
        Ok(list.names)
    }

    /// `GROUP BY window(…)` makes a column `window` that the rest of the block can name.
    fn grouped_windows(&self, group_by: &GroupByExpr, names: Names<'_>) -> Result<HashMap<String, Expr>> {
        let GroupByExpr::Expressions(exprs, _) = group_by else { return Ok(HashMap::new()) };
        let mut windows = HashMap::new();
        for expr in exprs {
            let Expr::Function(function) = expr else { continue };
            let name = function.name.to_string().to_lowercase();
            if matches!(name.as_str(), "window" | "session_window") {
                let mut window = expr.clone();
                rewrite::expression(self, &mut window, names)?;
                windows.insert(name, window);
            }
        }
        Ok(windows)
    }

    fn refuse(&self, select: &Select) -> Result<()> {
        let what = if !select.sort_by.is_empty() {
            "`SORT BY`"
        } else if !select.cluster_by.is_empty() {
            "`CLUSTER BY` in a query"
        } else if !select.distribute_by.is_empty() {
            "`DISTRIBUTE BY`"
        } else {
            return Ok(());
        };
        Err(Error::unsupported(what).at(self.place(select.span().start)))
    }

    fn list(
        &self,
        projection: Vec<SelectItem>,
        scope: &Scope,
        names: Names<'_>,
        windows: &named::Windows,
    ) -> Result<List> {
        let mut list = List::default();
        for item in projection {
            match item {
                SelectItem::Wildcard(options) => self.star(&mut list, scope.star(&[]), options)?,
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    self.qualified_star(&mut list, scope, &name, options)?;
                }
                SelectItem::UnnamedExpr(mut expr) => {
                    let place = self.place(expr.span().start);
                    named::expand_stars(&mut expr, scope).map_err(|error| error.at(place))?;
                    let mut printed = subqueries::printed(self, &expr, scope, names)?;
                    self.shown_calls(&mut printed)?;
                    let name = self.column_name(&named::shown(&printed, scope, windows, self.time_zone()));
                    self.item(&mut list, expr, &name, names)?;
                }
                SelectItem::ExprWithAlias { mut expr, alias } => {
                    let place = self.place(expr.span().start);
                    named::expand_stars(&mut expr, scope).map_err(|error| error.at(place))?;
                    match alias.value.strip_prefix(REPLACES) {
                        Some(column) => self.replace_item(&mut list, expr, &Ident::new(column), &alias, names)?,
                        None => self.item(&mut list, expr, &alias.value, names)?,
                    }
                }
                other => return Err(Error::unsupported(format!("`{other}`")).at(self.place(other.span().start))),
            }
        }
        Ok(list)
    }

    /// The name of an unnamed column; a call of the user's own function has that as it was registered.
    fn column_name(&self, expr: &Expr) -> String {
        let name = column_name(expr);
        let Expr::Function(function) = expr else { return name };
        let called = function.name.to_string().to_lowercase();
        let meta = self.provider.get_function_meta(&called);
        let title =
            meta.as_ref().and_then(|udf| udf.inner().downcast_ref::<PythonFunction>()).map(PythonFunction::title);
        match (title, name.strip_prefix(&called)) {
            (Some(title), Some(arguments)) => format!("{title}{arguments}"),
            _ => name,
        }
    }

    /// A select list over `scope` alone: expressions, names, whether the name was given.
    pub(super) fn items(&self, projection: Vec<SelectItem>, scope: &Scope) -> Result<Vec<(Expr, String, bool)>> {
        let (aliases, ctes) = (HashMap::new(), Ctes::new());
        let given: Vec<bool> = projection.iter().map(|item| matches!(item, SelectItem::ExprWithAlias { .. })).collect();
        let names = Names { scopes: &[scope], aliases: &aliases, ctes: &ctes };
        let list = self.list(projection, scope, names, &named::Windows::new())?;
        let given = if given.len() == list.names.len() { given } else { vec![true; list.names.len()] };
        Ok(list.exprs.into_iter().zip(list.names).zip(given).map(|((expr, name), given)| (expr, name, given)).collect())
    }

    /// Puts `expr` into the place of the item `column`.
    fn replace_item(
        &self,
        list: &mut List,
        mut expr: Expr,
        column: &Ident,
        alias: &Ident,
        names: Names<'_>,
    ) -> Result<()> {
        let Some(at) = list.names.iter().position(|name| name.eq_ignore_ascii_case(&column.value)) else {
            return Err(unresolved(std::slice::from_ref(column), names.scopes).at(self.place(alias.span.start)));
        };
        rewrite::expression(self, &mut expr, names)?;
        list.names[at].clone_from(&column.value);
        list.items[at] = SelectItem::ExprWithAlias { expr: expr.clone(), alias: ident(&column.value) };
        list.exprs[at] = expr;
        Ok(())
    }

    /// An item may refer to the aliases of earlier ones.
    fn item(&self, list: &mut List, mut expr: Expr, name: &str, names: Names<'_>) -> Result<()> {
        let aliases = list.aliases_over(names.aliases);
        let written = expr.clone();
        rewrite::expression(self, &mut expr, Names { aliases: &aliases, ..names })?;
        if subqueries::holds_one(&expr) {
            list.subqueries.push((written, expr.clone()));
        }
        list.push(expr, name);
        Ok(())
    }

    fn star<'c>(
        &self,
        list: &mut List,
        columns: impl Iterator<Item = &'c ScopeColumn>,
        options: WildcardAdditionalOptions,
    ) -> Result<()> {
        let place = self.place(options.wildcard_token.0.span.start);
        if options.opt_exclude.is_some() {
            let error = Error::user("`EXCLUDE` is not Spark's").with_condition("PARSE_SYNTAX_ERROR");
            return Err(error.with_help("Write `* EXCEPT (…)`.").at(place));
        }
        if options.opt_replace.is_some() || options.opt_rename.is_some() || options.opt_ilike.is_some() {
            return Err(Error::unsupported("`*` with REPLACE, RENAME or ILIKE").at(place));
        }
        let except: Vec<Ident> = options
            .opt_except
            .map(|except| [except.first_element].into_iter().chain(except.additional_elements).collect())
            .unwrap_or_default();
        let columns: Vec<&ScopeColumn> = columns.collect();
        let parts = |name: &Ident| -> Vec<Ident> {
            let part = |value: &str| Ident { value: value.to_owned(), ..name.clone() };
            name.value.split(PART).map(part).collect()
        };
        let is = |column: &ScopeColumn, name: &Ident| match parts(name).split_last() {
            Some((name, qualifier)) => column.is(qualifier, &name.value),
            None => false,
        };
        if let Some(missing) = except.iter().find(|name| !columns.iter().any(|column| is(column, name))) {
            let scope = Scope { columns: columns.into_iter().cloned().collect() };
            return Err(unresolved(&parts(missing), &[&scope]).at(self.place(missing.span.start)));
        }
        for column in columns.into_iter().filter(|column| !except.iter().any(|name| is(column, name))) {
            list.push(column.expr.clone(), &column.name);
        }
        Ok(())
    }

    /// `t.*`, or the fields of a struct column.
    fn qualified_star(
        &self,
        list: &mut List,
        scope: &Scope,
        name: &ObjectName,
        options: WildcardAdditionalOptions,
    ) -> Result<()> {
        let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        if scope.star(&parts).next().is_some() {
            return self.star(list, scope.star(&parts), options);
        }
        let Some(root) = scope.resolve(&parts)? else {
            return Err(unresolved(&parts, &[scope]).at(self.place(name.span().start)));
        };
        let column = scope.columns.iter().find(|column| column.expr == root);
        let Some(fields) = column.and_then(|column| struct_fields(&column.data_type)) else {
            return Err(Error::unsupported(format!("`{name}.*` of a nested field")).at(self.place(name.span().start)));
        };
        let fields: Vec<ScopeColumn> = fields
            .iter()
            .filter_map(|field| {
                let path: Vec<Ident> = parts.iter().cloned().chain([ident(field.name())]).collect();
                let expr = scope.resolve(&path).ok()??;
                let (name, data_type) = (field.name().clone(), field.data_type().clone());
                Some(ScopeColumn { qualifier: Vec::new(), name, data_type, expr, visibility: Visibility::Full })
            })
            .collect();
        self.star(list, fields.iter(), options)
    }

    fn group_by(&self, select: &mut Select, list: &List, names: Names<'_>) -> Result<()> {
        let place = self.place(select.span().start);
        let GroupByExpr::Expressions(exprs, modifiers) = &mut select.group_by else { return Ok(()) };
        match modifiers.as_slice() {
            [] => {}
            [sqlparser::ast::GroupByWithModifier::Rollup] => {
                *exprs = vec![Expr::Rollup(exprs.drain(..).map(|expr| vec![expr]).collect())];
            }
            [sqlparser::ast::GroupByWithModifier::Cube] => {
                *exprs = vec![Expr::Cube(exprs.drain(..).map(|expr| vec![expr]).collect())];
            }
            [other, ..] => return Err(Error::unsupported(format!("`GROUP BY … {other}`")).at(place)),
        }
        modifiers.clear();
        for expr in exprs {
            match expr {
                Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                    for key in sets.iter_mut().flatten() {
                        self.group_key(key, list, names, &place)?;
                    }
                }
                key => self.group_key(key, list, names, &place)?,
            }
        }
        Ok(())
    }

    /// Whether a sort key is meant to look at the input: what is aggregated or seen through a window are its rows, and a name
    /// with a qualifier, or with a field of a structure, may be a column of it.
    fn looks_at_input(&self, expr: &Expr) -> bool {
        let found = visit_expressions(expr, |expr| match expr {
            Expr::Function(function)
                if function.over.is_some()
                    || self.provider.get_aggregate_meta(&function.name.to_string()).is_some() =>
            {
                ControlFlow::Break(())
            }
            Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    }

    fn group_key(&self, key: &mut Expr, list: &List, names: Names<'_>, place: &SourceLocation) -> Result<()> {
        if is_ordinal(key) {
            *key = ordinal(key, list).map_err(|error| error.at(place.clone()))?;
        } else if let Some((_, exact)) = list.subqueries.iter().find(|(written, _)| written == key) {
            *key = exact.clone();
        } else {
            rewrite::expression(self, key, names)?;
        }
        Ok(())
    }

    /// `ORDER BY` sees the output first, then what `FROM` offers.
    fn order_by(&self, order_by: Option<&mut OrderBy>, list: &List, names: Names<'_>) -> Result<()> {
        let Some(order_by) = order_by else { return Ok(()) };
        let items = sort_items(order_by, list.items.len());
        let aliases = list.aliases_over(names.aliases);
        let (hidden, outputs) = list.before_input(names.scopes, &aliases);
        let scopes: Vec<&Scope> = hidden.iter().chain(names.scopes.iter().skip(1).copied()).collect();
        for item in items.iter_mut().filter(|item| !is_ordinal(&item.expr)) {
            let output = match &item.expr {
                Expr::Identifier(name) => list.names.iter().position(|output| output.eq_ignore_ascii_case(&name.value)),
                _ => None,
            };
            item.expr = match output.map(|at| &list.items[at]) {
                Some(SelectItem::ExprWithAlias { alias, .. }) => Expr::Identifier(alias.clone()),
                Some(SelectItem::UnnamedExpr(expr)) => expr.clone(),
                _ => {
                    let names = match self.looks_at_input(&item.expr) {
                        true => Names { aliases: &aliases, ..names },
                        false => Names { aliases: &outputs, scopes: &scopes, ..names },
                    };
                    rewrite::expression(self, &mut item.expr, names)?;
                    continue;
                }
            };
        }
        Ok(())
    }
}

fn ordinal(expr: &Expr, list: &List) -> Result<Expr> {
    let position = match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse::<usize>().ok(),
            _ => None,
        },
        _ => None,
    };
    let found = position.and_then(|position| list.exprs.get(position.checked_sub(1)?)).cloned();
    found.ok_or_else(|| {
        Error::user(format!("position `{expr}` is not in the select list, which has {} columns", list.exprs.len()))
            .with_condition("GROUP_BY_POS_OUT_OF_RANGE")
    })
}

/// Whether a select item makes rows.
fn is_generator(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => super::generator::generator_of(expr).is_some(),
        _ => false,
    }
}
