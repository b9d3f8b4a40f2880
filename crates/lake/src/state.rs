//! Tables that hold the state of a flow: the keys seen so far, the files ingested so far.
//!
//! A batch names the version of each state table that belongs to it in its checkpoint. If the
//! process dies after the state was written and before the batch was committed, the table is one
//! version ahead of the truth. The next batch starts from the version the checkpoint names
//! (`base`), and its commit takes out whatever came after.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::runtime::JoinSet;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use datafusion::prelude::SessionContext;
use deltalake::kernel::{Add, Remove};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::relation::TimeTravel;
use futures::TryStreamExt as _;
use url::Url;

use crate::changes::DataFile;
use crate::commit::Commit;
use crate::definition::TableDefinition;
use crate::error::from_delta;
use crate::lake::Lake;
use crate::schema;
use crate::table::Table;
use crate::writer::{FileCompression, Writer, WriterOptions, WrittenFiles};

/// Rows that take the place of others.
pub struct Replacement {
    /// The files of the base version whose rows go.
    pub replaced: Vec<DataFile>,
    /// The rows that come; those of each stream go to files of their own.
    pub rows: Vec<SendableRecordBatchStream>,
    /// Their columns.
    pub schema: SchemaRef,
}

/// The files of a version that is not committed yet.
pub struct PreparedVersion {
    table: Table,
    commit: Commit,
}

/// The rows for which a writer of their own is worth it.
pub const LEAST_ROWS_OF_PART: usize = 250_000;
/// As many files of about the same size are merged into one.
const FILES_PER_LEVEL: usize = 8;

/// A Delta table owned by one flow.
#[derive(Debug, Clone)]
pub struct StateTable {
    lake: Lake,
    location: Url,
    latest: Option<Table>,
    /// The properties that the table is created with.
    properties: BTreeMap<String, String>,
}

impl StateTable {
    pub(crate) async fn open(lake: &Lake, location: &Url) -> Result<Self> {
        let latest = lake.open(location, None).await?;
        Ok(Self { lake: lake.clone(), location: location.clone(), latest, properties: BTreeMap::new() })
    }

    /// Gives the table a property when it is created. One that is there keeps those that it has.
    #[must_use]
    pub fn created_with(mut self, name: &str, value: String) -> Self {
        self.properties.insert(name.to_owned(), value);
        self
    }

    /// A property of the table, if it is there.
    ///
    /// # Errors
    /// `Data` if its metadata cannot be read.
    pub fn property(&self, name: &str) -> Result<Option<String>> {
        let definition = self.latest.as_ref().map(Table::definition).transpose()?;
        Ok(definition.and_then(|mut definition| definition.properties.remove(name)))
    }

    fn definition(&self, schema: &SchemaRef) -> TableDefinition {
        TableDefinition { properties: self.properties.clone(), ..TableDefinition::new(Arc::clone(schema)) }
    }

    /// The latest version, if the table is there. The truth is the version the checkpoint names.
    pub fn latest_version(&self) -> Option<u64> {
        self.latest.as_ref().map(Table::version)
    }

