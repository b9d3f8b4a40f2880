//! The process that evaluates Python files. The protocol is described in `deltaworks/evaluate.py`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deltaworks_spark::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

use super::{interpreter, package, process_error};
use crate::event::Redactor;
use crate::graph::Environment;
use crate::spec::{PipelineSpec, SourceFile, SourceFormat};

/// The last lines of standard error that an error shows.
const SHOWN_STDERR_LINES: usize = 20;
/// How long a process may take to end when asked to.
const EXIT_TIME: Duration = Duration::from_secs(2);

/// What to evaluate.
#[derive(Debug, Serialize)]
pub struct Job {
    root: String,
    sources: Vec<Source>,
    graph_id: Option<String>,
    default_catalog: String,
    default_database: String,
    conf: BTreeMap<String, String>,
    path_mappings: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Source {
    path: String,
    shown: String,
    kind: &'static str,
}

impl Job {
    /// All Python files of a pipeline.
    pub fn new(files: &[SourceFile], spec: &PipelineSpec, environment: &Environment) -> Self {
        let root = spec.root_path.as_ref().unwrap_or(&spec.root);
        Self {
            root: root.display().to_string(),
            sources: files.iter().map(source).collect(),
            graph_id: None,
            default_catalog: environment.namespace.catalog.clone(),
            default_database: environment.namespace.schema.clone(),
            conf: environment.conf.all.clone(),
            path_mappings: spec.path_mappings.resolved(),
        }
    }
}

fn source(file: &SourceFile) -> Source {
    Source {
        path: file.path.display().to_string(),
        shown: file.display_path.display().to_string(),
        kind: match file.format {
            SourceFormat::Plain => "py",
            SourceFormat::Notebook => "notebook",
            SourceFormat::Ipynb => "ipynb",
        },
    }
}

/// A problem in the user's code.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub message: String,
    /// Spark's name of it.
    #[serde(default)]
    pub condition: Option<String>,
    /// The user's file.
    #[serde(default)]
    pub file: Option<String>,
    /// The line in it.
    #[serde(default)]
    pub line: Option<u32>,
    /// The dataset whose function raised.
    #[serde(default)]
    pub dataset: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub help: Option<String>,
    /// The user's own frames.
    #[serde(default)]
    pub traceback: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Report {
    Error(Problem),
    Defined { hooks: Vec<String> },
    Answer(Answer),
    Told {},
    Hook(HookFailure),
    Secret { value: String },
}

/// What the files of a pipeline came to.
#[derive(Debug)]
pub struct Evaluation {
    /// The problems of the user's code.
    pub problems: Vec<Problem>,
    /// Whether functions want to be told events.
    pub has_hooks: bool,
}

/// What is heard of event hooks.
#[derive(Debug)]
pub enum HookReport {
    /// Every hook has been called with one more event.
    Told,
    /// One of them raised.
    Failed(HookFailure),
}

/// The failure of a hook.
#[derive(Debug, Deserialize)]
pub struct HookFailure {
    /// The hook's function.
    pub hook: String,
    /// Whether it is not called any more.
    pub disabled: bool,
    /// What it raised.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What came of a command.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// The command's number.
    pub id: u64,
    /// Whether it was done.
    pub ok: bool,
    /// The dataset that the function asked for, if that is why not.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The function that was called for a snapshot.
    #[serde(default)]
    pub function: Option<FunctionPlace>,
    /// The problem of the user's code, if that is why not.
    #[serde(flatten)]
    pub problem: Option<Problem>,
}

/// A function of the user's, and where it is defined.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionPlace {
    /// Its name.
    pub name: String,
    /// The user's file.
    pub file: String,
    /// The line in it.
    pub line: u32,
}

/// A running interpreter. It is killed when dropped.
pub struct DefinitionProcess {
    child: Mutex<Child>,
    stdin: Mutex<ChildStdin>,
    reports: Mutex<UnboundedReceiver<Result<Report>>>,
    hook_reports: Mutex<UnboundedReceiver<HookReport>>,
    /// Gives the last lines of standard error, once.
    stderr: Mutex<Option<JoinHandle<Vec<String>>>>,
    interpreter: String,
    /// How many commands there have been.
    commands: AtomicU64,
    _package: package::Unpacked,
}

