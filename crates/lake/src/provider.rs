//! A table, or some of its files, as something DataFusion can scan.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use deltalake::DeltaTable;
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake::kernel::{Add, EagerSnapshot, Snapshot};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::types::holds_variant;

use crate::blank::nulled;
use crate::changes::DataFile;
use crate::error::from_delta;
use crate::null_fields;
use crate::scan_guard::{guarded, holds_floats};
use crate::schema::index_of;
use crate::table::Table;
use crate::variant::{in_types, typed_as};

/// The column of [`Table::provider_with_file_column`].
pub const FILE_COLUMN: &str = "__deltaworks_file";

impl Table {
    /// The table's rows at this version. Filters prune files by their statistics.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        let scan = eager_scan(self.state()?.snapshot())?;
        let (schema, blank) = (Arc::clone(self.schema()), self.blank_partitions()?);
        Ok(Arc::new(TableScan { table: self.inner().clone(), scan, schema, blank, whole: Some(self.clone()) }))
    }

    /// The rows of `files`, in the table's schema at this version; columns a file is too old for are NULL.
    ///
    /// A file may have left the table since: each is read as of the version it was listed at.
    pub async fn provider_for_files(&self, files: &[DataFile]) -> Result<Arc<dyn TableProvider>> {
        let mut by_version: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let current = self.current_paths()?;
        let all_current = files.iter().all(|file| current.contains(file.path.as_str()));
        for file in files {
            let version = if all_current { self.version() } else { file.version };
            by_version.entry(version).or_default().push(encoded(&file.path)?);
        }
        let mut parts: Vec<Arc<dyn TableProvider>> = Vec::new();
        for (version, paths) in by_version {
            let scan = if version == self.version() {
                eager_scan(self.state()?.snapshot())?
            } else {
                let log_store = self.inner().log_store();
                let snapshot = Snapshot::try_new(log_store.as_ref(), Some(version)).await.map_err(from_delta)?;
                DeltaScanNext::new(snapshot, scan_config())?
            };
            let schema = typed_as(scan.schema(), self.schema());
            let scan = scan.with_file_paths(paths);
            let blank = if version == self.version() { self.blank_partitions()? } else { self.text_partitions()? };
            let table = self.inner().clone();
            parts.push(Arc::new(TableScan { table, scan, schema, blank, whole: None }));
        }
        match <[_; 1]>::try_from(parts) {
            Ok([part]) if part.schema() == *self.schema() => Ok(part),
            Ok([part]) => Ok(Arc::new(UnionScan { parts: vec![part], schema: Arc::clone(self.schema()) })),
            Err(parts) => Ok(Arc::new(UnionScan { parts, schema: Arc::clone(self.schema()) })),
        }
    }

    /// The rows of `files`, which the table has at this version: its columns, then [`FILE_COLUMN`], the path of the
    /// file as [`Table::file_of`] reads it.
    pub fn provider_with_file_column(&self, files: &[DataFile]) -> Result<Arc<dyn TableProvider>> {
        let config = scan_config().with_file_column_name(FILE_COLUMN);
        let paths = files.iter().map(|file| encoded(&file.path)).collect::<Result<Vec<_>>>()?;
        let scan = DeltaScanNext::new(self.state()?.snapshot().clone(), config)?;
        let schema = typed_as(scan.schema(), self.schema());
        let scan = scan.with_file_paths(paths);
        let blank = self.blank_partitions()?;
        Ok(Arc::new(TableScan { table: self.inner().clone(), scan, schema, blank, whole: None }))
    }

    /// The file of `files` that a value of [`FILE_COLUMN`] names.
    ///
    /// # Errors
    /// `Internal` if it is none of them.
    pub fn file_of<'a>(&self, value: &str, files: &'a [DataFile]) -> Result<&'a DataFile> {
        let (root, value) = (decoded(self.location().as_str()), decoded(value));
        let path = value.strip_prefix(root.as_str()).unwrap_or(&value);
        files
            .iter()
            .find(|file| decoded(&file.path) == path)
            .ok_or_else(|| Error::internal(format!("`{value}` is not among the files that were read")))
    }

    /// What [`Table::file_of`] tells, for many values.
    pub fn file_index(&self, files: &[DataFile]) -> FileIndex {
        let by_path = files.iter().enumerate().map(|(position, file)| (decoded(&file.path), position)).collect();
        FileIndex { root: decoded(self.location().as_str()), by_path }
    }

    fn current_paths(&self) -> Result<BTreeSet<String>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        Ok(log.iter().map(|file| file.path().into_owned()).collect())
    }
}

/// Finds files by values of [`FILE_COLUMN`].
#[derive(Debug, Clone)]
pub struct FileIndex {
    root: String,
    by_path: HashMap<String, usize>,
}

impl FileIndex {
    /// The position of the file that a value of [`FILE_COLUMN`] names; `None` if it is none of them.
    pub fn position(&self, value: &str) -> Option<usize> {
        let value = decoded(value);
        self.by_path.get(value.strip_prefix(self.root.as_str()).unwrap_or(&value)).copied()
    }
}

/// The id and the version of the table that `provider` reads, if it reads one as a whole.
pub fn snapshot_of(provider: &dyn TableProvider) -> Option<(String, u64)> {
    let table = whole_table(provider)?;
    Some((table.id().ok()?, table.version()))
}

