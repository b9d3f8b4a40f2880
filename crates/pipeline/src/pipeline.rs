//! The face of a pipeline: validate it, update it, query its tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use deltaworks_lake::Lake;
use deltaworks_spark::cancel::under;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::service::is_query;
use deltaworks_spark::diagnostic::{Diagnostic, Severity, SourceLocation};
use deltaworks_spark::python::{PythonOptions, PythonWorkers};
use deltaworks_spark::sql::Parameters;
use deltaworks_spark::{Error, Result, sql};
use tokio_util::sync::CancellationToken;

use crate::definitions::python::EventHooks;
use crate::definitions::{Definitions, load, python};
use crate::event::log::{EventFilter, EventLogWriter, read_events};
use crate::event::{
    BusContext, CreateUpdate, Details, Event, EventBus, EventEmitter, EventSink, Origin, Redactor, RuntimeDetails,
    UpdateCause, UpdateProgress, UpdateState, UserAction,
};
use crate::graph::{Environment, Graph, Resets, resolve};
use crate::name::{DatasetName, Namespace};
use crate::owner;
use crate::session::{EngineOptions, Sessions};
use crate::spec::PipelineSpec;
use crate::storage::Storage;
use crate::update::selection::check_continuous;
use crate::update::{Retries, Rounds, RoundsOutcome, UpdateLock, UpdateRequest};
use crate::validate::analyse;
use crate::views;

/// A pipeline whose settings are loaded.
#[derive(Debug, Clone)]
pub struct Pipeline {
    spec: PipelineSpec,
    environment: Arc<Environment>,
}

/// Where the definitions of an update come from.
enum Source {
    /// The pipeline's source files.
    Files,
    /// A client, which has defined them in an environment of its own.
    Client { definitions: Box<Definitions>, environment: Arc<Environment> },
}

/// What analysis found.
#[derive(Debug)]
pub struct Validation {
    /// What could be resolved.
    pub graph: Graph,
    /// Every problem, by position.
    pub diagnostics: Vec<Diagnostic>,
}

impl Validation {
    /// Whether an update can run.
    pub fn is_valid(&self) -> bool {
        self.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error)
    }
}

/// How an update ended.
#[derive(Debug)]
pub struct UpdateOutcome {
    /// The update's id.
    pub update_id: String,
    /// Its last state.
    pub state: UpdateState,
    /// Why it failed: problems of the definitions, or errors of flows.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the definitions were valid.
    pub definitions_valid: bool,
    /// Whether it was to run until it is stopped, so that being `CANCELED` is its normal end.
    pub continuous: bool,
}

/// The rows of a query.
#[derive(Debug)]
pub struct QueryResult {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Pipeline {
    /// Opens the pipeline that `spec` describes. Nothing is read or written yet.
    ///
    /// # Errors
    /// `User` if a setting has a value it cannot have.
    pub fn open(mut spec: PipelineSpec, options: &EngineOptions) -> Result<Self> {
        let namespace = Namespace {
            catalog: spec.catalog.clone().unwrap_or_else(|| Namespace::DEFAULT_CATALOG.to_owned()),
            schema: (spec.schema.clone().or_else(|| spec.legacy_target.clone()))
                .unwrap_or_else(|| Namespace::DEFAULT_SCHEMA.to_owned()),
        };
        let storage = Storage::new(&spec.storage, namespace.clone())?;
        owner::adopt(&mut spec, storage.root())?;
        let mut conf = SparkConf::pipeline_defaults();
        for (key, value) in &spec.configuration {
            conf.set(key, value)?;
        }
        conf.all.insert("pipelines.id".to_owned(), spec.id.clone());
        let event_log = spec.event_log.as_ref().and_then(|log| {
            Some(DatasetName {
                catalog: log.catalog.clone().unwrap_or_else(|| namespace.catalog.clone()),
                schema: log.schema.clone().unwrap_or_else(|| namespace.schema.clone()),
                name: log.name.clone()?,
            })
        });
        let sessions = Sessions::new(options)?;
        let python = PythonOptions::new(python::interpreter(&spec), vec![folder_of_modules(&spec)]);
        let environment = Environment {
            pipeline_id: spec.id.clone(),
            storage,
            namespace,
            lake: Lake::new(Arc::clone(&options.stores)),
            clock: Arc::clone(&options.clock),
            ids: Arc::clone(&options.ids),
            python: Arc::new(PythonWorkers::new(python.with_conf(&conf, sessions.machine())?)),
            conf,
            sessions,
            path_mappings: Arc::new(spec.path_mappings.clone()),
            parameters: Arc::new(parameters(&spec)),
            event_log,
            redactor: Redactor::default(),
            continuous: spec.continuous,
            resets: Arc::default(),
            console: options.console.clone(),
        };
        Ok(Self { spec, environment: Arc::new(environment) })
    }

