//! A relation as the client sees it: a plan, and the names by which its columns can be reached.
//!
//! Spark lets two columns of a DataFrame have the same name, lets an alias qualify them and lets
//! `df["x"]` mean the `x` of one particular DataFrame. DataFusion wants unique columns. So the
//! visible names live here and the plan below may carry others; [`Scope::finish`] brings them together.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::utils::find_window_exprs;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use super::types::is_hidden;
use crate::error::{Error, Result};

/// The name under which a DataFrame (a plan id of the client) offers a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub plan_id: i64,
    pub name: String,
}

/// One column of a relation.
#[derive(Debug, Clone)]
pub(super) struct ScopeColumn {
    /// The name the user sees.
    pub name: String,
    /// The alias or table name that may stand before it.
    pub qualifier: Vec<String>,
    /// The column of the plan.
    pub column: Column,
    /// The DataFrames it came through, the earliest first.
    pub origins: Vec<Origin>,
    /// Reachable by name, but not part of `*` or of the output.
    pub hidden: bool,
}

impl ScopeColumn {
    /// The column as an expression.
    pub fn expr(&self) -> Expr {
        Expr::Column(self.column.clone())
    }

    fn is_metadata(&self) -> bool {
        self.hidden && self.name == "_metadata"
    }
}

/// A plan with the names of its columns.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub plan: LogicalPlan,
    pub columns: Vec<ScopeColumn>,
}

/// An output column of a projection being built.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub expr: Expr,
    pub name: String,
    /// What the column keeps of its identity if it is passed through unchanged.
    pub passed: Option<ScopeColumn>,
}

impl Output {
    /// A computed column.
    pub fn computed(expr: Expr, name: impl Into<String>) -> Self {
        Self { expr, name: name.into(), passed: None }
    }

    /// A column of the input as it is.
    pub fn passed(column: &ScopeColumn) -> Self {
        Self { expr: column.expr(), name: column.name.clone(), passed: Some(column.clone()) }
    }

    /// A column of the input under another name: a new column as far as references go.
    pub fn renamed(column: &ScopeColumn, name: impl Into<String>) -> Self {
        Self::computed(column.expr(), name)
    }
}

/// Names for plan columns that no user can write.
#[derive(Debug, Default)]
pub(super) struct Names(AtomicUsize);

