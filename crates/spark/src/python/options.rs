//! How the Python of a program is run, as Spark's settings say.

use std::path::PathBuf;

use crate::conf::SparkConf;
use crate::error::Result;

/// The memory of all workers together.
pub(super) const MEMORY: &str = "spark.executor.pyspark.memory";
const REUSE: &str = "spark.python.worker.reuse";

/// What a worker may take at least if nothing is set: pandas and Arrow alone reserve more than one.
const LEAST_DEFAULT_BYTES: u64 = 4 << 30;

/// How the Python of a program is run.
#[derive(Debug, Clone)]
pub struct PythonOptions {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// Where the user's modules are.
    pub folders: Vec<PathBuf>,
    /// Whether a worker is kept for the next task.
    pub reuse: bool,
    /// How much memory a worker may take.
    pub memory: MemoryBound,
}

/// How much memory a worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBound {
    /// As much as it likes.
    Unlimited,
    /// So many bytes, if the system can see to it.
    Default(u64),
    /// So many bytes, as the user wants.
    Set(u64),
}

/// The machine that workers share.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// How many workers run at a time.
    pub workers: usize,
    /// Its memory, if that is known.
    pub memory_bytes: Option<u64>,
}

impl PythonOptions {
    /// The options of `interpreter` without settings: workers are kept, and take what they like.
    pub fn new(interpreter: PathBuf, folders: Vec<PathBuf>) -> Self {
        Self { interpreter, folders, reuse: true, memory: MemoryBound::Unlimited }
    }

    /// As [`Self::new`], with what `conf` says of `machine`.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) for a size or a truth value that is none.
    pub fn with_conf(self, conf: &SparkConf, machine: Machine) -> Result<Self> {
        let reuse = conf.flag(REUSE, true)?;
        let workers = u64::try_from(machine.workers).unwrap_or(1).max(1);
        let memory = match conf.size(MEMORY)? {
            None => machine
                .memory_bytes
                .map_or(MemoryBound::Unlimited, |all| MemoryBound::Default((all / workers).max(LEAST_DEFAULT_BYTES))),
            Some(0) => MemoryBound::Unlimited,
            Some(bytes) => MemoryBound::Set(bytes / workers),
        };
        Ok(Self { reuse, memory, ..self })
    }
}

impl MemoryBound {
    /// The bound in bytes.
    pub(super) fn bytes(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Default(bytes) | Self::Set(bytes) => Some(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn memory(setting: Option<&str>) -> Result<MemoryBound> {
        let mut conf = SparkConf::pipeline_defaults();
        conf.all.extend(setting.map(|text| (MEMORY.to_owned(), text.to_owned())));
        let machine = Machine { workers: 4, memory_bytes: Some(64 << 30) };
        Ok(PythonOptions::new("python".into(), Vec::new()).with_conf(&conf, machine)?.memory)
    }

    #[test]
    fn memory_is_shared_by_the_workers() {
        assert_eq!(memory(Some("2g")).unwrap(), MemoryBound::Set(512 << 20));
        assert_eq!(memory(Some("0")).unwrap(), MemoryBound::Unlimited);
        assert_eq!(memory(Some("lots")).unwrap_err().condition(), Some("INVALID_CONF_VALUE.TYPE_MISMATCH"));
    }

    #[test]
    fn default_is_a_share_of_the_machine_but_not_too_small() {
        assert_eq!(memory(None).unwrap(), MemoryBound::Default(16 << 30));
        let small = Machine { workers: 8, memory_bytes: Some(8 << 30) };
        let options = PythonOptions::new("python".into(), Vec::new());
        let options = options.with_conf(&SparkConf::pipeline_defaults(), small).unwrap();
        assert_eq!(options.memory, MemoryBound::Default(LEAST_DEFAULT_BYTES));
    }
}
