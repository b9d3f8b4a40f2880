//! One atomic commit: rows, schema, properties and application transaction, or nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::datatypes::{Schema, SchemaRef};
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, FinalizedCommit, TransactionError};
use deltalake::kernel::{Action, CommitInfo, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, OutputMode, SaveMode};
use deltaworks_spark::error::{Error, Kind, Result};
use serde_json::Value;

use crate::changes::DataFile;
use crate::definition::CLUSTERING_PROPERTY;
use crate::error::from_delta;
use crate::log_checkpoint;
use crate::metadata::{MetadataChange, upgraded_protocol};
use crate::properties;
use crate::schema::to_delta;
use crate::table::Table;
use crate::writer::WrittenFiles;

/// How often a commit is tried again when somebody else was faster and the two go together.
const MAX_ATTEMPTS: usize = 15;

/// What one commit does to a table.
#[derive(Debug, Clone)]
pub struct Commit {
    files: WrittenFiles,
    removal: Removal,
    change: MetadataChange,
    transactions: Vec<(String, i64)>,
    on_this_version: bool,
    metrics: BTreeMap<String, Value>,
    user_metadata: Option<String>,
    /// What the history calls it, if not what it does to files says that.
    named: Option<(&'static str, BTreeMap<String, String>)>,
}

#[derive(Debug, Clone)]
enum Removal {
    Nothing,
    /// Every file the table has when the commit lands.
    Everything,
    /// These files; any other commit in between is a conflict.
    Files(Vec<Remove>),
    /// These files, whose rows come again in others: a conflict only if somebody else has removed one of them.
    Moved(Vec<Remove>),
}

impl Commit {
    /// Adds rows.
    pub fn append(files: WrittenFiles) -> Self {
        Self::new(files, Removal::Nothing)
    }

    /// Replaces all rows.
    pub fn overwrite(files: WrittenFiles) -> Self {
        Self::new(files, Removal::Everything)
    }

    /// Puts the rows of `files` in the place of those of `replaced`, files of the table, on exactly the version
    /// the table is at.
    ///
    /// # Errors
    /// `Internal` if the table has no such file.
    pub fn merge(table: &Table, files: WrittenFiles, replaced: &[DataFile]) -> Result<Self> {
        Ok(Self::exact(files, removals(table, replaced, true)?))
    }

    /// Puts the same rows into `files` that `replaced`, files of the table, hold: nobody has to read them again.
    ///
    /// # Errors
    /// `Internal` if the table has no such file.
    pub fn compact(table: &Table, mut files: WrittenFiles, replaced: &[DataFile]) -> Result<Self> {
        files.adds.iter_mut().for_each(|add| add.data_change = false);
        Ok(Self::new(files, Removal::Moved(removals(table, replaced, false)?)))
    }

    /// Adds and removes given files, on exactly the version the table is at.
    pub(crate) fn exact(files: WrittenFiles, removes: Vec<Remove>) -> Self {
        Self::new(files, Removal::Files(removes))
    }

    fn new(files: WrittenFiles, removal: Removal) -> Self {
        Self {
            files,
            removal,
            change: MetadataChange::default(),
            transactions: Vec::new(),
            on_this_version: false,
            metrics: BTreeMap::new(),
            user_metadata: None,
            named: None,
        }
    }

    /// Changes the table's columns in the same commit.
    #[must_use]
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.change.schema = Some(schema);
        self
    }

    /// Replaces all table properties in the same commit; clustering columns stay.
    #[must_use]
    pub fn properties(mut self, properties: BTreeMap<String, String>) -> Self {
        self.change.properties = Some(properties);
        self
    }

    /// Sets or clears the table's comment in the same commit.
    #[must_use]
    pub fn comment(mut self, comment: Option<String>) -> Self {
        self.change.comment = Some(comment);
        self
    }

    /// Changes the partition columns in the same commit. Only together with [`Commit::overwrite`].
    #[must_use]
    pub fn partition_columns(mut self, columns: Vec<String>) -> Self {
        self.change.partition_columns = Some(columns);
        self
    }

