//! Texts as views, from the scan up to the first operator that computes with them.
//!
//! Filters, joins, sorts and groupings move rows about and, of texts, at most compare them: they do that with views, which are
//! sixteen bytes each, rather than with copies. Whatever else looks at texts gets them as Spark's functions know them, by a cast of
//! the rows that are left.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, Result, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::{Alias, FieldMetadata, InList, Like};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Distinct, Expr, Filter, Join, LogicalPlan, Operator, Projection, Sort, SubqueryAlias,
    TableScan, cast,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::text_table::TextTable;

/// The rule. It comes last: rules that compare types of expressions would undo it.
#[derive(Debug)]
pub(super) struct ReadTextViews;

impl OptimizerRule for ReadTextViews {
    fn name(&self) -> &str {
        "read_text_views"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let schema = Arc::clone(plan.schema());
        viewed(plan)?.map_data(|plan| settled(plan, &schema, |_| true))
    }
}

/// The same rows; texts are views in any columns.
fn viewed(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if has_subquery(&plan)? {
        return Ok(Transformed::no(plan));
    }
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::Filter(filter) => {
            let input = viewed_input(&filter.input)?;
            input.map_data(|input| {
                let predicate = comparing(filter.predicate, input.schema())?;
                Filter::try_new(predicate, Arc::new(input)).map(LogicalPlan::Filter)
            })
        }
        LogicalPlan::Projection(projection) => {
            let input = viewed_input(&projection.input)?;
            input.map_data(|input| {
                let exprs = named(projection.expr, input.schema())?;
                Projection::try_new(exprs, Arc::new(input)).map(LogicalPlan::Projection)
            })
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = viewed_input(&alias.input)?;
            input.map_data(|input| SubqueryAlias::try_new(Arc::new(input), alias.alias).map(LogicalPlan::SubqueryAlias))
        }
        LogicalPlan::Sort(sort) => {
            let input = viewed_input(&sort.input)?;
            input.map_data(|input| {
                let keys = sort.expr.into_iter().map(|mut key| {
                    key.expr = kept(key.expr, input.schema())?;
                    Ok(key)
                });
                let expr = keys.collect::<Result<Vec<_>>>()?;
                Ok(LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: sort.fetch }))
            })
        }
        LogicalPlan::Limit(limit) => {
            let input = viewed_input(&limit.input)?;
            input.map_data(|input| {
                let plan = LogicalPlan::Limit(limit);
                plan.with_new_exprs(plan.expressions(), vec![input])
            })
        }
        LogicalPlan::Distinct(Distinct::All(rows)) => {
            let input = viewed_input(&rows)?;
            input.map_data(|input| Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        LogicalPlan::Aggregate(aggregate) if !is_grouping_set(&aggregate) => {
            let input = viewed_input(&aggregate.input)?;
            input.map_data(|input| {
                let groups = named(aggregate.group_expr, input.schema())?;
                let aggregates = named(aggregate.aggr_expr, input.schema())?;
                Aggregate::try_new(Arc::new(input), groups, aggregates).map(LogicalPlan::Aggregate)
            })
        }
        LogicalPlan::Join(join) => joined(join),
        other => other.map_children(|child| {
            let schema = Arc::clone(child.schema());
            viewed(child)?.map_data(|child| settled(child, &schema, |_| true))
        }),
    }
}

fn viewed_input(input: &Arc<LogicalPlan>) -> Result<Transformed<LogicalPlan>> {
    viewed(input.as_ref().clone())
}

/// The scan with all texts as views, if the table has them.
fn scanned(scan: TableScan) -> Result<Transformed<LogicalPlan>> {
    let unchanged = |scan| Ok(Transformed::no(LogicalPlan::TableScan(scan)));
    let Ok(provider) = source_as_provider(&scan.source) else { return unchanged(scan) };
    let any: &dyn std::any::Any = provider.as_ref();
    let Some(table) = any.downcast_ref::<TextTable>().filter(|_| scan.filters.is_empty()) else {
        return unchanged(scan);
    };
    let fields = provider.schema();
    let is_text = |index: &usize| fields.field(*index).data_type() == &DataType::Utf8;
    let read = scan.projection.clone().unwrap_or_else(|| (0..fields.fields().len()).collect());
    let texts: Vec<usize> = read.into_iter().filter(is_text).collect();
    if texts.is_empty() {
        return unchanged(scan);
    }
    let scan = TableScanBuilder::new(scan.table_name, provider_as_source(table.with_views(&texts)))
        .with_projection(scan.projection)
        .with_fetch(scan.fetch)
        .with_statistics_requests(scan.statistics_requests)
        .build()?;
    Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
}

