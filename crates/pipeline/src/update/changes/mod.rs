//! Batches that change rows of their target: AUTO CDC.
//!
//! The events of a batch are collected and grouped by key; `deltaworks_incremental::cdc` says what becomes of each
//! key. Of the target only files are read whose statistics allow for one of the keys, and only those are
//! written anew that hold a row which changes. What has to be remembered beyond the rows that readers see
//! is in a second Delta table, the ledger; the commit of the target says which version of it belongs to it.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::cdc::{END_AT, OPERATION, Operation, SEQUENCE, SETS, START_AT, event_schema, sets_field};
use deltaworks_lake::schema::to_delta;
use deltaworks_lake::{DataFile, Lake, Table, Writer, WriterOptions};
use deltaworks_spark::{Error, Kind, Result};
use tokio_util::sync::CancellationToken;

use super::write::{Written, leaf_rows, write_plan};
use crate::definitions::cdc::ScdType;
use crate::graph::{Changes, SetColumns};
use crate::name::DatasetName;

pub mod drift;
mod function;
mod held;
mod latest;
mod ledger;
mod parts;
mod rewrite;
mod snapshot;
mod versions;

pub use function::{latest_version, needs_other_graph, run as run_function};
use held::Held;
use ledger::Ledger;
pub use ledger::PendingLedger;
use parts::partition_by_key;
use rewrite::{Compared, Rewrite};
pub use snapshot::run as run_snapshot;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

/// Events of about this size are worked on as one piece.
const PIECE_BYTES: usize = 256 << 20;

/// How a batch changes its target.
#[derive(Debug, Clone)]
pub struct MergeInto {
    /// The way to the ledger.
    pub lake: Lake,
    /// The folder of the target's ledgers, one per generation.
    pub ledgers: PathBuf,
    /// The pipeline.
    pub pipeline_id: String,
    /// The target.
    pub target: DatasetName,
    /// How its rows are kept.
    pub changes: Changes,
    /// Columns in which NULL keeps the value, as this flow says.
    pub partial: Vec<String>,
    /// How events of this flow name the columns that they set.
    pub sets: Option<SetColumns>,
    /// Held while a batch is merged.
    pub merging: Arc<tokio::sync::Mutex<()>>,
}

/// What a batch is going to commit.
pub struct Merged {
    /// The new files.
    pub written: Written,
    /// The files whose place they take.
    pub replaced: Vec<DataFile>,
    /// What the ledger will be; `None` if it stays.
    pub ledger: Option<PendingLedger>,
    /// How many rows came and went.
    pub counts: ChangeCounts,
}

/// What a batch did to the rows of its target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Rows inserted or updated.
    pub upserted: u64,
    /// Rows deleted, or versions ended by a delete.
    pub deleted: u64,
}

/// What both SCD types need to merge.
struct Merge<'a> {
    ctx: &'a SessionContext,
    table: &'a Table,
    into: &'a MergeInto,
    /// The columns that come from the source, as the table has them.
    columns: SchemaRef,
    /// The keys among them.
    keys: Vec<usize>,
    partial: Vec<bool>,
    held: Held,
    ledger: Ledger,
    /// Whether the table has a change data feed.
    records_changes: bool,
}

/// What becomes of the target and its ledger.
struct Outcome {
    target: Rewrite,
    /// What the change data feed shows, if files alone do not tell it.
    feed: Vec<RecordBatch>,
    ledger: Option<Rewrite>,
    counts: ChangeCounts,
}

impl MergeInto {
    /// Runs `plan`, whose rows are events, and writes the files that the target will consist of.
    ///
    /// # Errors
    /// `AUTOCDC_MICROBATCH_VALIDATION.*` (`Data`) for events without key or sequence.
    pub async fn merge(
        &self,
        ctx: &SessionContext,
        plan: LogicalPlan,
        table: &Table,
        options: &WriterOptions,
        cancel: &CancellationToken,
    ) -> Result<Merged> {
        let columns = self.columns_of(table)?;
        let sequence = to_delta(&Schema::new(vec![Field::new(SEQUENCE, self.changes.sequence_type.clone(), true)]))?;
        let mut schema = event_schema(&columns, sequence.field(0).data_type());
        if self.sets.is_some() {
            let mut fields = schema.fields().to_vec();
            fields.push(Arc::new(sets_field()));
            schema = Arc::new(Schema::new(fields));
        }
        let is_set = |name: &str| plan.schema().fields().iter().any(|column| column.name().eq_ignore_ascii_case(name));
        let is_partial = |name: &str| self.partial.iter().any(|partial| partial.eq_ignore_ascii_case(name));
        let merge = Merge {
            ctx,
            table,
            into: self,
            keys: positions(&columns, &self.changes.keys)?,
            // What the flow has no column for stays as it is.
            partial: columns.fields().iter().map(|field| is_partial(field.name()) || !is_set(field.name())).collect(),
            held: Held::new(ctx),
            ledger: Ledger::open(self, table).await?,
            records_changes: table.records_changes()?,
            columns,
        };
        let (events, input_rows) = merge.collect(in_schema(plan, &schema)?, cancel).await?;
        merge.check(&events)?;
        let bytes: usize = events.iter().map(RecordBatch::get_array_memory_size).sum();
        let rows: usize = events.iter().map(RecordBatch::num_rows).sum();
        let parts = match rows < 8192 {
            true => 1,
            false => ctx.state().config().target_partitions().max(bytes / PIECE_BYTES + 1),
        };
        merge.held.room_for_copy(&events)?;
        let events = partition_by_key(events, &schema, &merge.keys, parts).await?;
        let outcome = match self.changes.scd_type {
            ScdType::One => merge.latest(events).await?,
            ScdType::Two => merge.versions(events).await?,
        };
        let Outcome { target, feed, ledger, counts } = outcome;
        let plan = target.plan(table, ctx)?;
        let rows = async {
            match plan {
                Some(plan) => write_plan(ctx, plan, table, options, cancel).await,
                None => Ok(Written::default()),
            }
        };
        let recorded = async {
            match ledger {
                Some(rewrite) => merge.ledger.write(rewrite, ctx).await,
                None => Ok(None),
            }
        };
        let (mut written, ledger) = tokio::try_join!(rows, recorded)?;
        if !feed.is_empty() {
            let mut writer = Writer::of_changes(table, options.clone())?;
            for rows in feed {
                writer.write(rows).await?;
            }
            written.files.changes = writer.close_changes().await?;
        }
        Ok(Merged { written: Written { input_rows, ..written }, replaced: target.replaced, ledger, counts })
    }