    /// Records that application `app_id` has done `version`. One commit can do so for several applications.
    #[must_use]
    pub fn transaction(mut self, app_id: impl Into<String>, version: i64) -> Self {
        self.transactions.push((app_id.into(), version));
        self
    }

    /// Only lands directly on the version that the table is at: any commit in between is a conflict
    /// (`DELTA_CONCURRENT_WRITE`). For rows that were checked against those of that version.
    #[must_use]
    pub fn on_this_version(mut self) -> Self {
        self.on_this_version = true;
        self
    }

    /// Metrics for the table's history; rows, files and bytes written are added by themselves.
    #[must_use]
    pub fn operation_metrics(mut self, metrics: BTreeMap<String, Value>) -> Self {
        self.metrics = metrics;
        self
    }

    /// What the table's history calls it, with its parameters.
    #[must_use]
    pub fn operation_name(mut self, name: &'static str, parameters: BTreeMap<String, String>) -> Self {
        self.named = Some((name, parameters));
        self
    }

    /// Free text for the table's history.
    #[must_use]
    pub fn user_metadata(mut self, text: impl Into<String>) -> Self {
        self.user_metadata = Some(text.into());
        self
    }

    /// Commits, moves `table` to the new version and returns it.
    ///
    /// Appends go together with other appends, whichever comes first. An overwrite removes what is
    /// there when it lands.
    ///
    /// # Errors
    /// `Conflict` if the application transaction or a later one is already there, or if somebody
    /// changed the table's definition; `User` if the table only allows appends and rows are removed.
    pub async fn commit(self, table: &mut Table) -> Result<u64> {
        if self.change.partition_columns.is_some() && !matches!(self.removal, Removal::Everything) {
            return Err(Error::user("partition columns can only change when all rows are replaced")
                .with_condition("DELTA_PARTITION_COLUMN_CAST_FAILED"));
        }
        fail::fail_point!("lake.before_commit", |_| Err(Error::new(
            Kind::Unavailable,
            "failpoint `lake.before_commit`"
        )));
        self.check_transaction(table).await?;
        let version = match &self.removal {
            Removal::Files(_) => self.attempt(table, 0).await?,
            _ if self.on_this_version => self.attempt(table, 0).await?,
            Removal::Nothing => self.attempt(table, MAX_ATTEMPTS).await?,
            Removal::Everything => self.replace(table).await?,
            Removal::Moved(removes) => self.move_rows(table, removes).await?,
        };
        fail::fail_point!("lake.after_commit", |_| Err(Error::new(Kind::Unavailable, "failpoint `lake.after_commit`")));
        log_checkpoint::write_if_due(table).await;
        if let Err(error) = table.read_anew_if_due().await {
            // The commit has happened: who fails now would commit again.
            tracing::warn!(table = %table.location(), version, %error, "the table could not be read anew");
        }
        Ok(version)
    }

    /// Overwrites the latest version, again and again while only rows changed in between.
    async fn replace(&self, table: &mut Table) -> Result<u64> {
        let planned_on = (table.id()?, table.definition()?);
        for _ in 0..MAX_ATTEMPTS {
            table.refresh().await?;
            if (table.id()?, table.definition()?) != planned_on {
                return Err(Error::new(Kind::Conflict, "the table's definition was changed by somebody else")
                    .with_condition("DELTA_METADATA_CHANGED"));
            }
            self.check_transaction(table).await?;
            match self.attempt(table, 0).await {
                Err(error) if error.condition() == Some("DELTA_CONCURRENT_WRITE") => {}
                done => return done,
            }
        }
        Err(Error::new(Kind::Conflict, "the table is being changed by others all the time")
            .with_condition("DELTA_CONCURRENT_WRITE"))
    }

