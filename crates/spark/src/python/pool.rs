//! The workers of a program: forked when one is needed, kept for the next task, killed when theirs is cancelled.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::daemon::{Address, Daemon};
use super::options::{MEMORY, PythonOptions};
use super::worker::{Hangup, Worker};
use crate::cancel;
use crate::error::{Error, Kind, Result};

/// How many workers are kept for the next task.
const MAX_IDLE: usize = 8;

/// How long a worker is kept without a task.
const IDLE_TIME: Duration = Duration::from_mins(1);

/// What PySpark's workers run: functions, and `analyze` of table functions.
const FUNCTIONS: &str = "pyspark.worker";
const ANALYZE: &str = "pyspark.sql.worker.analyze_udtf";

/// The Python of a program: started when the first function is called, ended with this value.
#[derive(Debug)]
pub struct PythonWorkers {
    options: PythonOptions,
    daemons: Mutex<Daemons>,
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Daemons {
    functions: Option<Daemon>,
    /// For `analyze` of table functions, which PySpark has a worker of its own for.
    analyzers: Option<Daemon>,
}

/// A worker and the daemon that has forked it.
#[derive(Debug)]
struct Forked {
    worker: Worker,
    daemon: u32,
}

#[derive(Debug, Default)]
struct Idle {
    /// With the time since when they wait.
    workers: Vec<(Instant, Forked)>,
    /// Whether somebody looks for those that have waited for too long.
    is_watched: bool,
}

impl PythonWorkers {
    /// The workers of an interpreter. Nothing is started yet.
    pub fn new(options: PythonOptions) -> Self {
        Self { options, daemons: Mutex::default(), idle: Arc::default() }
    }

    /// Runs `task` on a worker, which is kept for the next one if it ends well.
    ///
    /// # Errors
    /// Those of the task; `Cancelled` if what the present task works under is cancelled: then the worker is killed.
    pub(super) fn with_worker<T>(&self, task: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
        let mut forked = self.take()?;
        let result = self.run(&mut forked, task)?;
        if self.options.reuse {
            self.keep(forked);
        }
        Ok(result)
    }

    /// Runs `task` on a worker that analyses calls of table functions, and ends it.
    ///
    /// # Errors
    /// As [`Self::with_worker`].
    pub(super) fn with_analyzer<T>(&self, task: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
        let address = self.running(ANALYZE)?;
        let mut forked = Forked { worker: address.forked()?, daemon: address.daemon };
        self.run(&mut forked, task)
    }

    fn run<T>(&self, forked: &mut Forked, task: impl FnOnce(&mut Worker) -> Result<T>) -> Result<T> {
        let cancel = cancel::current();
        let watch = cancel.as_ref().map(|cancel| Watch::start(cancel.clone(), forked.worker.hangup()?)).transpose()?;
        let result = task(&mut forked.worker);
        drop(watch);
        result.map_err(|error| {
            let is_cancelled = cancel.is_some_and(|cancel| cancel.is_cancelled());
            // It may be at work still, and is of no use any more.
            if is_cancelled || !forked.worker.has_left() {
                self.kill(forked);
            }
            match is_cancelled {
                true => Error::new(Kind::Cancelled, "the operation was cancelled").with_condition("OPERATION_CANCELED"),
                false => self.explained(error),
            }
        })
    }

    /// What the user can do where memory may have been the reason.
    fn explained(&self, error: Error) -> Error {
        let bound = match self.options.memory.bytes() {
            Some(bytes) => format!("Each worker has {} MiB.", bytes >> 20),
            None => "Workers have no bound of memory.".to_owned(),
        };
        match error.traceback() {
            Some(traceback) if is_out_of_memory(traceback) => error.with_help(format!(
                "The function has used up the memory of its worker. {bound} `{MEMORY}` in the configuration sets what all have."
            )),
            Some(_) => error,
            None if error.condition() == Some("PYTHON_WORKER_FAILED") => error.with_help(format!(
                "The function has ended its process (`os._exit`), crashed in native code, or the system killed it, as it does \
                 when memory runs out. {bound} `{MEMORY}` in the configuration sets what all have."
            )),
            None => error,
        }
    }

    fn take(&self) -> Result<Forked> {
        loop {
            let Some((_, mut forked)) = self.idle.lock().workers.pop() else { break };
            // One that has died while it waited is nobody's fault.
            if forked.worker.is_waiting() {
                return Ok(forked);
            }
        }
        let address = self.running(FUNCTIONS)?;
        Ok(Forked { worker: address.forked()?, daemon: address.daemon })
    }

    fn keep(&self, forked: Forked) {
        let mut idle = self.idle.lock();
        if idle.workers.len() >= MAX_IDLE {
            return;
        }
        idle.workers.push((Instant::now(), forked));
        if !idle.is_watched
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            idle.is_watched = true;
            runtime.spawn(end_idle(Arc::downgrade(&self.idle)));
        }
    }

    /// Where workers of `module` come from: a daemon, which is started if there is none.
    fn running(&self, module: &str) -> Result<Address> {
        let mut daemons = self.daemons.lock();
        let daemon = if module == ANALYZE { &mut daemons.analyzers } else { &mut daemons.functions };
        if let Some(running) = daemon
            && !running.is_running()?
        {
            *daemon = None;
        }
        Ok(match daemon {
            Some(daemon) => daemon.address(),
            None => daemon.insert(Daemon::start(&self.options, module)?).address(),
        })
    }

    fn kill(&self, forked: &Forked) {
        let mut daemons = self.daemons.lock();
        let Daemons { functions, analyzers } = &mut *daemons;
        // The number of a worker means nothing to another daemon.
        if let Some(daemon) = functions.iter_mut().chain(analyzers).find(|d| d.address().daemon == forked.daemon) {
            daemon.kill(forked.worker.process());
        }
    }
}

/// Whether the last line of a traceback says that there was no memory left.
fn is_out_of_memory(traceback: &str) -> bool {
    let last = traceback.trim_end().lines().last().unwrap_or_default();
    // Those of numpy and Arrow have longer names.
    ["MemoryError", "Cannot allocate memory"].iter().any(|sign| last.contains(sign))
}

/// Ends workers that have waited for too long, until none waits any more.
async fn end_idle(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(IDLE_TIME / 4).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = idle.lock();
        idle.workers.retain(|(since, _)| since.elapsed() < IDLE_TIME);
        if idle.workers.is_empty() {
            idle.is_watched = false;
            return;
        }
    }
}

/// Breaks off the conversation with a worker as soon as its task is cancelled.
struct Watch(AbortHandle);

impl Watch {
    fn start(cancel: CancellationToken, hangup: Hangup) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::internal(format!("a task that can be cancelled has no runtime: {error}")))?;
        let watching = runtime.spawn(async move {
            cancel.cancelled().await;
            hangup.now();
        });
        Ok(Self(watching.abort_handle()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::is_out_of_memory;

    #[test]
    fn memory_errors_are_known_by_their_last_line() {
        assert!(is_out_of_memory("Traceback:\n  x = MemoryHog()\nMemoryError\n"));
        assert!(is_out_of_memory("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 GiB\n"));
        assert!(is_out_of_memory("pyarrow.lib.ArrowMemoryError: malloc of size 64 failed"));
        assert!(!is_out_of_memory("Traceback:\n  raise MemoryError\nValueError: 1"));
    }
}
