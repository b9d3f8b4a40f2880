//! Reading and replacing the rows of some keys of a table, file by file.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, DictionaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream, execute_stream_partitioned};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::cdc::{Difference, difference};
use deltaworks_lake::feed::{CHANGE_TYPE, ChangeType};
use deltaworks_lake::{DataFile, FILE_COLUMN, LEAST_ROWS_OF_PART, Table};
use deltaworks_spark::{Error, Result};

use super::held::Held;
use super::parts::in_parallel;
use crate::update::conform::to_schema;

/// New rows for some keys of a table, and the files that go.
pub struct Rewrite {
    /// The files that hold rows which change or go.
    pub replaced: Vec<DataFile>,
    /// Which of their rows stay.
    pub copied: Copied,
    /// New rows, and rows that stay although their file goes.
    pub rows: Vec<RecordBatch>,
    /// Columns of the table.
    pub schema: SchemaRef,
    /// The column, by position, whose NULLs are in files of their own; they come last in each batch of new rows.
    pub apart: Option<usize>,
}

/// The rows of replaced files that stay.
pub enum Copied {
    /// Those of other keys.
    AllBut(RecordBatch),
    /// Those of other keys, and those that do not meet the condition.
    AllButAmong(RecordBatch, Expr),
    /// Those of some keys, but not of others.
    Only(RecordBatch, RecordBatch),
    /// None.
    Nothing,
}

/// Rows of some keys, and the file of each.
pub struct Stored {
    /// The files that were looked at.
    pub files: Vec<DataFile>,
    /// Rows with [`FILE_COLUMN`] at the end.
    pub rows: Vec<RecordBatch>,
}

/// Reads the rows of `keys` that meet the condition, if there is one, in the columns of `schema`.
pub async fn stored_rows(
    ctx: &SessionContext,
    held: &Held,
    table: &Table,
    schema: &Schema,
    keys: &RecordBatch,
    among: Option<Expr>,
) -> Result<Stored> {
    let files = match keys.num_rows() {
        0 => Vec::new(),
        _ => table.files_with_keys(keys)?,
    };
    if files.is_empty() {
        return Ok(Stored { files, rows: Vec::new() });
    }
    let provider = to_schema(table.provider_with_file_column(&files)?, &with_file(schema))?;
    let mut plan = LogicalPlanBuilder::scan("stored", provider_as_source(provider), None)?;
    if let Some(condition) = among {
        plan = plan.filter(condition)?;
    }
    let plan = joined(plan, keys, JoinType::RightSemi, None)?;
    let rows = held.rows(ctx, &plan).await?;
    Ok(Stored { files, rows })
}

/// Reads the rows of all keys but `keys`, in the columns of `schema`.
pub async fn rows_of_others(
    ctx: &SessionContext,
    held: &Held,
    table: &Table,
    schema: &Schema,
    keys: &RecordBatch,
) -> Result<Vec<RecordBatch>> {
    let files = table.files()?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let provider = to_schema(table.provider_with_file_column(&files)?, &with_file(schema))?;
    let rows = LogicalPlanBuilder::scan("stored", provider_as_source(provider), None)?;
    let plan = joined(rows, keys, JoinType::RightAnti, None)?;
    held.rows(ctx, &plan).await
}

/// The files of these names, among those that were looked at.
pub fn files_named<'a>(
    table: &Table,
    looked_at: &[DataFile],
    names: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<DataFile>> {
    let mut found: BTreeMap<&String, DataFile> = BTreeMap::new();
    for name in names {
        if let Entry::Vacant(entry) = found.entry(name) {
            entry.insert(table.file_of(name, looked_at)?.clone());
        }
    }
    Ok(found.into_values().collect())
}

/// The names of the files of some rows, which were read with their file.
pub fn files_of(batch: &RecordBatch, rows: &[u32]) -> Result<Vec<String>> {
    let file = batch.project(&[batch.num_columns() - 1])?;
    names(&take_record_batch(&file, &UInt32Array::from(rows.to_vec()))?)
}

/// The schema of rows read with their file.
pub fn with_file(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let dictionary = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    fields.push(Arc::new(Field::new(FILE_COLUMN, dictionary, true)));
    Arc::new(Schema::new(fields))
}

/// Rows without the file column.
pub fn without_file(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<usize> = (0..batch.num_columns().saturating_sub(1)).collect();
    Ok(batch.project(&columns)?)
}

/// The distinct values of the file column.
fn names(batch: &RecordBatch) -> Result<Vec<String>> {
    let column = batch.column(batch.num_columns() - 1);
    let files = column
        .as_any()
        .downcast_ref::<DictionaryArray<arrow::datatypes::UInt16Type>>()
        .ok_or_else(|| Error::internal("rows were read without their file"))?;
    let values = cast(files.values(), &DataType::Utf8)?;
    let mut used = vec![false; values.len()];
    files.keys().iter().flatten().for_each(|key| used[usize::from(key)] = true);
    let texts = values.as_string::<i32>();
    Ok(used.iter().enumerate().filter(|(_, used)| **used).map(|(index, _)| texts.value(index).to_owned()).collect())
}

