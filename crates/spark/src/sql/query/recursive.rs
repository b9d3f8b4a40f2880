//! `WITH RECURSIVE`: a table that names itself, over the rows that it gave the time before.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{Cte, Query, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, Visit, Visitor};

use super::plan::{Ctes, Planner, renamed};
use super::scope::Scope;
use crate::cast::{CastMode, spark_cast};
use crate::coercion::types::widest;
use crate::error::{Error, Result};
use crate::recursion::{Limit, limited};
use crate::session::conf_of;
use crate::sql::spellings::LEVELS;
use crate::types::sql_type_name;

/// What `MAX RECURSION LEVEL` says, which stands as a column of the table's list.
pub(super) fn levels_of(cte: &mut Cte) -> Option<i64> {
    let levels = cte.alias.columns.last()?.name.value.strip_prefix(LEVELS)?.parse().ok()?;
    cte.alias.columns.pop();
    Some(levels)
}

impl Planner<'_> {
    /// The plan of a table that may name itself, with its columns.
    pub(super) fn recursive(
        &self,
        cte: &Cte,
        columns: &[String],
        levels: Option<i64>,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<LogicalPlan> {
        let (name, query) = (&cte.alias.name.value, cte.query.as_ref());
        if !names(query, name) {
            return renamed(self.plan_query(query.clone(), ctes, outer)?, columns);
        }
        let place = self.place(cte.alias.name.span.start);
        let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = query.body.as_ref() else {
            return Err(invalid(name).at(place));
        };
        if query.order_by.is_some() || query.limit_clause.is_some() || names(left.as_ref(), name) {
            return Err(invalid(name).at(place));
        }
        if *set_quantifier != SetQuantifier::All {
            return Err(Error::user(format!("`UNION` in the recursive table `{name}`"))
                .with_condition("UNION_NOT_SUPPORTED_IN_RECURSIVE_CTE")
                .with_help("Write UNION ALL.")
                .at(self.place(query.span().start)));
        }
        let part = |body: &SetExpr| Query { body: Box::new(body.clone()), ..query.clone() };
        let anchor = renamed(self.plan_query(part(left), ctes, outer)?, columns)?;

        let table = self.alias("__recursive");
        let fields = anchor.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let work = provider_as_source(Arc::new(CteWorkTable::new(&table, Arc::clone(&schema))));
        let mut inner = ctes.clone();
        let work = LogicalPlanBuilder::scan(table.as_str(), work, None)?.build()?;
        inner.insert(name.to_lowercase(), self.add(work));
        let again = self.plan_query(part(right), &inner, outer)?;
        let again = self.in_types(again, &schema, name).map_err(|error| error.at(self.place(right.span().start)))?;

        let conf = conf_of(self.provider.state());
        let setting =
            |key: &str, default: i64| conf.all.get(key).and_then(|value| value.parse().ok()).unwrap_or(default);
        let most = |limit: i64, limit_of: fn(u64) -> Limit| u64::try_from(limit).ok().map(limit_of);
        let levels = levels.unwrap_or_else(|| setting("spark.sql.cteRecursionLevelLimit", 100));
        let again = match most(levels, Limit::Levels) {
            Some(limit) => limited(again, limit),
            None => again,
        };
        let plan = LogicalPlanBuilder::from(anchor).to_recursive_query(table, again, false)?.build()?;
        Ok(match most(setting("spark.sql.cteRecursionRowLimit", 1_000_000), Limit::Rows) {
            Some(limit) => limited(plan, limit),
            None => plan,
        })
    }

    /// The rows of the recursive part in the types and under the names of the first part.
    fn in_types(&self, plan: LogicalPlan, schema: &Schema, name: &str) -> Result<LogicalPlan> {
        if plan.schema().fields().len() != schema.fields().len() {
            return Err(Error::user(format!(
                "the parts of the recursive table `{name}` have {} and {} columns",
                schema.fields().len(),
                plan.schema().fields().len()
            ))
            .with_condition("NUM_COLUMNS_MISMATCH"));
        }
        let conf = conf_of(self.provider.state());
        let columns = plan.schema().columns().into_iter().zip(plan.schema().fields().iter().zip(schema.fields()));
        let exprs = columns.map(|(column, (from, to))| {
            let (from, to_type) = (from.data_type(), to.data_type());
            if widest(&[to_type.clone(), from.clone()], conf.ansi).as_ref() != Some(to_type) {
                return Err(Error::user(format!(
                    "column `{}` of the recursive table `{name}` is {} first, and {} in the recursion",
                    to.name(),
                    sql_type_name(to_type),
                    sql_type_name(from)
                ))
                .with_condition("INCOMPATIBLE_COLUMN_TYPE")
                .with_help("Cast the first part to the wider type."));
            }
            let column = PlanExpr::Column(column);
            let cast = if from == to_type {
                column
            } else {
                spark_cast(column, from, to_type, CastMode::of(conf.ansi), &conf)?
            };
            Ok(cast.alias(to.name()))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }
}

fn invalid(name: &str) -> Error {
    Error::user(format!("the recursive table `{name}` is not a first part UNION ALL one that names it"))
        .with_condition("INVALID_RECURSIVE_CTE")
        .with_help(
            "Write `SELECT … UNION ALL SELECT … FROM it`, without ORDER BY or LIMIT; the first part must not name it.",
        )
}

/// Whether a query reads the table `name`.
fn names(query: &impl Visit, name: &str) -> bool {
    struct Names<'a>(&'a str);
    impl Visitor for Names<'_> {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: None, .. }
                    if name.0.len() == 1
                        && name.0[0].as_ident().is_some_and(|name| name.value.eq_ignore_ascii_case(self.0)) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    query.visit(&mut Names(name)).is_break()
}
