//! The change data feed of a Delta table as a stream: its rows as they are now, then what each commit changes.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltaworks_lake::feed::{feed_schema, not_recorded};
use deltaworks_lake::{DataFile, Table};
use deltaworks_spark::streaming::{Backlog, OpenContext, SizeUnit, Slice, StreamReader, StreamSource};
use deltaworks_spark::{Error, Result};

use super::offset::{PendingFile, Position, from_offset, to_offset};
use super::options::{Beginning, DeltaOptions};
use super::{check_schema_changes, first_position, latest, needs_full_refresh, snapshot_of};

/// A stream of changes, in the columns of [`feed_schema`].
#[derive(Debug)]
pub(super) struct ChangeFeed {
    table: Table,
    schema: SchemaRef,
    options: DeltaOptions,
}

impl ChangeFeed {
    /// The feed of `table`.
    ///
    /// # Errors
    /// `DELTA_MISSING_CHANGE_DATA` (`User`) if the table does not record changes.
    pub(super) fn new(table: Table, options: DeltaOptions) -> Result<Self> {
        if !table.records_changes()? {
            return Err(not_recorded(table.location().as_str()));
        }
        Ok(Self { schema: feed_schema(table.schema()), table, options })
    }
}

#[async_trait]
impl StreamSource for ChangeFeed {
    fn description(&self) -> String {
        format!("changes of delta[{}]", self.table.location())
    }

    fn identity(&self) -> String {
        format!("delta-changes:{}", self.table.location())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        let table = latest(&self.table).await?;
        let start = match &context.start {
            Some(offset) => from_offset(offset, &table)?,
            None => first_position(&table, self.options.beginning).await?,
        };
        let (mut snapshot, mut files, mut next) = (None, VecDeque::new(), start.version);
        if start.initial {
            let at = snapshot_of(&table, start.version).await?;
            files.extend(start.rest(at.files()?));
            snapshot = Some(at);
            next += 1;
        }
        let mut commits = VecDeque::new();
        if next <= table.version() {
            let changes = table.changes(next, table.version()).await.map_err(needs_full_refresh)?;
            check_schema_changes(&table, &changes, start).await?;
            let with_changes =
                changes.into_iter().filter(|commit| commit.removes_rows() || commit.new_rows().next().is_some());
            commits.extend(with_changes.map(|commit| PendingCommit {
                version: commit.version,
                bytes: commit.new_rows().map(|file| file.size_bytes).sum(),
                files: commit.added.len() as u64,
            }));
        }
        let anchor = context.start.is_none() && self.options.beginning != Beginning::Snapshot;
        Ok(Box::new(ChangeFeedReader {
            table_id: table.id()?,
            table,
            snapshot,
            files,
            commits,
            options: self.options.clone(),
            anchor,
        }))
    }
}

/// A commit that changed rows. It is read as a whole.
#[derive(Debug, Clone, Copy)]
struct PendingCommit {
    version: u64,
    bytes: u64,
    files: u64,
}

/// Plans what was there when it was opened: what is left of the snapshot first, then commits.
struct ChangeFeedReader {
    table: Table,
    table_id: String,
    snapshot: Option<Table>,
    files: VecDeque<PendingFile>,
    commits: VecDeque<PendingCommit>,
    options: DeltaOptions,
    /// Whether a slice without rows is still needed, to remember where a start that is not repeatable was.
    anchor: bool,
}

impl ChangeFeedReader {
    fn backlog(&self) -> Backlog {
        let files = self.files.iter().map(|pending| pending.file.size_bytes);
        Backlog {
            bytes: Some(files.chain(self.commits.iter().map(|commit| commit.bytes)).sum()),
            files: Some(self.files.len() as u64 + self.commits.iter().map(|commit| commit.files).sum::<u64>()),
            records: None,
        }
    }

    /// Where reading goes on when all that is pending has been read.
    fn end(&self) -> Position {
        Position::commit(self.table.version() + 1)
    }
}

