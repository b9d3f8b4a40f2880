//! A stored table whose rows a client changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Column;
use datafusion::common::runtime::JoinSet;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use deltaworks_lake::feed::{CHANGE_TYPE, ChangeType};
use deltaworks_lake::{Commit, DataFile, FILE_COLUMN, FileIndex, Table, Writer, WriterOptions, WrittenFiles};
use deltaworks_spark::catalog::TableEntry;
use deltaworks_spark::edit::{Edit, EditedFile, FILE, Operation, RowChange, RowCounts, TableEdit};
use deltaworks_spark::{Error, Result, progress};
use futures::TryStreamExt;
use serde_json::Value;

use crate::update::target::writer_options;

/// The table at the version that the client reads.
pub(super) struct StoredEdit {
    table: Table,
    entry: TableEntry,
    files: Vec<DataFile>,
    index: FileIndex,
}

impl StoredEdit {
    /// An edit of `table` as it is.
    pub(super) fn new(table: Table, entry: TableEntry) -> Result<Self> {
        let files = table.files()?;
        let index = table.file_index(&files);
        Ok(Self { table, entry, files, index })
    }

    fn named(&self, names: &[String]) -> Result<Vec<DataFile>> {
        names
            .iter()
            .map(|name| {
                let position = self.index.position(name);
                position.map(|position| self.files[position].clone()).ok_or_else(|| foreign(name))
            })
            .collect()
    }
}

fn foreign(name: &str) -> Error {
    Error::internal(format!("`{name}` is no file of the table"))
}

fn edited(file: &DataFile) -> EditedFile {
    EditedFile { name: file.path.clone(), rows: file.rows }
}

#[async_trait]
impl TableEdit for StoredEdit {
    fn entry(&self) -> &TableEntry {
        &self.entry
    }

    fn records_changes(&self) -> Result<bool> {
        self.table.records_changes()
    }

    fn files(&self) -> Result<Vec<EditedFile>> {
        Ok(self.files.iter().map(edited).collect())
    }

    fn file(&self, value: &str) -> Result<EditedFile> {
        let position = self.index.position(value).ok_or_else(|| foreign(value))?;
        Ok(edited(&self.files[position]))
    }

    fn rows(&self, files: Option<&[String]>) -> Result<LogicalPlan> {
        let files = match files {
            Some(names) => self.named(names)?,
            None => self.files.clone(),
        };
        rows_of(&self.table, &files)
    }

    async fn commit(mut self: Box<Self>, ctx: &SessionContext, edit: Edit) -> Result<RowCounts> {
        let mut definition = self.table.definition()?;
        if let Some(columns) = &edit.columns {
            definition.schema = Arc::clone(columns);
        }
        let removed = self.named(&edit.removed)?;
        // Files that only come say themselves which rows are new.
        let records = self.table.records_changes()? && !removed.is_empty();
        let options = writer_options(definition, ctx);
        let (files, mut counts) = match edit.rows {
            Some(plan) => write_rows(ctx, plan, &self.table, &options, records).await?,
            None => Default::default(),
        };
        counts.add(RowChange::Deleted, edit.dropped_rows);
        if removed.is_empty() && files.adds.is_empty() && edit.columns.is_none() {
            return Ok(counts);
        }
        let metrics = metrics(edit.operation, &counts, &files, &removed);
        let commit = match removed.is_empty() {
            true => Commit::append(files).on_this_version(),
            false => Commit::merge(&self.table, files, &removed)?,
        };
        let commit = commit.operation_name(name(edit.operation), edit.parameters).operation_metrics(metrics);
        let commit = match edit.columns {
            Some(columns) => commit.schema(columns),
            None => commit,
        };
        commit.commit(&mut self.table).await?;
        Ok(counts)
    }
}