impl Names {
    /// A name that no other column of the plan has.
    pub fn unique(&self, base: &str) -> String {
        format!("{base}#{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Scope {
    /// A relation whose plan came from elsewhere; `qualifier` is the name it was read by.
    pub fn new(plan: LogicalPlan, qualifier: &[String]) -> Self {
        let columns = plan
            .schema()
            .iter()
            .map(|(table, field)| ScopeColumn {
                name: field.name().clone(),
                qualifier: qualifier.to_vec(),
                column: Column::new(table.cloned(), field.name()),
                origins: Vec::new(),
                hidden: is_hidden(field),
            })
            .collect();
        Self { plan, columns }
    }

    /// The schema of the plan: what expressions over [`ScopeColumn::column`] refer to.
    pub fn schema(&self) -> &DFSchema {
        self.plan.schema()
    }

    /// The columns of `*`.
    pub fn visible(&self) -> impl Iterator<Item = &ScopeColumn> {
        self.columns.iter().filter(|column| !column.hidden)
    }

    /// The type of a column.
    pub fn data_type(&self, column: &ScopeColumn) -> Result<DataType> {
        Ok(column.expr().get_type(self.schema())?)
    }

    /// Records that the columns are offered by the DataFrame `plan_id` under their present names.
    #[must_use]
    pub fn with_plan_id(mut self, plan_id: Option<i64>) -> Self {
        if let Some(plan_id) = plan_id {
            for column in &mut self.columns {
                let name = column.name.clone();
                column.origins.push(Origin { plan_id, name });
            }
        }
        self
    }

    /// The same columns over another plan that passes them all.
    #[must_use]
    pub fn with_plan(self, plan: LogicalPlan) -> Self {
        Self { plan, ..self }
    }

    /// Projects onto `outputs`; `_metadata` is passed along unless they name one.
    pub fn project(self, outputs: Vec<Output>, names: &Names) -> Result<Self> {
        let mut outputs: Vec<(Output, bool)> = outputs.into_iter().map(|output| (output, false)).collect();
        for column in self.columns.iter().filter(|column| column.is_metadata()) {
            if !outputs.iter().any(|(output, _)| output.name == column.name) {
                outputs.push((Output::passed(column), true));
            }
        }
        self.project_exactly(outputs, names)
    }

    /// Projects onto `outputs`, each with whether it is hidden, and nothing else.
    pub fn project_exactly(self, outputs: Vec<(Output, bool)>, names: &Names) -> Result<Self> {
        let mut taken: Vec<String> = Vec::with_capacity(outputs.len());
        let mut exprs = Vec::with_capacity(outputs.len());
        let mut columns = Vec::with_capacity(outputs.len());
        for (output, hidden) in outputs {
            let mut plan_name = match &output.expr {
                Expr::Column(column) if output.passed.is_some() => column.name.clone(),
                _ => output.name.clone(),
            };
            if taken.contains(&plan_name) {
                plan_name = names.unique(&output.name);
            }
            let (expr, column) = match output.expr {
                Expr::Column(column) if column.name == plan_name => (Expr::Column(column.clone()), column),
                expr => (expr.alias(&plan_name), Column::new_unqualified(&plan_name)),
            };
            taken.push(plan_name);
            exprs.push(expr);
            let (qualifier, origins) = output.passed.map_or_else(Default::default, |old| (old.qualifier, old.origins));
            columns.push(ScopeColumn { name: output.name, qualifier, column, origins, hidden });
        }
        let windows = find_window_exprs(&exprs);
        let input = if windows.is_empty() { self.plan } else { LogicalPlanBuilder::window_plan(self.plan, windows)? };
        let plan = LogicalPlanBuilder::from(input).project(exprs)?.build()?;
        Ok(Self { plan, columns })
    }

    /// Gives new plan names to all columns, so that no other relation has any of them.
    pub fn renamed_apart(self, names: &Names) -> Result<Self> {
        let mut exprs = Vec::with_capacity(self.columns.len());
        let mut columns = Vec::with_capacity(self.columns.len());
        for old in self.columns {
            let name = names.unique(&old.name);
            exprs.push(old.expr().alias(&name));
            columns.push(ScopeColumn { column: Column::new_unqualified(name), ..old });
        }
        let plan = LogicalPlanBuilder::from(self.plan).project(exprs)?.build()?;
        Ok(Self { plan, columns })
    }

    /// Gives new plan names to the columns that `other` has too, so that both can stand in one join.
    pub fn disjoint_from(self, other: &Self, names: &Names) -> Result<Self> {
        let taken: Vec<&str> = other.columns.iter().map(|column| column.column.name.as_str()).collect();
        if self.columns.iter().all(|column| !taken.contains(&column.column.name.as_str())) {
            return Ok(self);
        }
        let mut exprs = Vec::with_capacity(self.columns.len());
        let mut columns = Vec::with_capacity(self.columns.len());
        for old in self.columns {
            let column = if taken.contains(&old.column.name.as_str()) {
                let name = names.unique(&old.name);
                exprs.push(old.expr().alias(&name));
                Column::new_unqualified(name)
            } else {
                exprs.push(old.expr());
                old.column.clone()
            };
            columns.push(ScopeColumn { column, ..old });
        }
        let plan = LogicalPlanBuilder::from(self.plan).project(exprs)?.build()?;
        Ok(Self { plan, columns })
    }

    /// The plan with the visible columns under their visible names.
    ///
    /// Columns of the same name are told apart by a qualifier, which no output shows.
    pub fn finish(self) -> Result<LogicalPlan> {
        let as_it_is = self.columns.len() == self.plan.schema().fields().len()
            && self.columns.iter().all(|column| !column.hidden && column.name == column.column.name);
        if as_it_is {
            return Ok(self.plan);
        }
        let visible: Vec<&ScopeColumn> = self.columns.iter().filter(|column| !column.hidden).collect();
        // DataFusion refuses a qualified column beside an unqualified one of the same name: all of them get a qualifier.
        let is_repeated = |name: &str| visible.iter().filter(|other| other.name == name).count() > 1;
        let exprs: Vec<Expr> = visible
            .iter()
            .enumerate()
            .map(|(i, column)| match column.expr() {
                expr if is_repeated(&column.name) => {
                    expr.alias_qualified(Some(TableReference::bare(format!("duplicate_{i}"))), &column.name)
                }
                expr if column.column.name == column.name => expr,
                expr => expr.alias(&column.name),
            })
            .collect();
        Ok(LogicalPlanBuilder::from(self.plan).project(exprs)?.build()?)
    }

    /// Finds the column that the first parts of a name mean, and the parts left over (fields of structs).
    ///
    /// # Errors
    /// `UNRESOLVED_COLUMN.WITH_SUGGESTION` or `AMBIGUOUS_REFERENCE` (`User`).
    pub fn resolve<'a>(
        &self,
        parts: &'a [String],
        plan_id: Option<i64>,
        case_sensitive: bool,
    ) -> Result<(&ScopeColumn, &'a [String])> {
        let same = |a: &str, b: &str| {
            if case_sensitive { a == b } else { a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase() }
        };
        let Some((first, rest)) = parts.split_first() else { return Err(Error::user("an empty column name")) };
        if let Some(plan_id) = plan_id
            && let Some(column) = self.of_dataframe(plan_id, |name| same(name, first))
        {
            return Ok((column, rest));
        }
        for hidden in [false, true] {
            for qualified in (1..parts.len().min(4)).rev() {
                let (qualifier, tail) = parts.split_at(qualified);
                let found: Vec<_> = self
                    .columns
                    .iter()
                    .filter(|column| column.hidden == hidden && same(&column.name, &tail[0]))
                    .filter(|column| ends_with(&column.qualifier, qualifier, same))
                    .collect();
                if !found.is_empty() {
                    return Ok((only(&found, parts)?, &tail[1..]));
                }
            }
            let found: Vec<_> =
                self.columns.iter().filter(|column| column.hidden == hidden && same(&column.name, first)).collect();
            if !found.is_empty() {
                return Ok((only(&found, parts)?, rest));
            }
        }
        Err(self.unresolved(parts))
    }

    /// Whether the DataFrame `plan_id` offers a column of that name.
    pub fn offers(&self, plan_id: i64, name: &str, case_sensitive: bool) -> bool {
        let same =
            |other: &str| if case_sensitive { other == name } else { other.to_lowercase() == name.to_lowercase() };
        self.of_dataframe(plan_id, same).is_some()
    }

    /// The column that the DataFrame `plan_id` offers; of several (self-joins) the one it is nearest to.
    fn of_dataframe(&self, plan_id: i64, same: impl Fn(&str) -> bool) -> Option<&ScopeColumn> {
        let depth = |column: &ScopeColumn| {
            column.origins.iter().rev().position(|origin| origin.plan_id == plan_id && same(&origin.name))
        };
        let candidates = self.columns.iter().filter_map(|column| Some((depth(column)?, column.hidden, column)));
        candidates.min_by_key(|(depth, hidden, _)| (*depth, *hidden)).map(|(_, _, column)| column)
    }

    fn unresolved(&self, parts: &[String]) -> Error {
        let wanted = parts.join(".");
        let mut names: Vec<&str> = self.visible().map(|column| column.name.as_str()).collect();
        names.sort_by_key(|name| strsim::damerau_levenshtein(&name.to_lowercase(), &wanted.to_lowercase()));
        let error = Error::user(format!("column `{}` does not exist", parts.join("`.`")));
        if names.is_empty() {
            return error.with_condition("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION");
        }
        let nearest: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
        error
            .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
            .with_help(format!("Did you mean one of {}?", nearest.join(", ")))
    }
}

fn ends_with(qualifier: &[String], wanted: &[String], same: impl Fn(&str, &str) -> bool) -> bool {
    qualifier.len() >= wanted.len()
        && qualifier[qualifier.len() - wanted.len()..].iter().zip(wanted).all(|(a, b)| same(a, b))
}

fn only<'a>(found: &[&'a ScopeColumn], parts: &[String]) -> Result<&'a ScopeColumn> {
    match found {
        [one] => Ok(one),
        many => {
            let all: Vec<_> = many
                .iter()
                .map(|column| {
                    let parts = column.qualifier.iter().chain(std::iter::once(&column.name));
                    format!("`{}`", parts.map(String::as_str).collect::<Vec<_>>().join("`.`"))
                })
                .collect();
            Err(Error::user(format!("reference `{}` is ambiguous, could be: [{}]", parts.join("`.`"), all.join(", ")))
                .with_condition("AMBIGUOUS_REFERENCE"))
        }
    }
}