    /// The schema of the rows, if the table is there.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.latest.as_ref().map(Table::schema)
    }

    /// The rows as of `version`.
    ///
    /// # Errors
    /// `Data` if the table is not there or has no such version.
    pub async fn provider_at(&self, version: u64) -> Result<Arc<dyn TableProvider>> {
        self.table_at(version).await?.provider()
    }

    /// Commits the rows of `base` and those of `batches`, and returns the new version.
    ///
    /// `None` as `base` means no rows. Rows committed after `base` leave in the same commit. If there
    /// is nothing to change, nothing is committed and `base` is returned.
    ///
    /// # Errors
    /// `Conflict` if somebody else writes to the table at the same time.
    pub async fn append_from(
        &mut self,
        base: Option<u64>,
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        app_id: &str,
        batch: i64,
    ) -> Result<u64> {
        let mut table = match self.latest.take() {
            Some(table) => table,
            None => self.lake.create(&self.location, &self.definition(schema)).await?,
        };
        let result = self.replace(&mut table, base, batches, app_id, batch).await;
        self.latest = Some(table);
        result
    }

    /// The table as of `version`.
    ///
    /// # Errors
    /// `Data` if the table is not there or has no such version.
    pub async fn open_at(&self, version: u64) -> Result<Table> {
        self.table_at(version).await
    }

    /// Commits the rows of `base` without those of the replaced files, and the new rows, and returns the new version.
    ///
    /// `None` as `base` means no rows. Whatever was committed after `base` leaves in the same commit. Columns that
    /// the rows have and the table has not are added to it.
    ///
    /// # Errors
    /// `Conflict` if somebody else writes to the table at the same time.
    pub async fn replace_from(
        &mut self,
        base: Option<u64>,
        replacement: Replacement,
        app_id: &str,
        batch: i64,
    ) -> Result<u64> {
        let (table, version) = self.prepare(base, replacement).await?.commit_to(app_id, batch).await?;
        self.latest = Some(table);
        Ok(version)
    }

    /// Writes the files of what [`Self::replace_from`] commits.
    ///
    /// # Errors
    /// Whatever the rows or the store meet. Nobody reads the files that have been written until then.
    pub async fn prepare(&mut self, base: Option<u64>, replacement: Replacement) -> Result<PreparedVersion> {
        let table = match &self.latest {
            Some(table) => table.clone(),
            None => {
                let definition = self.definition(&replacement.schema);
                self.latest.insert(self.lake.create(&self.location, &definition).await?).clone()
            }
        };
        let base_table = match base {
            Some(version) if version == table.version() => Some(table.clone()),
            Some(version) => Some(self.table_at(version).await?),
            None => None,
        };
        let evolved = schema::merge(table.schema(), &replacement.schema)?;
        let mut options = WriterOptions::for_table(&table)?;
        options.compression = FileCompression::Zstd;
        if let Some(schema) = &evolved {
            options.schema = Arc::clone(schema);
        }
        let mut gone = replacement.replaced;
        let merged = match &base_table {
            Some(base) => {
                let stays = |file: &DataFile| !gone.iter().any(|gone| gone.path == file.path);
                files_to_merge(&base.files()?.into_iter().filter(stays).collect::<Vec<_>>())
            }
            None => Vec::new(),
        };
        let mut streams = replacement.rows.into_iter();
        let mut writer = Writer::new(&table, options.clone())?;
        let own = streams.next();
        let mut others = JoinSet::new();
        for rows in streams {
            let mut writer = Writer::new(&table, options.clone())?;
            others.spawn(async move {
                write_stream(&mut writer, rows).await?;
                writer.close().await
            });
        }
        if let Some(rows) = own {
            write_stream(&mut writer, rows).await?;
        }
        if let Some(base) = &base_table {
            copy(base, &merged, &mut writer).await?;
        }
        let mut files = writer.close().await?;
        files.extend(all(others).await?);
        gone.extend(merged);
        let (adds, removes) = difference(&table, base_table.as_ref(), &gone)?;
        files.adds.extend(adds);
        let mut commit = Commit::exact(files, removes);
        if let Some(schema) = evolved {
            commit = commit.schema(schema);
        }
        Ok(PreparedVersion { table, commit })
    }

    async fn replace(
        &self,
        table: &mut Table,
        base: Option<u64>,
        batches: Vec<RecordBatch>,
        app_id: &str,
        batch: i64,
    ) -> Result<u64> {
        let has_rows = batches.iter().any(|batch| batch.num_rows() > 0);
        if !has_rows && base == Some(table.version()) {
            return Ok(table.version());
        }
        let base_table = match base {
            Some(version) if version == table.version() => Some(table.clone()),
            Some(version) => Some(self.table_at(version).await?),
            None => None,
        };
        let base_files = base_table.as_ref().map_or(Ok(Vec::new()), Table::files)?;
        let merged = files_to_merge(&base_files);
        let rows = written(table, base_table.as_ref(), &merged, batches).await?;
        let (adds, removes) = difference(table, base_table.as_ref(), &merged)?;
        let mut files = rows;
        files.adds.extend(adds);
        let mut commit = Commit::exact(files, removes);
        if table.transaction_version(app_id).await?.is_none_or(|done| done < batch) {
            commit = commit.transaction(app_id, batch);
        }
        commit.commit(table).await
    }

    async fn table_at(&self, version: u64) -> Result<Table> {
        if let Some(latest) = &self.latest
            && latest.version() == version
        {
            return Ok(latest.clone());
        }
        self.lake.open(&self.location, Some(TimeTravel::Version(version))).await?.ok_or_else(|| {
            Error::data(format!("the state table at `{}` is gone", self.location))
                .with_help("Refresh the table that the state belongs to fully.")
        })
    }
}

impl PreparedVersion {
    /// Commits the files on behalf of a flow's batch, and returns the new version.
    ///
    /// # Errors
    /// `Conflict` if somebody else has written to the table since.
    pub async fn commit(self, app_id: &str, batch: i64) -> Result<u64> {
        Ok(self.commit_to(app_id, batch).await?.1)
    }

    async fn commit_to(mut self, app_id: &str, batch: i64) -> Result<(Table, u64)> {
        let mut commit = self.commit;
        if self.table.transaction_version(app_id).await?.is_none_or(|done| done < batch) {
            commit = commit.transaction(app_id, batch);
        }
        let version = commit.commit(&mut self.table).await?;
        Ok((self.table, version))
    }
}

