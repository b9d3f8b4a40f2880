//! The event log: a Delta table at `<storage>/system/events` with the columns of Databricks' event log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Lake, Table, TableDefinition, Writer, WriterOptions, location};
use deltaworks_spark::{Kind, Result};
use url::Url;

use super::arrow::{from_record_batch, schema, to_record_batch};
use super::bus::EventSink;
use super::model::{Event, Level};

/// Where the log lies below the pipeline's storage.
const PATH: &str = "system/events";

/// How often buffered events are committed while an update runs.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// How many buffered events are committed at once, whatever the time.
const FLUSH_EVENTS: usize = 5_000;

/// The location of the event log of a pipeline.
///
/// # Errors
/// `User` if `storage` cannot have anything below it.
pub fn event_log_location(storage: &Url) -> Result<Url> {
    location::below(storage, PATH)
}

/// Writes events to the log: buffered, one commit per flush.
///
/// A flush that fails because the storage does not answer keeps its events for the next one; only the last
/// flush, at the end of the update, reports it.
#[derive(Debug)]
pub struct EventLogWriter {
    lake: Lake,
    location: Url,
    table: Option<Table>,
    buffer: Vec<Arc<Event>>,
    flush_interval: Duration,
}

impl EventLogWriter {
    /// Writes to the log of the pipeline with this storage. The table is created by the first flush.
    ///
    /// # Errors
    /// `User` if `storage` cannot have anything below it.
    pub fn new(lake: &Lake, storage: &Url) -> Result<Self> {
        Ok(Self {
            lake: lake.clone(),
            location: event_log_location(storage)?,
            table: None,
            buffer: Vec::new(),
            flush_interval: FLUSH_INTERVAL,
        })
    }

    async fn commit_buffer(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let batch = to_record_batch(&self.buffer)?;
        let table = match &mut self.table {
            Some(table) => table,
            unopened => unopened.insert(open_or_create(&self.lake, &self.location).await?),
        };
        let mut writer = Writer::new(table, WriterOptions::for_table(table)?)?;
        writer.write(batch).await?;
        Commit::append(writer.close().await?).commit(table).await?;
        self.buffer.clear();
        Ok(())
    }
}

async fn open_or_create(lake: &Lake, location: &Url) -> Result<Table> {
    if let Some(table) = lake.open(location, None).await? {
        return Ok(table);
    }
    let mut definition = TableDefinition::new(schema());
    definition.comment = Some("What happened in the updates of this pipeline.".to_owned());
    match lake.create(location, &definition).await {
        Ok(table) => Ok(table),
        // Another update of the same pipeline may have created it meanwhile.
        Err(error) => lake.open(location, None).await?.ok_or(error),
    }
}

#[async_trait]
impl EventSink for EventLogWriter {
    fn name(&self) -> &str {
        "the event log"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        self.buffer.extend(events.iter().cloned());
        if self.buffer.len() >= FLUSH_EVENTS { self.flush().await } else { Ok(()) }
    }

    fn flush_interval(&self) -> Option<Duration> {
        Some(self.flush_interval)
    }

    async fn flush(&mut self) -> Result<()> {
        match self.commit_buffer().await {
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Conflict) => {
                tracing::warn!(error = %error, "events could not be written to the event log; trying again");
                self.table = None;
                Ok(())
            }
            other => other,
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.commit_buffer().await
    }
}

/// Which events of a log are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only these levels; empty for all.
    pub levels: Vec<Level>,
    /// Only these event types; empty for all.
    pub event_types: Vec<String>,
    /// Only this update.
    pub update: UpdateFilter,
    /// Only the latest so many.
    pub limit: Option<usize>,
}

/// The updates whose events are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpdateFilter {
    /// All of them.
    #[default]
    All,
    /// The one that wrote the latest `create_update` event.
    Latest,
    /// The one with this id.
    Id(String),
}

/// Reads a pipeline's event log, oldest event first. There is none before the first update, and so no events.
///
/// # Errors
/// `Unavailable` if the storage does not answer, `Data` if a row is no event.
pub async fn read_events(lake: &Lake, storage: &Url, filter: &EventFilter) -> Result<Vec<Event>> {
    let location = event_log_location(storage)?;
    let Some(table) = lake.open(&location, None).await? else { return Ok(Vec::new()) };
    let update_id = match &filter.update {
        UpdateFilter::All => None,
        UpdateFilter::Id(id) => Some(id.clone()),
        UpdateFilter::Latest => match latest_update(&table).await? {
            Some(id) => Some(id),
            None => return Ok(Vec::new()),
        },
    };
    read_table(&table, filter, update_id.as_deref()).await
}

async fn latest_update(table: &Table) -> Result<Option<String>> {
    let filter =
        EventFilter { event_types: vec!["create_update".to_owned()], limit: Some(1), ..EventFilter::default() };
    let latest = read_table(table, &filter, None).await?;
    Ok(latest.into_iter().next_back().and_then(|event| event.origin.update_id))
}

async fn read_table(table: &Table, filter: &EventFilter, update_id: Option<&str>) -> Result<Vec<Event>> {
    let mut frame = SessionContext::new().read_table(table.provider()?)?;
    if !filter.levels.is_empty() {
        frame = frame.filter(one_of("level", filter.levels.iter().map(|level| level.as_str())))?;
    }
    if !filter.event_types.is_empty() {
        frame = frame.filter(one_of("event_type", filter.event_types.iter().map(String::as_str)))?;
    }
    if let Some(id) = update_id {
        frame = frame.filter(get_field(col("origin"), "update_id").eq(lit(id)))?;
    }
    if let Some(limit) = filter.limit {
        let newest_first = vec![col("timestamp").sort(false, false)];
        frame = frame.sort(newest_first)?.limit(0, Some(limit))?;
    }
    let mut events = Vec::new();
    for batch in frame.collect().await? {
        events.extend(from_record_batch(&batch)?);
    }
    sort_oldest_first(&mut events);
    Ok(events)
}

fn one_of<'a>(column: &str, words: impl Iterator<Item = &'a str>) -> Expr {
    col(column).in_list(words.map(lit).collect(), false)
}

/// By time, then by number within the source.
fn sort_oldest_first(events: &mut [Event]) {
    events.sort_by_key(|event| {
        let number = event.sequence.data_plane_id.as_ref().map(|id| id.seq_no);
        (event.timestamp, number.or(event.sequence.control_plane_seq_no))
    });
}
