//! A Delta table at one version: opening, creating, looking at it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use deltalake::kernel::Action;
use deltalake::kernel::transaction::{CommitProperties, PROTOCOL};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTable, DeltaTableError};
use deltaworks_spark::error::{Error, Kind, Result};
use deltaworks_spark::relation::TimeTravel;
use futures::TryStreamExt as _;
use url::Url;

use crate::definition::{CLUSTERING_PROPERTY, TableDefinition};
use crate::error::{from_delta, while_opening};
use crate::lake::Lake;
use crate::{location, metadata, properties, schema, variant};

/// Condition of reads that were planned for columns which the table has not any more.
const COLUMNS_CHANGED: &str = "DELTA_SCHEMA_CHANGED";

/// After so many versions a table is read anew from its log. What each version adds is kept as a batch of its own, of a few rows and
/// dozens of columns: a table that is followed for a day would fill the memory with them.
const VERSIONS_UNTIL_READ_ANEW: u32 = 64;

/// Whether a read failed because the table has other columns than it was planned for: it succeeds when it is planned again.
pub fn are_columns_changed(error: &Error) -> bool {
    error.condition() == Some(COLUMNS_CHANGED)
}

/// A Delta table at the version it was opened at or last committed.
#[derive(Clone)]
pub struct Table {
    inner: DeltaTable,
    lake: Lake,
    location: Url,
    schema: SchemaRef,
    /// Whether an earlier state was asked for.
    pinned: bool,
    /// Versions that were added to what was read first.
    added: u32,
}

impl Table {
    pub(crate) async fn open(lake: &Lake, location: &Url, at: Option<TimeTravel>) -> Result<Option<Self>> {
        let log_store = lake.log_store(location)?;
        if location::to_path(location).is_some_and(|path| !path.join("_delta_log").is_dir()) {
            return Ok(None);
        }
        let mut inner = DeltaTable::new(log_store);
        let pinned = at.is_some();
        let loaded = match at {
            None => inner.load().await,
            Some(TimeTravel::Version(version)) => match inner.load_version(version).await {
                Err(_) if inner.verify_deltatable_existence().await.map_err(from_delta)? => {
                    return Err(from_delta(DeltaTableError::InvalidVersion(version)));
                }
                loaded => loaded,
            },
            Some(TimeTravel::Timestamp(at_us)) => {
                let version = version_at(&inner, at_us).await?;
                inner.load_version(version).await
            }
        };
        match loaded {
            Ok(()) => Self::new(inner, lake, location, pinned).map(Some),
            Err(_) if !inner.verify_deltatable_existence().await.map_err(from_delta)? => Ok(None),
            Err(error) => Err(while_opening(error, location)),
        }
    }

    pub(crate) async fn create(lake: &Lake, location: &Url, definition: &TableDefinition) -> Result<Self> {
        let log_store = lake.log_store(location)?;
        check_columns(definition)?;
        location::create_folder(location)?;
        let schema = schema::to_delta(&definition.schema)?;
        let properties = properties::supported(&definition.stored_properties())?.kept;
        let mut create = CreateBuilder::new()
            .with_log_store(log_store)
            .with_save_mode(SaveMode::ErrorIfExists)
            .with_raise_if_key_not_exists(false)
            .with_columns(metadata::to_kernel(&schema)?.fields().cloned())
            .with_partition_columns(definition.partition_columns.clone())
            .with_configuration(properties.iter().map(|(key, value)| (key.clone(), Some(value.clone()))))
            .with_actions([Action::Protocol(metadata::initial_protocol(&schema, &properties)?)])
            .with_commit_properties(CommitProperties::default().with_create_checkpoint(false));
        if let Some(comment) = &definition.comment {
            create = create.with_comment(comment);
        }
        if let Some(name) = &definition.name {
            create = create.with_table_name(name);
        }
        let inner = create.await.map_err(|error| creation_failed(error, location))?;
        Self::new(inner, lake, location, false)
    }

    fn new(inner: DeltaTable, lake: &Lake, location: &Url, pinned: bool) -> Result<Self> {
        let schema = columns(inner.snapshot().map_err(from_delta)?);
        Ok(Self { inner, lake: lake.clone(), location: location.clone(), schema, pinned, added: 0 })
    }