    /// The settings.
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    /// What its sessions need to know.
    pub(crate) fn environment(&self) -> Arc<Environment> {
        Arc::clone(&self.environment)
    }

    /// What unqualified names mean.
    pub fn namespace(&self) -> &Namespace {
        &self.environment.namespace
    }

    /// Where the pipeline keeps things.
    pub fn storage(&self) -> &Storage {
        &self.environment.storage
    }

    /// Analyses the definitions: every problem in one go. Reads no data but what schema inference needs.
    ///
    /// # Errors
    /// If the source files cannot be listed or Python cannot be started.
    pub async fn validate(&self) -> Result<Validation> {
        let (definitions, python) = load::load(&self.spec, &self.environment).await?;
        let mut validation = analyse(definitions, python, &self.environment).await;
        self.environment.redactor.redact_problems(&mut validation.diagnostics);
        Ok(validation)
    }

    /// Runs one update. Its events go to `sinks` and to the event log.
    ///
    /// # Errors
    /// `Conflict` if another update is active; errors of source files and of the event log. Problems of the
    /// definitions and errors of flows are in the outcome.
    pub async fn update(
        &self,
        request: UpdateRequest,
        sinks: Vec<Box<dyn EventSink>>,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome> {
        self.update_from(Source::Files, request, sinks, cancel).await
    }

    /// Runs one update of what a client has defined; as [`Self::update`].
    pub(crate) async fn update_defined(
        &self,
        definitions: Definitions,
        environment: Arc<Environment>,
        request: UpdateRequest,
        sinks: Vec<Box<dyn EventSink>>,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome> {
        let source = Source::Client { definitions: Box::new(definitions), environment };
        self.update_from(source, request, sinks, cancel).await
    }

    async fn update_from(
        &self,
        source: Source,
        request: UpdateRequest,
        mut sinks: Vec<Box<dyn EventSink>>,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome> {
        // A client's run is triggered, whatever the settings of the storage that it is kept in say.
        let continuous = self.spec.continuous && matches!(source, Source::Files);
        if continuous {
            check_continuous(&request)?;
        }
        let update_id = self.environment.ids.next_id().to_string();
        let _lock = UpdateLock::acquire(&self.environment.storage.lock_file(), &update_id)?;
        owner::claim(self.environment.storage.root(), &self.spec.id)?;
        let (hooks, told) = EventHooks::new();
        sinks.insert(0, told);
        sinks.push(Box::new(EventLogWriter::new(&self.environment.lake, &self.spec.storage)?));
        let bus = EventBus::start(self.bus_context(&update_id), sinks);
        let emitter = bus.emitter();
        let outcome = self.run_update(source, &request, &update_id, hooks, &emitter, &cancel).await;
        let outcome = outcome.map(|outcome| UpdateOutcome { continuous, ..outcome });
        if let Err(error) = &outcome {
            finished(&emitter, UpdateState::Failed, Some(error));
        }
        bus.close().await?;
        outcome.map(|mut outcome| {
            self.environment.redactor.redact_problems(&mut outcome.diagnostics);
            outcome
        })
    }

    /// Runs a query on the pipeline's tables, as they are stored now, and on its event log; or a command, as a
    /// client of [`crate::connect`] could.
    ///
    /// # Errors
    /// Those of parsing, analysing and running it.
    pub async fn query(&self, text: &str) -> Result<QueryResult> {
        let place = SourceLocation::new("<query>", 1, 1);
        // What has no place of its own, as a value that does not fit, is a matter of the query, not of the settings.
        self.query_at(text, &place).await.map_err(|error| error.at(place))
    }

    async fn query_at(&self, text: &str, place: &SourceLocation) -> Result<QueryResult> {
        if !is_query(text) {
            return rows(crate::connect::run_command(self, text).await?).await;
        }
        let query = sql::parse_query(text, place)?;
        let ctx = self.environment.sessions.context(&self.environment.conf)?;
        let plan = crate::graph::plan_stored(&ctx, &query, &self.environment).await?;
        rows(ctx.execute_logical_plan(plan).await?).await
    }

    /// Reads the event log, oldest event first.
    ///
    /// # Errors
    /// `Unavailable` if the storage does not answer, `Data` if a row is no event.
    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        read_events(&self.environment.lake, &self.spec.storage, filter).await
    }

    fn bus_context(&self, update_id: &str) -> BusContext {
        BusContext {
            clock: Arc::clone(&self.environment.clock),
            ids: Arc::clone(&self.environment.ids),
            redactor: self.environment.redactor.clone(),
            ..BusContext::new(self.origin(update_id))
        }
    }

    async fn run_update(
        &self,
        source: Source,
        request: &UpdateRequest,
        update_id: &str,
        hooks: EventHooks,
        emitter: &EventEmitter,
        cancel: &CancellationToken,
    ) -> Result<UpdateOutcome> {
        self.announce(request, emitter);
        let mut environment = match &source {
            Source::Files => self.environment.as_ref().clone(),
            Source::Client { environment, .. } => Environment { continuous: false, ..environment.as_ref().clone() },
        };
        if !request.validate_only {
            environment.resets = Arc::new(Resets::of(request, &environment.namespace));
        }
        let environment = Arc::new(environment);
        let from_files = matches!(source, Source::Files);
        let load = async {
            match source {
                Source::Files => load::load(&self.spec, &environment).await,
                Source::Client { definitions, .. } => Ok((*definitions, None)),
            }
        };
        let (definitions, python) = tokio::select! {
            biased;
            // The process that evaluates Python ends with the future; what it says of the signal is of no interest.
            () = cancel.cancelled() => return Ok(cancelled(update_id, emitter)),
            loaded = load => loaded?,
        };
        if request.validate_only {
            let validation = under(cancel.clone(), analyse(definitions, python, &environment)).await;
            if !validation.is_valid() {
                return Ok(invalid(update_id, validation.diagnostics, emitter));
            }
            warn(&validation.diagnostics, emitter);
            finished(emitter, UpdateState::Completed, None);
            return Ok(UpdateOutcome::new(update_id, UpdateState::Completed, validation.diagnostics));
        }
        match &python {
            Some(python) => python.start_hooks(hooks, emitter.clone()),
            None => drop(hooks),
        }
        let (graph, diagnostics) = under(cancel.clone(), resolve(&definitions, &environment)).await;
        let validation = Validation { graph, diagnostics };
        if !validation.is_valid() {
            return Ok(invalid(update_id, validation.diagnostics, emitter));
        }
        warn(&validation.diagnostics, emitter);
        // A client's pipeline is one of several over this storage: what it does not define may be another's.
        views::publish(&definitions, &environment, from_files)?;
        let continuous = environment.continuous;
        let rounds = Rounds {
            continuous,
            environment,
            definitions,
            python,
            request: request.clone(),
            emitter: emitter.clone(),
            cancel: cancel.clone(),
            max_concurrent_flows: self.spec.max_concurrent_flows,
            retries: self.retries(continuous),
        };
        let rounds = under(rounds.cancel_of_batches(), rounds.run(validation.graph));
        let outcome = told_when_stopping(rounds, emitter, cancel).await?;
        Ok(conclude(update_id, outcome, emitter, cancel))
    }

    fn retries(&self, continuous: bool) -> Retries {
        if self.spec.development {
            return Retries::NONE;
        }
        let configured = |key: &str| self.environment.conf.get(key).and_then(|n| n.parse().ok());
        let of_flow = configured("pipelines.maxFlowRetryAttempts").unwrap_or(Retries::PRODUCTION.max_retries);
        let retries = Retries { max_retries: of_flow, ..Retries::PRODUCTION };
        match continuous {
            true => retries.continuous(configured("pipelines.numUpdateRetryAttempts")),
            false => retries,
        }
    }

    fn origin(&self, update_id: &str) -> Origin {
        Origin {
            pipeline_id: Some(self.spec.id.clone()),
            pipeline_name: Some(self.spec.name.clone()),
            pipeline_type: Some("WORKSPACE".to_owned()),
            update_id: Some(update_id.to_owned()),
            request_id: Some(update_id.to_owned()),
            ..Origin::default()
        }
    }

    fn announce(&self, request: &UpdateRequest, emitter: &EventEmitter) {
        emitter.emit(Details::CreateUpdate(CreateUpdate {
            cause: UpdateCause::UserAction,
            run_as: request.user_name.clone(),
            full_refresh: request.full_refresh_all,
            refresh_selection: request.refresh.clone(),
            full_refresh_selection: request.full_refresh.clone(),
            validate_only: request.validate_only,
            development: self.spec.development,
        }));
        emitter
            .emit(Details::UserAction(UserAction { action: "START".to_owned(), user_name: request.user_name.clone() }));
        emitter.emit(Details::RuntimeDetails(RuntimeDetails {
            dbr_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeDetails::default()
        }));
        emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Initializing)));
    }
}

