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

/// Files that were listed, read as `spec` says.
pub(crate) struct FileTable {
    spec: Arc<ScanSpec>,
    files: Vec<Arc<FileEntry>>,
    evolution: Option<Arc<dyn Evolution>>,
}

impl fmt::Debug for FileTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTable").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl FileTable {
    pub(crate) fn new(spec: Arc<ScanSpec>, files: Vec<FileEntry>, evolution: Option<Arc<dyn Evolution>>) -> Self {
        Self { spec, files: files.into_iter().map(Arc::new).collect(), evolution }
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
