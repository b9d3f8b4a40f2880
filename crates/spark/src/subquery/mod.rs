//! Subqueries where DataFusion has no join for them: `EXISTS` and `IN` outside of a `WHERE`, correlated ones whose
//! condition is more than equality, lateral joins.
//!
//! [`resolve`] puts joins in their place while a query is planned, so that what cannot be planned is refused then. What
//! DataFusion's optimizer turns into better joins (semi and anti joins of a filter) is left to it. [`existence`] tells
//! whether rows match, [`scalar`] looks up a value, [`lateral`] joins; for a subquery that is not merely a filter they
//! need it for all outer rows at once, which [`dependent`] makes of it.

mod correlation;
mod dependent;
mod existence;
mod lateral;
mod no_rows;
mod scalar;

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder};

use self::correlation::refers_to;
pub(crate) use self::no_rows::may_be_null;
use crate::conf::SparkConf;
use crate::error::{Error, Result};

/// `plan` with joins for the subqueries that need ours.
///
/// # Errors
/// `Unsupported` for a subquery of a form that no join answers; `User` where Spark refuses it, too.
pub fn resolve(plan: LogicalPlan, conf: &SparkConf) -> Result<LogicalPlan> {
    if !holds_subqueries(&plan)? {
        return Ok(plan);
    }
    let resolver = Resolver { conf, names: Cell::new(0) };
    let resolved = plan.transform_up_with_subqueries(|node| Ok(resolver.node(node)?))?.data;
    correlation::check(&resolved)?;
    Ok(resolved)
}

fn holds_subqueries(plan: &LogicalPlan) -> Result<bool> {
    let found = plan.apply(|node| {
        let mut recursion = TreeNodeRecursion::Continue;
        if matches!(node, LogicalPlan::Subquery(_)) {
            recursion = TreeNodeRecursion::Stop;
        }
        node.apply_expressions(|expr| {
            if expr.exists(|expr| Ok(is_subquery(expr)))? {
                recursion = TreeNodeRecursion::Stop;
            }
            Ok(recursion)
        })?;
        Ok(recursion)
    })?;
    Ok(found == TreeNodeRecursion::Stop)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_))
}

/// Gives the columns that it makes names of their own.
pub(super) struct Resolver<'a> {
    conf: &'a SparkConf,
    names: Cell<usize>,
}

/// The rows that expressions are evaluated over, as they gain columns for the subqueries in these.
pub(super) struct Rows {
    /// Without those columns.
    original: LogicalPlan,
    plan: LogicalPlan,
}

impl Rows {
    fn new(plan: &LogicalPlan) -> Self {
        Self { original: plan.clone(), plan: plan.clone() }
    }
}

