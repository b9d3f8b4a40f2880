//! What happened, for machines: one payload per event type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::model::{Level, MaturityLevel};
use super::planning::PlanningInformation;
use super::states::{
    DatasetType, FlowStatus, FlowType, Language, OperationStatus, OperationType, UpdateCause, UpdateState,
};

/// The payload of an event. Serialises to an object whose only key is the event type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Details {
    /// An update was asked for.
    CreateUpdate(CreateUpdate),
    /// Somebody did something to the pipeline.
    UserAction(UserAction),
    /// The update is in another state.
    UpdateProgress(UpdateProgress),
    /// What the update runs with.
    RuntimeDetails(RuntimeDetails),
    /// The definitions were resolved to a graph.
    GraphCreated(GraphCreated),
    /// A dataset of the graph.
    DatasetDefinition(DatasetDefinition),
    /// A sink of the graph.
    SinkDefinition(SinkDefinition),
    /// A flow of the graph: what it reads and writes.
    FlowDefinition(FlowDefinition),
    /// A flow is in another state, or wrote a batch.
    FlowProgress(FlowProgress),
    /// How a materialized view is refreshed, and why.
    PlanningInformation(PlanningInformation),
    /// A long operation began, goes on or ended.
    OperationProgress(OperationProgress),
    /// Spark's own progress report of a streaming query.
    StreamProgress(StreamProgress),
    /// An event hook ran.
    HookProgress(HookProgress),
    /// The pipeline uses something that will go away.
    Deprecation(Deprecation),
    /// Something is probably not as meant.
    Warning(Warning),
    /// An event type of another program, kept as it is: an object with one key.
    #[serde(untagged)]
    Other(Map<String, Value>),
}

impl Details {
    /// The event type: the only key of the JSON form.
    pub fn event_type(&self) -> &str {
        match self {
            Self::CreateUpdate(_) => "create_update",
            Self::UserAction(_) => "user_action",
            Self::UpdateProgress(_) => "update_progress",
            Self::RuntimeDetails(_) => "runtime_details",
            Self::GraphCreated(_) => "graph_created",
            Self::DatasetDefinition(_) => "dataset_definition",
            Self::SinkDefinition(_) => "sink_definition",
            Self::FlowDefinition(_) => "flow_definition",
            Self::FlowProgress(_) => "flow_progress",
            Self::PlanningInformation(_) => "planning_information",
            Self::OperationProgress(_) => "operation_progress",
            Self::StreamProgress(_) => "stream_progress",
            Self::HookProgress(_) => "hook_progress",
            Self::Deprecation(_) => "deprecation",
            Self::Warning(_) => "warning",
            Self::Other(payload) => payload.keys().next().map_or("unknown", String::as_str),
        }
    }

    /// The level such an event has unless its emitter says otherwise.
    pub fn default_level(&self) -> Level {
        match self {
            Self::UpdateProgress(progress) if progress.state == UpdateState::Failed => Level::Error,
            Self::FlowProgress(progress) if progress.status == FlowStatus::Failed => Level::Error,
            Self::FlowProgress(progress) if progress.status == FlowStatus::Skipped => Level::Warn,
            Self::FlowProgress(progress) if progress.status == FlowStatus::Running && progress.has_numbers() => {
                Level::Metrics
            }
            Self::StreamProgress(_) => Level::Metrics,
            Self::Deprecation(_) | Self::Warning(_) => Level::Warn,
            Self::HookProgress(hook) if hook.status == OperationStatus::Failed => Level::Warn,
            _ => Level::Info,
        }
    }

    /// How far the payload's form can be relied upon: Databricks' documented ones are stable.
    pub fn maturity_level(&self) -> MaturityLevel {
        match self {
            Self::CreateUpdate(_)
            | Self::UserAction(_)
            | Self::UpdateProgress(_)
            | Self::DatasetDefinition(_)
            | Self::SinkDefinition(_)
            | Self::FlowDefinition(_)
            | Self::FlowProgress(_) => MaturityLevel::Stable,
            _ => MaturityLevel::Evolving,
        }
    }

    /// Whether the event may be lost when a sink falls behind: the next one of its kind says as much.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::FlowProgress(progress) => {
                progress.status == FlowStatus::Running && progress.metrics.is_none() && progress.data_quality.is_none()
            }
            Self::OperationProgress(operation) => operation.status == OperationStatus::InProgress,
            Self::StreamProgress(_) => true,
            _ => false,
        }
    }
}

/// Payload of `create_update`. The pipeline's configuration is left out: it may hold secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateUpdate {
    /// Why the update runs.
    pub cause: UpdateCause,
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Everything is cleared and recomputed.
    pub full_refresh: bool,
    /// The selected datasets; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refresh_selection: Vec<String>,
    /// The datasets that are cleared and recomputed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub full_refresh_selection: Vec<String>,
    /// Nothing is read or written: the definitions are checked.
    pub validate_only: bool,
    /// Whether failed flows are not tried again.
    pub development: bool,
}

/// Payload of `user_action`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAction {
    /// `CREATE`, `EDIT`, `START`, `STOP`, `DELETE`.
    pub action: String,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
}

/// Payload of `update_progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateProgress {
    /// The state it is in now.
    pub state: UpdateState,
    /// `USER_ACTION` if it was stopped on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation_cause: Option<String>,
}

impl UpdateProgress {
    /// The update is in `state` now.
    pub fn new(state: UpdateState) -> Self {
        let cancellation_cause = (state == UpdateState::Canceled).then(|| "USER_ACTION".to_owned());
        Self { state, cancellation_cause }
    }
}

