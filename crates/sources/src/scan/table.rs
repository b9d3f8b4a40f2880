//! A set of files as a table provider.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{FileScanExec, Scan};
use super::{Evolution, ScanSpec, plain_parquet};
use crate::bad_records::BadRecords;
use crate::format::split::split;
use crate::listing::FileEntry;
use crate::relation::FileRelation;

/// Files that were listed, read as `spec` says.
pub(crate) struct FileTable {
    spec: Arc<ScanSpec>,
    files: Vec<Arc<FileEntry>>,
    evolution: Option<Arc<dyn Evolution>>,
    bad_records: Option<Arc<BadRecords>>,
    /// What was asked for; `None` for a slice of a stream.
    request: Option<Request>,
}

/// A read of all files that there are.
#[derive(Clone)]
struct Request {
    relation: FileRelation,
    /// Format, paths and options.
    text: String,
}

impl fmt::Debug for FileTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTable").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl FileTable {
    /// A slice of `relation`: files found at `discovered_us`.
    pub(crate) fn slice(relation: &FileRelation, files: Vec<FileEntry>, discovered_us: i64) -> Self {
        Self {
            evolution: relation.evolution(&files),
            bad_records: relation.bad_records(discovered_us),
            ..Self::new(relation, files)
        }
    }

    /// The files of `relation` that there are now, the largest first as Spark reads them; `text` says what was asked
    /// for: format, paths, options.
    pub(crate) async fn requested(mut relation: FileRelation, text: String) -> deltaworks_spark::Result<Self> {
        let now_us = (relation.context.clock)().timestamp_micros();
        let mut files = relation.list_once().await?;
        files.sort_by_key(|file| std::cmp::Reverse(file.size));
        let bad_records = relation.bad_records(now_us);
        let table = Self::new(&relation, files);
        Ok(Self { bad_records, request: Some(Request { relation, text }), ..table })
    }

    fn new(relation: &FileRelation, files: Vec<FileEntry>) -> Self {
        let files = files.into_iter().map(Arc::new).collect();
        Self { spec: Arc::clone(&relation.spec), files, evolution: None, bad_records: None, request: None }
    }

    /// The same read of the files that there are now; `None` for a slice of a stream.
    pub(crate) async fn latest(&self) -> deltaworks_spark::Result<Option<Self>> {
        match self.request.clone() {
            Some(Request { relation, text }) => Self::requested(relation, text).await.map(Some),
            None => Ok(None),
        }
    }

    /// What is read and from which state of which files: as long as it is the same text, so are the rows.
    pub(crate) fn state(&self) -> Option<String> {
        let mut text = format!("{}\n{:?}", self.request.as_ref()?.text, self.spec.columns.schema);
        let mut files: Vec<&FileEntry> = self.files.iter().map(AsRef::as_ref).collect();
        files.sort_by(|a, b| a.url.cmp(&b.url));
        for file in files {
            text.push_str(&format!("\n{} {} {}", file.url, file.size, file.modified_us));
        }
        Some(text)
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.spec.columns.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = state.config().target_partitions();
        let tasks = split(&self.files, self.spec.format.as_ref(), partitions);
        let all = || (0..self.spec.columns.roles.len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        // A slice of a stream reports what it reads, and evolves.
        if self.request.is_some()
            && self.bad_records.is_none()
            && let Some(plan) = plain_parquet::scan(&self.spec, &self.files, &tasks, &projection, limit).await?
        {
            return Ok(plan);
        }
        let (evolution, bad_records) = (self.evolution.clone(), self.bad_records.clone());
        let scan = Scan::new(Arc::clone(&self.spec), projection, evolution, bad_records)?;
        Ok(Arc::new(FileScanExec::new(scan, tasks)))
    }
}
