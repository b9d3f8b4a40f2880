//! Pipelines that a client defines and runs over Spark Connect, as Spark's stock `spark-pipelines` does.
//!
//! Their tables are those of the catalog that is served, and so is their progress: a later run, also of another
//! client, goes on where the last one ended.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{AnalysisContext, ConnectHost, ConnectSession, PipelineReply, Purpose, RunEvent};
use deltaworks_spark::connect::proto;
use deltaworks_spark::diagnostic::{Diagnostic, Severity};
use deltaworks_spark::python::NamedFunction;
use deltaworks_spark::relation::RelationResolver;
use deltaworks_spark::{Error, Kind, Result};
use futures::StreamExt;
use parking_lot::Mutex;
use proto::pipeline_command::{
    CommandType, CreateDataflowGraph, DefineFlow, DefineOutput, DefineSqlGraphElements, StartRun,
};
use proto::pipeline_command_result::{CreateDataflowGraphResult, ResultType};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::definitions::Definitions;
use crate::definitions::python::DefinitionHost;
use crate::event::{Event, EventSink, Level, UpdateState};
use crate::graph::Environment;
use crate::name::Namespace;
use crate::pipeline::{Pipeline, UpdateOutcome};
use crate::update::UpdateRequest;

/// The dataflow graphs of one session.
pub(super) struct Graphs {
    pipeline: Pipeline,
    graphs: Mutex<HashMap<String, Arc<DefinedGraph>>>,
    functions: Mutex<Vec<NamedFunction>>,
}

/// What has been defined of a graph.
struct DefinedGraph {
    host: DefinitionHost,
    session: Arc<dyn ConnectSession>,
    environment: Arc<Environment>,
}

impl Graphs {
    /// No graphs yet; those to come write their tables where `pipeline` has its own.
    pub(super) fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, graphs: Mutex::default(), functions: Mutex::default() }
    }

    /// A function in Python that the queries of graphs can name.
    pub(super) fn function_registered(&self, function: &NamedFunction) {
        self.functions.lock().push(function.clone());
    }

    /// Who finds relations for requests that come from within a definition.
    pub(super) fn resolver(
        &self,
        purpose: Purpose,
        analysis: Option<&AnalysisContext>,
    ) -> Option<Arc<dyn RelationResolver>> {
        let graph = self.graphs.lock().get(analysis?.dataflow_graph_id.as_deref()?).cloned()?;
        Some(graph.session.resolver(purpose, analysis))
    }

    /// Runs a pipeline command of a client whose settings are `conf`.
    ///
    /// # Errors
    /// `User` for definitions that are not valid and graphs that do not exist. Errors of a run end its events.
    pub(super) async fn run(
        &self,
        command: &proto::PipelineCommand,
        analysis: Option<&AnalysisContext>,
        conf: SparkConf,
    ) -> Result<PipelineReply> {
        match &command.command_type {
            Some(CommandType::CreateDataflowGraph(create)) => self.create(create, conf).await,
            Some(
                CommandType::DefineOutput(DefineOutput { dataflow_graph_id: id, .. })
                | CommandType::DefineFlow(DefineFlow { dataflow_graph_id: id, .. })
                | CommandType::DefineSqlGraphElements(DefineSqlGraphElements { dataflow_graph_id: id, .. }),
            ) => self.graph(id.as_deref())?.session.pipeline_command(command, analysis).await,
            Some(CommandType::DropDataflowGraph(drop)) => {
                let id = drop.dataflow_graph_id.as_deref();
                self.graph(id)?;
                self.graphs.lock().remove(id.unwrap_or_default());
                Ok(PipelineReply::Result(None))
            }
            Some(CommandType::StartRun(start)) => self.start(start),
            _ => Err(Error::unsupported("this pipeline command")),
        }
    }

    async fn create(&self, command: &CreateDataflowGraph, mut conf: SparkConf) -> Result<PipelineReply> {
        for (key, value) in &command.sql_conf {
            conf.set(key, value)?;
        }
        let served = self.pipeline.environment();
        let namespace = Namespace {
            catalog: command.default_catalog.clone().unwrap_or_else(|| served.namespace.catalog.clone()),
            schema: command.default_database.clone().unwrap_or_else(|| served.namespace.schema.clone()),
        };
        let id = served.ids.next_id().to_string();
        let environment = Arc::new(Environment { namespace, conf, ..served.as_ref().clone() });
        let host = DefinitionHost::new(Arc::clone(&environment), Definitions::default())?;
        let session = host.session("", &id).await?;
        self.graphs.lock().insert(id.clone(), Arc::new(DefinedGraph { host, session, environment }));
        let created = CreateDataflowGraphResult { dataflow_graph_id: Some(id) };
        let result = Some(ResultType::CreateDataflowGraphResult(created));
        Ok(PipelineReply::Result(Some(proto::PipelineCommandResult { result_type: result })))
    }

    fn graph(&self, id: Option<&str>) -> Result<Arc<DefinedGraph>> {
        let id = id.unwrap_or_default();
        self.graphs.lock().get(id).cloned().ok_or_else(|| {
            Error::user(format!("the session has no dataflow graph `{id}`"))
                .with_condition("DATAFLOW_GRAPH_NOT_FOUND")
                .with_help("Create it first; graphs end with their session.")
        })
    }

    /// Starts an update; the client is told its events while it runs.
    fn start(&self, command: &StartRun) -> Result<PipelineReply> {
        let graph = self.graph(command.dataflow_graph_id.as_deref())?;
        let mut definitions = graph.host.definitions().as_ref().clone();
        definitions.functions.extend(self.functions.lock().iter().cloned());
        let request = UpdateRequest {
            refresh: command.refresh_selection.clone(),
            full_refresh: command.full_refresh_selection.clone(),
            full_refresh_all: command.full_refresh_all.unwrap_or(false),
            validate_only: command.dry.unwrap_or(false),
            user_name: None,
        };
        let (sender, events) = unbounded_channel();
        if let Some(storage) = command.storage.as_deref().filter(|storage| !storage.is_empty()) {
            let kept = self.pipeline.storage().root().display();
            let message = format!("Tables and progress are kept in {kept}; `storage` ({storage}) is not used.");
            let _told = sender.send(Ok(RunEvent { timestamp: graph.environment.clock.now(), message }));
        }
        let cancel = CancellationToken::new();
        // Whoever drops the events cancels the update.
        let guard = cancel.clone().drop_guard();
        let (pipeline, environment) = (self.pipeline.clone(), Arc::clone(&graph.environment));
        tokio::spawn(async move {
            let sinks: Vec<Box<dyn EventSink>> = vec![Box::new(RunEvents(sender.clone()))];
            let outcome = pipeline.update_defined(definitions, environment, request, sinks, cancel).await;
            if let Err(error) = outcome.and_then(succeeded) {
                // A client that is gone does not want to know.
                let _told = sender.send(Err(error));
            }
        });
        let events = UnboundedReceiverStream::new(events).map(move |event| {
            let _running = &guard;
            event
        });
        Ok(PipelineReply::Events(events.boxed()))
    }
}

