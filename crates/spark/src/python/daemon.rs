//! The process that forks workers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};

use uuid::Uuid;

use super::options::{MemoryBound, PythonOptions};
use super::worker::{Worker, greet};
use crate::error::{Error, Kind, Result};

/// What pandas says of PySpark's own code, each time that it runs: users can do nothing about it.
const NOT_THE_USERS: &str = "ignore::FutureWarning:pyspark.sql.pandas.serializers";

/// Starts PySpark's daemon with a bound of memory, which workers inherit. A worker that binds itself, as Spark has it, says so
/// on standard error for each task.
const START: &str = "
import runpy, sys
limit, wanted = int(sys.argv.pop()), sys.argv.pop() == 'set'
if limit:
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError) as error:
        if wanted:
            print(f'The memory of Python functions has no bound here: {error}', file=sys.stderr)
runpy.run_module('pyspark.daemon', run_name='__main__', alter_sys=True)
";

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Child,
    /// The daemon kills the processes it is named here, and ends when this is closed.
    stdin: Option<ChildStdin>,
    address: Address,
}

/// Where a daemon is asked for workers.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The id of its process.
    pub daemon: u32,
    port: u16,
    secret: String,
}

impl Address {
    /// A new worker.
    pub fn forked(&self) -> Result<Worker> {
        greet(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?, &self.secret)
    }
}

impl Daemon {
    /// Starts one whose workers run `module`.
    pub fn start(options: &PythonOptions, module: &str) -> Result<Self> {
        let interpreter = &options.interpreter;
        let failed = |why: String| {
            Error::new(Kind::User, format!("Python functions cannot be run by `{}`: {why}", interpreter.display()))
                .with_condition("PYTHON_WORKER_FAILED")
                .with_help("Set `python` in the settings, or DELTAWORKS_PYTHON, to an interpreter with pyspark-client.")
        };
        let secret = Uuid::new_v4().to_string();
        let inherited = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let search = options.folders.iter().cloned().chain(std::env::split_paths(&inherited));
        let search = std::env::join_paths(search).map_err(|error| failed(error.to_string()))?;
        let mut warnings = std::env::var_os("PYTHONWARNINGS").unwrap_or_default();
        if !warnings.is_empty() {
            warnings.push(",");
        }
        warnings.push(NOT_THE_USERS);
        let origin = if matches!(options.memory, MemoryBound::Set(_)) { "set" } else { "default" };
        let mut command = Command::new(interpreter);
        command
            .args(["-c", START, module, origin, &options.memory.bytes().unwrap_or(0).to_string()])
            .env("PYTHON_WORKER_FACTORY_SECRET", &secret)
            .env("PYTHONPATH", search)
            .env("PYTHONUNBUFFERED", "YES")
            .env("PYTHONWARNINGS", warnings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if options.reuse {
            command.env("SPARK_REUSE_WORKER", "1");
        } else {
            command.env_remove("SPARK_REUSE_WORKER");
        }
        let mut process = command.spawn().map_err(|error| failed(error.to_string()))?;
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
        let address = Address { daemon: process.id(), port, secret };
        Ok(Self { process, stdin, address })
    }

    /// Where it is asked for workers.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Kills one of its workers, whatever that does at the moment.
    pub fn kill(&mut self, worker: i32) {
        if let Some(stdin) = &mut self.stdin {
            // A daemon that is gone has taken its workers with it.
            let _asked = stdin.write_all(&worker.to_be_bytes()).and_then(|()| stdin.flush());
        }
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
