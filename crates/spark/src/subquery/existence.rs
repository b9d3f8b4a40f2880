//! `EXISTS` and `IN` as joins that mark each row that has a partner.
//!
//! As in Spark, they are true or false here: what SQL leaves unknown is false, for `NOT IN` as well.

use std::collections::HashMap;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, FetchType, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, lit, not,
};

use super::correlation::{beside, refers_to};
use super::{Resolver, Rows, is_subquery};
use crate::coercion::binary_op;
use crate::error::{Error, Result};

/// What a subquery gives, as rows of which those that fit an outer row are told by conditions.
pub(super) struct Candidates {
    pub(super) source: LogicalPlan,
    /// Over the columns of `source`, and outer columns.
    pub(super) conditions: Vec<Expr>,
    /// What the subquery selects, over the same.
    pub(super) values: Vec<Expr>,
}

/// Rows to join with, and which of them fit a row.
pub(super) struct Matches {
    pub(super) right: LogicalPlan,
    pub(super) condition: Option<Expr>,
    pub(super) values: Vec<Expr>,
}

/// What a query wants of the rows of its subquery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That there is one.
    One,
    /// A value among theirs.
    Value,
    /// All of them, as often as they are there.
    All,
}

/// Whether DataFusion's own join is as good for a condition of a filter.
pub(super) fn is_left_alone(condition: &Expr, rows: &DFSchema) -> Result<bool> {
    let condition = match condition {
        Expr::Not(inner) => inner.as_ref(),
        other => other,
    };
    let candidates = match condition {
        Expr::Exists(exists) => candidates(without_limit(&exists.subquery.subquery), rows, Wanted::One)?,
        // An anti join that knows NULLs has no further conditions.
        Expr::InSubquery(within) if refers_to(&within.subquery.subquery, rows)? && within.negated => None,
        // An anti join needs a key on either side.
        Expr::InSubquery(within) if within.expr.column_refs().is_empty() => None,
        Expr::InSubquery(within) if unpacked(&within.subquery.subquery).is_some() => None,
        Expr::InSubquery(within) => candidates(&within.subquery.subquery, rows, Wanted::Value)?,
        _ => None,
    };
    Ok(candidates.is_some_and(|candidates| !candidates.values.iter().any(Expr::contains_outer)))
}

/// The candidates of a subquery that selects from rows and filters them; `None` if it does more with outer columns.
pub(super) fn candidates(plan: &LogicalPlan, rows: &DFSchema, wanted: Wanted) -> Result<Option<Candidates>> {
    let values = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let mut found = Candidates { source: plan.clone(), conditions: Vec::new(), values };
    while refers_to(&found.source, rows)? {
        let (columns, exprs, input) = match &found.source {
            LogicalPlan::Projection(projection) => {
                let exprs = projection.expr.iter().map(|expr| expr.clone().unalias()).collect();
                (projection.schema.columns(), exprs, &projection.input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
                (alias.schema.columns(), inner, &alias.input)
            }
            // A subquery within it can be looked up only for rows that are known.
            LogicalPlan::Filter(filter) if !filter.predicate.exists(|expr| Ok(is_subquery(expr)))? => {
                found.conditions.extend(split_conjunction_owned(filter.predicate.clone()));
                (Vec::new(), Vec::new(), &filter.input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) if wanted != Wanted::All => (Vec::new(), Vec::new(), input),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => (Vec::new(), Vec::new(), &sort.input),
            _ => return Ok(None),
        };
        if exprs.iter().any(|expr: &Expr| expr.exists(|expr| Ok(is_subquery(expr))).unwrap_or(true)) {
            return Ok(None);
        }
        let exprs: HashMap<Column, Expr> = columns.into_iter().zip(exprs).collect();
        found.conditions = replaced(found.conditions, &exprs)?;
        found.values = replaced(found.values, &exprs)?;
        found.source = input.as_ref().clone();
    }
    Ok(Some(found))
}

/// `exprs` with other expressions in place of columns.
pub(super) fn replaced(exprs: Vec<Expr>, by: &HashMap<Column, Expr>) -> Result<Vec<Expr>> {
    let replaced = exprs.into_iter().map(|expr| {
        let expr = expr.transform_up(|part| match &part {
            Expr::Column(column) => Ok(match by.get(column) {
                Some(other) => Transformed::yes(other.clone()),
                None => Transformed::no(part),
            }),
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(expr.data)
    });
    replaced.collect()
}

/// The plan without a limit that leaves a row if there is one.
fn without_limit(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Limit(limit)
            if matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
                && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(1..)))) =>
        {
            &limit.input
        }
        other => other,
    }
}

/// The parts of `named_struct('a', a, 'b', b)`, as which several columns are compared at once.
fn parts(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Alias(alias) => parts(&alias.expr),
        Expr::ScalarFunction(call) if call.name() == "named_struct" => {
            Some(call.args.iter().skip(1).step_by(2).cloned().collect())
        }
        _ => None,
    }
}

/// A subquery that selects one structure, as one that selects its parts.
fn unpacked(plan: &LogicalPlan) -> Option<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let [value] = projection.expr.as_slice() else { return None };
    let columns = parts(value)?.into_iter().enumerate().map(|(i, part)| part.alias(format!("col{i}")));
    let columns = columns.collect::<Vec<_>>();
    LogicalPlanBuilder::from(projection.input.as_ref().clone()).project(columns).ok()?.build().ok()
}

