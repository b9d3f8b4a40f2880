//! Python source files: evaluated in a process of the user's interpreter, which defines datasets and flows
//! over Spark Connect with the stock client.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use deltaworks_spark::connect::service;
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};
use deltaworks_spark::{Error, Kind, Result, sql};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{Definitions, Flow, Language};
use crate::event::EventEmitter;
use crate::graph::Environment;
use crate::name::DatasetName;
use crate::spec::{PipelineSpec, SourceFile};

mod batches;
mod hooks;
mod host;
mod interpreter;
mod package;
mod process;
mod register;
mod snapshots;

pub use batches::BatchFunctions;
pub use hooks::EventHooks;
pub(crate) use host::DefinitionHost;
pub(crate) use interpreter::find as interpreter;
use process::{DefinitionProcess, Evaluation, Job, Problem};
pub use snapshots::SnapshotFunctions;

/// The process that has read a pipeline's Python files, for functions that must be called during an update.
///
/// It ends with this value and the hooks it has started, whatever happens to the update.
pub struct PythonSession {
    host: Arc<DefinitionHost>,
    process: Arc<DefinitionProcess>,
    has_hooks: bool,
    environment: Arc<Environment>,
    /// Held by who has the process do something.
    turn: Arc<tokio::sync::Mutex<()>>,
    _stop: DropGuard,
}

/// What a call of a dataset function during an update has given.
pub enum Evaluated {
    /// The flow with its query.
    Query(Box<Flow>),
    /// The function asked for a dataset that is not up to date.
    WaitsFor(DatasetName),
}

/// Adds what Python files declare to `definitions`. The process is kept if it may be needed during the update.
///
/// # Errors
/// If no interpreter with PySpark can be started. Errors of the user's code are diagnostics.
pub async fn define(
    files: &[SourceFile],
    spec: &PipelineSpec,
    environment: &Arc<Environment>,
    definitions: &mut Definitions,
) -> Result<Option<PythonSession>> {
    let host = Arc::new(DefinitionHost::new(Arc::clone(environment), std::mem::take(definitions))?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let token = Uuid::new_v4().to_string();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let _stop = stop.drop_guard();
    tokio::spawn(service::serve(Arc::clone(&host) as _, listener, token.clone(), stopped));
    let process = Arc::new(DefinitionProcess::start(spec, port, &token, &environment.redactor).await?);
    let Evaluation { problems, has_hooks } = process.evaluate(&Job::new(files, spec, environment)).await?;
    *definitions = host.definitions().as_ref().clone();
    for flow in definitions.flows.iter_mut().filter(|flow| flow.language == Language::Python) {
        // The client names flows as the source does, without catalog and schema unless they are written.
        flow.asked = [flow.name.name.clone(), flow.name.to_string()].iter().flat_map(|name| host.asked(name)).collect();
    }
    for problem in &problems {
        let Some(name) = &problem.dataset else {
            let file = files
                .iter()
                .find(|file| problem.file.as_deref().is_some_and(|shown| file.display_path == Path::new(shown)));
            if let Some(text) = file.and_then(|file| std::fs::read_to_string(&file.path).ok()) {
                definitions.note_broken_python(&text, &environment.namespace);
            }
            continue;
        };
        definitions.failed.push(DatasetName::resolve(&sql::parse_name(name)?, &environment.namespace)?);
    }
    definitions.diagnostics.extend(problems.into_iter().map(diagnostic));
    let has_functions =
        definitions.outputs.iter().any(|output| output.sink.as_ref().is_some_and(|sink| sink.function.is_some()));
    let needs_calls = |flow: &Flow| !flow.asked.is_empty() || flow.query.snapshot_function().is_some();
    if !has_hooks && !has_functions && !definitions.flows.iter().any(needs_calls) {
        DefinitionProcess::release(process).await;
        return Ok(None);
    }
    Ok(Some(PythonSession {
        host,
        process,
        has_hooks,
        environment: Arc::clone(environment),
        turn: Arc::default(),
        _stop,
    }))
}

impl PythonSession {
    /// Calls the function of `flow`, which sees `definitions` and the rows of the datasets in `settled`.
    ///
    /// # Errors
    /// What the function raised, with the user's own lines; `User` if the process dies.
    pub async fn evaluate(
        &mut self,
        flow: &Flow,
        definitions: &Arc<Definitions>,
        settled: HashSet<DatasetName>,
    ) -> Result<Evaluated> {
        let _turn = self.turn.lock().await;
        self.host.begin_evaluation(Arc::clone(definitions), settled);
        let name =
            if flow.name.is_in(&self.environment.namespace) { flow.name.name.clone() } else { flow.name.to_string() };
        let answer = self.process.call(json!({ "evaluate": name })).await;
        let asked = self.host.asked(&name);
        let defined = self.host.end_evaluation();
        let answer = answer.map_err(|error| error.context(format!("while flow `{}` was evaluated", flow.name.name)))?;
        match (answer.waits_for, answer.problem, defined) {
            (Some(dataset), ..) => Ok(Evaluated::WaitsFor(self.environment.named(&dataset, definitions)?)),
            (None, _, Some(mut defined)) if answer.ok => {
                defined.asked = asked;
                Ok(Evaluated::Query(Box::new(defined)))
            }
            (None, Some(problem), _) => Err(problem_error(problem)),
            _ => Err(process_error(format!("flow `{}` was not defined", flow.name.name))),
        }
    }

    /// Tells the pipeline's event hooks, if it has any, what `hooks` collect. Their failures go to `emitter`.
    pub fn start_hooks(&self, hooks: EventHooks, emitter: EventEmitter) {
        if self.has_hooks {
            hooks.start(Arc::clone(&self.process), emitter);
        }
    }

    /// Calls the functions of the pipeline's sinks.
    pub fn batch_functions(&self) -> BatchFunctions {
        BatchFunctions {
            host: Arc::clone(&self.host),
            process: Arc::clone(&self.process),
            environment: Arc::clone(&self.environment),
            turn: Arc::clone(&self.turn),
        }
    }

    /// Calls the functions that give snapshots, which see `definitions`.
    pub fn snapshot_functions(&self, definitions: Arc<Definitions>) -> SnapshotFunctions {
        SnapshotFunctions {
            host: Arc::clone(&self.host),
            process: Arc::clone(&self.process),
            environment: Arc::clone(&self.environment),
            turn: Arc::clone(&self.turn),
            definitions,
        }
    }

    /// Ends the process, unless hooks still need it.
    pub async fn close(self) {
        DefinitionProcess::release(self.process).await;
    }
}

fn problem_error(problem: Problem) -> Error {
    let mut error = Error::user(problem.message);
    if let Some(condition) = problem.condition {
        error = error.with_condition(condition);
    }
    if let Some(traceback) = problem.traceback {
        error = error.with_traceback(traceback);
    }
    if let Some(help) = problem.help {
        error = error.with_help(help);
    }
    match problem.file {
        Some(file) => error.at(SourceLocation::new(file, problem.line.unwrap_or(0), 0)),
        None => error,
    }
}

fn diagnostic(problem: Problem) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(problem.message);
    diagnostic.condition = problem.condition;
    diagnostic.traceback = problem.traceback;
    diagnostic.help = problem.help;
    match problem.file {
        Some(file) => diagnostic.at(SourceLocation::new(file, problem.line.unwrap_or(0), 0)),
        None => diagnostic,
    }
}

/// The error of a process that did not do its work.
fn process_error(message: impl Into<String>) -> Error {
    Error::new(Kind::User, message).with_condition("PYTHON_EVALUATION_FAILED")
}
