//! Joins and set operations: relations with two inputs.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{JoinType, ScalarValue};
use datafusion::logical_expr::utils::{find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Union, lit, when,
};

use super::context::Planner;
use super::expression::Expressions;
use super::faces;
use super::proto::{self, join, set_operation::SetOpType};
use super::scope::{Output, Scope, ScopeColumn};
use crate::error::{Error, Result};
use crate::multiset::matched;

impl Planner<'_> {
    pub(super) async fn join(&self, join: &proto::Join) -> Result<Scope> {
        if join.join_data_type.is_some() {
            return Err(Error::unsupported("a join of typed datasets"));
        }
        let left = self.input(&join.left).await?;
        let right = self.input(&join.right).await?.disjoint_from(&left, &self.names)?;
        let join_type = join_type(join.join_type())?;
        if !join.using_columns.is_empty() {
            return self.join_using(left, right, join_type, &join.using_columns);
        }
        let mut columns = left.columns.clone();
        columns.extend(right.columns.iter().cloned());
        let both = Scope {
            plan: LogicalPlanBuilder::from(left.plan.clone()).cross_join(right.plan.clone())?.build()?,
            columns,
        };
        let condition = match &join.join_condition {
            Some(condition) => Some(Expressions::new(self, &both).condition(condition)?),
            None => None,
        };
        let plan = join_plan(&left, &right, join_type, condition)?;
        let columns = match join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            _ => both.columns,
        };
        Ok(Scope { plan, columns })
    }

    /// A join on columns that both sides have: they come once, first, and then all others.
    fn join_using(&self, left: Scope, right: Scope, join_type: JoinType, names: &[String]) -> Result<Scope> {
        let find = |scope: &Scope, name: &String| -> Result<ScopeColumn> {
            let found = scope.visible().filter(|column| self.same(&column.name, name)).cloned().collect::<Vec<_>>();
            match <[ScopeColumn; 1]>::try_from(found) {
                Ok([column]) => Ok(column),
                Err(_) => scope
                    .resolve(std::slice::from_ref(name), None, self.conf.case_sensitive)
                    .map(|(column, _)| column.clone()),
            }
        };
        let mut keys = Vec::with_capacity(names.len());
        for name in names {
            keys.push((find(&left, name)?, find(&right, name)?));
        }
        let merged = left.schema().join(right.schema())?;
        let condition = keys
            .iter()
            .map(|(l, r)| faces::binary_op(l.expr(), Operator::Eq, r.expr(), &merged, &self.conf))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .reduce(Expr::and);
        let plan = join_plan(&left, &right, join_type, condition)?;
        if matches!(join_type, JoinType::LeftSemi | JoinType::LeftAnti) {
            let mut outputs: Vec<_> = keys.iter().map(|(l, _)| (Output::passed(l), false)).collect();
            let others = left.columns.iter().filter(|column| keys.iter().all(|(l, _)| l.column != column.column));
            outputs.extend(others.map(|column| (Output::passed(column), column.hidden)));
            return Scope { plan, columns: left.columns.clone() }.project_exactly(outputs, &self.names);
        }
        let is_key =
            |column: &ScopeColumn| keys.iter().any(|(l, r)| l.column == column.column || r.column == column.column);
        let mut outputs = Vec::new();
        for (l, r) in &keys {
            outputs.push((key_output(l, r, join_type)?, false));
        }
        let others = left.columns.iter().chain(&right.columns).filter(|column| !is_key(column));
        outputs.extend(others.map(|column| (Output::passed(column), column.hidden)));
        if matches!(join_type, JoinType::Full) {
            outputs.extend(keys.iter().map(|(l, _)| (Output::passed(l), true)));
        }
        if matches!(join_type, JoinType::Left | JoinType::Inner | JoinType::Full) {
            outputs.extend(keys.iter().map(|(_, r)| (Output::passed(r), true)));
        } else {
            outputs.extend(keys.iter().map(|(l, _)| (Output::passed(l), true)));
        }
        let columns = left.columns.iter().chain(&right.columns).cloned().collect();
        Scope { plan, columns }.project_exactly(outputs, &self.names)
    }

    pub(super) async fn set_operation(&self, set: &proto::SetOperation) -> Result<Scope> {
        let left = self.input(&set.left_input).await?;
        let right = self.input(&set.right_input).await?;
        let (left, right) =
            if set.by_name() { self.aligned_by_name(left, right, set.allow_missing_columns())? } else { (left, right) };
        let (left, right) = self.same_types(left, right)?;
        let columns = left.columns;
        let builder = LogicalPlanBuilder::from(left.plan);
        let plan = match set.set_op_type() {
            SetOpType::Union => {
                let inputs = vec![Arc::new(builder.build()?), Arc::new(right.plan)];
                let union = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
                if set.is_all() { union } else { LogicalPlanBuilder::from(union).distinct()?.build()? }
            }
            SetOpType::Intersect if set.is_all() => {
                matched(builder.build()?, right.plan, JoinType::LeftSemi, &|p| self.names.unique(p))?
            }
            SetOpType::Except if set.is_all() => {
                matched(builder.build()?, right.plan, JoinType::LeftAnti, &|p| self.names.unique(p))?
            }
            SetOpType::Intersect => LogicalPlanBuilder::intersect(builder.build()?, right.plan, false)?,
            SetOpType::Except => LogicalPlanBuilder::except(builder.build()?, right.plan, false)?,
            SetOpType::Unspecified => return Err(Error::internal("a set operation without a type")),
        };
        let columns = plan
            .schema()
            .columns()
            .into_iter()
            .zip(columns)
            .map(|(column, old)| ScopeColumn { column, ..old })
            .collect();
        Ok(Scope { plan, columns })
    }

    /// Both sides with the left side's columns, then the right side's own, each found by name.
    fn aligned_by_name(&self, left: Scope, right: Scope, allow_missing: bool) -> Result<(Scope, Scope)> {
        let missing = |name: &str| {
            Error::user(format!("column `{name}` exists on one side of the union only"))
                .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
                .with_help("Use unionByName with allowMissingColumns=True to fill it with NULL.")
        };
        let own: Vec<_> = right
            .visible()
            .filter(|column| !left.visible().any(|other| self.same(&other.name, &column.name)))
            .cloned()
            .collect();
        if let (Some(column), false) = (own.first(), allow_missing) {
            return Err(missing(&column.name));
        }
        let null = |data_type: DataType| -> Result<Expr> { Ok(lit(ScalarValue::try_from(&data_type)?)) };
        let mut left_outputs: Vec<_> = left.visible().map(Output::passed).collect();
        for column in &own {
            left_outputs.push(Output::computed(null(right.data_type(column)?)?, &column.name));
        }
        let mut right_outputs = Vec::new();
        for column in left.visible() {
            right_outputs.push(match right.visible().find(|other| self.same(&other.name, &column.name)) {
                Some(found) => Output::passed(found),
                None if allow_missing => Output::computed(null(left.data_type(column)?)?, &column.name),
                None => return Err(missing(&column.name)),
            });
        }
        right_outputs.extend(own.iter().map(Output::passed));
        Ok((left.project(left_outputs, &self.names)?, right.project(right_outputs, &self.names)?))
    }

    /// Both sides cast to common types, column by column, under the left side's names.
    fn same_types(&self, left: Scope, right: Scope) -> Result<(Scope, Scope)> {
        let pairs: Vec<_> = left.visible().cloned().zip(right.visible().cloned()).collect();
        let (wide, narrow) = (left.visible().count(), right.visible().count());
        if wide != narrow {
            return Err(Error::user(format!("the sides of a set operation have {wide} and {narrow} columns"))
                .with_condition("NUM_COLUMNS_MISMATCH"));
        }
        let mut outputs = (Vec::new(), Vec::new());
        for (l, r) in &pairs {
            let (left_type, right_type) = (left.data_type(l)?, right.data_type(r)?);
            let common = faces::common_type(&left_type, &right_type).map_err(|error| {
                error
                    .context(format!("in column `{}` of a set operation", l.name))
                    .with_condition("INCOMPATIBLE_COLUMN_TYPE")
            })?;
            let cast = |scope: &Scope, column: &ScopeColumn, from: &DataType| -> Result<Expr> {
                if *from == common {
                    return Ok(column.expr());
                }
                faces::cast(column.expr(), &common, faces::CastMode::Ansi, scope.schema(), &self.conf)
            };
            let left_expr = cast(&left, l, &left_type)?;
            let passed = (left_type == common).then(|| l.clone());
            outputs.0.push((Output { expr: left_expr, name: l.name.clone(), passed }, false));
            outputs.1.push((Output::computed(cast(&right, r, &right_type)?, &l.name), false));
        }
        Ok((left.project_exactly(outputs.0, &self.names)?, right.project_exactly(outputs.1, &self.names)?))
    }
}

