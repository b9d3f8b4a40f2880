//! `badRecordsPath`: records and files that cannot be read are dropped, and told of in files of JSON lines.
//!
//! A scan has written all that it dropped before its rows end, so no batch counts without. It is at least once: a batch
//! that is run again writes again. A part is named after what it was read from, so that the scans of one read, however
//! many there are, write the same objects; a later read writes them under the same names to the folder of its own time.

use std::sync::Arc;

use arrow::datatypes::Field;
use chrono::DateTime;
use deltaworks_spark::types::sql_type_name;
use deltaworks_spark::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Serialize;
use uuid::Uuid;

use crate::context::{Location, SourceContext};
use crate::format::FileTask;
use crate::listing::{FileEntry, below, literal_root};
use crate::scan::ScanSpec;

/// A part is written once it has so many bytes.
const PART_BYTES: usize = 8 << 20;
/// Of a value that does not fit, a reason shows so many characters: the record has the rest.
const SHOWN_CHARS: usize = 100;

/// A record that was dropped.
#[derive(Debug)]
pub(crate) struct BadRecord {
    pub(crate) record: String,
    pub(crate) reason: String,
}

impl BadRecord {
    /// Why a record with this value does not fit; `path` leads to it within the column.
    pub(crate) fn misfit(field: &Field, path: &[String], value: &str) -> String {
        let shown: String = value.chars().take(SHOWN_CHARS).collect();
        let name = field.name();
        let place = if path.is_empty() { String::new() } else { format!(" of `{name}.{}`", path.join(".")) };
        format!("column `{name}` is {}, but the value{place} is `{shown}`", sql_type_name(field.data_type()))
    }
}

/// Where the option says.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` (`User`) if files of `paths` would be taken for bad records.
pub(crate) fn locate(written: &str, context: &SourceContext, paths: &[String]) -> Result<Location> {
    let location = context.locate(written)?;
    for path in paths {
        let source = context.locate(path)?;
        let root = literal_root(&source.key);
        if source.base == location.base && (root == location.key || below(root, &location.key).is_some()) {
            return Err(Error::user(format!("`badRecordsPath` `{written}` holds the files of `{path}`"))
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Name a folder of its own; it may lie below the one that is read."));
        }
    }
    Ok(location)
}

/// The place for what one read drops.
#[derive(Debug)]
pub(crate) struct BadRecords {
    location: Location,
    /// `yyyyMMddTHHmmss` in UTC, as of when the read began.
    time: String,
}

impl BadRecords {
    /// The place of a read that began at `began_us`.
    pub(crate) fn new(location: &Location, began_us: i64) -> Self {
        let time = DateTime::from_timestamp_micros(began_us).unwrap_or_default();
        Self { location: location.clone(), time: time.format("%Y%m%dT%H%M%S").to_string() }
    }

    /// Writes what partition `partition` of a scan drops.
    pub(crate) fn writer(&self, spec: &ScanSpec, partition: usize, tasks: &[FileTask]) -> BadRecordsWriter {
        let read = identity(spec, tasks);
        let parts = |kind: &str| Parts {
            store: Arc::clone(&self.location.store),
            folder: format!("{}/{}/{kind}", self.location.key, self.time),
            partition,
            read: Uuid::new_v5(&read, kind.as_bytes()),
            lines: Vec::new(),
            written: 0,
        };
        BadRecordsWriter { records: parts("bad_records"), files: parts("bad_files"), last_file: None }
    }
}

/// The same for scans that drop the same: of the same files, which have not changed, read in the same way.
fn identity(spec: &ScanSpec, tasks: &[FileTask]) -> Uuid {
    let mut text = format!("{:?} {:?} {}", spec.format, spec.columns.roles, spec.case_sensitive);
    for field in spec.columns.schema.fields() {
        text.push_str(&format!("\n{} {}", field.name(), field.data_type()));
    }
    for FileTask { file, start, end } in tasks {
        text.push_str(&format!("\n{} {} {} {start} {end}", file.url, file.size, file.modified_us));
    }
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
}

#[derive(Serialize)]
struct RecordLine<'a> {
    path: &'a str,
    record: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: &'a str,
    reason: &'a str,
}

/// Writes what one partition drops.
pub(crate) struct BadRecordsWriter {
    records: Parts,
    files: Parts,
    /// The last file that could not be read: a partition tells of a file once, whatever ranges of it it has.
    last_file: Option<String>,
}

impl BadRecordsWriter {
    /// Takes the records of a file that were dropped.
    pub(crate) async fn records(&mut self, file: &FileEntry, dropped: Vec<BadRecord>) -> Result<()> {
        for BadRecord { record, reason } in &dropped {
            self.records.push(&RecordLine { path: &file.url, record, reason }).await?;
        }
        Ok(())
    }

    /// Takes a file that cannot be read.
    pub(crate) async fn file(&mut self, file: &FileEntry, error: &Error) -> Result<()> {
        if self.last_file.as_ref() == Some(&file.url) {
            return Ok(());
        }
        self.last_file = Some(file.url.clone());
        self.files.push(&FileLine { path: &file.url, reason: error.message() }).await
    }

    /// Writes what is left.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.records.write().await?;
        self.files.write().await
    }
}

/// Lines that are written a part at a time. A part is there as a whole or not at all.
struct Parts {
    store: Arc<dyn ObjectStore>,
    folder: String,
    partition: usize,
    /// What is read, as an id.
    read: Uuid,
    lines: Vec<u8>,
    /// How many parts there are.
    written: u64,
}

impl Parts {
    async fn push(&mut self, line: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.lines, line).map_err(|error| Error::internal(error.to_string()))?;
        self.lines.push(b'\n');
        if self.lines.len() >= PART_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let id = Uuid::new_v5(&self.read, &self.written.to_be_bytes());
        let path = Path::parse(format!("{}/part-{:05}-{id}", self.folder, self.partition))
            .map_err(|error| Error::user(format!("`badRecordsPath` is not a path: {error}")))?;
        let lines = std::mem::take(&mut self.lines);
        tracing::warn!(part = %path, "records or files that cannot be read were dropped, and written");
        self.store.put(&path, lines.into()).await.map_err(|error| {
            Error::new(Kind::Unavailable, format!("cannot write bad records to `{path}`: {error}"))
                .with_source(error)
                .with_help("Check `badRecordsPath`, and whether it may be written.")
        })?;
        self.written += 1;
        Ok(())
    }
}
