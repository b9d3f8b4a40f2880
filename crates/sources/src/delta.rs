//! Delta tables by path: read at once, as of a version or time, or found for a stream.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use datafusion::catalog::TableProvider;
use deltaworks_lake::Table;
use deltaworks_spark::relation::{ReadOptions, TimeTravel};
use deltaworks_spark::{Error, Result};
use url::Url;

use crate::context::SourceContext;
use crate::options::Options;
use crate::stream::delta::{asks_for_changes, changes_between};

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

/// `/x@v3` and `/x@20260131080000000`: the path, and the state to read, in the session's time zone.
fn split_time_travel(path: &str, zone: Tz) -> (String, Option<TimeTravel>) {
    let split = path.rsplit_once('@').and_then(|(path, state)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let state = match state.strip_prefix(['v', 'V']) {
            Some(version) if is_number(version) => TimeTravel::Version(version.parse().ok()?),
            None if state.len() == 17 && is_number(state) => {
                let at =
                    NaiveDateTime::parse_from_str(&format!("{}.{}", &state[..14], &state[14..]), "%Y%m%d%H%M%S%.f");
                TimeTravel::Timestamp(zone.from_local_datetime(&at.ok()?).earliest()?.timestamp_micros())
            }
            _ => return None,
        };
        Some((path.to_owned(), Some(state)))
    });
    split.unwrap_or_else(|| (path.to_owned(), None))
}

/// Reads a table at once.
pub(crate) async fn provider(
    paths: &[String],
    schema: Option<SchemaRef>,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn TableProvider>> {
    let options = Options::new(options, false);
    let zone = context.conf.time_zone;
    let (paths, suffix): (Vec<_>, Vec<_>) = paths.iter().map(|path| split_time_travel(path, zone)).unzip();
    let location = table_location(&paths, schema.as_ref(), context)?;
    let suffix = suffix.into_iter().flatten().next();
    let time_travel = match (options.count("versionAsOf")?, options.timestamp("timestampAsOf", zone)?, suffix) {
        (Some(version), None, None) => Some(TimeTravel::Version(version)),
        (None, Some(at_us), None) => Some(TimeTravel::Timestamp(at_us)),
        (None, None, suffix) => suffix,
        _ => {
            return Err(Error::user("only one of `versionAsOf`, `timestampAsOf` and `@` in the path can be given")
                .with_condition("DELTA_ONEOF_IN_TIMETRAVEL"));
        }
    };
    if asks_for_changes(&options)? && time_travel.is_some() {
        return Err(Error::user("the changes of a table are read between versions, not as of one")
            .with_condition("DELTA_UNSUPPORTED_TIME_TRAVEL_VIEWS")
            .with_help("Use `startingVersion` and `endingVersion`."));
    }
    let table = context.lake().open(&location, time_travel).await?.ok_or_else(|| no_table(&paths.join(", ")))?;
    rows_or_changes(&table, &options, zone).await
}

/// The rows of `table`, or its changes if the options ask for them.
///
/// # Errors
/// `DELTA_NO_START_FOR_CDC_READ`, `DELTA_INVALID_CDC_RANGE`, `DELTA_MISSING_CHANGE_DATA` (`User`) if its changes cannot be read so.
pub async fn delta_rows(
    table: &Table,
    options: &ReadOptions,
    context: &SourceContext,
) -> Result<Arc<dyn TableProvider>> {
    rows_or_changes(table, &Options::new(options, false), context.conf.time_zone).await
}

/// Whether `options` ask for the changes of a table.
///
/// # Errors
/// `User` if the option's value is neither true nor false.
pub fn reads_changes(options: &ReadOptions) -> Result<bool> {
    asks_for_changes(&Options::new(options, false))
}

async fn rows_or_changes(table: &Table, options: &Options<'_>, zone: Tz) -> Result<Arc<dyn TableProvider>> {
    match asks_for_changes(options)? {
        true => changes_between(table, options, zone).await,
        false => table.provider(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_end_with_the_state_to_read() {
        let check = |path: &str, table: &str, state: Option<TimeTravel>| {
            assert_eq!(split_time_travel(path, Tz::Europe__Berlin), (table.to_owned(), state), "{path}");
        };
        check("/x/t@v3", "/x/t", Some(TimeTravel::Version(3)));
        check("/x@y/t@v3/", "/x@y/t@v3/", None);
        check("/x/t@version", "/x/t@version", None);
        check("/x/t@20260101003000250", "/x/t", Some(TimeTravel::Timestamp(1_767_223_800_250_000)));
        check("abfss://c@a.dfs/t", "abfss://c@a.dfs/t", None);
    }
}
