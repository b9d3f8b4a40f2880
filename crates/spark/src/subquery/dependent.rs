//! A correlated subquery for all rows around it at once.
//!
//! What it depends on are the values of the outer columns that it names. The distinct ones are joined with the
//! innermost parts that name them, and every operator above keeps them apart: an aggregation groups by them, a window is
//! partitioned by them, a limit counts within them. The subquery then gives, beside its own columns, those that its rows
//! are for. (T. Neumann, A. Kemper: Unnesting Arbitrary Queries, BTW 2015.)

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, ExprSchemable, FetchType, Join, Limit, LogicalPlan, LogicalPlanBuilder,
    SkipType, SortExpr, Union, Unnest, Window, lit,
};

use super::correlation::{bound, outer_columns, refers_to};
use super::existence::Candidates;
use super::{Resolver, Rows};
use crate::error::{Error, Result};

/// The distinct values of outer columns.
pub(super) struct Domain {
    plan: LogicalPlan,
    /// The outer columns.
    outer: Vec<Column>,
    /// Those of `plan`, without qualifiers, in the same order.
    columns: Vec<Column>,
}

impl Domain {
    fn bindings(&self) -> HashMap<Column, Column> {
        self.outer.iter().cloned().zip(self.columns.iter().cloned()).collect()
    }

    fn exprs(&self) -> impl Iterator<Item = Expr> + '_ {
        self.columns.iter().cloned().map(Expr::Column)
    }
}

/// That columns are the same, be it NULL.
fn same(left: &[Column], right: &[Column], schema: &DFSchema) -> Result<Vec<Expr>> {
    let pairs = left.iter().zip(right).map(|(left, right)| {
        let (left, right) = (Expr::Column(left.clone()), Expr::Column(right.clone()));
        let known = !left.nullable(schema)? && !right.nullable(schema)?;
        Ok(if known { left.eq(right) } else { is_same(left, right) })
    });
    pairs.collect()
}

fn is_same(left: Expr, right: Expr) -> Expr {
    datafusion::logical_expr::binary_expr(left, datafusion::logical_expr::Operator::IsNotDistinctFrom, right)
}

/// `schema`'s columns, and then those of the domain.
fn arranged(plan: LogicalPlan, schema: &DFSchema, domain: &Domain) -> Result<LogicalPlan> {
    let wanted: Vec<Column> = schema.columns().into_iter().chain(domain.columns.iter().cloned()).collect();
    if plan.schema().columns() == wanted {
        return Ok(plan);
    }
    Ok(LogicalPlanBuilder::from(plan).project(wanted.into_iter().map(Expr::Column))?.build()?)
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!("a correlated subquery that names outer columns within {what}"))
        .with_help("Join with the rows of the subquery instead.")
}

