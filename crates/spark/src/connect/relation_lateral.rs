//! `lateralJoin`: the right side may name columns of the left, with `col(..).outer()` or without.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, Subquery};

use super::context::Planner;
use super::expression::Expressions;
use super::proto;
use super::relation_join::{join_plan, join_type};
use super::scope::Scope;
use crate::error::{Error, Result};

impl Planner<'_> {
    pub(super) async fn lateral_join(&self, join: &proto::LateralJoin) -> Result<Scope> {
        let join_type = join_type(join.join_type())?;
        if !matches!(join_type, JoinType::Inner | JoinType::Left) {
            let join_type = join_type.to_string().to_lowercase();
            return Err(Error::user(format!("a lateral join cannot be a {join_type} join"))
                .with_condition("UNSUPPORTED_JOIN_TYPE")
                .with_help("Join `inner`, `left` or `cross`."));
        }
        // What the right side names of it must be told from the right side's own columns.
        let left = self.input(&join.left).await?.renamed_apart(&self.names)?;
        let around = Planner { outer: Some(Arc::new(left.clone())), ..self.clone() };
        let right = around.input(&join.right).await?.disjoint_from(&left, &self.names)?;
        let rows = LogicalPlan::Subquery(Subquery {
            outer_ref_columns: right.plan.all_out_ref_exprs(),
            subquery: Arc::new(right.plan),
            spans: Default::default(),
        });
        let right = Scope { plan: rows, columns: right.columns };
        let columns = left.columns.iter().chain(&right.columns).cloned().collect();
        let both = LogicalPlanBuilder::from(left.plan.clone()).cross_join(right.plan.clone())?.build()?;
        let both = Scope { plan: both, columns };
        let condition = match &join.join_condition {
            Some(condition) => Some(Expressions::new(self, &both).condition(condition)?),
            None => None,
        };
        let plan = join_plan(&left, &right, join_type, condition)?;
        Ok(Scope { plan, columns: both.columns })
    }
}