/// The files that are merged into one with the new rows: all of a size class once there are many.
///
/// Sizes of classes grow by [`FILES_PER_LEVEL`], so every row is rewritten once per class only.
pub fn files_to_merge(files: &[DataFile]) -> Vec<DataFile> {
    let mut levels: BTreeMap<u32, Vec<DataFile>> = BTreeMap::new();
    for file in files {
        let level = file.size_bytes.max(1).ilog(FILES_PER_LEVEL as u64);
        levels.entry(level).or_default().push(file.clone());
    }
    levels.into_values().filter(|level| level.len() >= FILES_PER_LEVEL).flatten().collect()
}

/// The columns of digests: the only binary ones of a state.
fn digests(schema: &SchemaRef) -> Vec<String> {
    let binary = |field: &&Arc<Field>| *field.data_type() == DataType::Binary;
    schema.fields().iter().filter(binary).map(|field| field.name().clone()).collect()
}

/// Writes the new rows and those of the files to merge; many rows into several files at once.
async fn written(
    table: &Table,
    base: Option<&Table>,
    merged: &[DataFile],
    batches: Vec<RecordBatch>,
) -> Result<WrittenFiles> {
    let mut options = WriterOptions::for_table(table)?;
    options.compression = FileCompression::Zstd;
    options.random_columns = digests(&options.schema);
    let mut parts = parts(batches).into_iter();
    let mut writer = Writer::new(table, options.clone())?;
    let own = parts.next().unwrap_or_default();
    let mut others = JoinSet::new();
    for batches in parts {
        let mut writer = Writer::new(table, options.clone())?;
        others.spawn(async move {
            write_all(&mut writer, batches).await?;
            writer.close().await
        });
    }
    write_all(&mut writer, own).await?;
    if let Some(base) = base {
        copy(base, merged, &mut writer).await?;
    }
    let mut files = writer.close().await?;
    files.extend(all(others).await?);
    Ok(files)
}

/// The files of all writers.
async fn all(mut writers: JoinSet<Result<WrittenFiles>>) -> Result<WrittenFiles> {
    let mut files = WrittenFiles::default();
    while let Some(written) = writers.join_next().await {
        files.extend(written.map_err(|error| Error::internal(format!("a writing task died: {error}")))??);
    }
    Ok(files)
}

async fn write_all(writer: &mut Writer, batches: Vec<RecordBatch>) -> Result<()> {
    for batch in batches {
        writer.write(batch).await?;
    }
    Ok(())
}

/// The batches in as many parts of about the same size as there are threads, or fewer if that would make small files.
fn parts(batches: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let count = (rows / LEAST_ROWS_OF_PART).clamp(1, threads);
    let mut parts = vec![Vec::new(); count];
    let mut before = 0;
    for batch in batches {
        let part = before * count / rows.max(1);
        before += batch.num_rows();
        parts[part].push(batch);
    }
    parts
}

/// Writes the rows of some files of `table`.
async fn copy(table: &Table, files: &[DataFile], writer: &mut Writer) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let session = SessionContext::new();
    let provider = table.provider_for_files(files).await?;
    let plan = session.read_table(provider)?.create_physical_plan().await?;
    write_stream(writer, execute_stream(plan, session.task_ctx())?).await
}

async fn write_stream(writer: &mut Writer, mut rows: SendableRecordBatchStream) -> Result<()> {
    while let Some(batch) = rows.try_next().await? {
        writer.write(batch).await?;
    }
    Ok(())
}

/// The adds and removes that lead from the files of `latest` to those of `base` without `merged`.
fn difference(latest: &Table, base: Option<&Table>, merged: &[DataFile]) -> Result<(Vec<Add>, Vec<Remove>)> {
    let latest_files = latest.state()?.snapshot().try_log_data().map_err(from_delta)?;
    let mut keep: BTreeMap<String, Add> = BTreeMap::new();
    if let Some(base) = base {
        for file in base.state()?.snapshot().try_log_data().map_err(from_delta)?.iter() {
            if !merged.iter().any(|merged| merged.path == file.path()) {
                keep.insert(file.path().into_owned(), add_of(&file));
            }
        }
    }
    let mut removes = Vec::new();
    for file in latest_files.iter() {
        if keep.remove(file.path().as_ref()).is_none() {
            removes.push(file.remove_action(true));
        }
    }
    Ok((keep.into_values().collect(), removes))
}

fn add_of(file: &deltalake::kernel::LogicalFileView) -> Add {
    Add {
        path: file.path().into_owned(),
        partition_values: file.partition_values_map(),
        size: file.size(),
        modification_time: file.modification_time(),
        data_change: true,
        stats: file.stats(),
        ..Add::default()
    }
}
