//! What the service asks of the program it runs in.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::execution::context::SessionContext;
use futures::stream::BoxStream;

use super::proto;
use crate::catalog::Catalog;
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::python::{NamedFunction, PythonWorkers};
use crate::relation::RelationResolver;

/// The `code` of the error for a dataset whose schema is not known yet: the client tries again later.
pub const DATASET_NOT_READY: &str = "DELTAWORKS_DATASET_NOT_READY";

/// The condition of the error for rows of a dataset that has not been computed yet.
pub const DATASET_NOT_MATERIALIZED: &str = "DELTAWORKS_DATASET_NOT_MATERIALIZED";

/// The error that asks a client to define `dataset` first.
pub fn dataset_not_ready(dataset: &str) -> Error {
    Error::user(format!("dataset `{dataset}` is not defined yet")).with_condition(DATASET_NOT_READY)
}

/// The error that tells a client to wait until `dataset` has rows.
pub fn dataset_not_materialized(dataset: &str) -> Error {
    Error::user(format!("the rows of dataset `{dataset}` are not computed yet"))
        .with_condition(DATASET_NOT_MATERIALIZED)
}

/// Where a request comes from within a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnalysisContext {
    /// The dataflow graph the client is defining.
    pub dataflow_graph_id: Option<String>,
    /// The source file.
    pub definition_path: Option<String>,
    /// The flow whose function is being called; `None` at the top level of a file.
    pub flow_name: Option<String>,
}

impl From<proto::PipelineAnalysisContext> for AnalysisContext {
    fn from(context: proto::PipelineAnalysisContext) -> Self {
        #[allow(deprecated, reason = "pyspark 4.2 sends the flow's name")]
        let named = context.flow_name;
        let flow_name = named.or_else(|| context.flow_identifier.map(|identifier| identifier.table_name));
        Self { dataflow_graph_id: context.dataflow_graph_id, definition_path: context.definition_path, flow_name }
    }
}

/// Why a resolver is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To know the schema of a plan.
    Analyze,
    /// To run it.
    Execute,
}

/// What a pipeline command gives back.
pub enum PipelineReply {
    /// An answer, or none.
    Result(Option<proto::PipelineCommandResult>),
    /// The events of a run, until it ends. A stream that is dropped cancels the run.
    Events(BoxStream<'static, Result<RunEvent>>),
}

/// What a client is told of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// What happened, for people.
    pub message: String,
}

/// The program behind the service: it knows the sessions.
#[async_trait]
pub trait ConnectHost: Send + Sync + 'static {
    /// The session of a client, created on its first request.
    ///
    /// # Errors
    /// If the session cannot be made, or the user may not have one.
    async fn session(&self, user: &str, session_id: &str) -> Result<Arc<dyn ConnectSession>>;

    /// Forgets a session: the client is gone.
    async fn release(&self, user: &str, session_id: &str);
}

/// One client's session.
#[async_trait]
pub trait ConnectSession: Send + Sync {
    /// The engine's session, with the session's present settings.
    fn context(&self) -> SessionContext;

    /// Who finds tables and sources for a request.
    fn resolver(&self, purpose: Purpose, analysis: Option<&AnalysisContext>) -> Arc<dyn RelationResolver>;

    /// The settings.
    fn conf(&self) -> SparkConf;

    /// Changes a setting.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`), or whatever rule the host has for settings.
    fn set_conf(&self, key: &str, value: &str) -> Result<()>;

    /// Puts a setting back to its default.
    ///
    /// # Errors
    /// As [`Self::set_conf`].
    fn unset_conf(&self, key: &str) -> Result<()>;

    /// Runs a command that defines or runs a pipeline.
    ///
    /// # Errors
    /// `User` for wrong definitions; `Unsupported` if the host has no pipelines.
    async fn pipeline_command(
        &self,
        command: &proto::PipelineCommand,
        analysis: Option<&AnalysisContext>,
    ) -> Result<PipelineReply>;

    /// Who runs the client's functions in Python; `None` if the host runs none.
    fn python(&self) -> Option<Arc<PythonWorkers>> {
        None
    }

    /// A function in Python has got a name. The client's own queries know it already.
    fn function_registered(&self, function: &NamedFunction) {
        let _ = function;
    }

    /// The stored tables, for commands; `None` if the host lets no client change any.
    fn catalog(&self) -> Option<Arc<dyn Catalog>> {
        None
    }
}
