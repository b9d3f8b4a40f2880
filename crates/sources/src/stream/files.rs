//! Files as a stream: each file is read once, which the ledger remembers.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use deltaworks_spark::streaming::{Backlog, Offset, OpenContext, SizeUnit, Slice, StreamReader, StreamSource};
use deltaworks_spark::{Error, Result};

use crate::listing::FileEntry;
use crate::relation::FileRelation;
use crate::scan::FileTable;
use crate::stream::clean::Cleaner;
use crate::stream::limit::Limit;
use deltaworks_spark::types;

/// The columns of the ledger: `path: Utf8` (below the load path as it was written), `size: Int64`, `modification_time` and `discovered_at:
/// Timestamp(us, UTC)`, none nullable.
pub fn ledger_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("size", DataType::Int64, false),
        Field::new("modification_time", types::timestamp(), false),
        Field::new("discovered_at", types::timestamp(), false),
    ]))
}

/// A stream of files.
#[derive(Debug)]
pub(crate) struct FileStreamSource {
    relation: FileRelation,
}

impl FileStreamSource {
    pub(crate) fn new(relation: FileRelation) -> Self {
        Self { relation }
    }
}

#[async_trait]
impl StreamSource for FileStreamSource {
    fn description(&self) -> String {
        format!("{}[{}]", self.relation.name, self.relation.paths.join(", "))
    }

    fn identity(&self) -> String {
        self.description()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.relation.spec.columns.schema)
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        let relation = self.relation.clone();
        let now_us = (relation.context.clock)().timestamp_micros();
        let seen = match &context.ledger {
            Some(ledger) => read_ledger(Arc::clone(ledger)).await?,
            None => HashMap::new(),
        };
        let overwrites = relation.options.allow_overwrites;
        let mut files = relation.list().await?;
        let listed = fingerprint(&files);
        if let Some(age) = relation.options.max_age_us
            && let Some(newest) = seen.values().map(|read| read.modified_us).max()
        {
            files.retain(|file| file.modified_us >= newest.saturating_sub(age) || seen.contains_key(&file.key));
        }
        let clean = relation.options.clean_source.as_ref();
        let mut cleaner = clean.map(|clean| Cleaner::new(clean, &relation.context, &relation.paths)).transpose()?;
        files.retain(|file| match seen.get(&file.key) {
            None => true,
            // What has changed since it was read is read again, or is left alone.
            Some(read) if read.modified_us != file.modified_us => overwrites,
            Some(read) => {
                if let Some(cleaner) = &mut cleaner {
                    cleaner.was_read(file, read.discovered_us, now_us);
                }
                false
            }
        });
        let skip_existing = context.start.is_none() && !relation.options.include_existing;
        let total = context.start.as_ref().and_then(|start| start.get("files")?.as_u64()).unwrap_or(0);
        let (files, discovered_us, limit) = (files.into(), now_us, relation.options.limit);
        Ok(Box::new(FileStreamReader { relation, limit, files, total, skip_existing, discovered_us, listed, cleaner }))
    }
}

/// What the ledger says of a file: when it was changed and when it was found, as of the last time that it was read.
#[derive(Clone, Copy)]
struct Read {
    modified_us: i64,
    discovered_us: i64,
}

/// The files of earlier batches.
async fn read_ledger(ledger: Arc<dyn TableProvider>) -> Result<HashMap<String, Read>> {
    let columns = ["path", "modification_time", "discovered_at"];
    let frame = SessionContext::new().read_table(ledger)?.select_columns(&columns)?;
    let mut seen: HashMap<String, Read> = HashMap::new();
    for batch in frame.collect().await? {
        let paths = cast(batch.column(0), &DataType::Utf8)?;
        let modified = cast(batch.column(1), &types::timestamp())?;
        let discovered = cast(batch.column(2), &types::timestamp())?;
        let modified = modified.as_primitive::<TimestampMicrosecondType>();
        let discovered = discovered.as_primitive::<TimestampMicrosecondType>();
        for (row, path) in paths.as_string::<i32>().iter().enumerate() {
            let Some(path) = path else { continue };
            let read = Read { modified_us: modified.value(row), discovered_us: discovered.value(row) };
            let latest = seen.entry(path.to_owned()).or_insert(read);
            if read.modified_us > latest.modified_us {
                *latest = read;
            }
        }
    }
    Ok(seen)
}

struct FileStreamReader {
    relation: FileRelation,
    limit: Limit,
    files: VecDeque<FileEntry>,
    total: u64,
    skip_existing: bool,
    discovered_us: i64,
    /// What the listing said when the reader was opened.
    listed: u64,
    cleaner: Option<Cleaner>,
}

/// A number that is another one once a file has come, gone or changed.
fn fingerprint(files: &[FileEntry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        (&file.url, file.size, file.modified_us).hash(&mut hasher);
    }
    hasher.finish()
}

#[async_trait]
impl StreamReader for FileStreamReader {
    async fn next_slice(&mut self) -> Result<Option<Slice>> {
        // A first start that skips what exists is remembered even if nothing exists.
        if self.files.is_empty() && !self.skip_existing {
            return Ok(None);
        }
        // What was there before the first start is only remembered.
        let read = !std::mem::take(&mut self.skip_existing);
        let files =
            if read { self.limit.take(&mut self.files, |file| file.size) } else { self.files.drain(..).collect() };
        let ledger = self.ledger(&files)?;
        self.total += files.len() as u64;
        let latest = files.iter().map(|file| file.modified_us).max().unwrap_or(0);
        let end: Offset = serde_json::json!({"files": self.total, "latest_modification_us": latest});
        let backlog = Backlog {
            bytes: Some(self.files.iter().map(|file| file.size).sum()),
            files: Some(self.files.len() as u64),
            records: None,
        };
        let files = if read { files } else { Vec::new() };
        let size = Some(files.iter().map(|file| file.size).sum());
        if let Some(cleaner) = &mut self.cleaner {
            cleaner.is_read(&files);
        }
        let input = Arc::new(FileTable::slice(&self.relation, files, self.discovered_us));
        Ok(Some(Slice { end, input, rows: None, size, ledger: Some(ledger), backlog }))
    }

    async fn committed(&mut self) {
        if let Some(cleaner) = &mut self.cleaner {
            cleaner.clean().await;
        }
    }

    fn adapts(&self) -> Option<SizeUnit> {
        self.limit.adapts().then_some(SizeUnit::Bytes)
    }

    fn aim_at(&mut self, size: u64) {
        self.limit.aim_at(size);
    }

    /// The ledger, which grows with every file, is read only if the listing says something new.
    async fn has_news(&mut self) -> Result<bool> {
        Ok(fingerprint(&self.relation.list().await?) != self.listed)
    }
}

impl FileStreamReader {
    fn ledger(&self, files: &[FileEntry]) -> Result<RecordBatch> {
        let times =
            |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) };
        let sizes: Vec<i64> = files.iter().map(|file| file.size as i64).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.key))),
            Arc::new(Int64Array::from(sizes)),
            times(files.iter().map(|file| file.modified_us).collect()),
            times(vec![self.discovered_us; files.len()]),
        ];
        RecordBatch::try_new(ledger_schema(), columns).map_err(Error::from)
    }
}