/// The rows of `files`, which the table has at this version, each with its file.
pub(super) fn rows_of(table: &Table, files: &[DataFile]) -> Result<LogicalPlan> {
    let provider = table.provider_with_file_column(files)?;
    let provider = match files.is_empty() {
        true => Arc::new(EmptyTable::new(provider.schema())),
        false => provider,
    };
    let rows = LogicalPlanBuilder::scan("target", provider_as_source(provider), None)?;
    let columns: Vec<Expr> = rows
        .schema()
        .columns()
        .into_iter()
        .map(|column| match column.name == FILE_COLUMN {
            true => cast(Expr::Column(column), DataType::Utf8).alias(FILE),
            false => Expr::Column(Column::new_unqualified(&column.name)),
        })
        .collect();
    Ok(rows.project(columns)?.build()?)
}

/// What the table's history calls it.
fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Delete => "DELETE",
        Operation::Update => "UPDATE",
        Operation::Merge => "MERGE",
        Operation::Write => "WRITE",
    }
}

/// What the history says of a statement, in Delta's names.
fn metrics(
    operation: Operation,
    counts: &RowCounts,
    files: &WrittenFiles,
    removed: &[DataFile],
) -> BTreeMap<String, Value> {
    use RowChange::{Copied, Deleted, DeletedBySource, Updated, UpdatedBySource};
    let removed_bytes: u64 = removed.iter().map(|file| file.size_bytes).sum();
    let (added_files, removed_files) = (files.adds.len() as u64, removed.len() as u64);
    let of_files = [
        ("numAddedFiles", added_files),
        ("numRemovedFiles", removed_files),
        ("numAddedBytes", files.bytes),
        ("numRemovedBytes", removed_bytes),
        ("numAddedChangeFiles", files.changes.len() as u64),
        ("numCopiedRows", counts.of(Copied)),
    ];
    let all: Vec<(&str, u64)> = match operation {
        Operation::Delete => of_files.into_iter().chain([("numDeletedRows", counts.deleted())]).collect(),
        Operation::Update => of_files.into_iter().chain([("numUpdatedRows", counts.updated())]).collect(),
        Operation::Write => vec![
            ("numFiles", added_files),
            ("numOutputRows", files.rows),
            ("numOutputBytes", files.bytes),
            ("numRemovedFiles", removed_files),
            ("numRemovedBytes", removed_bytes),
        ],
        Operation::Merge => vec![
            ("numTargetRowsInserted", counts.inserted()),
            ("numTargetRowsUpdated", counts.updated()),
            ("numTargetRowsDeleted", counts.deleted()),
            ("numTargetRowsCopied", counts.of(Copied)),
            ("numTargetRowsMatchedUpdated", counts.of(Updated)),
            ("numTargetRowsMatchedDeleted", counts.of(Deleted)),
            ("numTargetRowsNotMatchedBySourceUpdated", counts.of(UpdatedBySource)),
            ("numTargetRowsNotMatchedBySourceDeleted", counts.of(DeletedBySource)),
            ("numOutputRows", files.rows),
            ("numTargetFilesAdded", added_files),
            ("numTargetFilesRemoved", removed_files),
            ("numTargetBytesAdded", files.bytes),
            ("numTargetBytesRemoved", removed_bytes),
            ("numTargetChangeFilesAdded", files.changes.len() as u64),
        ],
    };
    all.into_iter().map(|(key, number)| (key.to_owned(), Value::from(number.to_string()))).collect()
}

/// Runs the plan of an edit and writes what stays and comes, and if `records` what became of each row.
async fn write_rows(
    ctx: &SessionContext,
    plan: LogicalPlan,
    table: &Table,
    options: &WriterOptions,
    records: bool,
) -> Result<(WrittenFiles, RowCounts)> {
    let physical = ctx.state().create_physical_plan(&plan).await?;
    progress::runs(&physical);
    // Dropping the set, as happens if the statement is cancelled, ends the tasks.
    let mut tasks = JoinSet::new();
    for partition in 0..physical.output_partitioning().partition_count() {
        let changes = if records { Some(Writer::of_changes(table, options.clone())?) } else { None };
        let writers = Writers {
            columns: options.schema.fields().len(),
            rows: Writer::new(table, options.clone())?,
            changes,
            counts: RowCounts::default(),
        };
        tasks.spawn(write_partition(Arc::clone(&physical), partition, ctx.clone(), writers));
    }
    let (mut files, mut counts) = (WrittenFiles::default(), RowCounts::default());
    while let Some(finished) = tasks.join_next().await {
        let (written, of_part) =
            finished.map_err(|error| Error::internal(format!("a writing task died: {error}")))??;
        files.extend(written);
        counts.extend(&of_part);
    }
    Ok((files, counts))
}

