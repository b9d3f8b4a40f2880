//! `fillna`, `dropna` and `replace`.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Case, Expr, LogicalPlanBuilder, Operator, lit, when};

use super::context::Planner;
use super::expression::required;
use super::faces;
use super::literal;
use super::proto;
use super::scope::{Output, Scope, ScopeColumn};
use crate::error::{Error, Result};

impl Planner<'_> {
    /// Fills NULLs (and NaN) in the columns whose type fits the value.
    pub(super) async fn fill_na(&self, fill: &proto::NaFill) -> Result<Scope> {
        let scope = self.input(&fill.input).await?;
        let values = fill.values.iter().map(literal::scalar).collect::<Result<Vec<_>>>()?;
        if values.len() > 1 && values.len() != fill.cols.len() {
            return Err(Error::user(format!("`fillna` got {} values for {} columns", values.len(), fill.cols.len())));
        }
        self.check_columns(&scope, &fill.cols)?;
        let mut outputs = Vec::new();
        for column in scope.visible() {
            let position = fill.cols.iter().position(|name| self.same(name, &column.name));
            let value = match (values.as_slice(), position) {
                ([only], _) if fill.cols.is_empty() || position.is_some() => Some(only),
                ([_, _, ..], Some(position)) => values.get(position),
                _ => None,
            };
            let data_type = scope.data_type(column)?;
            outputs.push(match value {
                Some(value) if fits(value, &data_type) => {
                    let value = faces::cast(
                        lit(value.clone()),
                        &data_type,
                        faces::CastMode::Legacy,
                        scope.schema(),
                        &self.conf,
                    )?;
                    Output::computed(when(present(column, &data_type), column.expr()).otherwise(value)?, &column.name)
                }
                _ => Output::passed(column),
            });
        }
        scope.project(outputs, &self.names)
    }

    /// Keeps the rows with at least `min_non_nulls` values (all, if not given) in the columns.
    pub(super) async fn drop_na(&self, drop: &proto::NaDrop) -> Result<Scope> {
        let scope = self.input(&drop.input).await?;
        self.check_columns(&scope, &drop.cols)?;
        let columns: Vec<_> = scope
            .visible()
            .filter(|column| drop.cols.is_empty() || drop.cols.iter().any(|name| self.same(name, &column.name)))
            .collect();
        let mut presence = Vec::new();
        for column in &columns {
            presence.push(present(column, &scope.data_type(column)?));
        }
        let condition = match drop.min_non_nulls {
            None => presence.into_iter().reduce(Expr::and),
            Some(minimum) => {
                let mut count = lit(0_i64);
                for present in presence {
                    count = count + when(present, lit(1_i64)).otherwise(lit(0_i64))?;
                }
                Some(count.gt_eq(lit(i64::from(minimum))))
            }
        };
        let Some(condition) = condition else { return Ok(scope) };
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).filter(condition)?.build()?;
        Ok(scope.with_plan(plan))
    }

    /// Replaces values by others in the columns whose type fits.
    pub(super) async fn replace(&self, replace: &proto::NaReplace) -> Result<Scope> {
        let scope = self.input(&replace.input).await?;
        self.check_columns(&scope, &replace.cols)?;
        let mut pairs = Vec::new();
        for replacement in &replace.replacements {
            let old = literal::scalar(required(replacement.old_value.as_ref())?)?;
            let new = literal::scalar(required(replacement.new_value.as_ref())?)?;
            pairs.push((old, new));
        }
        let mut outputs = Vec::new();
        for column in scope.visible() {
            let chosen = replace.cols.is_empty() || replace.cols.iter().any(|name| self.same(name, &column.name));
            let data_type = scope.data_type(column)?;
            let fitting: Vec<_> =
                pairs.iter().filter(|(old, _)| chosen && (old.is_null() || fits(old, &data_type))).collect();
            outputs.push(if fitting.is_empty() {
                Output::passed(column)
            } else {
                Output::computed(self.replaced(&scope, column, &data_type, &fitting)?, &column.name)
            });
        }
        scope.project(outputs, &self.names)
    }

    fn replaced(
        &self,
        scope: &Scope,
        column: &ScopeColumn,
        data_type: &DataType,
        pairs: &[&(ScalarValue, ScalarValue)],
    ) -> Result<Expr> {
        let mut branches = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            let condition = if old.is_null() {
                column.expr().is_null()
            } else {
                faces::binary_op(column.expr(), Operator::Eq, lit(old.clone()), scope.schema(), &self.conf)?
            };
            let new = faces::cast(lit(new.clone()), data_type, faces::CastMode::Legacy, scope.schema(), &self.conf)?;
            branches.push((Box::new(condition), Box::new(new)));
        }
        Ok(Expr::Case(Case::new(None, branches, Some(Box::new(column.expr())))))
    }

    fn check_columns(&self, scope: &Scope, names: &[String]) -> Result<()> {
        for name in names {
            if !scope.visible().any(|column| self.same(&column.name, name)) {
                scope.resolve(std::slice::from_ref(name), None, self.conf.case_sensitive)?;
            }
        }
        Ok(())
    }
}

/// Whether a column has a value: neither NULL nor NaN.
fn present(column: &ScopeColumn, data_type: &DataType) -> Expr {
    let not_null = column.expr().is_not_null();
    match data_type {
        DataType::Float32 => not_null.and(column.expr().not_eq(lit(f32::NAN))),
        DataType::Float64 => not_null.and(column.expr().not_eq(lit(f64::NAN))),
        _ => not_null,
    }
}

/// Whether a value is meant for columns of a type: numbers for numbers, text for text, booleans for booleans.
fn fits(value: &ScalarValue, data_type: &DataType) -> bool {
    match value.data_type() {
        DataType::Boolean => *data_type == DataType::Boolean,
        DataType::Utf8 => matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
        numeric if numeric.is_numeric() => data_type.is_numeric(),
        other => other == *data_type,
    }
}
