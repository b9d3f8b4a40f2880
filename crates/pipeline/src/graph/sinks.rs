//! Sinks: what flows write that is not the pipeline's own. A sink of format `delta` is a table that others may write, too;
//! any other is handed the rows of each batch.

use std::path::PathBuf;

use deltaworks_incremental::{OutputMode, output_mode};
use deltaworks_sources::KafkaSink;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result, sql};
use url::Url;

use super::{Environment, ResolvedFlow};
use crate::definitions::{Output, SinkDefinition};
use crate::files::{RowFormat, check_options};
use crate::locations::local_location;
use crate::name::DatasetName;
use crate::spec::PathMappings;
use crate::update::Shown;

const PATH: &str = "path";
const TABLE_NAME: &str = "tableName";
const MERGE_SCHEMA: &str = "mergeSchema";
const ROWS: &str = "numRows";
const TRUNCATE: &str = "truncate";

/// What can be written.
const FORMATS: &str = "Sinks of format `delta`, `kafka`, `json`, `csv`, `parquet`, `text`, `console` and `noop` can be written; a \
                       function of yours (`foreach_batch_sink`) can write anything else.";

/// What a sink is.
#[derive(Debug)]
pub(crate) enum SinkKind {
    /// A Delta table.
    Delta,
    /// Topics of Kafka.
    Kafka(KafkaSink),
    /// A function in Python, by the name that its process knows.
    ForeachBatch(String),
    /// Files in a folder.
    Files(FileSink),
    /// People.
    Console(Shown),
    /// Nothing.
    Noop,
}

/// A folder that gets files of the rows.
#[derive(Debug)]
pub(crate) struct FileSink {
    name: String,
    format: String,
    path: String,
    options: ReadOptions,
}

impl FileSink {
    fn new(name: &str, format: &str, sink: &SinkDefinition) -> Result<Self> {
        let options: ReadOptions = sink.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let path = options.get(PATH).filter(|path| !path.trim().is_empty()).map(str::to_owned).ok_or_else(|| {
            Error::user(format!("sink `{name}` of format `{format}` needs the option `path`"))
                .with_help("Name the folder that its files shall lie in.")
        })?;
        check_options(format, &options, &[PATH]).map_err(|error| error.context(format!("in sink `{name}`")))?;
        Ok(Self { name: name.to_owned(), format: format.to_owned(), path, options })
    }

    /// The folder on this machine.
    ///
    /// # Errors
    /// `User` if no mapping makes it local, or a Delta table lies there.
    pub(crate) fn folder(&self, mappings: &PathMappings) -> Result<PathBuf> {
        let of_path = |error: Error| error.context(format!("in the path of sink `{}`", self.name));
        let location = local_location(&self.path, mappings).map_err(of_path)?;
        let folder = deltaworks_lake::location::to_path(&location)
            .ok_or_else(|| of_path(Error::user(format!("`{location}` is not a folder of this machine"))))?;
        if folder.join("_delta_log").is_dir() {
            return Err(Error::user(format!("`{}`, the folder of sink `{}`, is a Delta table", self.path, self.name))
                .with_help("Choose another folder, or the format `delta`."));
        }
        Ok(folder)
    }

    /// What its files are like, with the rows of `flow`.
    ///
    /// # Errors
    /// `User` if the format cannot hold them; `Unsupported` for options that would have no effect.
    pub(crate) fn row_format(&self, flow: &ResolvedFlow) -> Result<RowFormat> {
        RowFormat::new(&self.format, &self.options, &flow.conf, flow.plan.schema().as_arrow())
            .map_err(|error| error.context(format!("in sink `{}`", self.name)))
    }
}

impl SinkDefinition {
    fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        options.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether columns that the table lacks are added to it.
    pub(crate) fn merges_schema(&self) -> bool {
        self.option(MERGE_SCHEMA).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether it is a table. Others are handed the rows, in the columns of each flow.
    pub(crate) fn is_table(&self) -> bool {
        self.format.eq_ignore_ascii_case("delta")
    }

    /// What the sink called `name` is.
    ///
    /// # Errors
    /// `Unsupported` for other formats; `User` for options that cannot be.
    pub(crate) fn kind(&self, name: &str) -> Result<SinkKind> {
        match self.format.to_ascii_lowercase().as_str() {
            _ if let Some(function) = &self.function => Ok(SinkKind::ForeachBatch(function.clone())),
            "delta" => Ok(SinkKind::Delta),
            format if RowFormat::NAMES.contains(&format) => FileSink::new(name, format, self).map(SinkKind::Files),
            "console" => self.shown(name).map(SinkKind::Console),
            "noop" => self.check_options(name, &[]).map(|()| SinkKind::Noop),
            "kafka" => {
                let options = self.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let sink = KafkaSink::new(&options);
                sink.map(SinkKind::Kafka).map_err(|error| error.context(format!("in sink `{name}`")))
            }
            _ => Err(Error::unsupported(format!("sink `{name}` of format `{}`", self.format)).with_help(FORMATS)),
        }
    }
}

impl SinkDefinition {
    /// What the console shows of a batch.
    fn shown(&self, name: &str) -> Result<Shown> {
        self.check_options(name, &[ROWS, TRUNCATE])?;
        let wrong = |option: &str, value: &str, expected: &str| {
            Error::user(format!("option `{option}` of sink `{name}` must be {expected}, got `{value}`"))
        };
        let rows = match self.option(ROWS) {
            None => 20,
            Some(value) => value.trim().parse().map_err(|_| wrong(ROWS, value, "a number of rows"))?,
        };
        let truncate = match self.option(TRUNCATE).map(str::trim) {
            None => 20,
            Some(value) if value.eq_ignore_ascii_case("true") => 20,
            Some(value) if value.eq_ignore_ascii_case("false") => 0,
            Some(value) => {
                value.parse().map_err(|_| wrong(TRUNCATE, value, "true, false or a number of characters"))?
            }
        };
        Ok(Shown { rows, truncate })
    }

