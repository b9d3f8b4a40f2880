//! Writes that replace some rows of a table: those that meet a condition, those of the partitions that are written.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::target::OpenTarget;
use super::{Named, finished, told_apart, union, until_it_lands};
use crate::connect::context::Planner;
use crate::connect::expression::Expressions;
use crate::connect::faces::conf_of;
use crate::connect::host::Purpose;
use crate::connect::name;
use crate::connect::proto::Expression;
use crate::connect::scope::Scope;
use crate::connect::service::Session;
use crate::connect::service::tables::Matching;
use crate::dml::{Action, Change, Clause};
use crate::edit::{CHANGE, EditScope, FILE, Operation, RowChange};
use crate::error::{Error, Result};
use crate::kept::{Kept, KeptRows};
use crate::relation::ObjectName;
use crate::sql::statement::SqlText;

/// The name of the relation of new rows.
const NEW: &str = "__deltaworks_new";

/// Which rows of a table go.
#[derive(Clone, Copy)]
pub(in super::super) enum Replaced<'a> {
    /// Those that meet a condition of a DataFrame.
    Where(&'a Expression),
    /// Those that meet a condition in SQL.
    WhereText(&'a SqlText),
    /// Those of the partitions that new rows belong to.
    Partitions,
}

impl Session {
    /// Puts the rows of `plan` in the place of some rows of a table.
    pub(in super::super) async fn replace_rows(
        &self,
        name: &ObjectName,
        plan: LogicalPlan,
        matching: Matching,
        replaced: Replaced<'_>,
    ) -> Result<()> {
        // The same rows in every attempt.
        let kept = Arc::new(KeptRows::default());
        until_it_lands(|| {
            let plan = Kept::plan(plan.clone(), Arc::clone(&kept));
            self.replace_once(name, plan, matching, replaced)
        })
        .await
    }

    async fn replace_once(
        &self,
        name: &ObjectName,
        plan: LogicalPlan,
        matching: Matching,
        replaced: Replaced<'_>,
    ) -> Result<()> {
        let scope = EditScope { removes_rows: true, inserts_rows: true, adds_columns: false };
        let target = self.target(name, None, scope).await?;
        let plan = self.aligned(plan, &target.schema, matching, &target.edit.entry().name)?;
        let context = self.context();
        let conf = conf_of(&context);
        let keeps_old = target.edit.records_changes()?;
        let (change, mut removed, partly, named) = match replaced {
            Replaced::Partitions => {
                let files = self.files_of_partitions(&target, &plan).await?;
                // A commit that records changes records all of them.
                let (removed, partly) = if keeps_old { (Vec::new(), files) } else { (files, Vec::new()) };
                (deletion(&target, None, keeps_old), removed, partly, named(None))
            }
            Replaced::Where(_) | Replaced::WhereText(_) => {
                let (condition, text) = self.condition(&target, replaced).await?;
                self.check_new(&target, &plan, &condition, &text).await?;
                let change = deletion(&target, Some(condition), keeps_old);
                let touched = self.touched(&target, &change).await?.unwrap_or_default();
                let (removed, partly) = match keeps_old {
                    true => (Vec::new(), touched.into_keys().collect()),
                    false => {
                        let (whole, partly) = told_apart(&target, &change, touched)?;
                        (whole.into_keys().collect(), partly)
                    }
                };
                (change, removed, partly, named(Some(&text)))
            }
        };
        let mut parts = Vec::new();
        if !partly.is_empty() {
            parts.push(change.rewritten(&context, &conf, &target.plan(Some(&partly))?)?);
        }
        parts.push(as_inserted(plan, keeps_old)?);
        let rows = union(parts)?.map(|rows| finished(rows, &conf)).transpose()?;
        removed.extend(partly);
        self.commit(target, named, removed, rows, 0).await.map(drop)
    }

    /// The condition over the columns of the table, and its text.
    async fn condition(&self, target: &OpenTarget, replaced: Replaced<'_>) -> Result<(Expr, String)> {
        match replaced {
            Replaced::Where(expression) => {
                let context = self.context();
                let resolver = self.host.resolver(Purpose::Execute, None);
                let planner = Planner::new(&context, resolver.as_ref(), &self.artifacts);
                let mut scope = Scope::new(target.plan(None)?, &target.reference.to_vec());
                scope.columns.retain(|column| column.column.name != FILE);
                let condition = Expressions::new(&planner, &scope).condition(expression)?;
                Ok((condition, name::of(expression)))
            }
            Replaced::WhereText(text) => {
                let relations = self.readable();
                let planning = super::statement::Planning::new(self, &relations, target.visible()?);
                Ok((planning.condition(text).await?, text.text.clone()))
            }
            Replaced::Partitions => Err(Error::internal("partitions are no condition")),
        }
    }

    /// New rows must be such as the condition would replace.
    async fn check_new(&self, target: &OpenTarget, plan: &LogicalPlan, condition: &Expr, text: &str) -> Result<()> {
        let context = self.context();
        let rows = LogicalPlanBuilder::from(plan.clone())
            .alias(target.reference.clone())?
            .filter(condition.clone().is_not_true())?
            .limit(0, Some(1))?
            .build()?;
        let rows = finished(rows, &conf_of(&context))?;
        let found = datafusion::dataframe::DataFrame::new(context.state(), rows).collect().await?;
        match found.iter().any(|batch| batch.num_rows() > 0) {
            true => Err(Error::data(format!("a new row does not meet the condition `{text}` of the rows it replaces"))
                .with_condition("DELTA_REPLACE_WHERE_MISMATCH")
                .with_help("Filter the new rows by the condition, or widen it.")),
            false => Ok(()),
        }
    }

    /// The files of the partitions that rows of `plan` belong to.
    async fn files_of_partitions(&self, target: &OpenTarget, plan: &LogicalPlan) -> Result<Vec<String>> {
        let context = self.context();
        let columns = &target.edit.entry().partition_columns;
        let new = LogicalPlanBuilder::from(plan.clone())
            .alias(TableReference::bare(NEW))?
            .project(columns.iter().map(|column| Expr::Column(Column::new(Some(NEW), column))))?
            .distinct()?;
        let same = columns.iter().map(|column| {
            let stored = Expr::Column(Column::new(Some(target.reference.clone()), column));
            let new = Expr::Column(Column::new(Some(NEW), column));
            datafusion::logical_expr::binary_expr(stored, datafusion::logical_expr::Operator::IsNotDistinctFrom, new)
        });
        let same = same.reduce(Expr::and).unwrap_or_else(|| lit(true));
        let file = Expr::Column(Column::new(Some(target.reference.clone()), FILE)).alias(FILE);
        let plan =
            new.join_on(target.plan(None)?, JoinType::RightSemi, [same])?.project([file])?.distinct()?.build()?;
        let batches = datafusion::dataframe::DataFrame::new(context.state(), plan).collect().await?;
        let mut files = Vec::new();
        for batch in &batches {
            let names = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)?;
            let names = arrow::array::AsArray::as_string::<i32>(&names);
            for name in names.iter().flatten() {
                files.push(target.edit.file(name)?.name);
            }
        }
        Ok(files)
    }
}

