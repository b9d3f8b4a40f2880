//! How the Python of a program is run, as Spark's settings say.

use std::path::PathBuf;

use crate::conf::SparkConf;
use crate::error::{Error, Result};

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
        let memory = match conf.all.get(MEMORY).map(|text| (text, parse_size(text))) {
            None => machine.memory_bytes.map_or(MemoryBound::Unlimited, |all| {
                MemoryBound::Default((all / workers).max(LEAST_DEFAULT_BYTES))
            }),
            Some((_, Some(0))) => MemoryBound::Unlimited,
            Some((_, Some(bytes))) => MemoryBound::Set(bytes / workers),
            Some((text, None)) => {
                return Err(Error::user(format!("setting `{MEMORY}` has value `{text}`, which is not a size"))
                    .with_condition("INVALID_CONF_VALUE.DEFAULT_ERROR_MESSAGE")
                    .with_help("Use a size like `4g` or `512m`; 0 sets no bound."));
            }
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

/// A size as Spark writes it; mebibytes without a unit.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().strip_suffix('b').unwrap_or(unit.trim_start()) {
        "" if unit.trim() == "b" => 0,
        "" | "m" => 20,
        "k" => 10,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
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
        for (text, bytes) in [("2g", 2 << 30), ("4096", 4 << 30), ("512MB", 512 << 20), ("8192 b", 8192), ("64k", 65_536)] {
            assert_eq!(memory(Some(text)).unwrap(), MemoryBound::Set(bytes / 4), "{text}");
        }
        assert_eq!(memory(Some("0")).unwrap(), MemoryBound::Unlimited);
        for text in ["lots", "", "-1", "1.5g", "3x", "99999999999g"] {
            assert_eq!(memory(Some(text)).unwrap_err().condition(), Some("INVALID_CONF_VALUE.DEFAULT_ERROR_MESSAGE"));
        }
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
