//! Statements that change rows of a stored table: what they say becomes a [`Change`], which is run here.
//!
//! [`statement`] reads SQL, [`merge_command`] what `DataFrame.mergeInto` sends, [`replace`] the writes that replace some
//! rows. All find the files that hold an affected row first, then write those anew, in one commit that only lands on the
//! version that was read. If somebody else was faster, the statement is planned and run again.

mod merge_command;
mod replace;
mod statement;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

pub(super) use self::replace::{Replaced, partition_condition};
use self::target::OpenTarget;
use super::Session;
use crate::connect::faces::conf_of;
use crate::dml::{Action, Change, Clause, MOST, TOUCHED_ROWS};
use crate::edit::{CONCURRENT_WRITE, Edit, FILE, Operation, RowCounts};
use crate::error::{Error, Kind, Result};

/// How often a statement is run again if somebody else commits first.
const MAX_ATTEMPTS: usize = 10;

/// A statement as the history of the table shows it.
struct Named {
    operation: Operation,
    parameters: BTreeMap<String, String>,
}

/// The files that hold rows which change or go, by name.
type Touched = BTreeMap<String, TouchedFile>;

/// How many rows of a file change or go, of how many if that is known.
#[derive(Debug, Clone, Copy, Default)]
struct TouchedFile {
    rows: u64,
    of: Option<u64>,
}

/// Whether another writer has committed first.
fn came_too_late(error: &Error) -> bool {
    error.kind() == Kind::Conflict && error.condition() == Some(CONCURRENT_WRITE)
}

/// Runs `statement` until no other writer has been faster.
async fn until_it_lands<T, F: Future<Output = Result<T>>>(statement: impl Fn() -> F) -> Result<T> {
    for _ in 1..MAX_ATTEMPTS {
        match statement().await {
            Err(error) if came_too_late(&error) => tracing::debug!(%error, "the statement is run again"),
            done => return done,
        }
    }
    statement().await
}

impl Session {
    /// Carries out `change` on the table of `target`.
    async fn change_rows(&self, target: OpenTarget, change: &Change, named: Named) -> Result<RowCounts> {
        let context = self.context();
        let conf = conf_of(&context);
        let Some(touched) = self.touched(&target, change).await? else {
            // All rows go, and nobody has to look at them.
            let files = target.edit.files()?;
            let dropped_rows = files.iter().filter_map(|file| file.rows).sum();
            let removed = files.into_iter().map(|file| file.name).collect();
            return self.commit(target, named, removed, None, dropped_rows).await;
        };
        let (whole, partly) = told_apart(&target, change, touched)?;
        let mut parts = Vec::new();
        if !partly.is_empty() {
            parts.push(change.rewritten(&context, &conf, &target.plan(Some(&partly))?)?);
        }
        parts.extend(change.inserted(&context, &conf, &target.plan(None)?)?);
        let rows = union(parts)?.map(|rows| finished(rows, &conf)).transpose()?;
        let dropped_rows = whole.values().map(|file| file.rows).sum();
        let removed = whole.into_keys().chain(partly).collect();
        self.commit(target, named, removed, rows, dropped_rows).await
    }

    async fn commit(
        &self,
        target: OpenTarget,
        named: Named,
        removed: Vec<String>,
        rows: Option<LogicalPlan>,
        dropped_rows: u64,
    ) -> Result<RowCounts> {
        if removed.is_empty() && rows.is_none() {
            return Ok(RowCounts::default());
        }
        let Named { operation, parameters } = named;
        let columns = target.new_columns();
        let edit = Edit { operation, parameters, removed, rows, dropped_rows, columns };
        target.edit.commit(&self.context(), edit).await
    }