    /// The columns of the table that come from the source.
    fn columns_of(&self, table: &Table) -> Result<SchemaRef> {
        let of_versions = |name: &str| [START_AT, END_AT].iter().any(|own| own.eq_ignore_ascii_case(name));
        let keep: Vec<usize> = table
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| self.changes.scd_type == ScdType::One || !of_versions(field.name()))
            .map(|(index, _)| index)
            .collect();
        let fields = table.schema().project(&keep)?;
        let fields = fields.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

impl Merge<'_> {
    /// Runs a plan; gives its rows, and how many were read for them.
    async fn collect(&self, plan: LogicalPlan, cancel: &CancellationToken) -> Result<(Vec<RecordBatch>, u64)> {
        let physical = self.ctx.state().create_physical_plan(&plan).await?;
        let rows = tokio::select! {
            () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
            rows = self.held.collect(self.ctx, Arc::clone(&physical)) => rows?,
        };
        Ok((rows, leaf_rows(&physical)))
    }

    /// What the change data feed shows of a commit that lets files go; nothing if the table has none, or only gets rows.
    fn feed(&self, replaced: &[DataFile], parts: &[Compared], keys: &[usize]) -> Result<Vec<RecordBatch>> {
        match self.records_changes && !replaced.is_empty() {
            true => rewrite::feed(parts, keys),
            false => Ok(Vec::new()),
        }
    }

    /// Refuses events that have no place.
    fn check(&self, events: &[RecordBatch]) -> Result<()> {
        let (sequence, operation) = (self.columns.fields().len(), self.columns.fields().len() + 1);
        let mut without_key = vec![0_usize; self.keys.len()];
        let mut without_sequence = 0;
        for batch in events {
            without_sequence += batch.column(sequence).null_count();
            for (key, count) in self.keys.iter().zip(&mut without_key) {
                let column = batch.column(*key);
                if column.null_count() > 0 {
                    let operations =
                        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column(operation));
                    *count += (0..batch.num_rows())
                        .filter(|row| column.is_null(*row) && operations.value(*row) != Operation::Truncate.code())
                        .count();
                }
            }
        }
        let construct = &self.into.changes.construct;
        if let Some((key, count)) = self.keys.iter().zip(without_key).find(|(_, count)| *count > 0) {
            let name = self.columns.field(*key).name();
            return Err(Error::data(format!("{count} events of `{construct}` have no value in key column `{name}`"))
                .with_condition("AUTOCDC_MICROBATCH_VALIDATION.NULL_KEY")
                .with_help("Filter such rows in the view that the changes come from, or put an expectation on it."));
        }
        if without_sequence > 0 {
            return Err(Error::data(format!("the sequence of {without_sequence} events of `{construct}` is NULL"))
                .with_condition("AUTOCDC_MICROBATCH_VALIDATION.NULL_SEQUENCE")
                .with_help("Filter such rows in the view that the changes come from, or put an expectation on it."));
        }
        match &self.into.sets {
            Some(sets) => events.iter().try_for_each(|batch| sets.check(named(batch, SETS)?, construct)),
            None => Ok(()),
        }
    }
}

/// The column of this name.
fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("events have no column `{name}`")))
}

/// Where columns of these names stand, in whichever case.
fn positions(columns: &Schema, names: &[String]) -> Result<Vec<usize>> {
    let position = |name: &String| {
        let found = columns.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::internal(format!("column `{name}` is not stored")))
    };
    names.iter().map(position).collect()
}

/// The columns of `schema`, by name, as the plan has them or NULL.
fn in_schema(plan: LogicalPlan, schema: &Schema) -> Result<LogicalPlan> {
    let columns = schema.fields().iter().map(|field| {
        let found = plan.schema().iter().find(|(_, column)| column.name().eq_ignore_ascii_case(field.name()));
        Ok(match found {
            Some((qualifier, column)) if column.data_type() == field.data_type() => {
                Expr::Column(Column::from((qualifier, column))).alias(field.name())
            }
            Some((qualifier, column)) => {
                cast(Expr::Column(Column::from((qualifier, column))), field.data_type().clone()).alias(field.name())
            }
            None => datafusion::prelude::lit(datafusion::scalar::ScalarValue::try_from(field.data_type())?)
                .alias(field.name()),
        })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The name of the column that holds an event's operation, for filters.
fn operation_column() -> Expr {
    Expr::Column(Column::from_name(OPERATION))
}
