//! Joins that keep the nearest partners of each row: as-of joins and joins by rank.

use datafusion::common::{Column, JoinType};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder, Operator, lit, when};

use super::context::Planner;
use super::expression::{Expressions, required};
use super::faces;
use super::proto;
use super::relation_join::join_plan;
use super::scope::{Output, Scope};
use crate::error::{Error, Result};

/// Which partners of a row are kept.
struct Nearest {
    /// Partners must fulfil it.
    condition: Option<Expr>,
    /// How near a partner is.
    rank: Expr,
    /// Whether a small rank is near.
    ascending: bool,
    /// How many are kept.
    count: i64,
    /// Whether rows without a partner are kept.
    outer: bool,
}

impl Planner<'_> {
    /// `_joinAsOf`: each row with the one partner whose time is nearest on the side that is asked for.
    pub(super) async fn as_of_join(&self, join: &proto::AsOfJoin) -> Result<Scope> {
        let (left, right, both) = self.two_sides(&join.left, &join.right).await?;
        let left_time = Expressions::new(self, &left).plan(required(join.left_as_of.as_ref())?)?.unalias();
        let right_time = Expressions::new(self, &right).plan(required(join.right_as_of.as_ref())?)?.unalias();
        let expressions = Expressions::new(self, &both);
        let op = |a: &Expr, op, b: &Expr| expressions.binary(a.clone(), op, b.clone());
        let exact = join.allow_exact_matches;
        let (or_equal, strict) = match join.direction.as_str() {
            "backward" => (Operator::GtEq, Operator::Gt),
            "forward" => (Operator::LtEq, Operator::Lt),
            "nearest" => (Operator::GtEq, Operator::NotEq),
            other => return Err(Error::user(format!("an as-of join has no direction `{other}`"))),
        };
        let mut conditions = Vec::new();
        match join.direction.as_str() {
            "nearest" if exact => {}
            _ => conditions.push(op(&left_time, if exact { or_equal } else { strict }, &right_time)?),
        }
        let (ahead, behind) =
            (op(&left_time, Operator::Minus, &right_time)?, op(&right_time, Operator::Minus, &left_time)?);
        let distance = match join.direction.as_str() {
            "backward" => ahead,
            "forward" => behind,
            _ => when(op(&left_time, Operator::Gt, &right_time)?, ahead).otherwise(behind)?,
        };
        if let Some(tolerance) = &join.tolerance {
            let tolerance = expressions.plan(tolerance)?.unalias();
            let within = if exact { Operator::LtEq } else { Operator::Lt };
            conditions.push(expressions.binary(distance.clone(), within, tolerance)?);
        }
        for name in &join.using_columns {
            let name = std::slice::from_ref(name);
            let (l, _) = left.resolve(name, None, self.conf.case_sensitive)?;
            let (r, _) = right.resolve(name, None, self.conf.case_sensitive)?;
            conditions.push(op(&l.expr(), Operator::Eq, &r.expr())?);
        }
        if let Some(condition) = &join.join_expr {
            conditions.push(expressions.condition(condition)?);
        }
        let condition = conditions.into_iter().reduce(Expr::and);
        let outer = is_outer(&join.join_type)?;
        self.nearest(left, right, Nearest { condition, rank: distance, ascending: true, count: 1, outer })
    }

    /// `nearestByJoin`: each row with the so many partners that rank best.
    pub(super) async fn nearest_by_join(&self, join: &proto::NearestByJoin) -> Result<Scope> {
        let (left, right, both) = self.two_sides(&join.left, &join.right).await?;
        let rank = Expressions::new(self, &both).plan(required(join.ranking_expression.as_ref())?)?.unalias();
        let ascending = match join.direction.to_ascii_lowercase().as_str() {
            "distance" => true,
            "similarity" => false,
            other => return Err(Error::user(format!("a nearest-by join has no direction `{other}`"))),
        };
        let (count, outer) = (i64::from(join.num_results), is_outer(&join.join_type)?);
        self.nearest(left, right, Nearest { condition: None, rank, ascending, count, outer })
    }

    /// Both sides, and what an expression over both can refer to.
    async fn two_sides(
        &self,
        left: &Option<Box<proto::Relation>>,
        right: &Option<Box<proto::Relation>>,
    ) -> Result<(Scope, Scope, Scope)> {
        let left = self.input(left).await?;
        let right = self.input(right).await?.disjoint_from(&left, &self.names)?;
        let columns = left.columns.iter().chain(&right.columns).cloned().collect();
        let plan = LogicalPlanBuilder::from(left.plan.clone()).cross_join(right.plan.clone())?.build()?;
        Ok((left, right, Scope { plan, columns }))
    }

    /// Rows of the left side are numbered; their partners are ranked within a number.
    fn nearest(&self, left: Scope, right: Scope, nearest: Nearest) -> Result<Scope> {
        let (row, rank) = (self.names.unique("row"), self.names.unique("rank"));
        let outputs = left.columns.iter().map(|column| (Output::passed(column), column.hidden));
        let outputs = outputs.chain([(Output::computed(row_number(), row.as_str()), true)]).collect();
        let left = left.project_exactly(outputs, &self.names)?;
        let kind = if nearest.outer { JoinType::Left } else { JoinType::Inner };
        let plan = join_plan(&left, &right, kind, nearest.condition)?;
        let joined = Scope { plan, columns: left.columns.iter().chain(&right.columns).cloned().collect() };
        // A column of its own: an order by an expression is lost between a window and its sort.
        let near = self.names.unique("near");
        let outputs = joined.columns.iter().map(|column| (Output::passed(column), column.hidden));
        let outputs = outputs.chain([(Output::computed(nearest.rank, near.as_str()), true)]).collect();
        let joined = joined.project_exactly(outputs, &self.names)?;
        let order = vec![Expr::Column(Column::new_unqualified(near.as_str())).sort(nearest.ascending, false)];
        let place = row_number()
            .partition_by(vec![Expr::Column(Column::new_unqualified(row.as_str()))])
            .order_by(order)
            .build()?;
        let outputs = joined.columns.iter().map(|column| (Output::passed(column), column.hidden));
        let outputs = outputs.chain([(Output::computed(place, rank.as_str()), true)]).collect();
        let ranked = joined.project_exactly(outputs, &self.names)?;
        let place =
            faces::plain_cast(Expr::Column(Column::new_unqualified(rank.as_str())), &arrow::datatypes::DataType::Int64);
        let plan = LogicalPlanBuilder::from(ranked.plan.clone()).filter(place.lt_eq(lit(nearest.count)))?.build()?;
        let ranked = ranked.with_plan(plan);
        let kept = ranked.columns.iter().filter(|column| ![&row, &near, &rank].contains(&&column.column.name));
        let outputs = kept.map(|column| (Output::passed(column), column.hidden)).collect();
        ranked.project_exactly(outputs, &self.names)
    }
}

fn is_outer(join_type: &str) -> Result<bool> {
    match join_type.to_ascii_lowercase().replace('_', "").as_str() {
        "inner" => Ok(false),
        "left" | "leftouter" => Ok(true),
        other => Err(Error::user(format!("`{other}` is no kind of a join with the nearest rows"))
            .with_help("Use 'inner' or 'left'.")),
    }
}
