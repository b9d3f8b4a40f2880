//! A Delta table as a stream: its rows as of the first start, then the rows of each commit.
//!
//! What a commit means for a stream is decided in `commits`; where reading stands is an `offset`. A position
//! always points at something that was not read: a reader that has nothing to do knows it from the latest
//! version alone.

pub(crate) mod commits;
mod feed;
pub(crate) mod offset;
pub(crate) mod options;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltaworks_lake::{CommitChanges, DataFile, Table};
use deltaworks_spark::relation::{ReadOptions, TimeTravel};
use deltaworks_spark::streaming::{Backlog, OpenContext, SizeUnit, Slice, StreamReader, StreamSource};
use deltaworks_spark::{Error, Result};
use url::Url;

use self::commits::{check_columns, readable};
use self::feed::ChangeFeed;
pub(crate) use self::feed::changes_between;
use self::offset::{PendingFile, Position, from_offset, to_offset};
pub(crate) use self::options::asks_for_changes;
use self::options::{Beginning, DeltaOptions};
use crate::context::SourceContext;
use crate::delta::no_table;

/// The Delta table at `location` as a stream: first its rows as they are now, then what is committed.
///
/// # Errors
/// `DELTA_PATH_DOES_NOT_EXIST` if there is no table; `DELTA_MISSING_CHANGE_DATA` if its changes are read, and it does not record
/// them; wrong options (`User`); options that are known but not implemented (`Unsupported`).
pub async fn delta_stream(
    location: &Url,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn StreamSource>> {
    let options = DeltaOptions::parse(options, context.conf.time_zone)?;
    let table = context.lake().open(location, None).await?.ok_or_else(|| no_table(location.as_str()))?;
    Ok(match options.changes {
        true => Arc::new(ChangeFeed::new(table, options)?),
        false => Arc::new(DeltaStreamSource { table, options }),
    })
}

/// Whether `options` ask for the changes of a table ([`deltaworks_lake::feed`]) instead of its rows.
///
/// # Errors
/// What [`delta_stream`] would refuse before there is a table: wrong options (`User`), options that are known but not
/// implemented (`Unsupported`).
pub fn streams_changes(options: &ReadOptions, context: &SourceContext) -> Result<bool> {
    Ok(DeltaOptions::parse(options, context.conf.time_zone)?.changes)
}

/// A stream of a Delta table's rows.
#[derive(Debug)]
struct DeltaStreamSource {
    table: Table,
    options: DeltaOptions,
}

#[async_trait]
impl StreamSource for DeltaStreamSource {
    fn description(&self) -> String {
        format!("delta[{}]", self.table.location())
    }

    fn identity(&self) -> String {
        format!("delta:{}", self.table.location())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        let table = latest(&self.table).await?;
        let start = match &context.start {
            Some(offset) => from_offset(offset, &table)?,
            None => first_position(&table, self.options.beginning).await?,
        };
        let pending = self.pending(&table, start).await?;
        let anchor = context.start.is_none() && self.options.beginning != Beginning::Snapshot;
        Ok(Box::new(DeltaStreamReader {
            table_id: table.id()?,
            table,
            pending: pending.into(),
            options: self.options.clone(),
            anchor,
        }))
    }
}

impl DeltaStreamSource {
    /// Everything from `start` to the version of `table`, in the order it is read.
    async fn pending(&self, table: &Table, start: Position) -> Result<Vec<PendingFile>> {
        let mut pending = Vec::new();
        let mut next = start;
        if start.initial {
            let files = snapshot_of(table, start.version).await?.files()?;
            pending.extend(start.rest(files).filter(|pending| self.includes(pending)));
            next = Position::commit(start.version + 1);
        }
        if next.version <= table.version() {
            let commits = table.changes(next.version, table.version()).await.map_err(needs_full_refresh)?;
            check_schema_changes(table, &commits, start).await?;
            for commit in commits {
                let position = if commit.version == next.version { next } else { Position::commit(commit.version) };
                let files = readable(commit, self.options.policy, table.location().as_str())?;
                pending.extend(position.rest(files).filter(|pending| self.includes(pending)));
            }
        }
        Ok(pending)
    }

    fn includes(&self, pending: &PendingFile) -> bool {
        !self.options.exclude.as_ref().is_some_and(|exclude| exclude.is_match(&pending.file.path))
    }
}

/// `table` at its latest version, if its rows still fit the plan that was made for it.
async fn latest(known: &Table) -> Result<Table> {
    if known.latest_version().await? == known.version() {
        return Ok(known.clone());
    }
    let location = known.location();
    let table = known.at(None).await?.ok_or_else(|| no_table(location.as_str()))?;
    if !known.has_same_columns(&table) {
        return Err(known.columns_changed());
    }
    Ok(table)
}

/// Where a checkpoint without an offset starts.
async fn first_position(table: &Table, beginning: Beginning) -> Result<Position> {
    match beginning {
        Beginning::Snapshot => Ok(Position::snapshot(table.version())),
        Beginning::Latest => Ok(Position::commit(table.version() + 1)),
        Beginning::Version(version) if version > table.version() => Err(Error::user(format!(
            "`startingVersion` is {version}, but the latest version of the table at `{}` is {}",
            table.location(),
            table.version()
        ))
        .with_condition("DELTA_VERSION_NOT_FOUND")
        .with_help("Use a version that the table has, or `latest`.")),
        Beginning::Version(version) => Ok(Position::commit(version)),
        Beginning::Timestamp(at_us) => Ok(Position::commit(table.first_version_since(at_us).await?)),
    }
}

/// The table as of the snapshot that is being read.
async fn snapshot_of(table: &Table, version: u64) -> Result<Table> {
    if version == table.version() {
        return Ok(table.clone());
    }
    let opened = table.at(Some(TimeTravel::Version(version))).await;
    opened.map_err(needs_full_refresh)?.ok_or_else(|| no_table(table.location().as_str()))
}

/// The log no longer has what comes next.
fn needs_full_refresh(error: Error) -> Error {
    match error.condition() {
        Some("DELTA_VERSIONS_NOT_CONTIGUOUS" | "DELTA_VERSION_NOT_FOUND") => Error::data(error.message())
            .with_condition("DELTA_VERSIONS_NOT_CONTIGUOUS")
            .with_help(
                "The table's log was cleaned up before everything was read; run a full refresh of the reading table.",
            )
            .with_source(error),
        _ => error,
    }
}

/// Fails if rows that were not read yet do not fit the table's columns any more.
async fn check_schema_changes(table: &Table, commits: &[CommitChanges], start: Position) -> Result<()> {
    let first = match start.initial {
        true => Some(start.version),
        false => commits.iter().find(|commit| commit.new_rows().next().is_some()).map(|commit| commit.version),
    };
    let Some(first) = first else { return Ok(()) };
    if !commits.iter().any(|commit| commit.metadata_changed && commit.version > first) {
        return Ok(());
    }
    let before = snapshot_of(table, first).await?;
    check_columns(before.schema().fields(), table.schema().fields(), first, table.location().as_str())
}

/// Plans what was there when it was opened.
struct DeltaStreamReader {
    table: Table,
    table_id: String,
    pending: VecDeque<PendingFile>,
    options: DeltaOptions,
    /// Whether a slice without rows is still needed, to remember where a start that is not repeatable was.
    anchor: bool,
}

#[async_trait]
impl StreamReader for DeltaStreamReader {
    async fn next_slice(&mut self) -> Result<Option<Slice>> {
        if self.pending.is_empty() && !self.anchor {
            return Ok(None);
        }
        self.anchor = false;
        let taken = self.options.limit.take(&mut self.pending, |pending| pending.file.size_bytes);
        let end = match taken.last() {
            Some(last) if !self.pending.is_empty() => last.after,
            // Commits without rows at the end are done, too.
            _ => Position::commit(self.table.version() + 1),
        };
        let files: Vec<DataFile> = taken.into_iter().map(|pending| pending.file).collect();
        let backlog = Backlog {
            bytes: Some(self.pending.iter().map(|pending| pending.file.size_bytes).sum()),
            files: Some(self.pending.len() as u64),
            records: None,
        };
        let input = self.table.provider_for_files(&files).await?;
        let rows = files.iter().map(|file| file.rows).sum();
        let size = Some(files.iter().map(|file| file.size_bytes).sum());
        Ok(Some(Slice { end: to_offset(&self.table_id, end)?, input, rows, size, ledger: None, backlog }))
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
