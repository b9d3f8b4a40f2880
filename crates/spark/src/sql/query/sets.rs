//! `EXCEPT` and `INTERSECT`, whose sides meet at common types.

use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{Expr, SetExpr, SetOperator};

use super::block::{named, query_of, select};
use super::plan::{Ctes, Planner};
use super::repeated::{shown, unique};
use super::scope::{Scope, ident};
use crate::cast::{CastMode, spark_cast};
use crate::coercion::types::widest;
use crate::error::{Error, Result};
use crate::multiset::matched;
use crate::session::conf_of;
use crate::types::sql_type_name;

impl Planner<'_> {
    /// The operation as a select from its result, and the names of that.
    pub(super) fn compared(
        &self,
        (op, all): (SetOperator, bool),
        (left, right): (&SetExpr, &SetExpr),
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<(SetExpr, Vec<String>)> {
        let side = |body: &SetExpr| unique(self.plan_query(query_of(body.clone()), ctes, outer)?);
        let (left, right) = self.in_common_types(op, side(left)?, side(right)?)?;
        let plan = match (op, all) {
            (SetOperator::Intersect, true) => {
                matched(left, right, JoinType::LeftSemi, &|prefix| self.alias(&format!("__{prefix}")))?
            }
            (SetOperator::Intersect, false) => LogicalPlanBuilder::intersect(left, right, false)?,
            (_, true) => matched(left, right, JoinType::LeftAnti, &|prefix| self.alias(&format!("__{prefix}")))?,
            (_, false) => LogicalPlanBuilder::except(left, right, false)?,
        };
        let columns: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        let alias = self.alias("__set");
        let item = |name: &String| named(Expr::CompoundIdentifier(vec![ident(&alias), ident(name)]), ident(name));
        let items = columns.iter().map(item).collect();
        let body = select(items, self.factor_of(plan, &alias), None, Vec::new()).body;
        Ok((*body, columns.iter().map(|name| shown(name).to_owned()).collect()))
    }

    fn in_common_types(
        &self,
        op: SetOperator,
        left: LogicalPlan,
        right: LogicalPlan,
    ) -> Result<(LogicalPlan, LogicalPlan)> {
        let (of_left, of_right) = (left.schema().fields().clone(), right.schema().fields().clone());
        if of_left.len() != of_right.len() {
            return Err(Error::user(format!("{op} of {} and {} columns", of_left.len(), of_right.len()))
                .with_condition("NUM_COLUMNS_MISMATCH"));
        }
        let conf = conf_of(self.provider.state());
        let types = of_left.iter().zip(&of_right).enumerate().map(|(i, (left, right))| {
            let common = widest(&[left.data_type().clone(), right.data_type().clone()], conf.ansi);
            common.ok_or_else(|| {
                let (left, right) = (sql_type_name(left.data_type()), sql_type_name(right.data_type()));
                Error::user(format!("{op}: column {} has the types {left} and {right}", i + 1))
                    .with_condition("INCOMPATIBLE_COLUMN_TYPE")
                    .with_help("Cast the columns to one type.")
            })
        });
        let types = types.collect::<Result<Vec<_>>>()?;
        let cast = |plan: LogicalPlan| -> Result<LogicalPlan> {
            let columns = plan.schema().columns().into_iter().zip(plan.schema().fields()).zip(&types);
            let exprs = columns.map(|((column, field), to)| {
                let name = column.name.clone();
                let column = PlanExpr::Column(column);
                let from = field.data_type();
                let value =
                    if from == to { column } else { spark_cast(column, from, to, CastMode::of(conf.ansi), &conf)? };
                Ok(value.alias(name))
            });
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
        };
        Ok((cast(left)?, cast(right)?))
    }
}