async fn rows(frame: DataFrame) -> Result<QueryResult> {
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(QueryResult { schema, batches: frame.collect().await? })
}

/// The values of named parameters; they are text.
fn parameters(spec: &PipelineSpec) -> Parameters {
    let text = |(name, value): (&String, &String)| (name.clone(), ScalarValue::from(value.as_str()));
    Parameters { named: spec.parameters.iter().map(text).collect(), positional: Vec::new() }
}

/// Where source files import the user's modules from.
fn folder_of_modules(spec: &PipelineSpec) -> std::path::PathBuf {
    spec.root_path.as_ref().unwrap_or(&spec.root).clone()
}

impl UpdateOutcome {
    fn new(update_id: &str, state: UpdateState, diagnostics: Vec<Diagnostic>) -> Self {
        Self { update_id: update_id.to_owned(), state, diagnostics, definitions_valid: true, continuous: false }
    }
}

fn invalid(update_id: &str, diagnostics: Vec<Diagnostic>, emitter: &EventEmitter) -> UpdateOutcome {
    let count = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let error = Error::from_diagnostics(
        format!("the pipeline has {count} problem{}", if count == 1 { "" } else { "s" }),
        diagnostics.clone(),
    );
    finished(emitter, UpdateState::Failed, Some(&error));
    UpdateOutcome { definitions_valid: false, ..UpdateOutcome::new(update_id, UpdateState::Failed, diagnostics) }
}

