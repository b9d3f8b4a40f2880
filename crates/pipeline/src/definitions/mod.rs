//! What the source files declare: outputs and flows, from SQL and Python alike, not yet resolved.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use deltaworks_spark::connect::proto;
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};
use deltaworks_spark::python::NamedFunction;
use deltaworks_spark::sql::SqlQuery;
use deltaworks_spark::sql_function::SqlFunctions;
use deltaworks_spark::{Error, Result};

use crate::name::{DatasetName, Namespace};

pub mod cdc;
pub mod load;
mod notebook;
pub mod python;
mod salvage;
pub mod snapshots;
pub mod sql;

pub use cdc::AutoCdc;
use cdc::ChangeSource;
use snapshots::SnapshotFunction;

/// Everything the source files declare, and every problem found on the way.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// In the order of definition.
    pub outputs: Vec<Output>,
    /// In the order of definition.
    pub flows: Vec<Flow>,
    /// Functions in Python that have a name in SQL, the latest of a name last.
    pub functions: Vec<NamedFunction>,
    /// Functions in SQL, which the pipeline's own queries can call.
    pub sql_functions: SqlFunctions,
    /// Problems of single statements or files; the rest is still usable for finding more.
    pub diagnostics: Vec<Diagnostic>,
    /// Datasets whose function raised, or whose flow could not be read: why they have no query is among the
    /// diagnostics.
    pub failed: Vec<DatasetName>,
    /// Datasets whose definition could not be read: what is wrong with it is among the diagnostics.
    pub broken: Vec<DatasetName>,
}

/// The language a definition is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// SQL
    Sql,
    /// Python
    Python,
}

/// What kind of thing an output is, as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// Grows by what its flows append.
    StreamingTable,
    /// Always equals its query.
    MaterializedView,
    /// `@dlt.table`: a streaming table if its query streams, else a materialized view.
    Table,
    /// Expanded in place; batch or streaming; visible in the pipeline only.
    TemporaryView,
    /// Expanded in place; batch only; visible outside.
    PersistedView,
    /// Written, never read.
    Sink,
}

impl OutputKind {
    /// Whether it is expanded where it is read instead of being stored.
    pub fn is_view(self) -> bool {
        matches!(self, Self::TemporaryView | Self::PersistedView)
    }

    /// As people call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::StreamingTable => "streaming table",
            Self::MaterializedView => "materialized view",
            Self::Table => "table",
            Self::TemporaryView => "temporary view",
            Self::PersistedView => "view",
            Self::Sink => "sink",
        }
    }
}

/// A declared output.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name.
    pub name: DatasetName,
    /// What it is.
    pub kind: OutputKind,
    /// Not published outside the pipeline.
    pub private: bool,
    /// Free text.
    pub comment: Option<String>,
    /// The declared columns, if any: types, nullability, comments, generation expressions as field metadata.
    pub schema: Option<SchemaRef>,
    /// The names of columns declared without types, in order; none if there is no list.
    pub labels: Vec<String>,
    /// Comments of columns declared without a type, by column.
    pub column_comments: BTreeMap<String, String>,
    /// Where columns are declared, as far as that is known.
    pub column_locations: BTreeMap<String, SourceLocation>,
    /// The columns of primary and foreign keys.
    pub key_columns: Vec<String>,
    /// Hive-style partition columns.
    pub partition_columns: Vec<String>,
    /// Clustering columns.
    pub clustering_columns: Vec<String>,
    /// Delta's, the pipeline's and free properties.
    pub properties: BTreeMap<String, String>,
    /// Where to store it, as written; the pipeline decides if `None`.
    pub path: Option<String>,
    /// Row constraints.
    pub expectations: Vec<Expectation>,
    /// Format and options of a sink.
    pub sink: Option<SinkDefinition>,
    /// The language of the definition.
    pub language: Language,
    /// Where it is defined.
    pub location: SourceLocation,
}

impl Definitions {
    /// Puts `flow` in the place of the flow of that name.
    pub fn replace(&mut self, flow: Flow) {
        match self.flows.iter_mut().find(|known| known.name == flow.name) {
            Some(known) => *known = flow,
            None => self.flows.push(flow),
        }
    }
}

impl Output {
    /// An output with nothing but its name, kind and place.
    pub fn new(name: DatasetName, kind: OutputKind, language: Language, location: SourceLocation) -> Self {
        Self {
            name,
            kind,
            private: false,
            comment: None,
            schema: None,
            labels: Vec::new(),
            column_comments: BTreeMap::new(),
            column_locations: BTreeMap::new(),
            key_columns: Vec::new(),
            partition_columns: Vec::new(),
            clustering_columns: Vec::new(),
            properties: BTreeMap::new(),
            path: None,
            expectations: Vec::new(),
            sink: None,
            language,
            location,
        }
    }

