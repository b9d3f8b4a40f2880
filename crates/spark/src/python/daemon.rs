//! The process that forks workers, and the workers that wait for their next task.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use parking_lot::Mutex;
use uuid::Uuid;

use super::worker::{Worker, greet};
use crate::error::{Error, Kind, Result};

/// How many workers are kept for the next task.
const MAX_IDLE: usize = 8;

/// The Python of a program: started when the first function is called, ended with this value.
#[derive(Debug)]
pub struct PythonWorkers {
    interpreter: PathBuf,
    folders: Vec<PathBuf>,
    state: Mutex<State>,
}

/// What PySpark's workers run: functions, and `analyze` of table functions.
const FUNCTIONS: &str = "pyspark.worker";
const ANALYZE: &str = "pyspark.sql.worker.analyze_udtf";

/// What pandas says of PySpark's own code, each time that it runs: users can do nothing about it.
const NOT_THE_USERS: &str = "ignore::FutureWarning:pyspark.sql.pandas.serializers";

#[derive(Debug, Default)]
struct State {
    daemon: Option<Daemon>,
    /// For `analyze` of table functions, which PySpark has a worker of its own for.
    analyzers: Option<Daemon>,
    idle: Vec<Worker>,
}

#[derive(Debug)]
struct Daemon {
    process: Child,
    /// The daemon ends when this is closed.
    stdin: Option<ChildStdin>,
    port: u16,
    secret: String,
}

impl PythonWorkers {
    /// The workers of `interpreter`, which import the user's modules from `folders`. Nothing is started yet.
    pub fn new(interpreter: PathBuf, folders: Vec<PathBuf>) -> Self {
        Self { interpreter, folders, state: Mutex::default() }
    }

    /// Runs `task` on a worker, which is kept for the next one if it ends well.
    pub(super) fn with_worker<T>(&self, task: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
        let mut worker = self.take()?;
        // A worker that has failed has ended itself, or is of no use any more.
        let result = task(&mut worker)?;
        let mut state = self.state.lock();
        if state.idle.len() < MAX_IDLE {
            state.idle.push(worker);
        }
        Ok(result)
    }

    fn take(&self) -> Result<Worker> {
        let mut state = self.state.lock();
        if let Some(worker) = state.idle.pop() {
            return Ok(worker);
        }
        let daemon = self.running(&mut state.daemon, FUNCTIONS)?;
        drop(state);
        self.forked(&daemon)
    }

    /// Runs `task` on a worker that analyses calls of table functions, and ends it.
    pub(super) fn with_analyzer<T>(&self, task: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
        let daemon = self.running(&mut self.state.lock().analyzers, ANALYZE)?;
        task(&mut self.forked(&daemon)?)
    }

    /// The port and the secret of a daemon, which is started if there is none.
    fn running(&self, daemon: &mut Option<Daemon>, module: &str) -> Result<(u16, String)> {
        if let Some(running) = daemon
            && running.process.try_wait()?.is_some()
        {
            *daemon = None;
        }
        let daemon = match daemon {
            Some(daemon) => daemon,
            None => daemon.insert(Daemon::start(&self.interpreter, &self.folders, module)?),
        };
        Ok((daemon.port, daemon.secret.clone()))
    }

    fn forked(&self, (port, secret): &(u16, String)) -> Result<Worker> {
        greet(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?, secret)
    }
}

impl Daemon {
    fn start(interpreter: &Path, folders: &[PathBuf], module: &str) -> Result<Self> {
        let failed = |why: String| {
            Error::new(Kind::User, format!("Python functions cannot be run by `{}`: {why}", interpreter.display()))
                .with_condition("PYTHON_WORKER_FAILED")
                .with_help("Set `python` in the settings, or DELTAWORKS_PYTHON, to an interpreter with pyspark-client.")
        };
        let secret = Uuid::new_v4().to_string();
        let inherited = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let search = folders.iter().cloned().chain(std::env::split_paths(&inherited));
        let search = std::env::join_paths(search).map_err(|error| failed(error.to_string()))?;
        let mut warnings = std::env::var_os("PYTHONWARNINGS").unwrap_or_default();
        if !warnings.is_empty() {
            warnings.push(",");
        }
        warnings.push(NOT_THE_USERS);
        let mut process = Command::new(interpreter)
            .args(["-m", "pyspark.daemon", module])
            .env("PYTHON_WORKER_FACTORY_SECRET", &secret)
            .env("SPARK_REUSE_WORKER", "1")
            .env("PYTHONPATH", search)
            .env("PYTHONUNBUFFERED", "YES")
            .env("PYTHONWARNINGS", warnings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut port = [0; 4];
        let answered = match process.stdout.as_mut() {
            Some(stdout) => stdout.read_exact(&mut port).map_err(|error| error.to_string()),
            None => Err("it has no output".to_owned()),
        };
        let stdin = process.stdin.take();
        if let Err(why) = answered {
            // The process is at its end already; what it says is on standard error.
            let _ = process.kill();
            let _ = process.wait();
            return Err(failed(why));
        }
        let port = u16::try_from(u32::from_be_bytes(port)).map_err(|_| failed("it names no port".to_owned()))?;
        Ok(Self { process, stdin, port, secret })
    }
}

impl Drop for Daemon {
    /// Ends the daemon in order: it takes its workers with it.
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.process.wait();
    }
}