    /// The same table at another version; `None` if it is gone.
    ///
    /// # Errors
    /// Those of [`Lake::open`].
    pub async fn at(&self, at: Option<TimeTravel>) -> Result<Option<Self>> {
        Self::open(&self.lake, &self.location, at).await
    }

    /// Whether it was opened as of a version or time, rather than as the latest.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// The version this is a view of.
    pub fn version(&self) -> u64 {
        self.inner.version().unwrap_or_default()
    }

    /// Where the table lies.
    pub fn location(&self) -> &Url {
        &self.location
    }

    /// The id the table got when it was created. Another table at the same place has another one.
    pub fn id(&self) -> Result<String> {
        Ok(self.state()?.metadata().id().to_owned())
    }

    /// The columns: strings as `Utf8`, timestamps in microseconds, comments and generation expressions as metadata.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What the table was created with, as of this version.
    pub fn definition(&self) -> Result<TableDefinition> {
        let metadata = self.state()?.metadata();
        let mut properties: BTreeMap<String, String> =
            metadata.configuration().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let clustering_columns = match properties.remove(CLUSTERING_PROPERTY) {
            Some(columns) => serde_json::from_str(&columns).map_err(|error| {
                Error::data(format!("property `{CLUSTERING_PROPERTY}` is not a list of columns")).with_source(error)
            })?,
            None => Vec::new(),
        };
        Ok(TableDefinition {
            schema: Arc::clone(&self.schema),
            partition_columns: metadata.partition_columns().to_vec(),
            clustering_columns,
            properties,
            comment: metadata.description().map(ToOwned::to_owned),
            name: metadata.name().map(ToOwned::to_owned),
        })
    }

    /// The version that application `app_id` last committed with, as of this version of the table.
    pub async fn transaction_version(&self, app_id: &str) -> Result<Option<i64>> {
        let log_store = self.inner.log_store();
        self.state()?.transaction_version(log_store.as_ref(), app_id).await.map_err(from_delta)
    }