pub(super) fn join_type(join_type: join::JoinType) -> Result<JoinType> {
    use join::JoinType as J;
    Ok(match join_type {
        J::Inner | J::Cross => JoinType::Inner,
        J::FullOuter => JoinType::Full,
        J::LeftOuter => JoinType::Left,
        J::RightOuter => JoinType::Right,
        J::LeftAnti => JoinType::LeftAnti,
        J::LeftSemi => JoinType::LeftSemi,
        J::Unspecified => return Err(Error::internal("a join without a type")),
    })
}

/// The merged key of a `USING` join.
fn key_output(left: &ScopeColumn, right: &ScopeColumn, join_type: JoinType) -> Result<Output> {
    Ok(match join_type {
        JoinType::Right => Output { name: left.name.clone(), ..Output::passed(right) },
        JoinType::Full => {
            let either = when(left.expr().is_not_null(), left.expr()).otherwise(right.expr())?;
            Output::computed(either, &left.name)
        }
        _ => Output::passed(left),
    })
}

/// A join whose equalities between the sides are keys and whose other conditions are a filter.
pub(super) fn join_plan(
    left: &Scope,
    right: &Scope,
    join_type: JoinType,
    condition: Option<Expr>,
) -> Result<LogicalPlan> {
    let mut keys = (Vec::new(), Vec::new());
    let mut rest = Vec::new();
    for part in condition.map(split_conjunction_owned).unwrap_or_default() {
        let pair = match &part {
            Expr::BinaryExpr(BinaryExpr { left: l, op: Operator::Eq, right: r }) => {
                find_valid_equijoin_key_pair(l, r, left.schema(), right.schema())?
            }
            _ => None,
        };
        match pair {
            Some((l, r)) if l.get_type(left.schema())? == r.get_type(right.schema())? => {
                keys.0.push(l);
                keys.1.push(r);
            }
            _ => rest.push(part),
        }
    }
    let builder = LogicalPlanBuilder::from(left.plan.clone());
    let filter = rest.into_iter().reduce(Expr::and);
    let right = right.plan.clone();
    let builder = if keys.0.is_empty() {
        match (join_type, filter) {
            (JoinType::Inner, None) => builder.cross_join(right)?,
            (_, filter) => builder.join_on(right, join_type, [filter.unwrap_or_else(|| lit(true))])?,
        }
    } else {
        builder.join_with_expr_keys(right, join_type, keys, filter)?
    };
    Ok(builder.build()?)
}
