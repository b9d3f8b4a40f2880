//! What a flow can read a slice at a time, and what a query can read at once: files, Delta tables, Kafka topics and
//! tables of databases (`deltaworks-jdbc`).
//!
//! Start at [`batch_relation`] and [`stream_relation`]. A read of files is resolved once
//! (`relation`): its options become typed, its schema is inferred, stored or taken from the user. Then
//! `listing` finds files (in the folder of a sink, those that `sink_log` lets count), `scan` reads them through a `format`, and `stream` cuts them into slices.
//! Nothing here knows flows or checkpoints: what was read before comes in with `OpenContext`, what is to be
//! remembered goes out with each `Slice`.

mod bad_records;
mod context;
mod csv;
mod delta;
mod errors;
mod format;
mod json;
mod known_options;
mod listing;
mod options;
mod relation;
mod scan;
mod schema;
mod sink_log;
mod stream;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use deltaworks_jdbc::JDBC;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::streaming::StreamSource;
use deltaworks_spark::{Error, Result};

pub use context::{Clock, PathMapper, SourceContext};
pub use delta::{delta_rows, reads_changes};
pub use errors::is_schema_evolved;
use format::{FileFormat, unknown_format};
pub use known_options::{bare_option, known_options, unknown_options};
use relation::{FileRead, FileRelation, Reader};
pub use scan::{HIDDEN_KEY, METADATA_COLUMN};
pub use sink_log::{LoggedFile, SinkLog, logged_path};
pub use stream::delta::{delta_stream, streams_changes};
use stream::files::FileStreamSource;
pub use stream::files::ledger_schema;
use stream::kafka::{self, KAFKA, KafkaStreamSource};
pub use stream::kafka::{KafkaSink, KafkaWriter};
use stream::rate::RateSource;

/// The format name of `read_files`; the format of the files is its option `format`, or told by their names.
pub const READ_FILES: &str = "read_files";

/// Reads files, a Delta table, Kafka topics or a table of a database at once: `spark.read`, and `read_files` without STREAM (`format` `None` or [`READ_FILES`]).
///
/// # Schema
/// Data columns, partition columns of `key=value` folders, `_rescued_data` where Auto Loader's rules give one,
/// and the hidden [`METADATA_COLUMN`] last, whose field metadata has [`HIDDEN_KEY`]. A Delta table has its columns.
///
/// # Errors
/// `PATH_NOT_FOUND`, `UNABLE_TO_INFER_SCHEMA`, `DATA_SOURCE_NOT_FOUND` and wrong options (`User`); formats and
/// options that are known but not implemented (`Unsupported`).
pub async fn batch_provider(
    format: Option<&str>,
    paths: &[String],
    schema: Option<SchemaRef>,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn TableProvider>> {
    if is_delta(format) {
        return delta::provider(paths, schema, options, context).await;
    }
    if is_kafka(format) {
        return kafka::batch_provider(schema.as_ref(), options);
    }
    if is_jdbc(format) {
        return deltaworks_jdbc::provider(schema.as_ref(), options, &context.conf, &context.path_mapper).await;
    }
    let (reader, format) = reader_of(format)?;
    if reader == Reader::CloudFiles {
        return Err(Error::user("format `cloudFiles` can only be read as a stream")
            .with_help("Use spark.readStream, or `read_files`."));
    }
    let read = FileRead { reader, format, paths, schema, options, streaming: false };
    let relation = FileRelation::resolve(read, context).await?;
    let request = format!("{:?} {paths:?} {:?}", relation.name, options.iter().collect::<Vec<_>>());
    Ok(scan::FileTable::requested(relation, request).await?.provider())
}

/// What a read at once sees now, with the columns it had: `None` for anything but files, whose storage tells.
///
/// # Errors
/// `PATH_NOT_FOUND` (`User`) if a path is gone; `Unavailable` if storage does not answer.
pub async fn latest_of(provider: &dyn TableProvider) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(files) = scan::FileTable::of(provider) else { return Ok(None) };
    Ok(files.latest().await?.map(scan::FileTable::provider))
}

/// What a read at once sees, as text: two reads of files that give the same text give the same rows.
///
/// For files that is the request and path, size and modification time of every file; `None` for anything
/// else, whose state only its storage tells: Delta tables, Kafka topics and databases.
pub fn state_of(provider: &dyn TableProvider) -> Option<String> {
    scan::FileTable::of(provider)?.state()
}

/// The plan that scans a [`batch_provider`].
///
/// # Errors
/// Those of [`batch_provider`].
pub async fn batch_relation(
    format: Option<&str>,
    paths: &[String],
    schema: Option<SchemaRef>,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<LogicalPlan> {
    let provider = batch_provider(format, paths, schema, options, context).await?;
    let name = match format {
        _ if is_kafka(format) => KAFKA.to_owned(),
        _ if is_jdbc(format) => JDBC.to_owned(),
        _ => paths.join(", "),
    };
    let name = TableReference::bare(name);
    Ok(LogicalPlanBuilder::scan(name, provider_as_source(provider), None)?.build()?)
}

/// A stream of files, a Delta table, Kafka topics or test rows: `spark.readStream`, `STREAM read_files` (`format` `None` or [`READ_FILES`]).
///
/// # Errors
/// Those of [`batch_provider`]; `STREAMING_SCHEMA_REQUIRED` (`User`) for plain file streams without a schema.
pub async fn stream_relation(
    format: Option<&str>,
    paths: &[String],
    schema: Option<SchemaRef>,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn StreamSource>> {
    match format.map(str::to_ascii_lowercase).as_deref() {
        Some("rate") => return Ok(Arc::new(RateSource::per_second(options, context)?)),
        Some(KAFKA) => return Ok(Arc::new(KafkaStreamSource::new(schema.as_ref(), options)?)),
        Some("rate-micro-batch") => return Ok(Arc::new(RateSource::per_batch(options, context)?)),
        Some(delta::DELTA) => {
            let location = delta::table_location(paths, schema.as_ref(), context)?;
            return delta_stream(&location, options, context).await;
        }
        Some(JDBC) => {
            return Err(Error::user("format `jdbc` can only be read at once: a table does not tell what is new in it")
                .with_help("Use spark.read in a materialized view, or AUTO CDC from snapshots of the table."));
        }
        _ => {}
    }
    let (reader, format) = reader_of(format)?;
    let read = FileRead { reader, format, paths, schema, options, streaming: true };
    Ok(Arc::new(FileStreamSource::new(FileRelation::resolve(read, context).await?)))
}

fn is_delta(format: Option<&str>) -> bool {
    format.is_some_and(|format| format.eq_ignore_ascii_case(delta::DELTA))
}

fn is_kafka(format: Option<&str>) -> bool {
    format.is_some_and(|format| format.eq_ignore_ascii_case(KAFKA))
}

fn is_jdbc(format: Option<&str>) -> bool {
    format.is_some_and(|format| format.eq_ignore_ascii_case(JDBC))
}

fn reader_of(format: Option<&str>) -> Result<(Reader, Option<FileFormat>)> {
    match format {
        None => Ok((Reader::ReadFiles, None)),
        Some(name) if name.eq_ignore_ascii_case(READ_FILES) => Ok((Reader::ReadFiles, None)),
        Some(name) if name.eq_ignore_ascii_case("cloudFiles") => Ok((Reader::CloudFiles, None)),
        Some(name) => {
            let format = FileFormat::from_name(name).ok_or_else(|| unknown_format(name))?;
            Ok((Reader::Plain, Some(format)))
        }
    }
}