    /// The number of rows, if the statistics of all files say it.
    pub fn row_count_from_stats(&self) -> Result<Option<u64>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        Ok(log
            .iter()
            .map(|file| match file.deletion_vector_descriptor() {
                Some(_) => None,
                None => file.num_records().map(|rows| rows as u64),
            })
            .sum())
    }

    /// The number of data files and their size in bytes.
    pub fn size(&self) -> Result<(u64, u64)> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        Ok(log.iter().fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.size().unsigned_abs())))
    }

    /// The first version committed at or after `at_us` (microseconds since the epoch) that the log still has.
    ///
    /// # Errors
    /// `DELTA_TIMESTAMP_GREATER_THAN_COMMIT` (`User`) if there is none.
    pub async fn first_version_since(&self, at_us: i64) -> Result<u64> {
        let commits = commit_times(&self.inner).await?;
        let since = commits.iter().find(|(_, time)| *time >= at_us).map(|(version, _)| *version);
        since.ok_or_else(|| after_latest(at_us, commits[commits.len() - 1]).with_help("Use a time up to then."))
    }

    /// Whether rows look the same in both: names and types, whatever the comments.
    pub fn has_same_columns(&self, other: &Self) -> bool {
        let (a, b) = (self.schema.fields(), other.schema.fields());
        let same =
            |(a, b): (&FieldRef, &FieldRef)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type());
        a.len() == b.len() && a.iter().zip(b).all(same)
    }

    /// The error of a reader that was planned for other columns than the table has now.
    pub fn columns_changed(&self) -> Error {
        Error::new(Kind::Conflict, format!("the columns of the table at `{}` have changed", self.location))
            .with_condition(COLUMNS_CHANGED)
            .with_help("Start the update again, so that the flow is planned with the new columns.")
    }

    /// Refuses a table that commits are not possible to, before any file is written for one.
    ///
    /// # Errors
    /// `Unsupported`, with the features that the table has and this program has not.
    pub fn check_writable(&self) -> Result<()> {
        PROTOCOL.can_write_to(self.state()?.snapshot()).map_err(|error| from_delta(error.into()))
    }

    /// Moves to the latest version.
    pub async fn refresh(&mut self) -> Result<()> {
        let before = self.version();
        self.inner.update_state().await.map_err(from_delta)?;
        self.added += u32::from(self.version() != before);
        self.schema = columns(self.state()?);
        self.read_anew_if_due().await
    }

    /// Gives back what versions one after the other have piled up. The table stays at its version.
    pub(crate) async fn read_anew_if_due(&mut self) -> Result<()> {
        if self.added < VERSIONS_UNTIL_READ_ANEW {
            return Ok(());
        }
        let mut inner = DeltaTable::new(self.inner.log_store());
        inner.load_version(self.inner.snapshot().map_err(from_delta)?.version()).await.map_err(from_delta)?;
        (self.inner, self.added) = (inner, 0);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn added(&self) -> u32 {
        self.added
    }

    pub(crate) fn inner(&self) -> &DeltaTable {
        &self.inner
    }

    pub(crate) fn state(&self) -> Result<&DeltaTableState> {
        self.inner.snapshot().map_err(from_delta)
    }

    pub(crate) fn set_state(&mut self, state: DeltaTableState) {
        self.schema = columns(&state);
        self.inner.state = Some(state);
        self.added += 1;
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("location", &self.location.as_str())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

fn columns(state: &DeltaTableState) -> SchemaRef {
    variant::marked(state.snapshot().arrow_schema(), &state.schema())
}

fn check_columns(definition: &TableDefinition) -> Result<()> {
    for column in definition.partition_columns.iter().chain(&definition.clustering_columns) {
        if definition.schema.field_with_name(column).is_err() {
            return Err(Error::user(format!("the table is laid out by column `{column}`, which it does not have"))
                .with_condition("DELTA_COLUMN_NOT_FOUND_IN_SCHEMA"));
        }
    }
    if definition.partition_columns.len() == definition.schema.fields().len() {
        return Err(Error::user("a table cannot be partitioned by all of its columns")
            .with_condition("DELTA_CANNOT_USE_ALL_COLUMNS_FOR_PARTITION"));
    }
    Ok(())
}

fn creation_failed(error: DeltaTableError, location: &Url) -> Error {
    let exists =
        matches!(error, DeltaTableError::VersionAlreadyExists(_)) || error.to_string().contains("already exists");
    if exists {
        Error::user(format!("there is a table at `{location}` already"))
            .with_condition("DELTA_PATH_EXISTS")
            .with_source(error)
    } else {
        from_delta(error).context(format!("while creating the table at `{location}`"))
    }
}

/// Commits the log still has and when each was made (microseconds since the epoch): by the modification
/// times of the log's files, ascending, never empty.
async fn commit_times(table: &DeltaTable) -> Result<Vec<(u64, i64)>> {
    let log_store = table.log_store();
    let files: Vec<_> = log_store
        .object_store(None)
        .list(Some(log_store.log_path()))
        .try_collect()
        .await
        .map_err(|error| from_delta(error.into()))?;
    let mut commits: Vec<(u64, i64)> = files
        .iter()
        .filter_map(|file| {
            let version = file.location.filename()?.strip_suffix(".json")?.parse().ok()?;
            Some((version, file.last_modified.timestamp_micros()))
        })
        .collect();
    commits.sort_unstable();
    if commits.is_empty() {
        return Err(Error::data("the table's log has no commits"));
    }
    Ok(commits)
}

fn show(at_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(at_us).map_or_else(String::new, |at| at.to_rfc3339())
}

fn after_latest(at_us: i64, last: (u64, i64)) -> Error {
    Error::user(format!("{} is after the table's latest version ({})", show(at_us), show(last.1)))
        .with_condition("DELTA_TIMESTAMP_GREATER_THAN_COMMIT")
}

/// The last version committed at or before `at_us`.
async fn version_at(table: &DeltaTable, at_us: i64) -> Result<u64> {
    let commits = commit_times(table).await?;
    let (first, last) = (commits[0], commits[commits.len() - 1]);
    if at_us < first.1 {
        return Err(Error::user(format!("{} is before the table's first version ({})", show(at_us), show(first.1)))
            .with_condition("DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION"));
    }
    if at_us > last.1 {
        return Err(
            after_latest(at_us, last).with_help(format!("Use a time up to then, or `VERSION AS OF {}`.", last.0))
        );
    }
    let version = commits.iter().rev().find(|(_, time)| *time <= at_us).map_or(first.0, |(version, _)| *version);
    Ok(version)
}