    /// Commits again and again while others leave the files alone.
    async fn move_rows(&self, table: &mut Table, removes: &[Remove]) -> Result<u64> {
        let planned_on = (table.id()?, table.definition()?);
        for _ in 1..MAX_ATTEMPTS {
            match self.attempt(table, 0).await {
                Err(error) if error.condition() == Some("DELTA_CONCURRENT_WRITE") => {}
                done => return done,
            }
            table.refresh().await?;
            let log = table.state()?.snapshot().try_log_data().map_err(from_delta)?;
            let current: HashSet<String> = log.iter().map(|file| file.path().into_owned()).collect();
            if (table.id()?, table.definition()?) != planned_on
                || !removes.iter().all(|file| current.contains(&file.path))
            {
                return Err(Error::new(Kind::Conflict, "somebody else has changed rows of the files meanwhile")
                    .with_condition("DELTA_CONCURRENT_DELETE_READ")
                    .with_help("Run the statement again."));
            }
        }
        self.attempt(table, 0).await
    }

    async fn attempt(&self, table: &mut Table, retries: usize) -> Result<u64> {
        let actions = self.actions(table)?;
        let done = self.submit(table, actions, retries).await.map_err(from_delta)?;
        let version = done.version();
        table.set_state(done.snapshot());
        Ok(version)
    }