/// The rows that the table of `provider` has now; `None` if it has no others, if an earlier state of it was asked for, or
/// if `provider` reads no table as a whole.
///
/// # Errors
/// `DELTA_SCHEMA_CHANGED` (`Conflict`) if its columns are others now; `Unavailable` if storage does not answer.
pub async fn latest_of(provider: &dyn TableProvider) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(table) = whole_table(provider).filter(|table| !table.is_pinned()) else { return Ok(None) };
    if table.latest_version().await? == table.version() {
        return Ok(None);
    }
    let gone = || Error::user(format!("there is no table at `{}` any more", table.location()));
    let latest = table.at(None).await?.ok_or_else(|| gone().with_condition("DELTA_PATH_DOES_NOT_EXIST"))?;
    if !table.has_same_columns(&latest) {
        return Err(table.columns_changed());
    }
    latest.provider().map(Some)
}

fn whole_table(provider: &dyn TableProvider) -> Option<&Table> {
    let any: &dyn std::any::Any = provider;
    any.downcast_ref::<TableScan>()?.whole.as_ref()
}

/// Readers differ in how often they escape the characters of a path.
fn decoded(path: &str) -> String {
    let mut path = path.as_bytes().to_vec();
    loop {
        let decoded = decoded_once(&path);
        if decoded == path {
            return String::from_utf8_lossy(&path).into_owned();
        }
        path = decoded;
    }
}

fn decoded_once(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                decoded.push(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// The path as the log has it: a URL, in which the percent signs of folder names are escaped once more.
fn encoded(path: &str) -> Result<String> {
    let action = serde_json::to_value(Add { path: path.to_owned(), ..Add::default() });
    action
        .ok()
        .and_then(|action| action["path"].as_str().map(str::to_owned))
        .ok_or_else(|| Error::internal(format!("`{path}` has no form in the log")))
}

fn eager_scan(snapshot: &EagerSnapshot) -> Result<DeltaScanNext> {
    Ok(DeltaScanNext::new(snapshot.clone(), scan_config())?)
}

/// Plain types, as the table's schema says; row filters stay with the engine, statistics prune.
fn scan_config() -> DeltaScanConfig {
    let mut config = DeltaScanConfig::new().with_wrap_partition_values(false).with_parquet_pushdown(false);
    config.schema_force_view_types = false;
    config
}

/// A scan that brings its own object store along.
#[derive(Debug)]
struct TableScan {
    table: DeltaTable,
    scan: DeltaScanNext,
    schema: SchemaRef,
    /// Partition columns in which an empty text, which stands for NULL, may occur.
    blank: Vec<String>,
    /// The table, if all files of its version are read, not some of them.
    whole: Option<Table>,
}

#[async_trait]
impl TableProvider for TableScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.table
            .update_datafusion_session(session)
            .map_err(|error| datafusion::error::DataFusionError::from(from_delta(error)))?;
        let plan = guarded(self.scan.scan(session, projection, filters, limit).await?);
        null_fields::in_order(nulled(in_types(plan, &self.schema)?, &self.blank)?)
    }

    /// Which columns have no NULLs, as far as the log tells; nothing else.
    fn statistics(&self) -> Option<Statistics> {
        let table = self.whole.as_ref()?;
        let full = table.columns_without_null().ok()?;
        let mut statistics = Statistics::new_unknown(&self.schema);
        for (field, column) in self.schema.fields().iter().zip(&mut statistics.column_statistics) {
            let is_read_as_stored = !self.blank.contains(field.name()) && !field.data_type().is_nested();
            if is_read_as_stored && full.contains(field.name().as_str()) {
                column.null_count = Precision::Exact(0);
            }
        }
        Some(statistics)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let mut supported = self.scan.supports_filters_pushdown(filters)?;
        let unreliable = |name: &String| {
            let is_skipped_wrongly =
                |field: &Field| holds_variant(field.data_type()) || holds_floats(field.data_type());
            self.schema.field_with_name(name).is_ok_and(is_skipped_wrongly)
                || null_fields::unreliable(&self.schema).any(|field| field.name() == name)
        };
        for (filter, supported) in filters.iter().zip(&mut supported) {
            if filter.column_refs().iter().any(|column| self.blank.contains(&column.name) || unreliable(&column.name)) {
                // Files are chosen by what the log says, and rows by what the file has, which is not what the column has.
                *supported = TableProviderFilterPushDown::Unsupported;
            } else if *supported == TableProviderFilterPushDown::Exact {
                // The scan keeps the files of which it cannot tell, also where a filter is NULL: their rows are looked at once more,
                // even if the filter is about partition columns or constants alone.
                *supported = TableProviderFilterPushDown::Inexact;
            }
        }
        Ok(supported)
    }
}

/// Scans of several versions of one table, one after the other, in one schema.
#[derive(Debug)]
struct UnionScan {
    parts: Vec<Arc<dyn TableProvider>>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for UnionScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => Arc::clone(&self.schema),
        };
        let mut inputs = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            inputs.push(scan_as(part.as_ref(), session, &schema, limit).await?);
        }
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

/// Scans `part` and gives its rows the columns of `schema`, NULL where it does not have them.
async fn scan_as(
    part: &dyn TableProvider,
    session: &dyn Session,
    schema: &SchemaRef,
    limit: Option<usize>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let available = part.schema();
    let indices: Vec<_> =
        schema.fields().iter().filter_map(|field| index_of(available.fields(), field.name())).collect();
    let input = part.scan(session, Some(&indices), &[], limit).await?;
    let found = input.schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let expression: Arc<dyn PhysicalExpr> = match index_of(found.fields(), field.name()) {
                Some(index) => {
                    let column = Arc::new(Column::new(found.field(index).name(), index));
                    if found.field(index).data_type() == field.data_type() {
                        column
                    } else {
                        Arc::new(CastExpr::new(column, field.data_type().clone(), None))
                    }
                }
                None => Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?)),
            };
            Ok((expression, field.name().clone()))
        })
        .collect::<DataFusionResult<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, input)?))
}