/// Rows of some keys before and after a batch.
#[derive(Clone)]
pub struct Compared {
    /// Read with their files.
    pub before: RecordBatch,
    pub after: RecordBatch,
    pub difference: Difference,
}

impl Compared {
    /// Compares the rows of each part.
    pub async fn parts(parts: Vec<(RecordBatch, RecordBatch)>) -> Result<Vec<Self>> {
        in_parallel(parts, |(before, after)| {
            let difference = difference(&without_file(&before)?, &after)?;
            Ok(Self { before, after, difference })
        })
        .await
    }
}

/// What has to be written so that rows become what they are after a batch. Gives the files that go, the rows to write
/// (those that are new, and those whose file goes), and how many are new.
pub async fn replacement(
    table: Option<&Table>,
    files: &[DataFile],
    parts: &[Compared],
) -> Result<(Vec<DataFile>, Vec<RecordBatch>, u64)> {
    let removed = parts.iter().map(|part| files_of(&part.before, &part.difference.removed));
    let removed = removed.collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<String> = removed.into_iter().flatten().collect();
    let gone = match table {
        Some(table) => files_named(table, files, &names)?,
        None => Vec::new(),
    };
    let added = parts.iter().map(|part| part.difference.added.len() as u64).sum();
    let names = Arc::new(names);
    let rows = in_parallel(parts.to_vec(), move |part| to_write(part, &names));
    let rows = rows.await?.into_iter().filter(|rows| rows.num_rows() > 0).collect();
    Ok((gone, rows, added))
}

/// The rows of `after` that are new, and those whose file is among the ones that go.
fn to_write(part: Compared, gone: &BTreeSet<String>) -> Result<RecordBatch> {
    let Compared { before, after, difference } = part;
    let mut wanted = difference.added;
    if !gone.is_empty() && !difference.kept.is_empty() {
        let names = cast(before.column(before.num_columns() - 1), &DataType::Utf8)?;
        let names = names.as_string::<i32>();
        let moved = difference.kept.iter().filter(|(old, _)| gone.contains(names.value(*old as usize)));
        wanted.extend(moved.map(|(_, new)| new));
    }
    if wanted.len() == after.num_rows() {
        return Ok(after);
    }
    wanted.sort_unstable();
    Ok(take_record_batch(&after, &UInt32Array::from(wanted))?)
}

/// The rows that the change data feed shows of rows that were `before`, read with their files, and became `after`: with their
/// type of change. A row stays the same row as long as its `keys` do.
pub fn feed(parts: &[Compared], keys: &[usize]) -> Result<Vec<RecordBatch>> {
    let mut rows = Vec::new();
    for Compared { before, after, difference } in parts {
        let before = without_file(before)?;
        let changes = difference.by_key(&before, after, keys)?;
        let (preimages, postimages): (Vec<u32>, Vec<u32>) = changes.updated.into_iter().unzip();
        for (batch, taken, change) in [
            (&before, changes.deleted, ChangeType::Delete),
            (&before, preimages, ChangeType::UpdatePreimage),
            (after, postimages, ChangeType::UpdatePostimage),
            (after, changes.inserted, ChangeType::Insert),
        ] {
            if taken.is_empty() {
                continue;
            }
            let taken = take_record_batch(batch, &UInt32Array::from(taken))?;
            let mut fields = taken.schema().fields().to_vec();
            fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
            let mut columns = taken.columns().to_vec();
            columns.push(Arc::new(StringArray::from(vec![change.as_str(); taken.num_rows()])));
            rows.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?);
        }
    }
    Ok(rows)
}