    /// The files that hold affected rows; `None` if all rows of all files go.
    async fn touched(&self, target: &OpenTarget, change: &Change) -> Result<Option<Touched>> {
        let all_go = change.source.is_none()
            && matches!(change.by_source.as_slice(), [Clause { condition: None, action: Action::Delete }]);
        if all_go && target.edit.files()?.iter().all(|file| file.rows.is_some()) {
            return Ok(None);
        }
        let context = self.context();
        let Some(plan) = change.touched(&context, &target.plan(None)?)? else { return Ok(Some(Touched::default())) };
        let plan = finished(plan, &conf_of(&context))?;
        let batches = DataFrame::new(context.state(), plan).collect().await?;
        let mut touched = Touched::default();
        for batch in &batches {
            let (files, rows, most) = touched_columns(batch)?;
            for row in 0..batch.num_rows() {
                if most.value(row) > 1 {
                    return Err(matched_twice(target));
                }
                let file = target.edit.file(files.as_string::<i32>().value(row))?;
                let entry: &mut TouchedFile = touched.entry(file.name).or_default();
                entry.rows += u64::try_from(rows.value(row)).unwrap_or_default();
                entry.of = file.rows;
            }
        }
        Ok(Some(touched))
    }
}

/// The files all of whose rows go, which need not be read, and those that are written anew.
fn told_apart(target: &OpenTarget, change: &Change, touched: Touched) -> Result<(Touched, Vec<String>)> {
    let only_deletes =
        change.source.is_none() && change.by_source.iter().all(|clause| matches!(clause.action, Action::Delete));
    let (whole, partly): (Touched, Touched) =
        touched.into_iter().partition(|(_, file)| only_deletes && file.of == Some(file.rows));
    // A commit that records changes records all of them.
    Ok(match partly.is_empty() || !target.edit.records_changes()? {
        true => (whole, partly.into_keys().collect()),
        false => (Touched::default(), whole.into_keys().chain(partly.into_keys()).collect()),
    })
}

fn touched_columns(batch: &RecordBatch) -> Result<(ArrayRef, Int64Array, Int64Array)> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| Error::internal(format!("touched files without column `{name}`")))
    };
    let files = arrow::compute::cast(column(FILE)?, &DataType::Utf8)?;
    if files.null_count() > 0 {
        return Err(Error::internal("a row without a file"));
    }
    let number = |name: &str| Ok::<_, Error>(column(name)?.as_primitive::<Int64Type>().clone());
    Ok((files, number(TOUCHED_ROWS)?, number(MOST)?))
}

fn matched_twice(target: &OpenTarget) -> Error {
    Error::data(format!("several rows of the source match the same row of table {}", target.edit.entry().name))
        .with_condition("DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE")
        .with_help("Make the source distinct by the columns of the condition, or narrow the conditions.")
}

fn union(parts: Vec<LogicalPlan>) -> Result<Option<LogicalPlan>> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Ok(None) };
    let mut all = LogicalPlanBuilder::from(first);
    for part in parts {
        all = all.union(part)?;
    }
    Ok(Some(all.build()?))
}

/// A plan with joins for its subqueries.
fn finished(plan: LogicalPlan, conf: &crate::conf::SparkConf) -> Result<LogicalPlan> {
    crate::orderable::checked(crate::subquery::resolve(plan, conf)?)
}

/// One row of numbers.
pub(super) fn numbers(values: &[(&str, u64)]) -> Result<RecordBatch> {
    let fields: Vec<_> = values.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true)).collect();
    let columns = values
        .iter()
        .map(|(_, value)| -> ArrayRef { Arc::new(Int64Array::from(vec![i64::try_from(*value).unwrap_or(i64::MAX)])) });
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect())?)
}

/// What `MERGE` gives.
fn merge_counts(counts: &RowCounts) -> Result<RecordBatch> {
    numbers(&[
        ("num_affected_rows", counts.affected()),
        ("num_updated_rows", counts.updated()),
        ("num_deleted_rows", counts.deleted()),
        ("num_inserted_rows", counts.inserted()),
    ])
}