/// Both inputs with views. Columns that are joined by are views on both sides or on none.
fn joined(join: Join) -> Result<Transformed<LogicalPlan>> {
    let (left, right) = (viewed_input(&join.left)?, viewed_input(&join.right)?);
    if !left.transformed && !right.transformed {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let (mut settle_left, mut settle_right) = (Vec::new(), Vec::new());
    for (one, other) in &join.on {
        let (one_is_view, other_is_view) = (is_view(one, left.data.schema()), is_view(other, right.data.schema()));
        if !(one_is_view && other_is_view) {
            settle_left.extend(one.column_refs().into_iter().cloned());
            settle_right.extend(other.column_refs().into_iter().cloned());
        }
    }
    let left = settled(left.data, join.left.schema(), |column| settle_left.contains(column))?;
    let right = settled(right.data, join.right.schema(), |column| settle_right.contains(column))?;
    let schema = left.schema().join(right.schema())?;
    let filter = join.filter.map(|filter| comparing(filter, &schema)).transpose()?;
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on,
        filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

/// The plan with those of its columns in the types of `schema` that are asked for; the others as they are.
fn settled(plan: LogicalPlan, schema: &DFSchema, wanted: impl Fn(&Column) -> bool) -> Result<LogicalPlan> {
    let mut changes = false;
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .zip(schema.fields())
        .map(|((qualifier, field), before)| {
            let column = Column::from((qualifier, field));
            if field.data_type() == before.data_type() || !wanted(&column) {
                return Expr::Column(column);
            }
            changes = true;
            let metadata = Some(FieldMetadata::from(before.as_ref())).filter(|metadata| !metadata.is_empty());
            let text = cast(Expr::Column(column), before.data_type().clone());
            Expr::Alias(Alias::new(text, qualifier.cloned(), before.name()).with_metadata(metadata))
        })
        .collect();
    match changes {
        true => Projection::try_new(columns, Arc::new(plan)).map(LogicalPlan::Projection),
        false => Ok(plan),
    }
}

/// Expressions that name columns of the output: a column stays what it is, whatever computes gets texts.
fn named(exprs: Vec<Expr>, schema: &DFSchemaRef) -> Result<Vec<Expr>> {
    let preserver = NamePreserver::new_for_projection();
    let renamed = exprs.into_iter().map(|expr| {
        let name = preserver.save(&expr);
        Ok(name.restore(kept(expr, schema)?))
    });
    renamed.collect()
}

fn kept(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Column(_) => Ok(expr),
        Expr::Alias(mut alias) if matches!(alias.expr.as_ref(), Expr::Column(_)) => {
            alias.expr = Box::new(kept(*alias.expr, schema)?);
            Ok(Expr::Alias(alias))
        }
        _ => comparing(expr, schema),
    }
}

/// The expression over columns of `schema`: comparisons of views remain such, everything else gets texts.
fn comparing(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_down(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if is_comparison(op) && are_views(&[&left, &right], schema) =>
            {
                let (left, right) = (Box::new(as_view(*left)), Box::new(as_view(*right)));
                done(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::InList(InList { expr, list, negated })
                if is_view(&expr, schema) && list.iter().all(is_text_literal) =>
            {
                let list = list.into_iter().map(as_view).collect();
                done(Expr::InList(InList { expr: Box::new(as_view(*expr)), list, negated }))
            }
            Expr::Like(like) if is_view(&like.expr, schema) && is_text_literal(&like.pattern) => {
                let (expr, pattern) = (Box::new(as_view(*like.expr)), Box::new(as_view(*like.pattern)));
                done(Expr::Like(Like { expr, pattern, ..like }))
            }
            Expr::IsNull(inner) if is_view(&inner, schema) => done(Expr::IsNull(Box::new(as_view(*inner)))),
            Expr::IsNotNull(inner) if is_view(&inner, schema) => done(Expr::IsNotNull(Box::new(as_view(*inner)))),
            Expr::Cast(text) if is_view(&text.expr, schema) && text.field.data_type() == &DataType::Utf8 => {
                done(Expr::Cast(text))
            }
            Expr::Column(column) if is_view(&Expr::Column(column.clone()), schema) => {
                done(cast(Expr::Column(column), DataType::Utf8))
            }
            other => Transformed::no(other),
        })
    });
    rewritten.data()
}

/// Changed, and not to be looked into.
fn done(expr: Expr) -> Transformed<Expr> {
    Transformed::new(expr, true, TreeNodeRecursion::Jump)
}

/// Whether one of the two is a view, and the other one is or can be.
fn are_views(pair: &[&Expr; 2], schema: &DFSchema) -> bool {
    pair.iter().any(|expr| is_view(expr, schema))
        && pair.iter().all(|expr| is_view(expr, schema) || is_text_literal(expr))
}

/// Whether it is a column of views, be it that a cast makes texts of them.
fn is_view(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Column(column) => {
            schema.field_from_column(column).is_ok_and(|field| field.data_type() == &DataType::Utf8View)
        }
        Expr::Cast(Cast { expr, field }) if field.data_type() == &DataType::Utf8 => is_view(expr, schema),
        _ => false,
    }
}

fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_), _))
}

/// A column without the cast, a literal with the type of views.
fn as_view(expr: Expr) -> Expr {
    match expr {
        Expr::Cast(Cast { expr, .. }) => as_view(*expr),
        Expr::Literal(ScalarValue::Utf8(text), metadata) => Expr::Literal(ScalarValue::Utf8View(text), metadata),
        other => other,
    }
}

fn is_grouping_set(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

/// Whether an expression of the plan has a plan of its own, which knows the columns of this one by their types.
fn has_subquery(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

#[cfg(test)]
#[path = "text_views_tests.rs"]
mod tests;