/// Rows that meet the condition go.
fn deletion(target: &OpenTarget, condition: Option<Expr>, keeps_old: bool) -> Change {
    Change {
        schema: Arc::clone(&target.schema),
        source: None,
        matched: Vec::new(),
        not_matched: Vec::new(),
        by_source: vec![Clause { condition, action: Action::Delete }],
        keeps_old,
    }
}

/// Rows of the table as rows of an edit.
fn as_inserted(plan: LogicalPlan, keeps_old: bool) -> Result<LogicalPlan> {
    let fields: Vec<_> = plan.schema().iter().map(|(q, field)| (q.cloned(), Arc::clone(field))).collect();
    let mut columns: Vec<Expr> = fields
        .iter()
        .map(|(q, field)| Expr::Column(Column::new(q.clone(), field.name())).alias(field.name()))
        .collect();
    if keeps_old {
        for (index, (_, field)) in fields.iter().enumerate() {
            let null = datafusion::common::ScalarValue::try_from(field.data_type())?;
            columns.push(lit(null).alias(crate::dml::old_name(index)));
        }
    }
    columns.push(lit(RowChange::Inserted.number()).alias(CHANGE));
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

fn named(condition: Option<&str>) -> Named {
    let mut parameters = vec![("mode".to_owned(), "Overwrite".to_owned())];
    match condition {
        Some(condition) => {
            parameters.push(("predicate".to_owned(), serde_json::Value::from(vec![condition]).to_string()));
        }
        None => parameters.push(("isDynamicPartitionOverwrite".to_owned(), "true".to_owned())),
    }
    Named { operation: Operation::Write, parameters: parameters.into_iter().collect() }
}

/// A condition of a `PARTITION` clause: the columns have these values.
pub(in super::super) fn partition_condition(values: &[(String, String)]) -> String {
    let parts = values.iter().map(|(column, value)| format!("{} <=> ({value})", crate::types::quote(column)));
    parts.collect::<Vec<_>>().join(" AND ")
}
