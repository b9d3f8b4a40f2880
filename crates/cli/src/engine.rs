//! The seam to `deltaworks-pipeline`: everything the commands ask of a pipeline, and nothing else.
//!
//! Commands work against [`Engine`], so that they are tested without one. [`open`] and [`init`] are the only
//! functions that reach the pipeline crate's settings and runs.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltaworks_pipeline::event::log::EventFilter;
use deltaworks_pipeline::event::{Event, EventSink, UpdateState};
use deltaworks_pipeline::graph::Graph;
use deltaworks_pipeline::name::Namespace;
use deltaworks_pipeline::spec::{self, PipelineSpec};
use deltaworks_pipeline::{Console, EngineOptions, Pipeline, connect};
use deltaworks_spark::Result;
use deltaworks_spark::connect::service::ServeOptions;
use deltaworks_spark::diagnostic::Diagnostic;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{InitLanguage, PipelineArgs, SettingsArgs};

/// What the commands ask of a pipeline.
#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// The pipeline's name.
    fn name(&self) -> &str;

    /// The folder that source locations are relative to.
    fn root(&self) -> &Path;

    /// Resolves the definitions, without touching data.
    async fn validate(&self) -> Result<Validation>;

    /// Runs one update; its events go to `sinks`, and what it shows goes to `console`.
    async fn update(
        &self,
        request: UpdateRequest,
        sinks: Vec<Box<dyn EventSink>>,
        console: Console,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome>;

    /// Runs a query over the pipeline's tables.
    async fn query(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)>;

    /// Serves the pipeline's catalog over Spark Connect until `stop` is cancelled.
    async fn serve(&self, listener: TcpListener, options: ServeOptions, stop: CancellationToken) -> Result<()>;

    /// Reads the event log, oldest event first.
    async fn events(&self, filter: &EventFilter) -> Result<Vec<Event>>;
}

/// Datasets named by the user; none means all of them, or none at all for a full refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection(pub(crate) Vec<String>);

impl Selection {
    /// The names as given, without blanks around them.
    pub(crate) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

/// What an update is asked to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UpdateRequest {
    pub(crate) refresh: Selection,
    pub(crate) full_refresh: Selection,
    pub(crate) full_refresh_all: bool,
    pub(crate) dry_run: bool,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateOutcome {
    pub(crate) update_id: String,
    pub(crate) state: UpdateState,
    /// What went wrong: problems of the definitions, or errors of flows; also warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether the definitions could be run at all.
    pub(crate) definitions_valid: bool,
    /// Whether being stopped is how it ends.
    pub(crate) continuous: bool,
}

/// What the definitions resolve to, and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Validation {
    pub(crate) graph: GraphSummary,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// The dataflow graph, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GraphSummary {
    /// Datasets and sinks, inputs before what reads them.
    pub(crate) datasets: Vec<DatasetSummary>,
}

/// An output of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatasetSummary {
    pub(crate) name: String,
    /// `streaming table`, `materialized view`, `temporary view`, `sink`.
    pub(crate) kind: String,
    pub(crate) comment: Option<String>,
    pub(crate) flows: Vec<FlowSummary>,
    pub(crate) location: Option<String>,
}

/// A flow into an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowSummary {
    pub(crate) name: String,
    /// Datasets of the graph, and what lies outside it: tables, paths.
    pub(crate) inputs: Vec<String>,
}

/// A pipeline that was found and whose settings are right.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Engine>,
    /// What is doubtful about the settings.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// How a pipeline is opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenOptions {
    pub(crate) path: Option<PathBuf>,
    pub(crate) settings: SettingsArgs,
    /// Overrides the settings' `development`.
    pub(crate) development: Option<bool>,
    /// A folder without a pipeline is as good as a pipeline without sources.
    pub(crate) or_empty: bool,
}

impl From<&PipelineArgs> for OpenOptions {
    fn from(args: &PipelineArgs) -> Self {
        Self { path: args.path.clone(), settings: args.settings.clone(), ..Self::default() }
    }
}

