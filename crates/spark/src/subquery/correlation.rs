//! What subqueries see of the query around them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use crate::error::{Error, Result};

/// The columns of `rows` that `plan` refers to from within, each once.
pub(super) fn outer_columns(plan: &LogicalPlan, rows: &DFSchema) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| collect(expr, rows, &mut found))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn collect(expr: &Expr, rows: &DFSchema, found: &mut Vec<Column>) -> datafusion::common::Result<TreeNodeRecursion> {
    expr.apply(|part| {
        if let Expr::OuterReferenceColumn(_, column) = part
            && rows.has_column(column)
            && !found.contains(column)
        {
            found.push(column.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
}

/// Whether `plan` refers to a column of `rows`.
pub(super) fn refers_to(plan: &LogicalPlan, rows: &DFSchema) -> Result<bool> {
    Ok(!outer_columns(plan, rows)?.is_empty())
}

/// The columns of `rows` that the subqueries in `expr` refer to, or that are compared with what they give.
pub(super) fn seen_by_subqueries(expr: &Expr, rows: &DFSchema) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    expr.apply(|part| {
        let plan = match part {
            Expr::Exists(exists) => &exists.subquery.subquery,
            Expr::ScalarSubquery(subquery) => &subquery.subquery,
            Expr::InSubquery(within) => {
                found.extend(within.expr.column_refs().into_iter().cloned());
                &within.subquery.subquery
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        found.extend(outer_columns(plan, rows)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The outer columns of `columns` in `expr`, an expression of a subquery, as the columns that they stand for there.
///
/// In subqueries within it they are outer columns still.
pub(super) fn bound(expr: Expr, columns: &HashMap<Column, Column>) -> Result<Expr> {
    let bound = expr.transform_down(|part| match part {
        Expr::OuterReferenceColumn(field, column) => Ok(match columns.get(&column) {
            Some(inner) => Transformed::yes(Expr::Column(inner.clone())),
            None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
        }),
        Expr::ScalarSubquery(subquery) => Ok(Transformed::yes(Expr::ScalarSubquery(within(subquery, columns)?))),
        Expr::Exists(mut exists) => {
            exists.subquery = within(exists.subquery, columns)?;
            Ok(Transformed::yes(Expr::Exists(exists)))
        }
        Expr::InSubquery(mut inside) => {
            inside.subquery = within(inside.subquery, columns)?;
            Ok(Transformed::yes(Expr::InSubquery(inside)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bound.data)
}

fn within(subquery: Subquery, columns: &HashMap<Column, Column>) -> datafusion::common::Result<Subquery> {
    let renamed = |expr: Expr| {
        expr.transform_down(|part| match part {
            Expr::OuterReferenceColumn(field, column) => Ok(match columns.get(&column) {
                Some(inner) => Transformed::yes(Expr::OuterReferenceColumn(field, inner.clone())),
                None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
            }),
            other => Ok(Transformed::no(other)),
        })
    };
    let plan = Arc::unwrap_or_clone(subquery.subquery);
    let plan = plan.transform_down_with_subqueries(|node| node.map_expressions(renamed))?.data;
    let outer_ref_columns = subquery.outer_ref_columns.into_iter().map(|expr| Ok(renamed(expr)?.data));
    let outer_ref_columns = outer_ref_columns.collect::<datafusion::common::Result<_>>()?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans })
}

/// The outer columns of `rows` in `expr` as columns of these.
pub(super) fn beside(expr: Expr, rows: &DFSchema) -> Result<Expr> {
    let columns: HashMap<Column, Column> = rows.columns().into_iter().map(|column| (column.clone(), column)).collect();
    bound(expr, &columns)
}

/// That the rows which a subquery is evaluated for have the columns that it names.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        let rows = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let subquery = match part {
                    Expr::Exists(exists) => &exists.subquery,
                    Expr::InSubquery(within) => &within.subquery,
                    Expr::ScalarSubquery(subquery) => subquery,
                    Expr::OuterReferenceColumn(_, column) => return Err(missing(column).into()),
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                subquery.subquery.apply(|node| {
                    node.apply_expressions(|expr| {
                        expr.apply(|part| match part {
                            Expr::OuterReferenceColumn(_, column) if !rows.has_column(column) => {
                                Err(missing(column).into())
                            }
                            _ => Ok(TreeNodeRecursion::Continue),
                        })
                    })
                })?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

fn missing(column: &Column) -> Error {
    Error::user(format!("a subquery refers to `{}`, which the rows around it do not have", column.name))
        .with_condition("UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.CORRELATED_COLUMN_NOT_FOUND")
        .with_help("In an aggregation, a subquery can refer to what is grouped by; elsewhere to what FROM offers.")
}
