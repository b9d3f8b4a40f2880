//! The statements a pipeline's SQL file may hold, as values.

mod cdc;
mod command;
mod cursor;
mod dataset;
pub mod dml;
mod elements;
mod function;
mod insert;
mod maintenance;
mod parse;
mod show;

#[cfg(test)]
mod tests;

use arrow::datatypes::DataType;
use indexmap::IndexMap;

use super::query::SqlQuery;
use crate::diagnostic::SourceLocation;
use crate::relation::ObjectName;

pub use command::{Command, CreateReadView, CreateTable, CreateView, ExplainDetail, parse_command};
pub use function::{CreateFunction, FunctionScope};
pub use insert::Insert;
pub use maintenance::{Optimize, Vacuum};
pub use parse::parse;

/// One statement of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum PipelineStatement {
    /// `CREATE STREAMING TABLE`, `CREATE MATERIALIZED VIEW`, `CREATE [TEMPORARY] VIEW` and their old forms.
    CreateDataset(Box<CreateDataset>),
    /// `CREATE FLOW`
    CreateFlow(Box<CreateFlow>),
    /// `APPLY CHANGES INTO`
    ApplyChanges {
        /// What is written.
        target: ObjectName,
        /// How.
        cdc: Box<AutoCdcClause>,
        /// Where the statement stands.
        location: SourceLocation,
    },
    /// `CREATE [TEMPORARY] FUNCTION`
    CreateFunction(Box<CreateFunction>),
    /// `SET key = value`
    Set {
        /// The key.
        key: String,
        /// The value as text.
        value: String,
        /// Where the statement stands.
        location: SourceLocation,
    },
    /// `SET key`, which shows something and defines nothing.
    Show {
        /// Where the statement stands.
        location: SourceLocation,
    },
    /// `USE CATALOG c`
    UseCatalog {
        /// The catalog.
        catalog: String,
        /// Where the statement stands.
        location: SourceLocation,
    },
    /// `USE [SCHEMA] [c.]s`
    UseSchema {
        /// The schema, with its catalog if that was given.
        schema: ObjectName,
        /// Where the statement stands.
        location: SourceLocation,
    },
}

/// What kind of dataset is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    /// `STREAMING TABLE`, `STREAMING LIVE TABLE`, `INCREMENTAL LIVE TABLE`
    StreamingTable,
    /// `MATERIALIZED VIEW`
    MaterializedView,
    /// `LIVE TABLE`: what its query makes of it
    LiveTable,
    /// `TEMPORARY VIEW`, `LIVE VIEW`
    TemporaryView,
    /// `VIEW`
    PersistedView,
}

/// The declaration of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateDataset {
    /// What it is.
    pub kind: DatasetKind,
    /// Its name as written, without the virtual schema `LIVE`.
    pub name: ObjectName,
    /// Where the statement stands.
    pub location: SourceLocation,
    /// `PRIVATE` (formerly `TEMPORARY`): not in the catalog.
    pub private: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The declared columns; empty if there is no list.
    pub columns: Vec<ColumnDefinition>,
    /// `CONSTRAINT … EXPECT`
    pub expectations: Vec<ExpectationDefinition>,
    /// Primary and foreign keys: informational.
    pub keys: Vec<KeyConstraint>,
    /// `USING`
    pub provider: Option<String>,
    /// `PARTITIONED BY`
    pub partitioned_by: Vec<String>,
    /// `CLUSTER BY`
    pub cluster_by: Option<ClusterBy>,
    /// `LOCATION`
    pub path: Option<String>,
    /// `COMMENT`
    pub comment: Option<String>,
    /// `TBLPROPERTIES`
    pub properties: IndexMap<String, String>,
    /// `REFRESH POLICY`
    pub refresh_policy: Option<RefreshPolicy>,
    /// `ROW FILTER`
    pub row_filter: Option<RowFilter>,
    /// `DEFAULT COLLATION`
    pub collation: Option<String>,
    /// What fills it; `None` for a streaming table that other flows write to.
    pub source: Option<FlowSource>,
}

/// A declared column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type, if given.
    pub data_type: Option<DataType>,
    /// `varchar(5)` or `char(5)`: what the type says of the length.
    pub char_type: Option<String>,
    /// False for `NOT NULL`.
    pub nullable: bool,
    /// `COMMENT`
    pub comment: Option<String>,
    /// `GENERATED ALWAYS AS (sql)`
    pub generated: Option<String>,
    /// `DEFAULT sql`
    pub default: Option<String>,
    /// `GENERATED … AS IDENTITY`
    pub identity: Option<Identity>,
    /// `MASK`
    pub mask: Option<RowFilter>,
    /// Where it is declared.
    pub location: SourceLocation,
}