fn succeeded(outcome: UpdateOutcome) -> Result<()> {
    match outcome.state {
        UpdateState::Completed => Ok(()),
        UpdateState::Canceled => Err(Error::new(Kind::Cancelled, "the run was cancelled")),
        _ => Err(failure(&outcome.diagnostics)),
    }
}

/// All problems as one error; a client shows its text, and the class of the first.
fn failure(problems: &[Diagnostic]) -> Error {
    let problems: Vec<&Diagnostic> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    let Some((first, others)) = problems.split_first() else {
        return Error::internal("the run failed without a problem");
    };
    let place = |problem: &Diagnostic| problem.location.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
    let mut message = first.message.clone();
    if !others.is_empty() {
        message.push_str(&place(first));
    }
    for other in others {
        let condition = other.condition.as_ref().map(|condition| format!("[{condition}] ")).unwrap_or_default();
        message.push_str(&format!("\n{condition}{}{}", other.message, place(other)));
    }
    let mut error = Error::user(message);
    if let Some(condition) = &first.condition {
        error = error.with_condition(condition.clone());
    }
    match &first.location {
        Some(location) if others.is_empty() => error.at(location.clone()),
        _ => error,
    }
}

/// Tells a client what happens in its run.
struct RunEvents(UnboundedSender<Result<RunEvent>>);

#[async_trait]
impl EventSink for RunEvents {
    fn name(&self) -> &str {
        "a client's run"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events.iter().filter(|event| event.level != Level::Metrics && !event.details.is_transient()) {
            // A client that is gone has cancelled the update already.
            let _told = self.0.send(Ok(RunEvent { timestamp: event.timestamp, message: event.message.clone() }));
        }
        Ok(())
    }
}