    /// Where a column is declared, if the declaration has a place of its own.
    pub fn column_location(&self, column: &str) -> Option<&SourceLocation> {
        let named = |(name, _): &(&String, &SourceLocation)| name.eq_ignore_ascii_case(column);
        self.column_locations.iter().find(named).map(|(_, location)| location)
    }
}

/// Tables are Delta tables; Parquet, which Spark takes if nothing is said, means the same.
///
/// # Errors
/// `Unsupported` for other formats, named by `construct`.
fn check_format(format: &str, construct: &str) -> Result<()> {
    if ["delta", "parquet"].iter().any(|known| known.eq_ignore_ascii_case(format)) {
        return Ok(());
    }
    Err(Error::unsupported(format!("{construct} {}", format.to_uppercase()))
        .with_help(format!("Tables of a pipeline are Delta tables: leave {construct} out.")))
}

/// Where a sink writes.
#[derive(Debug, Clone)]
pub struct SinkDefinition {
    /// `delta`, `kafka`, …
    pub format: String,
    /// The writer's options.
    pub options: BTreeMap<String, String>,
    /// The function that is called with each batch (`foreach_batch_sink`), by the name that its process knows.
    pub function: Option<String>,
}

/// What to do with a row that an expectation does not hold for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExpectationAction {
    /// Keep and count.
    Allow,
    /// Leave out and count.
    Drop,
    /// Abort the flow before it commits anything.
    Fail,
}

/// A row constraint.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Unique per dataset.
    pub name: String,
    /// What must hold.
    pub condition: Condition,
    /// What happens otherwise.
    pub action: ExpectationAction,
    /// Where it is declared.
    pub location: SourceLocation,
}

/// The constraint itself.
#[derive(Debug, Clone)]
pub enum Condition {
    /// SQL text.
    Sql(String),
    /// A PySpark Column.
    Column(Box<proto::Expression>),
}

/// A declared flow: a query and the output it writes.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its name; that of the output unless given.
    pub name: DatasetName,
    /// The output it writes.
    pub target: DatasetName,
    /// What it computes.
    pub query: FlowQuery,
    /// A batch query that runs once, and again after a full refresh.
    pub once: bool,
    /// Free text.
    pub comment: Option<String>,
    /// Settings in force while this flow is planned and run.
    pub conf: BTreeMap<String, String>,
    /// What unqualified names in the query mean.
    pub namespace: Namespace,
    /// The datasets of the pipeline whose schemas or rows the function asked for before it returned.
    pub asked: Vec<DatasetName>,
    /// The language of the definition.
    pub language: Language,
    /// Where it is defined.
    pub location: SourceLocation,
}

/// The query of a flow.
#[derive(Debug, Clone)]
pub enum FlowQuery {
    /// SQL text, parsed.
    Sql(Box<SqlQuery>),
    /// A PySpark DataFrame.
    Relation(Box<proto::Relation>),
    /// AUTO CDC in SQL or Python.
    AutoCdc(Box<AutoCdc>),
    /// A Python function that cannot say its query before a dataset is up to date: it reads its rows, or its
    /// schema has grown.
    Deferred {
        /// The dataset it waits for.
        waits_for: DatasetName,
    },
}

impl FlowQuery {
    /// Whether a function must be called, in an update, before the query is known.
    pub fn is_deferred(&self) -> bool {
        match self {
            Self::Deferred { .. } => true,
            other => other.snapshot_function().is_some_and(|function| function.answer.is_none()),
        }
    }

    /// The dataset that must be up to date before a function can say the query.
    pub fn waits_for(&self) -> Option<&DatasetName> {
        match self {
            Self::Deferred { waits_for } => Some(waits_for),
            other => other.snapshot_function()?.waits_for.as_ref(),
        }
    }

    /// The function must be called again once `dataset`, if there is one, is up to date.
    pub fn defer(&mut self, dataset: DatasetName) {
        match self.snapshot_function_mut() {
            Some(function) => {
                function.answer = None;
                function.waits_for = Some(dataset);
            }
            None => *self = Self::Deferred { waits_for: dataset },
        }
    }

    /// The function that gives the snapshots of the flow, if one does.
    pub fn snapshot_function(&self) -> Option<&SnapshotFunction> {
        match self {
            Self::AutoCdc(cdc) => match &cdc.source {
                ChangeSource::Function(function) => Some(function),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn snapshot_function_mut(&mut self) -> Option<&mut SnapshotFunction> {
        match self {
            Self::AutoCdc(cdc) => match &mut cdc.source {
                ChangeSource::Function(function) => Some(function),
                _ => None,
            },
            _ => None,
        }
    }
}
