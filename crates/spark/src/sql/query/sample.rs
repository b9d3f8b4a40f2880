//! `TABLESAMPLE`: so many rows, or each with a probability.

use datafusion::common::Column;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, lit};
use sqlparser::ast::{
    Expr, ObjectName, TableFactor, TableSample, TableSampleKind, TableSampleUnit, UnaryOperator, Value,
};

use super::plan::Planner;
use super::scope::ident;
use crate::error::{Error, Result};

/// Takes the sample off a relation.
pub(super) fn sample_of(factor: &mut TableFactor) -> Option<TableSample> {
    let (TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. }) = factor else { return None };
    match sample.take()? {
        TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample) => Some(*sample),
    }
}

impl Planner<'_> {
    /// Puts a sample in the place of an internal table.
    pub(super) fn sampled(&self, factor: &mut TableFactor, sample: &TableSample) -> Result<()> {
        let TableFactor::Table { name, .. } = factor else { return Err(unsupported(sample)) };
        let table = name.0.last().and_then(|part| part.as_ident());
        let plan = table.and_then(|table| self.plan_of(&table.value));
        let plan = self.sample(plan.ok_or_else(|| unsupported(sample))?, sample)?;
        *name = ObjectName::from(vec![ident(&self.add(plan))]);
        Ok(())
    }

    fn sample(&self, plan: LogicalPlan, sample: &TableSample) -> Result<LogicalPlan> {
        if sample.name.is_some() || sample.offset.is_some() {
            return Err(unsupported(sample));
        }
        let fraction = match (&sample.quantity, &sample.bucket) {
            (Some(quantity), None) => match (&quantity.unit, number(&quantity.value)) {
                (Some(TableSampleUnit::Rows), Some(rows)) if rows >= 0.0 && rows.fract() == 0.0 => {
                    return Ok(LogicalPlanBuilder::from(plan).limit(0, Some(rows as usize))?.build()?);
                }
                (Some(TableSampleUnit::Percent), Some(percent)) => percent / 100.0,
                _ => return Err(unsupported(sample)),
            },
            (None, Some(bucket)) if bucket.on.is_none() => match (value(&bucket.bucket), value(&bucket.total)) {
                (Some(bucket), Some(total)) if total > 0.0 => bucket / total,
                _ => return Err(unsupported(sample)),
            },
            _ => return Err(unsupported(sample)),
        };
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::user(format!(
                "`{sample}` takes {} of the rows, which is not between 0 and 1",
                fraction
            ))
            .with_condition("INVALID_SAMPLE_FRACTION"));
        }
        let seed = match &sample.seed {
            Some(seed) => Some(value(&seed.value).ok_or_else(|| unsupported(sample))? as i64),
            None => None,
        };
        let random = self.alias("__sample");
        let columns = plan.schema().columns().into_iter().map(PlanExpr::Column).collect::<Vec<_>>();
        let with_random = columns.iter().cloned().chain([self.random(seed)?.alias(&random)]);
        let taken = PlanExpr::Column(Column::new_unqualified(random)).lt(lit(fraction));
        Ok(LogicalPlanBuilder::from(plan).project(with_random)?.filter(taken)?.project(columns)?.build()?)
    }

    /// A number from 0 up to, not including, 1 for each row.
    fn random(&self, seed: Option<i64>) -> Result<PlanExpr> {
        let name = if seed.is_some() { "rand" } else { "random" };
        let func = self.provider.get_function_meta(name).ok_or_else(|| self.unknown_function(name))?;
        Ok(PlanExpr::ScalarFunction(ScalarFunction { func, args: seed.into_iter().map(lit).collect() }))
    }
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(literal) => value(&literal.value),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => number(expr).map(|number| -number),
        _ => None,
    }
}

fn value(value: &Value) -> Option<f64> {
    match value {
        Value::Number(digits, _) => digits.parse().ok(),
        _ => None,
    }
}

fn unsupported(sample: &TableSample) -> Error {
    Error::unsupported(format!("`{sample}`")).with_help(
        "Write TABLESAMPLE (n PERCENT), (n ROWS) or (BUCKET x OUT OF y), with REPEATABLE (seed) if you like.",
    )
}