impl Resolver<'_> {
    pub(super) fn exists(&self, exists: &Exists, rows: &mut Rows) -> Result<Expr> {
        let found = self.any(&exists.subquery.subquery, rows)?;
        Ok(if exists.negated { not(found) } else { found })
    }

    /// Whether the subquery has a row.
    fn any(&self, plan: &LogicalPlan, rows: &mut Rows) -> Result<Expr> {
        let matches = self.matches(without_limit(plan), rows, Wanted::One)?;
        self.mark(rows, matches.right, matches.condition)
    }

    /// `value IN (subquery)`
    pub(super) fn within(&self, within: &InSubquery, rows: &mut Rows) -> Result<Expr> {
        let (mut plan, mut values) = (within.subquery.subquery.as_ref().clone(), vec![within.expr.as_ref().clone()]);
        if let (Some(several), Some(selected)) = (parts(&within.expr), unpacked(&plan)) {
            (plan, values) = (selected, several);
        }
        let values = values.into_iter().map(|value| self.expression(value, rows, false)).collect::<Result<Vec<_>>>()?;
        let Matches { right, condition, values: selected } = self.matches(&plan, rows, Wanted::Value)?;
        if values.len() != selected.len() {
            return Err(Error::user(format!(
                "the subquery of `IN` has {} columns, {} are compared with them",
                selected.len(),
                values.len()
            ))
            .with_condition("DATATYPE_MISMATCH.IN_SUBQUERY_LENGTH_MISMATCH"));
        }
        let both = merge_schema(&[&rows.plan, &right]);
        let equal = values
            .iter()
            .zip(&selected)
            .map(|(value, selected)| binary_op(value.clone(), Operator::Eq, selected.clone(), &both, self.conf));
        let mut equal = conjunction(equal.collect::<Result<Vec<_>>>()?).unwrap_or_else(|| lit(true));
        if !within.negated {
            return self.mark(rows, right, conjunction(condition.into_iter().chain([equal])));
        }
        // Of `NOT IN` it is false already that a value might be equal, if it were known.
        let columns = plan.schema().columns();
        let ([value], [column]) = (values.as_slice(), columns.as_slice()) else {
            equal = equal.is_not_false();
            return Ok(not(self.mark(rows, right, conjunction(condition.into_iter().chain([equal])))?));
        };
        let unknown = (value.nullable(rows.plan.schema())?, selected[0].nullable(&both)?);
        let mut found = self.mark(rows, right, conjunction(condition.into_iter().chain([equal])))?;
        if unknown.0 {
            found = found.or(value.clone().is_null().and(self.any(&plan, rows)?));
        }
        if unknown.1 {
            let nulls = LogicalPlanBuilder::from(plan).filter(Expr::Column(column.clone()).is_null())?.build()?;
            found = found.or(self.any(&nulls, rows)?);
        }
        Ok(not(found))
    }

    /// A column of `rows` that tells whether a row of `right` meets the condition.
    fn mark(&self, rows: &mut Rows, right: LogicalPlan, condition: Option<Expr>) -> Result<Expr> {
        let name = right.schema().iter().find_map(|(table, _)| table.cloned());
        let plan = LogicalPlanBuilder::from(rows.plan.clone());
        rows.plan = plan.join_on(right, JoinType::LeftMark, Some(condition.unwrap_or_else(|| lit(true))))?.build()?;
        Ok(Expr::Column(Column::new(name, "mark")))
    }

    /// What to join with for a subquery, under a name of its own.
    pub(super) fn matches(&self, plan: &LogicalPlan, rows: &Rows, wanted: Wanted) -> Result<Matches> {
        let outer = rows.original.schema();
        let Candidates { source, conditions, mut values } = match candidates(plan, outer, wanted)? {
            Some(candidates) => candidates,
            None => self.for_all(plan, rows)?,
        };
        if wanted == Wanted::One {
            values.clear();
        }
        let name = self.name("subquery");
        let mut used: Vec<Column> = Vec::new();
        for column in conditions.iter().chain(&values).flat_map(Expr::column_refs) {
            if !used.contains(column) {
                used.push(column.clone());
            }
        }
        used.sort_by_key(|column| source.schema().maybe_index_of_column(column));
        let own = |i: usize| format!("col{i}");
        let renamed =
            used.iter().enumerate().map(|(i, column)| (column.clone(), Expr::Column(Column::new(Some(&name), own(i)))));
        let renamed: HashMap<Column, Expr> = renamed.collect();
        let in_place = |exprs: Vec<Expr>| -> Result<Vec<Expr>> {
            replaced(exprs, &renamed)?.into_iter().map(|expr| beside(expr, outer)).collect()
        };
        let (conditions, values) = (in_place(conditions)?, in_place(values)?);
        let mut right = LogicalPlanBuilder::from(source);
        right = match used.is_empty() {
            // One row is as good as all.
            true => right.limit(0, Some(1))?.project([lit(true).alias(own(0))])?,
            false => {
                right.project(used.into_iter().enumerate().map(|(i, column)| Expr::Column(column).alias(own(i))))?
            }
        };
        Ok(Matches { right: right.alias(name)?.build()?, condition: conjunction(conditions), values })
    }
}