impl DefinitionProcess {
    /// Starts the interpreter, which connects to the service on `port`. `redactor` learns the secrets it hands out.
    ///
    /// # Errors
    /// `User` if there is no such interpreter.
    pub async fn start(spec: &PipelineSpec, port: u16, token: &str, redactor: &Redactor) -> Result<Self> {
        let interpreter = interpreter::find(spec);
        let package = package::unpack(dirs::cache_dir().as_deref())?;
        let mut search = vec![package.folder().to_path_buf()];
        search.extend(std::env::var_os("PYTHONPATH").iter().flat_map(std::env::split_paths));
        let search = std::env::join_paths(search).map_err(|error| process_error(format!("PYTHONPATH: {error}")))?;
        let mut command = Command::new(&interpreter);
        // Ctrl-C in a terminal is for this program, which ends the process in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .args(["-m", "deltaworks.evaluate"])
            .current_dir(&spec.root)
            .env("DELTAWORKS_REMOTE", format!("sc://localhost:{port}"))
            .env("DELTAWORKS_TOKEN", token)
            .env("PYTHONPATH", search)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                process_error(format!("Python interpreter `{}` cannot be started: {error}", interpreter.display()))
                    .with_help("Set `python` in the pipeline's settings, or DELTAWORKS_PYTHON, to an interpreter.")
            })?;
        let missing = || process_error("a standard stream of the Python process is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (reports, hook_reports) = receive(BufReader::new(stdout).lines(), redactor.clone());
        Ok(Self {
            child: Mutex::new(child),
            stdin: Mutex::new(stdin),
            reports: Mutex::new(reports),
            hook_reports: Mutex::new(hook_reports),
            stderr: Mutex::new(Some(tokio::spawn(pass_on(BufReader::new(stderr).lines())))),
            interpreter: interpreter.display().to_string(),
            commands: AtomicU64::new(0),
            _package: package,
        })
    }

    /// Evaluates all files of `job`.
    ///
    /// # Errors
    /// `User` if the process dies before it has told everything.
    pub async fn evaluate(&self, job: &Job) -> Result<Evaluation> {
        let mut reports = self.reports.lock().await;
        let mut line = serde_json::to_vec(job).map_err(|error| process_error(error.to_string()))?;
        line.push(b'\n');
        // A process that died at start does not read its job; why it died is on its standard error.
        let _sent = self.send(&line).await;
        let mut problems = Vec::new();
        while let Some(report) = reports.recv().await {
            match report? {
                Report::Error(problem) => problems.push(problem),
                Report::Defined { hooks } => return Ok(Evaluation { problems, has_hooks: !hooks.is_empty() }),
                _ => {}
            }
        }
        Err(self.death().await)
    }

    /// Has the process carry out a command, an object.
    ///
    /// # Errors
    /// `User` if the process dies before it has answered.
    pub async fn call(&self, mut command: serde_json::Value) -> Result<Answer> {
        let mut reports = self.reports.lock().await;
        let id = self.commands.fetch_add(1, Ordering::Relaxed);
        command["id"] = id.into();
        let mut line = command.to_string().into_bytes();
        line.push(b'\n');
        // A process that died does not answer; why it died is on its standard error.
        let _sent = self.send(&line).await;
        while let Some(report) = reports.recv().await {
            // Whoever asked before may not have waited for the answer.
            if let Report::Answer(answer) = report?
                && answer.id == id
            {
                return Ok(answer);
            }
        }
        Err(self.death().await)
    }

    /// Hands the process a line; whether it could be handed over.
    pub async fn send(&self, line: &[u8]) -> bool {
        self.stdin.lock().await.write_all(line).await.is_ok()
    }

    /// What is heard of event hooks; ends with the process.
    pub async fn hook_reports(&self) -> MutexGuard<'_, UnboundedReceiver<HookReport>> {
        self.hook_reports.lock().await
    }

    /// Lets go of the process. Whoever is the last to do so ends it in order; what it does not end itself is killed.
    pub async fn release(process: Arc<Self>) {
        let Some(process) = Arc::into_inner(process) else { return };
        // A process that is gone need not be asked.
        let _sent = process.send(b"{\"exit\": true}\n").await;
        // What the user's code printed is to be seen. It says when that is all: its memory takes longer to give back.
        if let Some(lines) = process.stderr.lock().await.take() {
            let _printed = tokio::time::timeout(EXIT_TIME, lines).await;
        }
        tokio::spawn(async move {
            let _exited = tokio::time::timeout(EXIT_TIME, process.child.lock().await.wait()).await;
        });
    }

    /// Why the process ended before its time.
    async fn death(&self) -> Error {
        let status = self.child.lock().await.wait().await.map(|status| status.to_string()).unwrap_or_default();
        let lines = match self.stderr.lock().await.take() {
            Some(lines) => lines.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let said = lines.join("\n");
        let error = process_error(format!("the Python process ended early ({status}):\n{said}"));
        if said.contains("No module named 'pyspark") || said.contains("No module named 'grpc") {
            return process_error(format!("Python interpreter `{}` has no PySpark client", self.interpreter))
                .with_help(format!(
                    "Install it: `{} -m pip install 'pyspark-client==4.2.0' 'pandas<3' pyarrow`.",
                    self.interpreter
                ));
        }
        error.with_help("Check the interpreter and its packages.")
    }
}

/// Sorts what the process says: answers to commands, reports of hooks, which come whenever they like, and secrets.
fn receive(
    mut lines: Lines<BufReader<ChildStdout>>,
    redactor: Redactor,
) -> (UnboundedReceiver<Result<Report>>, UnboundedReceiver<HookReport>) {
    let (answers, received_answers) = mpsc::unbounded_channel();
    let (hooks, received_hooks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            // Whoever does not listen does not want to know.
            let _heard = match lines.next_line().await {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(Report::Told {}) => hooks.send(HookReport::Told).is_ok(),
                    Ok(Report::Hook(failure)) => hooks.send(HookReport::Failed(failure)).is_ok(),
                    Ok(Report::Secret { value }) => {
                        redactor.learn(value);
                        true
                    }
                    Ok(report) => answers.send(Ok(report)).is_ok(),
                    Err(error) => {
                        answers.send(Err(process_error(format!("the Python process said `{line}`: {error}")))).is_ok()
                    }
                },
                Ok(None) => return,
                Err(error) => {
                    let _told = answers.send(Err(error.into()));
                    return;
                }
            };
        }
    });
    (received_answers, received_hooks)
}

/// Passes what the user's code prints on to our standard error, and keeps its last lines.
async fn pass_on(mut lines: Lines<BufReader<tokio::process::ChildStderr>>) -> Vec<String> {
    use std::io::Write;
    let mut last: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        // Nobody reads our standard error any more: nothing to be done about it.
        let _shown = writeln!(std::io::stderr(), "{line}");
        if last.len() == SHOWN_STDERR_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}
