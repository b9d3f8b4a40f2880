//! The errors of sources, each with the name Spark or Databricks gives it.

use deltaworks_spark::{Error, Kind};

/// Condition of a schema that has grown and was stored: the flow can simply be started again.
const EVOLVED: &str = "UNKNOWN_FIELD_EXCEPTION.NEW_FIELDS_IN_RECORD_WITH_FILE_PATH";
/// Condition of new fields that the schema evolution mode does not accept.
const REFUSED: &str = "UNKNOWN_FIELD_EXCEPTION.NEW_FIELDS_IN_FILE";

/// Whether a batch failed because its files have new fields, which are now part of the stored schema.
///
/// The flow succeeds when its relation is resolved again and the batch is run again.
pub fn is_schema_evolved(error: &Error) -> bool {
    error.condition() == Some(EVOLVED)
}

/// New fields or wider types were found and the stored schema has them now.
pub(crate) fn schema_evolved(fields: &[String], file: &str) -> Error {
    Error::user(format!("encountered unknown fields in `{file}`: {}", names(fields)))
        .with_condition(EVOLVED)
        .with_help("The stored schema now has them: start the flow again.")
}

/// The same finding in mode `failOnNewColumns`: nothing was stored.
pub(crate) fn new_fields_refused(found: &Error) -> Error {
    Error::user(found.message()).with_condition(REFUSED).with_help(
        "Add them to the schema or to `schemaHints`, or remove the file (schemaEvolutionMode is failOnNewColumns).",
    )
}

fn names(fields: &[String]) -> String {
    fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
}

/// An option has a value it cannot have.
pub(crate) fn invalid_option(key: &str, value: &str, expected: &str) -> Error {
    Error::user(format!("option `{key}` has value `{value}`, expected {expected}"))
        .with_condition("INVALID_PARAMETER_VALUE")
}

/// A load path does not exist.
pub(crate) fn path_not_found(path: &str) -> Error {
    Error::user(format!("path `{path}` does not exist"))
        .with_condition("PATH_NOT_FOUND")
        .with_help("Check the path and the path mapping of the pipeline.")
}

/// A file was listed but is gone.
pub(crate) fn file_gone(file: &str) -> Error {
    Error::data(format!("file `{file}` was listed but does not exist any more"))
        .with_condition("FAILED_READ_FILE.FILE_NOT_EXIST")
        .with_help("Set `ignoreMissingFiles` to skip files that vanish.")
}

/// A file's content is not what its format demands.
pub(crate) fn corrupt_file(file: &str, why: impl std::fmt::Display) -> Error {
    Error::data(format!("cannot read file `{file}`: {why}"))
        .with_condition("FAILED_READ_FILE.NO_HINT")
        .with_help("Set `ignoreCorruptFiles` to skip broken files.")
}

/// A record is malformed and the mode is FAILFAST.
pub(crate) fn malformed_record(file: &str, record: &str) -> Error {
    let shown: String = record.chars().take(200).collect();
    Error::data(format!("malformed record in `{file}`: `{shown}`"))
        .with_condition("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION")
        .with_help("Set `mode` to PERMISSIVE to keep such records as NULL.")
}

/// There is no data to infer a schema from.
pub(crate) fn cannot_infer(format: &str, paths: &[String], auto_loader: bool) -> Error {
    let condition = if auto_loader { "CF_EMPTY_DIR_FOR_SCHEMA_INFERENCE" } else { "UNABLE_TO_INFER_SCHEMA" };
    let help = match (auto_loader, format) {
        (true, "json" | "csv") => {
            "Put a file with at least one record there, or give columns by `schemaHints` or `schema`."
        }
        (true, _) => "Put at least one file there, or give a schema.",
        (false, _) => "Give the schema, or put a file with at least one record there.",
    };
    Error::user(format!("cannot infer a schema for {format}: there is no data in {}", names(paths)))
        .with_condition(condition)
        .with_help(help)
}

/// Whether storage says that an object does not exist.
pub(crate) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

/// Storage failed while `what` was read.
pub(crate) fn storage(what: &str, error: object_store::Error) -> Error {
    if is_missing(&error) {
        return file_gone(what);
    }
    Error::new(Kind::Unavailable, format!("cannot read `{what}`: {error}")).with_source(error)
}