/// The writers of one partition of the plan.
struct Writers {
    /// The columns of the table.
    columns: usize,
    rows: Writer,
    changes: Option<Writer>,
    counts: RowCounts,
}

async fn write_partition(
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    ctx: SessionContext,
    mut writers: Writers,
) -> Result<(WrittenFiles, RowCounts)> {
    let written = async {
        let mut batches = plan.execute(partition, ctx.task_ctx())?;
        while let Some(batch) = batches.try_next().await? {
            writers.write(&batch).await?;
        }
        Ok::<_, Error>(())
    }
    .await;
    match written {
        Ok(()) => writers.close().await,
        Err(error) => {
            writers.abort().await;
            Err(error)
        }
    }
}

impl Writers {
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let fates = batch
            .columns()
            .last()
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .ok_or_else(|| Error::internal("rows of an edit that do not say what becomes of them"))?
            .clone();
        let is = |change: RowChange| -> BooleanArray {
            fates.iter().map(|fate| Some(fate == Some(change.number()))).collect()
        };
        let (mut stay, mut present) = (vec![false; batch.num_rows()], Vec::new());
        for change in RowChange::ALL {
            let mask = is(change);
            let rows = mask.true_count();
            if rows == 0 {
                continue;
            }
            self.counts.add(change, rows as u64);
            if !matches!(change, RowChange::Deleted | RowChange::DeletedBySource) {
                stay.iter_mut().zip(mask.iter()).for_each(|(stay, is)| *stay |= is == Some(true));
            }
            present.push((change, mask));
        }
        let new = batch.project(&(0..self.columns).collect::<Vec<_>>())?;
        let staying = filter_record_batch(&new, &BooleanArray::from(stay))?;
        self.rows.write(staying).await?;
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let old = batch.project(&(self.columns..2 * self.columns).collect::<Vec<_>>())?;
        let old = RecordBatch::try_new(nullable(&new.schema()), old.columns().to_vec())?;
        for (change, mask) in present {
            let kinds: &[(&RecordBatch, ChangeType)] = match change {
                RowChange::Copied => &[],
                RowChange::Updated | RowChange::UpdatedBySource => {
                    &[(&old, ChangeType::UpdatePreimage), (&new, ChangeType::UpdatePostimage)]
                }
                RowChange::Deleted | RowChange::DeletedBySource => &[(&old, ChangeType::Delete)],
                RowChange::Inserted => &[(&new, ChangeType::Insert)],
            };
            for (rows, kind) in kinds {
                changes.write(with_change(&filter_record_batch(rows, &mask)?, *kind)?).await?;
            }
        }
        Ok(())
    }

    /// Removes what was written; no reader sees it.
    async fn abort(self) {
        for writer in [Some(self.rows), self.changes].into_iter().flatten() {
            if let Err(leftover) = writer.abort().await {
                tracing::warn!(error = %leftover, "files of a failed statement could not be removed; no reader sees them");
            }
        }
    }

    async fn close(self) -> Result<(WrittenFiles, RowCounts)> {
        let mut files = self.rows.close().await?;
        if let Some(changes) = self.changes {
            files.changes = changes.close_changes().await?;
        }
        Ok((files, self.counts))
    }
}

/// The columns, which may all be NULL.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows as the change data feed has them.
fn with_change(rows: &RecordBatch, change: ChangeType) -> Result<RecordBatch> {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
    let mut columns = rows.columns().to_vec();
    let kinds: ArrayRef = Arc::new(StringArray::from(vec![change.as_str(); rows.num_rows()]));
    columns.push(kinds);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