impl Resolver<'_> {
    /// The rows of a correlated subquery for each row of `rows`, told by the outer columns.
    pub(super) fn for_all(&self, plan: &LogicalPlan, rows: &Rows) -> Result<Candidates> {
        let domain = self.domain(plan, rows)?;
        let values = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let source = self.pushed(plan.clone(), &domain)?;
        let field = |column: &Column| {
            rows.original.schema().qualified_field_from_column(column).map(|(_, field)| Arc::clone(field))
        };
        let conditions = domain.outer.iter().zip(domain.exprs()).map(|(outer, inner)| {
            let outer = Expr::OuterReferenceColumn(field(outer)?, outer.clone());
            let known = !outer.nullable(source.schema())? && !inner.nullable(source.schema())?;
            Ok(if known { inner.eq(outer) } else { is_same(inner, outer) })
        });
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        Ok(Candidates { source, conditions, values })
    }

    fn domain(&self, plan: &LogicalPlan, rows: &Rows) -> Result<Domain> {
        let outer = outer_columns(plan, rows.original.schema())?;
        let columns: Vec<Column> = outer.iter().map(|_| Column::new_unqualified(self.name("outer"))).collect();
        let named = outer.iter().zip(&columns).map(|(outer, inner)| Expr::Column(outer.clone()).alias(&inner.name));
        let plan = LogicalPlanBuilder::from(rows.original.clone()).project(named.collect::<Vec<_>>())?.distinct()?;
        Ok(Domain { plan: plan.build()?, outer, columns })
    }

    /// The same values once more, for the other side of a join.
    fn again(&self, domain: &Domain) -> Result<Domain> {
        let columns: Vec<Column> = domain.columns.iter().map(|_| Column::new_unqualified(self.name("outer"))).collect();
        let named = domain.exprs().zip(&columns).map(|(expr, column)| expr.alias(&column.name));
        let plan = LogicalPlanBuilder::from(domain.plan.clone()).project(named.collect::<Vec<_>>())?.build()?;
        Ok(Domain { plan, outer: domain.outer.clone(), columns })
    }

    /// `plan` for every row of the domain: its columns, and those of the domain.
    fn pushed(&self, plan: LogicalPlan, domain: &Domain) -> Result<LogicalPlan> {
        if !self.names_outer(&plan, domain)? {
            return Ok(LogicalPlanBuilder::from(plan).cross_join(domain.plan.clone())?.build()?);
        }
        let (schema, bindings) = (Arc::clone(plan.schema()), domain.bindings());
        let input = |input: Arc<LogicalPlan>| self.pushed(Arc::unwrap_or_clone(input), domain);
        let names = NamePreserver::new_for_projection();
        let bind = |expr: Expr| bound(expr, &bindings);
        let named = |expr: Expr| {
            let name = names.save(&expr);
            Ok(name.restore(bind(expr)?))
        };
        let plan = match plan {
            LogicalPlan::Projection(projection) => {
                let exprs = projection.expr.into_iter().map(named).collect::<Result<Vec<_>>>()?;
                let exprs = exprs.into_iter().chain(domain.exprs());
                LogicalPlanBuilder::from(input(projection.input)?).project(exprs)?.build()?
            }
            LogicalPlan::Filter(filter) => {
                LogicalPlanBuilder::from(input(filter.input)?).filter(bind(filter.predicate)?)?.build()?
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let renamed = alias.input.schema().columns().into_iter().zip(schema.iter());
                let renamed = renamed
                    .map(|(column, (table, field))| Expr::Column(column).alias_qualified(table.cloned(), field.name()));
                let exprs = renamed.chain(domain.exprs()).collect::<Vec<_>>();
                LogicalPlanBuilder::from(input(alias.input)?).project(exprs)?.build()?
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, domain)?,
            LogicalPlan::Distinct(Distinct::All(inner)) => {
                LogicalPlanBuilder::from(arranged(input(inner)?, &schema, domain)?).distinct()?.build()?
            }
            LogicalPlan::Window(window) => {
                let exprs = window.window_expr.into_iter().map(|expr| {
                    let name = names.save(&expr);
                    Ok(name.restore(within(bind(expr)?, domain)?))
                });
                let exprs = exprs.collect::<Result<Vec<_>>>()?;
                LogicalPlan::Window(Window::try_new(exprs, Arc::new(input(window.input)?))?)
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let order = sort.expr.into_iter().map(|key| Ok(SortExpr { expr: bind(key.expr)?, ..key }));
                LogicalPlanBuilder::from(input(sort.input)?).sort(order.collect::<Result<Vec<_>>>()?)?.build()?
            }
            LogicalPlan::Sort(mut sort) => {
                let fetch = sort.fetch.take().map(|rows| Box::new(lit(rows as i64)));
                self.limited(Limit { skip: None, fetch, input: Arc::new(LogicalPlan::Sort(sort)) }, domain)?
            }
            LogicalPlan::Limit(limit) => self.limited(limit, domain)?,
            LogicalPlan::Join(join) => self.joined(join, domain)?,
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.into_iter().map(|branch| {
                    let schema = Arc::clone(branch.schema());
                    Ok(Arc::new(arranged(input(branch)?, &schema, domain)?))
                });
                let union = LogicalPlan::Union(Union::try_new_with_loose_types(inputs.collect::<Result<Vec<_>>>()?)?);
                let columns = union.schema().columns().into_iter().zip(schema.iter());
                let columns = columns
                    .map(|(column, (table, field))| Expr::Column(column).alias_qualified(table.cloned(), field.name()));
                let columns = columns.chain(domain.exprs()).collect::<Vec<_>>();
                LogicalPlanBuilder::from(union).project(columns)?.build()?
            }
            LogicalPlan::Unnest(unnest) => LogicalPlan::Unnest(Unnest::try_new(
                Arc::new(input(unnest.input)?),
                unnest.exec_columns,
                unnest.options,
            )?),
            LogicalPlan::Values(_) => return Err(refused("`VALUES`")),
            LogicalPlan::RecursiveQuery(_) => return Err(refused("`WITH RECURSIVE`")),
            LogicalPlan::Extension(extension) => return Err(refused(&format!("`{}`", extension.node.name()))),
            other => return Err(refused(&format!("`{}`", other.display()))),
        };
        arranged(plan, &schema, domain)
    }

    fn names_outer(&self, plan: &LogicalPlan, domain: &Domain) -> Result<bool> {
        let fields = domain.plan.schema().fields().iter().zip(&domain.outer);
        let fields = fields.map(|(field, column)| {
            (column.relation.clone(), Arc::clone(field).as_ref().clone().with_name(&column.name).into())
        });
        let outer = DFSchema::new_with_metadata(fields.collect(), HashMap::new())?;
        refers_to(plan, &outer)
    }

    /// Without keys, an aggregation has a row even for values of the domain for which its input has none.
    fn aggregate(&self, aggregate: Aggregate, domain: &Domain) -> Result<LogicalPlan> {
        let bindings = domain.bindings();
        let names = NamePreserver::new_for_projection();
        let input_schema = Arc::clone(aggregate.input.schema());
        let mut input = self.pushed(aggregate.input.as_ref().clone(), domain)?;
        let mut counted = None;
        if aggregate.group_expr.is_empty() {
            let (every, present) = (self.again(domain)?, self.name("present"));
            let columns = input_schema.columns().into_iter().map(Expr::Column).chain(domain.exprs());
            let right = LogicalPlanBuilder::from(input).project(columns.chain([lit(true).alias(&present)]))?.build()?;
            let both = every.plan.schema().join(right.schema())?;
            let condition = conjunction(same(&every.columns, &domain.columns, &both)?);
            let joined = LogicalPlanBuilder::from(every.plan).join_on(right, JoinType::Left, condition)?.build()?;
            let present = Column::new_unqualified(present);
            let columns = input_schema.columns().into_iter().map(Expr::Column);
            let keys = every.columns.into_iter().zip(&domain.columns);
            let keys = keys.map(|(every, column)| Expr::Column(every).alias(&column.name));
            let columns = columns.chain(keys).chain([Expr::Column(present.clone())]).collect::<Vec<_>>();
            input = LogicalPlanBuilder::from(joined).project(columns)?.build()?;
            counted = Some(Expr::Column(present).is_not_null());
        }
        if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            return Err(refused("`ROLLUP`, `CUBE` or `GROUPING SETS`"));
        }
        let keys = aggregate.group_expr.into_iter().map(|key| {
            let name = names.save(&key);
            Ok(name.restore(bound(key, &bindings)?))
        });
        let keys = keys.collect::<Result<Vec<_>>>()?.into_iter().chain(domain.exprs()).collect::<Vec<_>>();
        let aggregates = aggregate.aggr_expr.into_iter().map(|expr| {
            let name = names.save(&expr);
            let expr = bound(expr, &bindings)?;
            Ok(name.restore(match &counted {
                Some(counted) => only_of(expr, counted)?,
                None => expr,
            }))
        });
        let aggregates = aggregates.collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlanBuilder::from(input).aggregate(keys, aggregates)?.build()?)
    }

    /// The first rows for each value of the domain.
    fn limited(&self, limit: Limit, domain: &Domain) -> Result<LogicalPlan> {
        let Limit { skip, fetch, input } = limit;
        // Such an operator gives a row for each of its input.
        let below = |input: &Arc<LogicalPlan>| {
            Arc::new(LogicalPlan::Limit(Limit { skip: skip.clone(), fetch: fetch.clone(), input: Arc::clone(input) }))
        };
        match input.as_ref() {
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
                let inner = input.inputs().into_iter().cloned().map(Arc::new).next();
                let inner = inner.ok_or_else(|| Error::internal("a projection of nothing"))?;
                let (exprs, inner) = (input.expressions(), vec![Arc::unwrap_or_clone(below(&inner))]);
                return self.pushed(input.with_new_exprs(exprs, inner)?, domain);
            }
            _ => {}
        }
        let limit = Limit { skip: skip.clone(), fetch: fetch.clone(), input: Arc::clone(&input) };
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Err(refused("a `LIMIT` that is no constant"));
        };
        let (input, order, fetch) = match Arc::unwrap_or_clone(input) {
            LogicalPlan::Sort(sort) => {
                let fetch = [fetch, sort.fetch].into_iter().flatten().min();
                (sort.input, sort.expr, fetch)
            }
            other => (Arc::new(other), Vec::new(), fetch),
        };
        let schema = Arc::clone(input.schema());
        let bindings = domain.bindings();
        let order = order.into_iter().map(|key| Ok(SortExpr { expr: bound(key.expr, &bindings)?, ..key }));
        let order = order.collect::<Result<Vec<_>>>()?;
        let place = self.name("place");
        let numbered = row_number().partition_by(domain.exprs().collect());
        let numbered = if order.is_empty() { numbered } else { numbered.order_by(order) };
        let numbered = numbered.build()?.alias(&place);
        let place = Expr::Column(Column::new_unqualified(place));
        let mut wanted = place.clone().gt(lit(skip as u64));
        if let Some(fetch) = fetch {
            wanted = wanted.and(place.lt_eq(lit(skip.saturating_add(fetch) as u64)));
        }
        let input = self.pushed(Arc::unwrap_or_clone(input), domain)?;
        let plan = LogicalPlanBuilder::from(input).window([numbered])?.filter(wanted)?.build()?;
        arranged(plan, &schema, domain)
    }

    fn joined(&self, join: Join, domain: &Domain) -> Result<LogicalPlan> {
        use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        let sides = (self.names_outer(&join.left, domain)?, self.names_outer(&join.right, domain)?);
        // Which sides know the domain: the one that is kept whole must, and then the other one if it names it, too.
        let (left, right) = match (join.join_type, sides) {
            (Inner, (false, false) | (true, false)) => (true, false),
            (Inner, (false, true)) => (false, true),
            (Left | LeftSemi | LeftAnti | LeftMark, (_, right)) => (true, right),
            (Right | RightSemi | RightAnti | RightMark, (left, _)) => (left, true),
            (Inner, (true, true)) => (true, true),
            (Full, _) => return Err(refused("a `FULL JOIN`")),
        };
        let (of_left, of_right) = match (left, right) {
            (true, true) if matches!(join.join_type, Right | RightSemi | RightAnti | RightMark) => {
                (Some(self.again(domain)?), None)
            }
            (true, true) => (None, Some(self.again(domain)?)),
            _ => (None, None),
        };
        let push = |plan: &Arc<LogicalPlan>, known: bool, own: &Option<Domain>| -> Result<LogicalPlan> {
            match known {
                true => self.pushed(plan.as_ref().clone(), own.as_ref().unwrap_or(domain)),
                false => Ok(plan.as_ref().clone()),
            }
        };
        let (left, right) = (push(&join.left, left, &of_left)?, push(&join.right, right, &of_right)?);
        let bindings = domain.bindings();
        let mut conditions =
            join.filter.into_iter().map(|filter| bound(filter, &bindings)).collect::<Result<Vec<_>>>()?;
        if let Some(other) = of_left.as_ref().or(of_right.as_ref()) {
            let both = left.schema().join(right.schema())?;
            conditions.extend(same(&domain.columns, &other.columns, &both)?);
        }
        let on = join.on.into_iter().map(|(l, r)| Ok((bound(l, &bindings)?, bound(r, &bindings)?)));
        Ok(LogicalPlan::Join(Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on.collect::<Result<Vec<_>>>()?,
            conjunction(conditions),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?))
    }
}

/// The window function within each value of the domain.
fn within(expr: Expr, domain: &Domain) -> Result<Expr> {
    let partitioned = expr.transform_up(|part| match part {
        Expr::WindowFunction(mut function) => {
            function.params.partition_by.extend(domain.exprs());
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(partitioned.data)
}

/// The aggregate of the rows that meet a condition.
fn only_of(expr: Expr, condition: &Expr) -> Result<Expr> {
    let filtered = expr.transform_up(|part| match part {
        Expr::AggregateFunction(mut function) => {
            let filter = match function.params.filter.take() {
                Some(filter) => filter.and(condition.clone()),
                None => condition.clone(),
            };
            function.params.filter = Some(Box::new(filter));
            Ok(Transformed::yes(Expr::AggregateFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(filtered.data)
}