/// `GENERATED { ALWAYS | BY DEFAULT } AS IDENTITY`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `ALWAYS`, not `BY DEFAULT`.
    pub always: bool,
    /// `START WITH`
    pub start: i64,
    /// `INCREMENT BY`
    pub step: i64,
}

/// What happens to a row (or the update) when an expectation does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnViolation {
    /// It is counted.
    Warn,
    /// `DROP ROW`
    Drop,
    /// `FAIL UPDATE`
    Fail,
}

/// `CONSTRAINT name EXPECT (expression) [ON VIOLATION …]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectationDefinition {
    /// Its name.
    pub name: String,
    /// The condition's text.
    pub expression_sql: String,
    /// Where the condition starts.
    pub location: SourceLocation,
    /// What happens if it does not hold.
    pub on_violation: OnViolation,
}

/// An informational key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConstraint {
    /// Its name, if given.
    pub name: Option<String>,
    /// The columns.
    pub columns: Vec<String>,
    /// For a foreign key: the table and columns it refers to; `None` for a primary key.
    pub references: Option<(ObjectName, Vec<String>)>,
    /// `RELY`
    pub rely: bool,
}

/// `CLUSTER BY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterBy {
    /// By these columns.
    Columns(Vec<String>),
    /// `AUTO`
    Auto,
    /// `NONE`
    None,
}

/// `REFRESH POLICY`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshPolicy {
    /// `AUTO`
    Auto,
    /// `INCREMENTAL`
    Incremental,
    /// `INCREMENTAL STRICT`
    IncrementalStrict,
    /// `FULL`
    Full,
}

/// A function applied to columns: a row filter or a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFilter {
    /// The function.
    pub function: ObjectName,
    /// The columns it gets.
    pub columns: Vec<String>,
}

/// What fills a dataset that declares it itself.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowSource {
    /// `AS query`
    Query(SqlQuery),
    /// `FLOW INSERT [ONCE] BY NAME query`
    InsertFlow {
        /// `ONCE`
        once: bool,
        /// The query.
        query: SqlQuery,
    },
    /// `FLOW AUTO CDC …`
    AutoCdc(Box<AutoCdcClause>),
    /// `USING format OPTIONS (…)` of a temporary view
    Read {
        /// The format.
        format: String,
        /// `OPTIONS`
        options: IndexMap<String, String>,
    },
}

/// `CREATE FLOW`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFlow {
    /// The flow's name.
    pub name: ObjectName,
    /// `COMMENT`
    pub comment: Option<String>,
    /// What it writes.
    pub target: ObjectName,
    /// How.
    pub details: FlowDetails,
    /// Where the statement stands.
    pub location: SourceLocation,
}

/// What a flow does.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one per dataset, the query is the common case")]
pub enum FlowDetails {
    /// `INSERT [ONCE] INTO target [BY NAME] query`
    InsertInto {
        /// `ONCE`
        once: bool,
        /// `BY NAME`
        by_name: bool,
        /// The query.
        query: SqlQuery,
    },
    /// `AUTO CDC [ONCE] INTO target …`
    AutoCdc {
        /// `ONCE`
        once: bool,
        /// The clauses.
        cdc: Box<AutoCdcClause>,
    },
}

/// The clauses of `AUTO CDC` and `APPLY CHANGES`.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoCdcClause {
    /// The source as a query: `SELECT * FROM <source>`, or the subquery.
    pub source: SqlQuery,
    /// `KEYS`
    pub keys: Vec<String>,
    /// `WHERE`
    pub condition: Option<SqlText>,
    /// `IGNORE NULL UPDATES`
    pub ignore_null_updates: Option<ColumnSelection>,
    /// `APPLY AS DELETE WHEN`
    pub apply_as_delete: Option<SqlText>,
    /// `APPLY AS TRUNCATE WHEN`
    pub apply_as_truncate: Option<SqlText>,
    /// `SEQUENCE BY`
    pub sequence_by: SqlText,
    /// `SYSTEM SEQUENCE BY`
    pub system_sequence_by: Option<SqlText>,
    /// `COLUMNS`
    pub columns: Option<ColumnSelection>,
    /// `STORED AS`
    pub stored_as: StoredAs,
    /// `TRACK HISTORY ON`
    pub track_history: Option<ColumnSelection>,
    /// `COLUMNS TO UPDATE`
    pub columns_to_update: Option<String>,
}

/// An expression as text, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlText {
    /// The text.
    pub text: String,
    /// Where it starts.
    pub location: SourceLocation,
}

/// A choice of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSelection {
    /// All.
    All,
    /// These.
    Only(Vec<String>),
    /// `* EXCEPT (…)`
    Except(Vec<String>),
}

/// How changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoredAs {
    /// `SCD TYPE 1`
    #[default]
    ScdType1,
    /// `SCD TYPE 2`
    ScdType2,
    /// `BITEMPORAL`
    Bitemporal,
}
