//! Functions that are called with the rows of batches (`foreach_batch_sink`), and what they read and write meanwhile:
//! what any client of Spark Connect could, and the batch.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::{ObjectName, RelationRequest, RelationResolver, UnresolvedRelation};
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use serde_json::json;

use super::host::DefinitionHost;
use super::process::DefinitionProcess;
use super::{problem_error, process_error};
use crate::connect::{StoredCatalog, StoredRelations};
use crate::graph::Environment;

/// The format by which the process reads the batch of a sink; the path is the sink's name.
const BATCH: &str = "deltaworks.batch";

/// The batches that a session can read.
#[derive(Default)]
pub(super) struct Batches {
    /// The latest of each sink. A temporary view that a function has made of one may be planned beside queries of later
    /// batches, so it stays although its rows go.
    latest: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
    /// Set while a function runs: what it can write.
    catalog: Mutex<Option<Arc<StoredCatalog>>>,
}

impl Batches {
    /// What the function that runs now can write.
    pub(super) fn catalog(&self) -> Option<Arc<StoredCatalog>> {
        self.catalog.lock().clone()
    }

    /// Who finds what the function that runs now reads.
    pub(super) fn resolver(self: &Arc<Self>, conf: SparkConf) -> Option<Arc<dyn RelationResolver>> {
        let environment = Environment { conf, ..self.catalog()?.environment().as_ref().clone() };
        let stored = StoredRelations::new(Arc::new(environment));
        Some(Arc::new(BatchRelations { batches: Arc::clone(self), stored }))
    }

    /// The batch that is asked for, if it is one.
    pub(super) fn resolve(&self, request: &RelationRequest) -> Option<Result<LogicalPlan>> {
        let UnresolvedRelation::Source { format: Some(format), paths, .. } = &request.relation else { return None };
        if format != BATCH {
            return None;
        }
        let sink = paths.first().map(String::as_str).unwrap_or_default();
        Some(match self.latest.lock().get(sink) {
            Some(rows) => scan(Arc::clone(rows)),
            None => Err(Error::user(format!("sink `{sink}` has no batch"))),
        })
    }
}

fn scan(rows: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::scan("batch", provider_as_source(rows), None)?.build()?)
}

/// Batches, and what is stored in the pipeline's catalog now.
struct BatchRelations {
    batches: Arc<Batches>,
    stored: StoredRelations,
}

#[async_trait]
impl RelationResolver for BatchRelations {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        match self.batches.resolve(request) {
            Some(plan) => plan,
            None => self.stored.resolve(request).await,
        }
    }

    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        self.stored.function(name).await
    }
}

/// Ends what a function may do when its call ends.
struct Running<'a>(&'a Batches);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.catalog.lock() = None;
    }
}

/// Calls the functions of sinks, one at a time.
#[derive(Clone)]
pub struct BatchFunctions {
    pub(super) host: Arc<DefinitionHost>,
    pub(super) process: Arc<DefinitionProcess>,
    pub(super) environment: Arc<Environment>,
    /// Held by who has the process do something.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for BatchFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchFunctions").finish_non_exhaustive()
    }
}

impl BatchFunctions {
    /// Calls the function of the sink `sink` with the rows of batch number `batch`.
    ///
    /// # Errors
    /// What the function raised, with the user's own lines; `User` if the process dies.
    pub async fn call(&self, sink: &str, rows: Arc<dyn TableProvider>, batch: i64) -> Result<()> {
        let _turn = self.turn.lock().await;
        let batches = self.host.batches();
        batches.latest.lock().insert(sink.to_owned(), rows);
        *batches.catalog.lock() = Some(Arc::new(StoredCatalog::new(Arc::clone(&self.environment))));
        let running = Running(&batches);
        let answer = self.process.call(json!({ "batch": sink, "batch_id": batch })).await;
        drop(running);
        let answer = answer?;
        match answer.problem {
            _ if answer.ok => Ok(()),
            Some(problem) => Err(problem_error(problem)),
            None => Err(process_error(format!("the function of sink `{sink}` was not called"))),
        }
    }
}
