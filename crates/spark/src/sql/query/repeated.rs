//! Several columns of one name, which Spark's queries may have, while DataFusion tells columns apart by name.
//!
//! Within a query the second of them is numbered, and so on; scopes show them under the name they share. What the
//! query gives in the end has the names back, told apart by qualifiers that no output shows.

use std::collections::HashSet;

use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;

/// Begins the number; no name that a user writes has it.
const MARK: char = '\u{1}';

/// The name within a query of a column that has `name` as `count` others before it.
pub(super) fn numbered(name: &str, count: usize) -> String {
    format!("{name}{MARK}{}", count + 1)
}

/// The name that a column has for the user.
pub(super) fn shown(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(name, _)| name)
}

/// `plan` with columns that can be told apart by their names alone.
pub(super) fn unique(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut known = HashSet::new();
    if plan.schema().fields().iter().all(|field| known.insert(field.name().as_str())) {
        return Ok(plan);
    }
    let mut known: Vec<&str> = Vec::new();
    let mut columns = Vec::with_capacity(plan.schema().fields().len());
    for (qualifier, field) in plan.schema().iter() {
        let name = shown(field.name());
        let before = known.iter().filter(|other| **other == name).count();
        known.push(name);
        let name = if before == 0 { name.to_owned() } else { numbered(name, before) };
        columns.push(Expr::Column(Column::from((qualifier, field))).alias(name));
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// `plan` with the names that its columns have for the user.
pub(super) fn restored(plan: LogicalPlan) -> Result<LogicalPlan> {
    let names: Vec<String> = plan.schema().fields().iter().map(|field| shown(field.name()).to_owned()).collect();
    if names.iter().zip(plan.schema().fields()).all(|(name, field)| name == field.name()) {
        return Ok(plan);
    }
    let columns = plan.schema().columns().into_iter().zip(&names).enumerate().map(|(place, (column, name))| {
        let repeated = names.iter().filter(|other| *other == name).count() > 1;
        let is_own = column.name == *name;
        match Expr::Column(column) {
            column if repeated => {
                column.alias_qualified(Some(TableReference::bare(format!("duplicate_{place}"))), name)
            }
            column if is_own => column,
            column => column.alias(name),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}
