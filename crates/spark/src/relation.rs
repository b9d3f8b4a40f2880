//! What a query may read, as the planner asks for it: names, paths and options, not yet resolved.
//!
//! The planner (SQL or Connect) collects these, asks a [`RelationResolver`] for each, and goes on with the
//! logical plans it gets. What a table is and where it lies is the resolver's business.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use indexmap::IndexMap;

use crate::diagnostic::SourceLocation;
use crate::error::Result;
use crate::sql_function::SqlFunction;

/// How the keys begin under which conditions of `spark.read.jdbc(predicates=[...])` stand among the options; a number follows.
pub const PREDICATE_PREFIX: &str = "predicates.";

/// Options of a reader. Keys are compared without regard to case; values are text, as in Spark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions(IndexMap<String, (String, String)>);

impl ReadOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option; a later value of the same key, in any case, wins.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        self.0.insert(key.to_ascii_lowercase(), (key, value.into()));
    }

    /// The value of `key`, in any case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(&key.to_ascii_lowercase()).map(|(_, value)| value.as_str())
    }

    /// Keys as written, and values, in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.values().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Adds conditions, each of which is a part of what is read.
    pub fn set_predicates(&mut self, predicates: &[String]) {
        for (number, predicate) in predicates.iter().enumerate() {
            self.set(format!("{PREDICATE_PREFIX}{number}"), predicate);
        }
    }

    /// The conditions that were added, in their order.
    pub fn predicates(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(key, _)| key.starts_with(PREDICATE_PREFIX)).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for ReadOptions {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(iter: T) -> Self {
        let mut options = Self::new();
        for (key, value) in iter {
            options.set(key, value);
        }
        options
    }
}

/// A name of one to three parts (or a path part: `` delta.`/data/x` ``), as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectName(pub Vec<String>);

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            if !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_') {
                f.write_str(part)?;
            } else {
                write!(f, "`{}`", part.replace('`', "``"))?;
            }
        }
        Ok(())
    }
}

/// Which state of a table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeTravel {
    /// `VERSION AS OF 3`
    Version(u64),
    /// `TIMESTAMP AS OF '2026-01-01'`, in microseconds since the epoch, UTC.
    Timestamp(i64),
}

/// A relation named in a query.
#[derive(Debug, Clone, PartialEq)]
pub enum UnresolvedRelation {
    /// A table or view by name.
    Table {
        /// Its name as written (`LIVE.x` included).
        name: ObjectName,
        /// Reader options.
        options: ReadOptions,
        /// The state to read; the latest if `None`.
        time_travel: Option<TimeTravel>,
    },
    /// Files or another source by format: `spark.read.format("json").load("/x")`, `read_files('/x')`.
    Source {
        /// The format as written: `json`, `cloudFiles`, `kafka`, `delta`. `None`: to be detected.
        format: Option<String>,
        /// The paths; empty for sources that have none.
        paths: Vec<String>,
        /// The schema the user gave.
        schema: Option<SchemaRef>,
        /// Reader options.
        options: ReadOptions,
    },
    /// `event_log('pipeline-id')`, `event_log(TABLE(t))`.
    EventLog {
        /// The pipeline id, if given by id.
        pipeline_id: Option<String>,
        /// The table, if given by table.
        table: Option<ObjectName>,
    },
}

/// One read of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct RelationRequest {
    /// What is read.
    pub relation: UnresolvedRelation,
    /// Whether as a stream.
    pub streaming: bool,
    /// Where it stands in the user's source, where known.
    pub location: Option<SourceLocation>,
}

/// Turns what a query names into plans.
#[async_trait]
pub trait RelationResolver: Send + Sync {
    /// The plan that reads `request`: a scan, or a view's plan expanded in place.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_NOT_FOUND` (`User`) if nothing has that name, with the nearest name as help.
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan>;

    /// The function in SQL that is stored under a name; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        let _ = name;
        Ok(None)
    }
}
