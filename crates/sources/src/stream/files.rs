//! Files as a stream: each file is read once, which the ledger remembers.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use deltaworks_spark::streaming::{Backlog, Offset, OpenContext, Slice, StreamReader, StreamSource};
use deltaworks_spark::{Error, Result};

use crate::listing::FileEntry;
use crate::relation::FileRelation;
use crate::scan::FileTable;
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
        let seen = match &context.ledger {
            Some(ledger) => read_ledger(Arc::clone(ledger)).await?,
            None => HashMap::new(),
        };
        let overwrites = relation.options.allow_overwrites;
        let mut files = relation.list().await?;
        let listed = fingerprint(&files);
        files.retain(|file| match seen.get(&file.key) {
            None => true,
            Some(modified) => overwrites && *modified != file.modified_us,
        });
        let skip_existing = context.start.is_none() && !relation.options.include_existing;
        let discovered_us = (relation.context.clock)().timestamp_micros();
        let total = context.start.as_ref().and_then(|start| start.get("files")?.as_u64()).unwrap_or(0);
        Ok(Box::new(FileStreamReader { relation, files: files.into(), total, skip_existing, discovered_us, listed }))
    }
}

/// The files of earlier batches with their modification times.
async fn read_ledger(ledger: Arc<dyn TableProvider>) -> Result<HashMap<String, i64>> {
    let frame = SessionContext::new().read_table(ledger)?.select_columns(&["path", "modification_time"])?;
    let mut seen: HashMap<String, i64> = HashMap::new();
    for batch in frame.collect().await? {
        let paths = cast(batch.column(0), &DataType::Utf8)?;
        let times = cast(batch.column(1), &types::timestamp())?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        for (row, path) in paths.as_string::<i32>().iter().enumerate() {
            let Some(path) = path else { continue };
            let time = if times.is_null(row) { 0 } else { times.value(row) };
            let latest = seen.entry(path.to_owned()).or_insert(time);
            *latest = time.max(*latest);
        }
    }
    Ok(seen)
}

struct FileStreamReader {
    relation: FileRelation,
    files: VecDeque<FileEntry>,
    total: u64,
    skip_existing: bool,
    discovered_us: i64,
    /// What the listing said when the reader was opened.
    listed: u64,
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
        let limit = Limit::new(self.relation.options.max_files, self.relation.options.max_bytes);
        let files = if read { limit.take(&mut self.files, |file| file.size) } else { self.files.drain(..).collect() };
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
        let evolution = self.relation.evolution(&files);
        let input = Arc::new(FileTable::new(Arc::clone(&self.relation.spec), files, evolution));
        Ok(Some(Slice { end, input, rows: None, ledger: Some(ledger), backlog }))
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
