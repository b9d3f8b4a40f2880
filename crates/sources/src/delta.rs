//! Delta tables by path: read at once, as of a version or time, or found for a stream.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use deltaworks_spark::relation::{ReadOptions, TimeTravel};
use deltaworks_spark::{Error, Result};
use url::Url;

use crate::context::SourceContext;
use crate::options::Options;

/// The name of the format.
pub(crate) const DELTA: &str = "delta";

/// There is no table at `location`.
pub(crate) fn no_table(location: &str) -> Error {
    Error::user(format!("there is no Delta table at `{location}`"))
        .with_condition("DELTA_PATH_DOES_NOT_EXIST")
        .with_help("Check the path and the path mapping of the pipeline.")
}

/// Where the one table of a read lies.
///
/// # Errors
/// `User` if there is not exactly one path, or a schema is given: a Delta table has its own.
pub(crate) fn table_location(paths: &[String], schema: Option<&SchemaRef>, context: &SourceContext) -> Result<Url> {
    if schema.is_some() {
        return Err(Error::user("a Delta table is read with its own schema")
            .with_condition("DELTA_UNSUPPORTED_SCHEMA_DURING_READ")
            .with_help("Leave the schema out; cast columns in the query."));
    }
    match paths {
        [path] => context.locate(path)?.folder_url(),
        [] => Err(Error::user("no path to read a Delta table from").with_help("Give a path to `load`.")),
        _ => Err(Error::user("format `delta` reads one table, but several paths are given")
            .with_help("Read the tables one by one and unite them in the query.")),
    }
}

/// Reads a table at once.
pub(crate) async fn provider(
    paths: &[String],
    schema: Option<SchemaRef>,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn TableProvider>> {
    let options = Options::new(options, false);
    for key in ["readChangeFeed", "readChangeData"] {
        if options.flag(key, false)? {
            return Err(Error::unsupported(format!("option `{key}` (reading the change data feed of a table)")));
        }
    }
    let location = table_location(paths, schema.as_ref(), context)?;
    let time_travel = match (options.count("versionAsOf")?, options.timestamp("timestampAsOf", context.conf.time_zone)?)
    {
        (Some(_), Some(_)) => {
            return Err(Error::user("only one of `versionAsOf` and `timestampAsOf` can be given")
                .with_condition("DELTA_ONEOF_IN_TIMETRAVEL"));
        }
        (Some(version), None) => Some(TimeTravel::Version(version)),
        (None, Some(at_us)) => Some(TimeTravel::Timestamp(at_us)),
        (None, None) => None,
    };
    context.lake().open(&location, time_travel).await?.ok_or_else(|| no_table(&paths.join(", ")))?.provider()
}