fn warn(diagnostics: &[Diagnostic], emitter: &EventEmitter) {
    for warning in diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning) {
        emitter.warn(warning.into());
    }
}

fn cancelled(update_id: &str, emitter: &EventEmitter) -> UpdateOutcome {
    finished(emitter, UpdateState::Canceled, None);
    UpdateOutcome::new(update_id, UpdateState::Canceled, Vec::new())
}

/// The outcome of `rounds`; if they are told to stop, the log says so before it says how the update ended.
async fn told_when_stopping(
    rounds: impl Future<Output = Result<RoundsOutcome>>,
    emitter: &EventEmitter,
    cancel: &CancellationToken,
) -> Result<RoundsOutcome> {
    let stopping = || emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Stopping)));
    let mut rounds = std::pin::pin!(rounds);
    tokio::select! {
        biased;
        () = cancel.cancelled() => {
            stopping();
            rounds.await
        }
        outcome = &mut rounds => {
            if cancel.is_cancelled() {
                stopping();
            }
            outcome
        }
    }
}

fn conclude(
    update_id: &str,
    outcome: RoundsOutcome,
    emitter: &EventEmitter,
    cancel: &CancellationToken,
) -> UpdateOutcome {
    let state = match (outcome.is_complete(), cancel.is_cancelled()) {
        (_, true) => UpdateState::Canceled,
        (true, _) => UpdateState::Completed,
        (false, _) => UpdateState::Failed,
    };
    finished(emitter, state, None);
    UpdateOutcome::new(update_id, state, outcome.problems)
}

fn finished(emitter: &EventEmitter, state: UpdateState, error: Option<&Error>) {
    let mut event = emitter.event(Details::UpdateProgress(UpdateProgress::new(state)));
    if let Some(error) = error {
        event = event.error(error);
    }
    event.emit();
}