impl Resolver<'_> {
    fn name(&self, kind: &str) -> String {
        self.names.set(self.names.get() + 1);
        format!("__{kind}_{}", self.names.get())
    }

    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Join(join) if lateral::is_lateral(&join) => self.lateral(join).map(Transformed::yes),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Sort(_) if needs(&node, refers_or_tells)? => {
                Err(Error::user("`EXISTS`, `IN` and correlated subqueries cannot be sorted by")
                    .with_condition("UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_IN_EXISTS_SUBQUERY")
                    .with_help("Give the subquery a name in the select list, and sort by that."))
            }
            LogicalPlan::Projection(_) if needs(&node, |expr, rows| scalar::needs_join(expr, rows, true))? => {
                self.expressions(node, true)
            }
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) if needs(&node, refers_or_tells)? => {
                self.expressions(node, false)
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// The node over rows that have a column for each of its subqueries; its output is as it was.
    fn expressions(&self, node: LogicalPlan, projects: bool) -> Result<Transformed<LogicalPlan>> {
        let [input] = node.inputs()[..] else {
            return Err(Error::internal(format!("{} with subqueries has several inputs", node.display())));
        };
        let mut rows = Rows::new(input);
        let (schema, names) = (Arc::clone(node.schema()), NamePreserver::new_for_projection());
        let exprs = node.expressions().into_iter().map(|expr| {
            let name = names.save(&expr);
            Ok(name.restore(self.expression(expr, &mut rows, projects)?))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let plan = match node {
            // Its expressions are found in two lists.
            LogicalPlan::Aggregate(aggregate) => {
                let (keys, aggregates) = exprs.split_at(aggregate.group_expr.len());
                LogicalPlanBuilder::from(rows.plan).aggregate(keys.to_vec(), aggregates.to_vec())?.build()?
            }
            LogicalPlan::Window(_) => {
                let plan = LogicalPlanBuilder::from(rows.plan).window(exprs)?.build()?;
                only(plan, &schema)?
            }
            _ => LogicalPlanBuilder::from(rows.plan).project(exprs)?.build()?,
        };
        Ok(Transformed::yes(plan))
    }

    /// Leaves the conditions that DataFusion makes semi and anti joins of.
    fn filter(&self, filter: Filter) -> Result<Transformed<LogicalPlan>> {
        let wanted = |expr: &Expr| -> Result<bool> {
            let rows = filter.input.schema();
            Ok(!existence::is_left_alone(expr, rows)? && holds(expr, rows, |e, r| scalar::needs_join(e, r, true))?)
        };
        if !wanted(&filter.predicate)? {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let mut rows = Rows::new(&filter.input);
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            conditions.push(match wanted(&condition)? {
                true => self.expression(condition, &mut rows, true)?,
                false => condition,
            });
        }
        let schema = Arc::clone(filter.input.schema());
        let filtered =
            LogicalPlanBuilder::from(rows.plan).filter(conjunction(conditions).unwrap_or(filter.predicate))?;
        Ok(Transformed::yes(only(filtered.build()?, &schema)?))
    }

    /// A subquery in the condition of a join is looked up on the side that it refers to.
    fn join(&self, join: Join) -> Result<Transformed<LogicalPlan>> {
        let both = merge_schema(&[&join.left, &join.right]);
        let Some(filter) = join.filter.as_ref().filter(|filter| holds(filter, &both, refers_or_tells).unwrap_or(true))
        else {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        };
        let (mut left, mut right) = (Rows::new(&join.left), Rows::new(&join.right));
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(filter.clone()) {
            if !holds(&condition, &both, refers_or_tells)? {
                conditions.push(condition);
                continue;
            }
            let seen = correlation::seen_by_subqueries(&condition, &both)?;
            let on = |rows: &Rows| seen.iter().all(|column| rows.original.schema().has_column(column));
            let side = match (on(&left), on(&right)) {
                (true, _) => &mut left,
                (false, true) => &mut right,
                (false, false) => {
                    return Err(Error::user("a correlated subquery in the condition of a join refers to both sides")
                        .with_condition(
                            "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_CORRELATED_EXPRESSION_IN_JOIN_CONDITION",
                        )
                        .with_help("Join first, and put the subquery into the WHERE of the result."));
                }
            };
            conditions.push(self.expression(condition, side, false)?);
        }
        let Join { on, join_type, join_constraint, null_equality, null_aware, schema, .. } = join;
        let (left, right) = (Arc::new(left.plan), Arc::new(right.plan));
        let filter = conjunction(conditions);
        let joined = Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
        let joined = LogicalPlan::Join(joined);
        Ok(Transformed::yes(if join_type == JoinType::LeftMark { joined } else { only(joined, &schema)? }))
    }

    /// `expr` with columns of `rows` in place of its subqueries.
    fn expression(&self, expr: Expr, rows: &mut Rows, projects: bool) -> Result<Expr> {
        let replaced = expr.transform_down(|expr| {
            let replaced = match expr {
                Expr::Not(inner) => match *inner {
                    Expr::InSubquery(mut within) => {
                        within.negated = !within.negated;
                        Some(self.within(&within, rows)?)
                    }
                    other => return Ok(Transformed::no(Expr::Not(Box::new(other)))),
                },
                Expr::InSubquery(within) => Some(self.within(&within, rows)?),
                Expr::Exists(exists) => Some(self.exists(&exists, rows)?),
                Expr::ScalarSubquery(subquery) if refers_to(&subquery.subquery, rows.original.schema())? => {
                    match scalar::is_left_alone(&subquery, rows.original.schema())? {
                        true if projects => return Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
                        true => Some(self.looked_up(subquery, rows)?),
                        false => Some(self.scalar(&subquery, rows)?),
                    }
                }
                other => return Ok(Transformed::no(other)),
            };
            Ok(match replaced {
                Some(replaced) => Transformed::new(replaced, true, TreeNodeRecursion::Jump),
                None => return Err(Error::internal("a subquery without a column").into()),
            })
        })?;
        Ok(replaced.data)
    }
}

/// Whether `expr`, evaluated over rows of the schema, holds a subquery that a join must answer.
fn refers_or_tells(expr: &Expr, rows: &DFSchema) -> Result<bool> {
    scalar::needs_join(expr, rows, false)
}

fn needs(node: &LogicalPlan, test: impl Fn(&Expr, &DFSchema) -> Result<bool>) -> Result<bool> {
    let rows = merge_schema(&node.inputs());
    let mut found = false;
    for expr in node.expressions() {
        found = found || holds(&expr, &rows, &test)?;
    }
    Ok(found)
}

/// Whether `test` holds of a part of `expr`.
fn holds(expr: &Expr, rows: &DFSchema, test: impl Fn(&Expr, &DFSchema) -> Result<bool>) -> Result<bool> {
    Ok(expr.exists(|part| Ok(is_subquery(part) && test(part, rows)?))?)
}

/// `plan` with the columns of `schema` alone.
fn only(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(table, field)| Expr::Column(Column::from((table, field))));
    Ok(LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()?)
}
