//! Lateral joins: a subquery in `FROM` that names columns of what stands before it.

use std::sync::Arc;

use datafusion::common::{JoinType, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, lit};

use super::correlation::outer_columns;
use super::existence::{Matches, Wanted, candidates};
use super::{Resolver, Rows, only};
use crate::error::{Error, Result};

/// Whether the right side of a join may name columns of the left.
pub(super) fn is_lateral(join: &Join) -> bool {
    lateral_of(&join.right).is_some()
}

fn lateral_of(plan: &LogicalPlan) -> Option<(&LogicalPlan, Option<&TableReference>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((&subquery.subquery, None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((&subquery.subquery, Some(&alias.alias))),
            _ => None,
        },
        _ => None,
    }
}

impl Resolver<'_> {
    /// The join with rows of the subquery for all rows of the left side.
    pub(super) fn lateral(&self, join: Join) -> Result<LogicalPlan> {
        let Some((plan, alias)) = lateral_of(&join.right) else { return Ok(LogicalPlan::Join(join)) };
        let plan = match alias {
            Some(alias) => LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan.clone()), alias.clone())?),
            None => plan.clone(),
        };
        if outer_columns(&plan, join.left.schema())?.is_empty() {
            return Ok(LogicalPlan::Join(Join { right: Arc::new(plan), ..join }));
        }
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return Err(Error::unsupported(format!("`{} JOIN LATERAL`", join.join_type.to_string().to_uppercase()))
                .with_condition("UNSUPPORTED_FEATURE.LATERAL_JOIN_USING")
                .with_help("Use an INNER, LEFT or CROSS JOIN LATERAL."));
        }
        let schema = Arc::clone(&join.schema);
        let rows = Rows::new(&join.left);
        let fits = join.on.into_iter().map(|(left, right)| left.eq(right)).chain(join.filter);
        let fits = conjunction(fits);
        if join.join_type == JoinType::Inner && candidates(&plan, join.left.schema(), Wanted::All)?.is_some() {
            let Matches { right, condition, values } = self.matches(&plan, &rows, Wanted::All)?;
            let joined = LogicalPlanBuilder::from(rows.plan).join_on(right, JoinType::Inner, condition)?;
            let left = join.left.schema().columns().into_iter().map(Expr::Column);
            let values = values.into_iter().zip(plan.schema().iter());
            let values = values.map(|(value, (table, field))| value.alias_qualified(table.cloned(), field.name()));
            let joined = joined.project(left.chain(values).collect::<Vec<_>>())?;
            return Ok(match fits {
                Some(fits) => joined.filter(fits)?.build()?,
                None => joined.build()?,
            });
        }
        let (right, condition) = self.rows_for_all(&plan, &rows)?;
        let condition = conjunction(condition.into_iter().chain(fits)).unwrap_or_else(|| lit(true));
        let joined = LogicalPlanBuilder::from(rows.plan).join_on(right, join.join_type, Some(condition))?.build()?;
        only(joined, &schema)
    }

    /// The subquery's own columns with those that tell for which rows they are, and the condition that does.
    fn rows_for_all(&self, plan: &LogicalPlan, rows: &Rows) -> Result<(LogicalPlan, Vec<Expr>)> {
        let all = self.for_all(plan, rows)?;
        let beside = |expr: Expr| super::correlation::beside(expr, rows.original.schema());
        let conditions = all.conditions.into_iter().map(beside).collect::<Result<Vec<_>>>()?;
        Ok((all.source, conditions))
    }
}
