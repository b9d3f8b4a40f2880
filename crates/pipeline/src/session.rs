//! The engine's resources and the sessions that share them.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryLimit as PoolLimit, TrackConsumersPool};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::IncrementalPlanner;
use deltaworks_spark::Result;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::python::Machine;
use deltaworks_spark::session::{SessionOptions, session_context};

use crate::event::{Clock, IdGenerator, RandomIds, SystemClock};
use crate::expectation::ExpectationPlanner;
use crate::expectation::aggregate::AggregateExpectationPlanner;
use crate::memory::{SharedMemory, batch_size};
use crate::spec::{MemoryLimit, PipelineSpec};

/// What an update is given from outside: a share of the machine, and everything whose answers are not the same twice.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory for operators in bytes; beyond it they spill to disk. A share of the machine's if `None`.
    pub memory_limit_bytes: Option<usize>,
    /// Threads of one flow; all cores if `None`.
    pub parallelism: Option<NonZeroUsize>,
    /// Where operators spill; the system's temporary folder if `None`.
    pub spill_folder: Option<PathBuf>,
    /// The time of events, of the discovery of files, of the source `rate`.
    pub clock: Arc<dyn Clock>,
    /// Ids of updates and events.
    pub ids: Arc<dyn IdGenerator>,
    /// Where tables and the files of sources lie, by URL.
    pub stores: Arc<dyn ObjectStoreRegistry>,
    /// Where sinks of format `console` are shown.
    pub console: Console,
}

/// Shows text to whoever watches an update.
#[derive(Clone)]
pub struct Console(Arc<dyn Fn(&str) + Send + Sync>);

impl Console {
    /// One that calls `print` with whole lines.
    pub fn new(print: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(print))
    }

    /// Shows lines.
    pub fn print(&self, text: &str) {
        (self.0)(text);
    }
}

/// The program's log.
impl Default for Console {
    fn default() -> Self {
        Self::new(|text| tracing::info!("{text}"))
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

/// All cores, a default share of memory, the machine's clock, random ids, the local file system, the log.
impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_limit_bytes: None,
            parallelism: None,
            spill_folder: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            stores: Arc::new(DefaultObjectStoreRegistry::new()),
            console: Console::default(),
        }
    }
}

impl EngineOptions {
    /// What the settings of a pipeline say.
    pub fn of(spec: &PipelineSpec) -> Self {
        let memory_limit_bytes = spec.memory_limit.and_then(|limit| match limit {
            MemoryLimit::Bytes(bytes) => usize::try_from(bytes).ok(),
            MemoryLimit::Percent(percent) => machine_memory_bytes().map(|all| all / 100 * usize::from(percent)),
        });
        Self { memory_limit_bytes, parallelism: spec.threads.and_then(NonZeroUsize::new), ..Self::default() }
    }
}

/// The memory of this machine, where the system tells.
fn machine_memory_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The memory that this process and those it starts may take: that of their control group, if it has less than the machine.
fn available_memory_bytes() -> Option<u64> {
    let machine = machine_memory_bytes().and_then(|bytes| u64::try_from(bytes).ok());
    let mut files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].iter();
    let group = files.find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.into_iter().chain(group).min()
}

/// Operators that hold the most memory are named in an out-of-memory error; this many of them.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);
/// The memory limit where none is set: enough for large joins, small enough for a laptop.
const DEFAULT_MEMORY_LIMIT_BYTES: usize = 4 << 30;

/// Makes sessions over one memory pool, one cache and one set of spill files.
#[derive(Debug, Clone)]
pub struct Sessions {
    runtime: Arc<RuntimeEnv>,
    parallelism: usize,
}

impl Sessions {
    /// The shared resources for `options`.
    pub fn new(options: &EngineOptions) -> Result<Self> {
        let limit = options.memory_limit_bytes.unwrap_or(DEFAULT_MEMORY_LIMIT_BYTES);
        let pool = TrackConsumersPool::new(SharedMemory::new(limit), NAMED_CONSUMERS);
        let spill = match &options.spill_folder {
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .build_arc()?;
        let parallelism =
            options.parallelism.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        Ok(Self { runtime, parallelism })
    }

    /// What workers that run the user's functions share.
    pub fn machine(&self) -> Machine {
        Machine { workers: self.parallelism, memory_bytes: available_memory_bytes() }
    }

    /// A session with `conf` that can run everything a pipeline's plans contain.
    pub fn context(&self, conf: &SparkConf) -> Result<SessionContext> {
        let session = session_context(SessionOptions {
            conf: conf.clone(),
            target_partitions: self.parallelism,
            runtime: Arc::clone(&self.runtime),
            extension_planners: vec![
                Arc::new(ExpectationPlanner),
                Arc::new(AggregateExpectationPlanner),
                Arc::new(IncrementalPlanner),
            ],
        })?;
        if let PoolLimit::Finite(bytes) = self.runtime.memory_pool.memory_limit() {
            let state = session.state_ref();
            let mut state = state.write();
            let execution = &mut state.config_mut().options_mut().execution;
            execution.batch_size = ConfigNonZeroUsize::try_new(batch_size(execution.batch_size.get(), bytes))?;
        }
        Ok(session)
    }
}
