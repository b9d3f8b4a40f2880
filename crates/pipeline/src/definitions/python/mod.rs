//! Python source files: evaluated in a process of the user's interpreter, which defines datasets and flows
//! over Spark Connect with the stock client.

use std::sync::Arc;

use deltaworks_spark::connect::service;
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};
use deltaworks_spark::{Error, Kind, Result, sql};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Definitions;
use crate::graph::Environment;
use crate::name::DatasetName;
use crate::spec::{PipelineSpec, SourceFile};

mod host;
mod interpreter;
mod process;
mod register;

use host::DefinitionHost;
pub(crate) use interpreter::find as interpreter;
use process::{DefinitionProcess, Job, Problem};

/// Adds what Python files declare to `definitions`.
///
/// # Errors
/// If no interpreter with PySpark can be started. Errors of the user's code are diagnostics.
pub async fn define(
    files: &[SourceFile],
    spec: &PipelineSpec,
    environment: &Arc<Environment>,
    definitions: &mut Definitions,
) -> Result<()> {
    let host = Arc::new(DefinitionHost::new(Arc::clone(environment), std::mem::take(definitions))?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let token = Uuid::new_v4().to_string();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let server = tokio::spawn(service::serve(Arc::clone(&host) as _, listener, token.clone(), stopped));
    let job = Job::new(files, spec, environment);
    let outcome = async {
        let mut process = DefinitionProcess::start(spec, port, &token).await?;
        process.evaluate(&job).await
    }
    .await;
    stop.cancel();
    let served = server.await.map_err(|error| Error::internal(format!("the Spark Connect service died: {error}")));
    let problems = outcome?;
    served??;
    *definitions = host.definitions().as_ref().clone();
    for problem in &problems {
        let Some(name) = &problem.dataset else { continue };
        definitions.failed.push(DatasetName::resolve(&sql::parse_name(name)?, &environment.namespace)?);
    }
    definitions.diagnostics.extend(problems.into_iter().map(diagnostic));
    Ok(())
}

fn diagnostic(problem: Problem) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(problem.message);
    diagnostic.condition = problem.condition;
    diagnostic.traceback = problem.traceback;
    match problem.file {
        Some(file) => diagnostic.at(SourceLocation::new(file, problem.line.unwrap_or(0), 0)),
        None => diagnostic,
    }
}

/// The error of a process that did not do its work.
fn process_error(message: impl Into<String>) -> Error {
    Error::new(Kind::User, message).with_condition("PYTHON_EVALUATION_FAILED")
}