    async fn submit(
        &self,
        table: &Table,
        actions: Vec<Action>,
        retries: usize,
    ) -> Result<FinalizedCommit, DeltaTableError> {
        let state = table.inner().snapshot()?;
        let mut properties = CommitProperties::default()
            .with_max_retries(retries)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata(self.commit_info(table.version()));
        for (app_id, version) in &self.transactions {
            let now_ms = chrono::Utc::now().timestamp_millis();
            properties = properties.with_application_transaction(Transaction::new_with_last_update(
                app_id,
                *version,
                Some(now_ms),
            ));
        }
        CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(state), table.inner().log_store(), self.operation())
            .await
            .map_err(|error| match error {
                DeltaTableError::Transaction { source: TransactionError::VersionAlreadyExists(version) } => {
                    DeltaTableError::VersionAlreadyExists(version)
                }
                other => other,
            })
    }

    fn actions(&self, table: &Table) -> Result<Vec<Action>> {
        let mut actions: Vec<Action> = self.named_info().map(Action::CommitInfo).into_iter().collect();
        actions.extend(self.metadata_actions(table)?);
        match &self.removal {
            Removal::Nothing => {}
            Removal::Everything => {
                let log = table.state()?.snapshot().try_log_data().map_err(from_delta)?;
                actions.extend(log.iter().map(|file| Action::Remove(file.remove_action(true))));
            }
            Removal::Files(removes) | Removal::Moved(removes) => {
                actions.extend(removes.iter().cloned().map(Action::Remove));
            }
        }
        actions.extend(self.files.adds.iter().cloned().map(Action::Add));
        actions.extend(self.files.changes.iter().cloned().map(Action::Cdc));
        Ok(actions)
    }

    fn metadata_actions(&self, table: &Table) -> Result<Vec<Action>> {
        if self.change.is_empty() {
            return Ok(Vec::new());
        }
        let state = table.state()?;
        let mut change = self.change.clone();
        if let Some(schema) = &change.schema {
            change.schema = Some(to_delta(schema)?);
        }
        if let Some(wanted) = &mut change.properties {
            let stored = state.metadata().configuration();
            // What the table has already came with the protocol it needs.
            let (had, new): (BTreeMap<_, _>, _) =
                std::mem::take(wanted).into_iter().partition(|(key, value)| stored.get(key) == Some(value));
            *wanted = properties::supported(&new)?.kept;
            wanted.extend(had);
            if let Some(clustering) = stored.get(CLUSTERING_PROPERTY) {
                wanted.insert(CLUSTERING_PROPERTY.to_owned(), clustering.clone());
            }
        }
        let metadata = change.apply(state.metadata())?;
        let schema: &Schema = change.schema.as_deref().unwrap_or(table.schema());
        let properties = metadata.configuration().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let protocol = upgraded_protocol(state.protocol(), schema, &properties)?;
        Ok(protocol.map(Action::Protocol).into_iter().chain([Action::Metadata(metadata)]).collect())
    }

    fn operation(&self) -> DeltaOperation {
        match (&self.removal, self.transactions.first()) {
            (Removal::Nothing, Some((app_id, version))) => DeltaOperation::StreamingUpdate {
                output_mode: OutputMode::Append,
                query_id: app_id.clone(),
                epoch_id: *version,
            },
            (Removal::Nothing, None) => write_operation(SaveMode::Append),
            (Removal::Files(_) | Removal::Moved(_), _) => DeltaOperation::Merge {
                predicate: None,
                merge_predicate: None,
                matched_predicates: Vec::new(),
                not_matched_predicates: Vec::new(),
                not_matched_by_source_predicates: Vec::new(),
            },
            (Removal::Everything, _) => write_operation(SaveMode::Overwrite),
        }
    }

    /// What the history shows instead of what the library would make of the operation.
    fn named_info(&self) -> Option<CommitInfo> {
        let (name, parameters) = self.named.as_ref()?;
        let shown = DeltaOperation::get_commit_info(&self.operation());
        let parameters = parameters.iter().map(|(key, value)| (key.clone(), Value::from(value.clone())));
        Some(CommitInfo {
            timestamp: Some(chrono::Utc::now().timestamp_millis()),
            operation: Some((*name).to_owned()),
            operation_parameters: Some(parameters.collect()),
            ..shown
        })
    }

    fn commit_info(&self, read_version: u64) -> HashMap<String, Value> {
        let mut metrics: serde_json::Map<String, Value> =
            self.metrics.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let own = [
            ("numFiles", self.files.adds.len() as u64),
            ("numOutputRows", self.files.rows),
            ("numOutputBytes", self.files.bytes),
        ];
        for (key, number) in own.into_iter().filter(|_| self.named.is_none()) {
            metrics.entry(key).or_insert_with(|| Value::String(number.to_string()));
        }
        let blind_append = matches!(self.removal, Removal::Nothing) && self.change.is_empty() && !self.on_this_version;
        let mut info = HashMap::from([
            ("operationMetrics".to_owned(), Value::Object(metrics)),
            ("readVersion".to_owned(), Value::from(read_version)),
            ("isBlindAppend".to_owned(), Value::Bool(blind_append)),
            ("clientVersion".to_owned(), Value::from(concat!("deltaworks.", env!("CARGO_PKG_VERSION")))),
        ]);
        if let Some(text) = &self.user_metadata {
            info.insert("userMetadata".to_owned(), Value::from(text.clone()));
        }
        info
    }

    async fn check_transaction(&self, table: &Table) -> Result<()> {
        for (app_id, version) in &self.transactions {
            if let Some(done) = table.transaction_version(app_id).await?.filter(|done| done >= version) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("`{app_id}` has already committed {done}, which is not before {version}"),
                )
                .with_condition("DELTA_CONCURRENT_TRANSACTION"));
            }
        }
        Ok(())
    }
}

/// The actions that take `replaced`, files of the table, out of it.
fn removals(table: &Table, replaced: &[DataFile], data_change: bool) -> Result<Vec<Remove>> {
    let wanted: HashSet<&str> = replaced.iter().map(|file| file.path.as_str()).collect();
    let log = table.state()?.snapshot().try_log_data().map_err(from_delta)?;
    let removes: Vec<Remove> = log
        .iter()
        .filter(|file| wanted.contains(file.path().as_ref()))
        .map(|file| file.remove_action(data_change))
        .collect();
    match removes.len() == wanted.len() {
        true => Ok(removes),
        false => Err(Error::internal("a file to be replaced is not part of the table")),
    }
}

fn write_operation(mode: SaveMode) -> DeltaOperation {
    DeltaOperation::Write { mode, partition_by: None, predicate: None }
}
