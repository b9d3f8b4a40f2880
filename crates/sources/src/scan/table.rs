//! A set of files as a table provider.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::expressions::{CastExpr, Column};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use deltaworks_spark::text_table::{TextTable, TextViews};

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
    /// The columns, with texts as views where those are wanted.
    schema: SchemaRef,
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
        let (spec, schema) = (Arc::clone(&relation.spec), Arc::clone(&relation.spec.columns.schema));
        Self { spec, files, evolution: None, bad_records: None, request: None, schema }
    }

    /// The table as plans know it.
    pub(crate) fn provider(self) -> Arc<dyn TableProvider> {
        // Other formats are decoded into texts.
        match self.spec.format.is_parquet() && self.request.is_some() {
            true => Arc::new(TextTable::new(Arc::new(self))),
            false => Arc::new(self),
        }
    }

    /// The table that [`Self::provider`] gave to a plan.
    pub(crate) fn of(provider: &dyn TableProvider) -> Option<&Self> {
        let any: &dyn Any = provider;
        match any.downcast_ref::<TextTable>() {
            Some(table) => Self::of(table.table()),
            None => any.downcast_ref(),
        }
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
        Arc::clone(&self.schema)
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
        if self.request.is_some() && self.bad_records.is_none() {
            let (schema, cache) = (&self.schema, state.runtime_env().cache_manager.get_file_metadata_cache());
            let plain =
                plain_parquet::scan(&self.spec, schema, &self.files, &tasks, &projection, limit, cache.as_ref());
            if let Some(plan) = plain.await? {
                return Ok(plan);
            }
        }
        let wanted = self.schema.project(&projection)?;
        let (evolution, bad_records) = (self.evolution.clone(), self.bad_records.clone());
        let scan = Scan::new(Arc::clone(&self.spec), projection, evolution, bad_records)?;
        in_types_of(&wanted, Arc::new(FileScanExec::new(scan, tasks)))
    }
}

impl TextViews for FileTable {
    fn with_views(&self, columns: &[usize]) -> Arc<dyn TableProvider> {
        let as_view = |(index, field): (usize, &FieldRef)| match columns.contains(&index) {
            true => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
            false => Arc::clone(field),
        };
        let fields: Vec<FieldRef> = self.schema.fields().iter().enumerate().map(as_view).collect();
        Arc::new(Self {
            spec: Arc::clone(&self.spec),
            files: self.files.clone(),
            evolution: self.evolution.clone(),
            bad_records: self.bad_records.clone(),
            request: self.request.clone(),
            schema: Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone())),
        })
    }
}

/// The rows of `plan` in the types of `schema`.
fn in_types_of(schema: &Schema, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let stored = plan.schema();
    let columns = stored.fields().iter().zip(schema.fields()).enumerate().map(|(index, (stored, wanted))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(stored.name(), index));
        let expr = match stored.data_type() == wanted.data_type() {
            true => column,
            false => Arc::new(CastExpr::new(column, wanted.data_type().clone(), None)) as _,
        };
        ProjectionExpr { expr, alias: stored.name().clone() }
    });
    let columns: Vec<ProjectionExpr> = columns.collect();
    match columns.iter().all(|column| column.expr.downcast_ref::<Column>().is_some()) {
        true => Ok(plan),
        false => Ok(Arc::new(ProjectionExec::try_new(columns, plan)?)),
    }
}
