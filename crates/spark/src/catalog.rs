//! What commands of a session do to stored tables, as the program behind the session does it.
//!
//! Names are complete here: catalog, schema and table. What an unqualified name means, and what happens if
//! something exists already, is decided by who calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;

use crate::edit::{EditScope, Optimized, TableEdit, VacuumOptions};
use crate::error::Result;
use crate::relation::{ObjectName, ReadOptions};
use crate::sql_function::SqlFunction;

/// A complete name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
    /// The table or view.
    pub table: String,
}

impl TableName {
    /// Completes a name of one to three parts.
    pub fn complete(name: &ObjectName, catalog: &str, schema: &str) -> Option<Self> {
        let of = |catalog: &str, schema: &str, table: &str| Self {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            table: table.to_owned(),
        };
        match name.0.as_slice() {
            [table] => Some(of(catalog, schema, table)),
            [schema, table] => Some(of(catalog, schema, table)),
            [catalog, schema, table] => Some(of(catalog, schema, table)),
            _ => None,
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`.`{}`.`{}`", self.catalog, self.schema, self.table)
    }
}

/// What is stored under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The name, in the spelling it was created with.
    pub name: TableName,
    /// Whether it is a view: a stored query.
    pub is_view: bool,
    /// The query of a view.
    pub query: Option<String>,
    /// The comment.
    pub comment: Option<String>,
    /// The columns; a view has none before it is planned.
    pub schema: Option<SchemaRef>,
    /// The columns by which files are laid out in folders.
    pub partition_columns: Vec<String>,
    /// The columns by which rows lie close to each other.
    pub clustering_columns: Vec<String>,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// Where the rows lie.
    pub location: String,
}

/// A table to be made.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Its name.
    pub name: TableName,
    /// Its columns.
    pub schema: SchemaRef,
    /// The columns by which files are laid out in folders.
    pub partition_columns: Vec<String>,
    /// The columns by which rows should lie close to each other.
    pub clustering_columns: Vec<String>,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// The comment.
    pub comment: Option<String>,
}

/// One commit of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCommit {
    /// The version it made.
    pub version: i64,
    /// When, in microseconds since 1970.
    pub timestamp_us: Option<i64>,
    /// Who.
    pub user_name: Option<String>,
    /// What was done.
    pub operation: Option<String>,
    /// How.
    pub parameters: BTreeMap<String, String>,
    /// The version it was made from.
    pub read_version: Option<i64>,
    /// What it was shielded from.
    pub isolation_level: Option<String>,
    /// Whether it only added rows, whatever was there.
    pub is_blind_append: Option<bool>,
    /// How much: rows, files, bytes.
    pub metrics: BTreeMap<String, String>,
    /// Free text.
    pub user_metadata: Option<String>,
    /// What made it.
    pub engine_info: Option<String>,
}

/// Which rows a write replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// None: rows are added.
    Nothing,
    /// All; the table keeps its columns.
    Rows,
    /// All, and the columns with them.
    Table,
}

/// Files to be written.
#[derive(Debug, Clone)]
pub struct FileWrite {
    /// `parquet`, `csv`, `json`, `text`, `delta`.
    pub format: String,
    /// The folder.
    pub path: String,
    /// What happens to what is there.
    pub mode: SaveMode,
    /// The columns that become folders.
    pub partition_columns: Vec<String>,
    /// The format's options.
    pub options: ReadOptions,
}

/// Rows to be written to another system.
#[derive(Clone)]
pub struct ExternalWrite {
    /// `jdbc`
    pub format: String,
    /// What happens to what is there.
    pub mode: SaveMode,
    /// The format's options. They may hold secrets, so they are not shown.
    pub options: ReadOptions,
}

/// What a write does if its target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveMode {
    /// Adds to it.
    Append,
    /// Replaces it.
    Overwrite,
    /// Fails.
    ErrorIfExists,
    /// Does nothing.
    Ignore,
}

/// Stored tables and views.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// The current catalog and schema.
    fn current(&self) -> (String, String);

    /// Makes a schema the current one.
    ///
    /// # Errors
    /// `SCHEMA_NOT_FOUND` (`User`).
    async fn set_current(&self, catalog: &str, schema: &str) -> Result<()>;

    /// The catalogs, in order of their names.
    async fn catalogs(&self) -> Result<Vec<String>>;

    /// The schemas of a catalog, in order of their names.
    async fn schemas(&self, catalog: &str) -> Result<Vec<String>>;

    /// Makes a schema.
    async fn create_schema(&self, catalog: &str, schema: &str) -> Result<()>;

    /// Removes a schema and everything in it.
    async fn drop_schema(&self, catalog: &str, schema: &str) -> Result<()>;

    /// The tables and views of a schema, in order of their names.
    async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<TableEntry>>;

    /// What is stored under a name.
    async fn table(&self, name: &TableName) -> Result<Option<TableEntry>>;

    /// The commits of a table, the newest first, at most `limit`; `None` if there is no such table.
    async fn history(&self, name: &TableName, limit: Option<usize>) -> Result<Option<Vec<TableCommit>>>;

    /// Makes an empty table.
    async fn create_table(&self, table: &NewTable) -> Result<()>;

    /// Runs `plan` and puts its rows into an existing table, in one commit. The columns of the plan are those of
    /// the table, unless the table is replaced.
    async fn write_table(
        &self,
        ctx: &SessionContext,
        name: &TableName,
        plan: LogicalPlan,
        replaced: Replaced,
    ) -> Result<()>;

    /// Begins to change rows of a table, at its latest version; `None` if there is no such table.
    ///
    /// # Errors
    /// `User` if the table does not allow what `scope` says: it only takes appends, or its rows are a pipeline's.
    async fn edit(&self, name: &TableName, scope: EditScope) -> Result<Option<Box<dyn TableEdit>>>;

    /// Puts small files of a table together: all, or those of the partitions whose columns meet `condition`.
    ///
    /// # Errors
    /// `Conflict` if another writer has removed one of the files meanwhile.
    async fn optimize(&self, ctx: &SessionContext, name: &TableName, condition: Option<&Expr>) -> Result<Optimized>;

    /// Deletes files that left a table long ago; gives the paths of those that go.
    ///
    /// # Errors
    /// `DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT` (`User`) if the time is too short and is to be checked.
    async fn vacuum(&self, name: &TableName, options: VacuumOptions) -> Result<Vec<String>>;

    /// Stores a query under a name, in place of the one that is there.
    async fn create_view(&self, name: &TableName, query: &str, comment: Option<&str>) -> Result<()>;

    /// Removes a table or view.
    async fn drop_table(&self, name: &TableName) -> Result<()>;

    /// The time, in milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// The functions in SQL that are stored in a schema, in order of their names.
    async fn functions(&self, catalog: &str, schema: &str) -> Result<Vec<SqlFunction>>;

    /// The function in SQL that is stored under a name.
    async fn function(&self, name: &TableName) -> Result<Option<Arc<SqlFunction>>>;

    /// Stores a function under a name, in place of the one that is there.
    async fn create_function(&self, name: &TableName, function: &SqlFunction) -> Result<()>;

    /// Removes a function; whether there was one.
    async fn drop_function(&self, name: &TableName) -> Result<bool>;

    /// Runs `plan` and writes its rows as files.
    async fn write_files(&self, ctx: &SessionContext, plan: LogicalPlan, write: &FileWrite) -> Result<()>;

    /// Runs `plan` and hands its rows to another system.
    async fn write_external(&self, ctx: &SessionContext, plan: LogicalPlan, write: &ExternalWrite) -> Result<()>;
}