/// The parts of an identifier: `` a.`b.c`.d `` is `a`, `b.c`, `d`.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) if back-quotes are not closed or a part is empty.
pub(super) fn split_identifier(text: &str) -> Result<Vec<String>> {
    let syntax =
        || Error::user(format!("`{text}` is not a valid identifier")).with_condition("INVALID_ATTRIBUTE_NAME_SYNTAX");
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut part = String::new();
        if chars.next_if_eq(&'`').is_some() {
            loop {
                match chars.next() {
                    Some('`') if chars.next_if_eq(&'`').is_some() => part.push('`'),
                    Some('`') => break,
                    Some(c) => part.push(c),
                    None => return Err(syntax()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                if c == '`' {
                    return Err(syntax());
                }
                part.push(c);
            }
            if part.is_empty() {
                return Err(syntax());
            }
        }
        parts.push(part);
        match chars.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err(syntax()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identifiers_are_split_at_dots_outside_quotes() {
        assert_eq!(split_identifier("a.`b.c`.d").unwrap(), ["a", "b.c", "d"]);
        assert_eq!(split_identifier("`a``b`").unwrap(), ["a`b"]);
        assert_eq!(split_identifier(" odd name ").unwrap(), [" odd name "]);
        assert!(split_identifier("a..b").is_err());
        assert!(split_identifier("`a").is_err());
    }
}