#[async_trait]
impl StreamReader for ChangeFeedReader {
    async fn next_slice(&mut self) -> Result<Option<Slice>> {
        if let (Some(snapshot), false) = (&self.snapshot, self.files.is_empty()) {
            let taken = self.options.limit.take(&mut self.files, |pending| pending.file.size_bytes);
            let after = taken.last().map_or_else(|| self.end(), |last| last.after);
            let end = if self.files.is_empty() && self.commits.is_empty() { self.end() } else { after };
            let files: Vec<DataFile> = taken.into_iter().map(|pending| pending.file).collect();
            let rows = files.iter().map(|file| file.rows).sum();
            let size = Some(files.iter().map(|file| file.size_bytes).sum());
            let input = snapshot.rows_as_inserted(&files).await?;
            let end = to_offset(&self.table_id, end)?;
            return Ok(Some(Slice { end, input, rows, size, ledger: None, backlog: self.backlog() }));
        }
        if self.commits.is_empty() && !self.anchor {
            return Ok(None);
        }
        self.anchor = false;
        let taken = self.options.limit.take(&mut self.commits, |commit| commit.bytes);
        let end = match taken.last() {
            Some(last) if !self.commits.is_empty() => Position::commit(last.version + 1),
            _ => self.end(),
        };
        let input = match (taken.first(), taken.last()) {
            (Some(first), Some(last)) => self.table.change_feed(first.version, last.version).await?,
            _ => Arc::new(datafusion::datasource::empty::EmptyTable::new(feed_schema(self.table.schema()))),
        };
        Ok(Some(Slice {
            end: to_offset(&self.table_id, end)?,
            input,
            rows: None,
            size: Some(taken.iter().map(|commit| commit.bytes).sum()),
            ledger: None,
            backlog: self.backlog(),
        }))
    }

    fn adapts(&self) -> Option<SizeUnit> {
        self.options.limit.adapts().then_some(SizeUnit::Bytes)
    }

    fn aim_at(&mut self, size: u64) {
        self.options.limit.aim_at(size);
    }

    async fn has_news(&mut self) -> Result<bool> {
        Ok(self.table.latest_version().await? != self.table.version())
    }
}

/// A batch read of the feed: the changes of some commits.
///
/// # Errors
/// `DELTA_NO_START_FOR_CDC_READ` (`User`) without a start, `DELTA_INVALID_CDC_RANGE` if it is after the end; those of
/// [`Table::change_feed`].
pub(crate) async fn changes_between(
    table: &Table,
    options: &crate::options::Options<'_>,
    zone: chrono_tz::Tz,
) -> Result<Arc<dyn datafusion::catalog::TableProvider>> {
    let start = match (options.count("startingVersion")?, options.timestamp("startingTimestamp", zone)?) {
        (Some(version), None) => version,
        (None, Some(at_us)) => table.first_version_since(at_us).await?,
        (Some(_), Some(_)) => {
            return Err(Error::user("only one of `startingVersion` and `startingTimestamp` can be given")
                .with_condition("DELTA_MULTIPLE_CDC_BOUNDARY"));
        }
        (None, None) => {
            return Err(Error::user("a read of changes needs a start")
                .with_condition("DELTA_NO_START_FOR_CDC_READ")
                .with_help("Give `startingVersion` or `startingTimestamp`."));
        }
    };
    let end = match (options.count("endingVersion")?, options.timestamp("endingTimestamp", zone)?) {
        (Some(version), None) => version,
        (None, Some(at_us)) => match table.first_version_since(at_us.saturating_add(1)).await {
            Ok(after) => after.saturating_sub(1),
            Err(error) if error.condition() == Some("DELTA_TIMESTAMP_GREATER_THAN_COMMIT") => table.version(),
            Err(error) => return Err(error),
        },
        (Some(_), Some(_)) => {
            return Err(Error::user("only one of `endingVersion` and `endingTimestamp` can be given")
                .with_condition("DELTA_MULTIPLE_CDC_BOUNDARY"));
        }
        (None, None) => table.version(),
    };
    if start > end || start > table.version() {
        return Err(Error::user(format!(
            "changes from version {start} to {end} are none: the latest version is {}",
            table.version()
        ))
        .with_condition("DELTA_INVALID_CDC_RANGE"));
    }
    table.change_feed(start, end).await
}