    fn check_options(&self, name: &str, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|key| !known.iter().any(|known| known.eq_ignore_ascii_case(key))) {
            None => Ok(()),
            Some(option) => {
                Err(Error::unsupported(format!("option `{option}` of sink `{name}` of format `{}`", self.format))
                    .with_help("Remove it."))
            }
        }
    }
}

/// Whether an output is handed its rows, instead of keeping them in a table.
pub(super) fn is_handed_rows(output: &Output) -> bool {
    output.sink.as_ref().is_some_and(|sink| !sink.is_table())
}

/// Checks that the sink can be written, and by these flows.
///
/// # Errors
/// `Unsupported` for formats that cannot be written and for options that would have no effect; `User` for flows that do
/// not append a stream, and for columns that the sink does not take.
pub(super) fn check(output: &Output, flows: &[ResolvedFlow]) -> Result<()> {
    let (name, sink) = (&output.name.name, definition(output)?);
    let kind = sink.kind(name)?;
    if matches!(kind, SinkKind::Delta) {
        check_table_options(name, sink)?;
    }
    if !output.expectations.is_empty() {
        return Err(Error::user(format!("sink `{name}` cannot have expectations"))
            .with_help("Put them on the dataset that the sink's flow reads."));
    }
    for flow in flows {
        check_flow(name, flow).map_err(|error| error.at(flow.flow.location.clone()))?;
        let checked = match &kind {
            SinkKind::Kafka(kafka) => kafka
                .check_columns(flow.plan.schema().as_arrow())
                .map_err(|error| error.context(format!("in sink `{name}`"))),
            SinkKind::Files(files) => files.row_format(flow).map(drop),
            SinkKind::Delta | SinkKind::ForeachBatch(_) | SinkKind::Console(_) | SinkKind::Noop => Ok(()),
        };
        checked.map_err(|error| error.at(flow.flow.location.clone()))?;
    }
    Ok(())
}

fn check_table_options(name: &str, sink: &SinkDefinition) -> Result<()> {
    let known = [PATH, TABLE_NAME, MERGE_SCHEMA];
    match sink.options.keys().find(|key| !known.iter().any(|known| known.eq_ignore_ascii_case(key))) {
        None => Ok(()),
        Some(option) => Err(Error::unsupported(format!("option `{option}` of the Delta sink `{name}`"))
            .with_help("A Delta sink takes `path` or `tableName`, and `mergeSchema`.")),
    }
}

fn check_flow(sink: &str, flow: &ResolvedFlow) -> Result<()> {
    let name = &flow.flow.name.name;
    if flow.changes.is_some() {
        return Err(Error::user(format!("changes cannot be applied to sink `{sink}`, which only takes new rows"))
            .with_condition("AUTOCDC_TARGET_DOES_NOT_SUPPORT_MERGE")
            .with_help("Apply them to a streaming table."));
    }
    if !flow.streaming {
        return Err(Error::user(format!("sink `{sink}` is written by the batch query of flow `{name}`"))
            .with_condition("INVALID_FLOW_QUERY_TYPE.BATCH_RELATION_FOR_SINK")
            .with_help("Read the input as a stream: spark.readStream.table(…)."));
    }
    if output_mode(&flow.plan) != OutputMode::Append {
        return Err(Error::user(format!(
            "flow `{name}` aggregates without a watermark: each batch would replace all rows of sink `{sink}`"
        ))
        .with_condition("STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION")
        .with_help("Give the stream a watermark and group by a window over its column."));
    }
    Ok(())
}

/// Where the table of a Delta sink lies; of any other, the one that counts its batches.
///
/// # Errors
/// `User` unless either a path or a name of a Delta table is given.
pub(super) fn location(output: &Output, environment: &Environment) -> Result<Url> {
    let (name, sink) = (&output.name.name, definition(output)?);
    if !sink.is_table() {
        written_folder(output, environment)?;
        return environment.storage.deliveries(&output.name);
    }
    match (sink.option(PATH), sink.option(TABLE_NAME)) {
        (Some(path), None) => local_location(path, &environment.path_mappings)
            .map_err(|error| error.context(format!("in the path of sink `{name}`"))),
        (None, Some(table)) => {
            environment.storage.find_table(&DatasetName::resolve(&sql::parse_name(table)?, &environment.namespace)?)
        }
        _ => Err(Error::user(format!("sink `{name}` needs one of the options `path` and `tableName`"))),
    }
}

/// The folder that a sink of files writes; `None` for anything else.
///
/// # Errors
/// Those of [`FileSink::folder`].
pub(super) fn written_folder(output: &Output, environment: &Environment) -> Result<Option<PathBuf>> {
    let Some(sink) = &output.sink else { return Ok(None) };
    match sink.kind(&output.name.name)? {
        SinkKind::Files(files) => files.folder(&environment.path_mappings).map(Some),
        _ => Ok(None),
    }
}

fn definition(output: &Output) -> Result<&SinkDefinition> {
    output.sink.as_ref().ok_or_else(|| Error::internal(format!("sink `{}` has no definition", output.name.name)))
}
