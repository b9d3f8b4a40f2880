//! A set of files as a table provider.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::FileScanExec;
use super::{Evolution, ScanSpec};
use crate::format::split::split;
use crate::listing::FileEntry;
use crate::relation::FileRelation;

/// Files that were listed, read as `spec` says.
pub(crate) struct FileTable {
    spec: Arc<ScanSpec>,
    files: Vec<Arc<FileEntry>>,
    evolution: Option<Arc<dyn Evolution>>,
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
    pub(crate) fn new(spec: Arc<ScanSpec>, files: Vec<FileEntry>, evolution: Option<Arc<dyn Evolution>>) -> Self {
        Self { spec, files: files.into_iter().map(Arc::new).collect(), evolution, request: None }
    }

    /// The files of `relation` that there are now; `text` says what was asked for: format, paths, options.
    pub(crate) async fn requested(mut relation: FileRelation, text: String) -> deltaworks_spark::Result<Self> {
        let files = relation.list_once().await?;
        let spec = Arc::clone(&relation.spec);
        Ok(Self { request: Some(Request { relation, text }), ..Self::new(spec, files, None) })
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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = state.config().target_partitions();
        let tasks = split(&self.files, self.spec.format.as_ref(), partitions);
        let all = || (0..self.spec.columns.roles.len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        Ok(Arc::new(FileScanExec::try_new(Arc::clone(&self.spec), tasks, projection, self.evolution.clone())?))
    }
}