/// Finds the pipeline and reads its settings.
///
/// # Errors
/// `User` if there is none, or its settings are wrong.
pub(crate) async fn open(options: &OpenOptions) -> Result<Opened> {
    let path = options.path.as_deref();
    let source = if options.or_empty { spec::discover_or_empty(path)? } else { spec::discover(path)? };
    let load = spec::LoadOptions {
        target: options.settings.target.clone(),
        pipeline: options.settings.pipeline.clone(),
        set: options.settings.set.clone(),
        ..spec::LoadOptions::default()
    };
    let (mut spec, warnings) = spec::load(&source, &load)?;
    spec.development = options.development.unwrap_or(spec.development);
    Ok(Opened { engine: Box::new(Local { spec }), warnings })
}

/// A pipeline run by this process.
struct Local {
    spec: PipelineSpec,
}

impl Local {
    fn pipeline(&self) -> Result<Pipeline> {
        Pipeline::open(self.spec.clone(), &EngineOptions::of(&self.spec))
    }
}

/// The graph as people see it.
fn summary(graph: &Graph, namespace: &Namespace) -> GraphSummary {
    let datasets = graph
        .outputs_in_order()
        .into_iter()
        .map(|(name, output)| DatasetSummary {
            name: name.display_in(namespace),
            kind: output.kind.noun().to_owned(),
            comment: output.output.comment.clone(),
            flows: output
                .flows
                .iter()
                .filter_map(|flow| graph.flows.get(flow))
                .map(|flow| FlowSummary {
                    name: flow.flow.name.display_in(namespace),
                    inputs: flow
                        .references
                        .iter()
                        .map(|input| input.display_in(namespace))
                        .chain(flow.outside_streams())
                        .collect(),
                })
                .collect(),
            location: Some(output.output.location.to_string()),
        })
        .collect();
    GraphSummary { datasets }
}

#[async_trait]
impl Engine for Local {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn root(&self) -> &Path {
        &self.spec.root
    }

    async fn validate(&self) -> Result<Validation> {
        let pipeline = self.pipeline()?;
        let validation = pipeline.validate().await?;
        let graph = summary(&validation.graph, pipeline.namespace());
        Ok(Validation { graph, diagnostics: validation.diagnostics })
    }

    async fn update(
        &self,
        request: UpdateRequest,
        sinks: Vec<Box<dyn EventSink>>,
        console: Console,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome> {
        let request = deltaworks_pipeline::UpdateRequest {
            refresh: request.refresh.0,
            full_refresh: request.full_refresh.0,
            full_refresh_all: request.full_refresh_all,
            validate_only: request.dry_run,
            user_name: ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()),
        };
        let options = EngineOptions { console, ..EngineOptions::of(&self.spec) };
        let outcome = Pipeline::open(self.spec.clone(), &options)?.update(request, sinks, cancel).await?;
        Ok(UpdateOutcome {
            update_id: outcome.update_id,
            state: outcome.state,
            diagnostics: outcome.diagnostics,
            definitions_valid: outcome.definitions_valid,
            continuous: outcome.continuous,
        })
    }

    async fn query(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let result = self.pipeline()?.query(sql).await?;
        Ok((result.schema, result.batches))
    }

    async fn serve(&self, listener: TcpListener, options: ServeOptions, stop: CancellationToken) -> Result<()> {
        connect::serve(&self.pipeline()?, listener, options, stop.cancelled()).await
    }

    async fn events(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        self.pipeline()?.events(filter).await
    }
}

/// Creates the folder of a new pipeline; gives the files that were written.
pub(crate) fn init(parent: &Path, name: &str, language: InitLanguage) -> Result<Vec<PathBuf>> {
    let language = match language {
        InitLanguage::Sql => spec::InitLanguage::Sql,
        InitLanguage::Python => spec::InitLanguage::Python,
    };
    spec::init(parent, name, language)
}
