//! What the settings say, whichever way they were spelled.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deltaworks_spark::diagnostic::SourceLocation;
use url::Url;

use super::path_mappings::PathMappings;

/// The settings of one pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSpec {
    /// The pipeline's id: as given, or a UUIDv5 of the settings file's path, target and key.
    pub id: String,
    /// Whether the settings say no id. What the storage knows then counts.
    pub id_is_derived: bool,
    /// Its name, with the prefix of a bundle's development mode.
    pub name: String,
    /// The folder of the settings file; relative paths start here.
    pub root: PathBuf,
    /// The settings file; `None` for a folder without one.
    pub settings_file: Option<PathBuf>,
    /// The default catalog.
    pub catalog: Option<String>,
    /// The default schema.
    pub schema: Option<String>,
    /// `target`: the schema of legacy publishing mode, where every table is also `LIVE.<name>`.
    pub legacy_target: Option<String>,
    /// Where tables, checkpoints and the event log lie. Ends in a slash.
    pub storage: Url,
    /// What was listed as sources; `None` if nothing was, so that every source below `root` counts.
    pub libraries: Option<Vec<Library>>,
    /// The folder added to Python's `sys.path`.
    pub root_path: Option<PathBuf>,
    /// Spark settings and the pipeline's own keys; a cluster's `spark_conf` lies beneath it.
    pub configuration: BTreeMap<String, String>,
    /// Named parameters; values that are no text stand as JSON.
    pub parameters: BTreeMap<String, String>,
    /// Whether the pipeline runs until stopped.
    pub continuous: bool,
    /// Whether failures are final at once, without retries.
    pub development: bool,
    /// `CURRENT` or `PREVIEW`.
    pub channel: String,
    /// `CORE`, `PRO` or `ADVANCED`.
    pub edition: String,
    /// Who is told what.
    pub notifications: Vec<Notification>,
    /// The table the event log is published as.
    pub event_log: Option<EventLogSpec>,
    /// Free metadata.
    pub tags: BTreeMap<String, String>,
    /// `environment.dependencies`: what the sources need installed, as pip requirement lines.
    pub dependencies: Vec<String>,
    /// Which path prefixes of the sources lie elsewhere on this machine.
    pub path_mappings: PathMappings,
    /// The Python interpreter that evaluates the sources; `None` for the one found on the path.
    pub python: Option<PathBuf>,
    /// How much memory queries may use.
    pub memory_limit: Option<MemoryLimit>,
    /// How many threads run queries; `None` for one per core.
    pub threads: Option<usize>,
    /// How many flows run at once.
    pub max_concurrent_flows: Option<usize>,
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// In bytes.
    Bytes(u64),
    /// In hundredths of the machine's memory.
    Percent(u8),
}

/// One entry of `libraries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// How it names its files.
    pub kind: LibraryKind,
    /// The path or pattern as written.
    pub path: String,
    /// The folder a relative path starts from.
    pub base: PathBuf,
    /// Whether a pattern may also match files that are no sources (Databricks skips them, Spark refuses them).
    pub skips_other_files: bool,
    /// Where the entry stands.
    pub location: SourceLocation,
}

/// How a library names its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryKind {
    /// `notebook.path`: a workspace path, mostly without extension.
    Notebook,
    /// `file.path`
    File,
    /// `glob.include`: a file, or `folder/**`.
    Glob,
}

/// One entry of `notifications`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// Addresses.
    pub email_recipients: Vec<String>,
    /// `on-update-success`, `on-update-failure`, `on-update-fatal-failure`, `on-flow-failure`.
    pub alerts: Vec<String>,
}

/// `event_log`: the table the events are published as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLogSpec {
    /// Its name.
    pub name: Option<String>,
    /// Its catalog; the pipeline's if `None`.
    pub catalog: Option<String>,
    /// Its schema; the pipeline's if `None`.
    pub schema: Option<String>,
}

/// One file of definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// What messages call it: relative to the pipeline's folder where it lies inside.
    pub display_path: PathBuf,
    /// What it is written in.
    pub language: SourceLanguage,
    /// How it is laid out.
    pub format: SourceFormat,
}

/// What a source file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceLanguage {
    /// SQL statements.
    Sql,
    /// Python.
    Python,
}

/// How a source file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// Code from first line to last.
    Plain,
    /// A Databricks notebook exported as source, cells separated by `COMMAND ----------`.
    Notebook,
    /// A Jupyter notebook.
    Ipynb,
}