impl Rewrite {
    /// Whether the table stays as it is.
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.rows.is_empty()
    }

    /// The rows of the files to come: what is copied, and what is new. `None` if there are none.
    pub fn plan(&self, table: &Table, ctx: &SessionContext) -> Result<Option<LogicalPlan>> {
        self.plan_from(Some(table), ctx)
    }

    fn plan_from(&self, table: Option<&Table>, ctx: &SessionContext) -> Result<Option<LogicalPlan>> {
        let mut plans = match table {
            Some(table) => self.copied(table)?,
            None => Vec::new(),
        };
        if !self.rows.is_empty() {
            plans.push(LogicalPlanBuilder::scan("new", provider_as_source(self.new_rows(ctx)?), None)?.build()?);
        }
        let union = |all: LogicalPlan, next: LogicalPlan| LogicalPlanBuilder::from(all).union(next)?.build();
        let mut plans = plans.into_iter();
        let Some(first) = plans.next() else { return Ok(None) };
        Ok(Some(plans.try_fold(first, union)?))
    }

    /// The same as streams, each worth a file.
    pub async fn streams(&self, table: Option<&Table>, ctx: &SessionContext) -> Result<Vec<SendableRecordBatchStream>> {
        let Some(plan) = self.plan_from(table, ctx)? else { return Ok(Vec::new()) };
        let copied: u64 = self.replaced.iter().filter_map(|file| file.rows).sum();
        let rows = copied + self.rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
        let plan = ctx.state().create_physical_plan(&plan).await?;
        Ok(match rows < LEAST_ROWS_OF_PART as u64 {
            true => vec![execute_stream(plan, ctx.task_ctx())?],
            false => execute_stream_partitioned(plan, ctx.task_ctx())?,
        })
    }

    /// The rows of the replaced files that stay, by the files that they are to be in.
    fn copied(&self, table: &Table) -> Result<Vec<LogicalPlan>> {
        let Some(apart) = self.apart else {
            return Ok(self.copied_from(table, &self.replaced, None)?.into_iter().collect());
        };
        let column = self.schema.field(apart).name();
        let (mut without, mut only, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
        for (file, nulls) in self.replaced.iter().zip(table.null_counts(column, &self.replaced)?) {
            match nulls {
                Some(0) => without.push(file.clone()),
                Some(_) if nulls == file.rows => only.push(file.clone()),
                _ => mixed.push(file.clone()),
            }
        }
        let column = Expr::Column(Column::from_name(column));
        let plans = [
            self.copied_from(table, &without, None)?,
            self.copied_from(table, &only, None)?,
            self.copied_from(table, &mixed, Some(column.clone().is_not_null()))?,
            self.copied_from(table, &mixed, Some(column.is_null()))?,
        ];
        Ok(plans.into_iter().flatten().collect())
    }

    /// The rows of these files that stay, of those that meet the condition.
    fn copied_from(&self, table: &Table, files: &[DataFile], among: Option<Expr>) -> Result<Option<LogicalPlan>> {
        if files.is_empty() {
            return Ok(None);
        }
        let schema = self.schema.as_ref();
        let provider = to_schema(table.provider_with_file_column(files)?, &Arc::new(schema.clone()))?;
        let scan = || {
            let scan = LogicalPlanBuilder::scan("stored", provider_as_source(Arc::clone(&provider)), None)?;
            match &among {
                Some(condition) => scan.filter(condition.clone()),
                None => Ok(scan),
            }
        };
        match &self.copied {
            Copied::Nothing => Ok(None),
            Copied::AllBut(keys) => joined(scan()?, keys, JoinType::RightAnti, None).map(Some),
            Copied::AllButAmong(keys, condition) => {
                joined(scan()?, keys, JoinType::RightAnti, Some(condition.clone())).map(Some)
            }
            Copied::Only(survivors, changed) => {
                let survivors = joined(scan()?, survivors, JoinType::RightSemi, None)?;
                joined(LogicalPlanBuilder::from(survivors), changed, JoinType::RightAnti, None).map(Some)
            }
        }
    }

    /// The batches by whether their rows are to be in files of their own.
    fn apart(&self, rows: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
        let Some(column) = self.apart else { return vec![rows] };
        let mut groups = vec![Vec::new(), Vec::new()];
        for batch in rows {
            let nulls = batch.column(column).null_count();
            let first = batch.num_rows() - nulls;
            groups[0].push(batch.slice(0, first));
            groups[1].push(batch.slice(first, nulls));
        }
        groups.iter_mut().for_each(|group| group.retain(|batch| batch.num_rows() > 0));
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// Small batches make one file.
    fn new_rows(&self, ctx: &SessionContext) -> Result<Arc<dyn TableProvider>> {
        let named =
            self.rows.iter().map(|batch| Ok(RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?));
        let named = named.collect::<Result<Vec<_>>>()?;
        let mut partitions = Vec::new();
        for group in self.apart(named) {
            let rows: usize = group.iter().map(RecordBatch::num_rows).sum();
            if rows < 128 * 1024 {
                partitions.push(vec![concat_batches(&self.schema, &group)?]);
                continue;
            }
            let size = ctx.state().config().batch_size().max(1);
            partitions.extend(group.iter().map(|part| {
                let starts = (0..part.num_rows()).step_by(size);
                starts.map(|start| part.slice(start, size.min(part.num_rows() - start))).collect()
            }));
        }
        Ok(Arc::new(MemTable::try_new(Arc::clone(&self.schema), partitions)?))
    }
}

/// The rows whose key is (semi), or is not (anti), one of `keys`; with a condition, only rows that meet it count as
/// having one of the keys. The keys are what the join builds its table of.
fn joined(
    rows: LogicalPlanBuilder,
    keys: &RecordBatch,
    join: JoinType,
    condition: Option<Expr>,
) -> Result<LogicalPlan> {
    let rows = rows.alias("stored")?.build()?;
    let columns = |relation: &str| -> Vec<Column> {
        keys.schema().fields().iter().map(|field| Column::new(Some(relation), field.name())).collect()
    };
    let wanted = MemTable::try_new(keys.schema(), vec![vec![keys.clone()]])?;
    let output: Vec<Expr> = rows
        .schema()
        .iter()
        .map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))).alias(field.name()))
        .collect();
    Ok(LogicalPlanBuilder::scan("changed", provider_as_source(Arc::new(wanted)), None)?
        .join_detailed(rows, join, (columns("changed"), columns("stored")), condition, NullEquality::NullEqualsNothing)?
        .project(output)?
        .build()?)
}