/// Payload of `runtime_details`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeDetails {
    /// The version of this program, in the field of the runtime's version.
    pub dbr_version: String,
    /// The interpreter that evaluated Python sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
}

/// Payload of `graph_created`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GraphCreated {
    /// How many datasets it has.
    pub num_datasets: u64,
    /// How many flows it has.
    pub num_flows: u64,
    /// How many sinks it has.
    pub num_sinks: u64,
}

/// Payload of `dataset_definition`. The dataset's name is in the origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetDefinition {
    /// What it is.
    pub dataset_type: DatasetType,
    /// How many flows write it.
    pub num_flows: u64,
    /// Its expectations.
    #[serde(default)]
    pub expectations: Vec<ExpectationDefinition>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// An expectation as defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationDefinition {
    /// Its name.
    pub name: String,
    /// What must hold.
    pub expression: String,
    /// `WARN`, `DROP` or `FAIL`.
    pub action: String,
}

/// Payload of `sink_definition`. The sink's name is in the origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkDefinition {
    /// `delta`, `kafka`.
    pub format: String,
    /// Its options, without secrets (see [`Redactor::redact_options`](super::Redactor::redact_options)).
    pub options: BTreeMap<String, String>,
}

/// Payload of `flow_definition`. The flow's name is in the origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowDefinition {
    /// The dataset it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_dataset: Option<String>,
    /// The sink it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sink: Option<String>,
    /// The datasets it reads.
    #[serde(default)]
    pub input_datasets: Vec<String>,
    /// How it writes.
    pub flow_type: FlowType,
    /// The columns of its result, as a Spark schema in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_json: Option<String>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain_text: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Its own settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spark_conf: BTreeMap<String, String>,
    /// The language of its definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Whether it runs only once.
    #[serde(default)]
    pub once: bool,
}

/// Payload of `flow_progress`. The flow's name is in the origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowProgress {
    /// The state it is in now.
    pub status: FlowStatus,
    /// The numbers of the batch just written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<FlowMetrics>,
    /// The expectations of the batch just written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_quality: Option<DataQuality>,
}

impl FlowProgress {
    /// The flow is in `status` now.
    pub fn new(status: FlowStatus) -> Self {
        Self { status, metrics: None, data_quality: None }
    }

    /// The flow wrote a batch with these numbers.
    pub fn batch(metrics: FlowMetrics, data_quality: Option<DataQuality>) -> Self {
        Self { status: FlowStatus::Running, metrics: Some(metrics), data_quality }
    }

    fn has_numbers(&self) -> bool {
        self.metrics.is_some() || self.data_quality.is_some()
    }
}

/// The numbers of one batch. What a source does not know is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowMetrics {
    /// Rows written; not set by AUTO CDC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_output_rows: Option<u64>,
    /// Bytes written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_output_bytes: Option<u64>,
    /// Rows inserted or updated by AUTO CDC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_upserted_rows: Option<u64>,
    /// Rows deleted by AUTO CDC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_deleted_rows: Option<u64>,
    /// Rows that stateful operators left out because they came after the watermark; not set if there are none. An
    /// addition to Databricks' fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_rows_dropped_by_watermark: Option<u64>,
    /// Rows read: of a stream all that arrived in the batch, whatever the query makes of them. An addition to
    /// Databricks' fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_input_rows: Option<u64>,
    /// Files read. An addition to Databricks' fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_input_files: Option<u64>,
    /// Bytes left to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_bytes: Option<u64>,
    /// Files left to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_files: Option<u64>,
    /// Records left to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_records: Option<u64>,
    /// Time it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_time_ms: Option<u64>,
}

/// How the rows of one batch did against their expectations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataQuality {
    /// Rows that were dropped.
    #[serde(default)]
    pub dropped_records: u64,
    /// One entry per expectation.
    #[serde(default)]
    pub expectations: Vec<ExpectationMetrics>,
}

/// How the rows of one batch did against one expectation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationMetrics {
    /// The expectation.
    pub name: String,
    /// The dataset that declares it.
    pub dataset: String,
    /// Rows that met it.
    pub passed_records: u64,
    /// Rows that did not.
    pub failed_records: u64,
}

/// Payload of `operation_progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationProgress {
    /// The operation.
    #[serde(rename = "type")]
    pub operation_type: OperationType,
    /// The state it is in now.
    pub status: OperationStatus,
    /// Time it took so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// More, for listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_loader_details: Option<AutoLoaderDetails>,
}

/// What a listing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoLoaderDetails {
    /// The folder.
    pub source_path: String,
    /// Files found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_files_listed: Option<u64>,
}

/// Payload of `stream_progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamProgress {
    /// Spark's `StreamingQueryProgress`, as JSON text.
    pub progress_json: String,
}

/// Payload of `hook_progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookProgress {
    /// The hook's function.
    pub name: String,
    /// How it ended.
    pub status: OperationStatus,
}

/// Payload of `deprecation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deprecation {
    /// What will go away: `PYTHON_CREATE_VIEW`.
    pub message: String,
}

/// Payload of `warning`, an addition to Databricks' event types.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    /// What is probably not as meant.
    pub message: String,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Where in the user's source: `file:line:column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl From<&deltaworks_spark::diagnostic::Diagnostic> for Warning {
    fn from(diagnostic: &deltaworks_spark::diagnostic::Diagnostic) -> Self {
        Self {
            message: diagnostic.message.clone(),
            condition: diagnostic.condition.clone(),
            help: diagnostic.help.clone(),
            location: diagnostic.location.as_ref().map(ToString::to_string),
        }
    }
}
