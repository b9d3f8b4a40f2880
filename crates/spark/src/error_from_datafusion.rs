//! How DataFusion's errors become ours: which kind, which of Spark's condition names.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::error::{Error, Kind, OUT_OF_MEMORY};
use crate::plan_problem::plan_problem;

/// Unwraps context and external layers down to the cause, then classifies it.
pub(crate) fn convert(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(nested) => convert(*nested),
                Err(other) => Error::new(Kind::Unavailable, other.to_string()).with_source(other),
            },
        },
        DataFusionError::ArrowError(inner, backtrace) => match *inner {
            arrow::error::ArrowError::ExternalError(nested) => convert(DataFusionError::External(nested)),
            other => classify(DataFusionError::ArrowError(Box::new(other), backtrace)),
        },
        DataFusionError::ParquetError(inner) => match *inner {
            ParquetError::External(nested) => convert(DataFusionError::External(nested)),
            other => classify(DataFusionError::ParquetError(Box::new(other))),
        },
        DataFusionError::Context(context, inner) => match convert(*inner) {
            ours if context.is_empty() => ours,
            ours => ours,
        },
        DataFusionError::Diagnostic(_, inner) => convert(*inner),
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(owned) => convert(owned),
            Err(shared) => classify_shared(&shared),
        },
        DataFusionError::Collection(mut all) if !all.is_empty() => convert(all.remove(0)),
        other => classify(other),
    }
}

fn classify_shared(error: &DataFusionError) -> Error {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(ours) = inner.downcast_ref::<Error>()
    {
        let mut copy = Error::new(ours.kind(), ours.message());
        if let Some(condition) = ours.condition() {
            copy = copy.with_condition(condition);
        }
        for (name, value) in ours.parameters() {
            copy = copy.with_parameter(name, value);
        }
        if let Some(help) = ours.help() {
            copy = copy.with_help(help);
        }
        if let Some(location) = ours.location() {
            copy = copy.at(location.clone());
        }
        return copy;
    }
    if let Some(known) = known_problem(&text(error)) {
        return known;
    }
    named(error)
}

fn classify(error: DataFusionError) -> Error {
    let message = text(&error);
    if let Some(known) = known_problem(&message) {
        return known.with_source(error);
    }
    named(&error).with_source(error)
}

fn known_problem(message: &str) -> Option<Error> {
    unreadable_file(message).or_else(|| plan_problem(message))
}

/// A data file that a table names and that cannot be read. The Parquet reader keeps the cause as text only.
fn unreadable_file(message: &str) -> Option<Error> {
    let (_, failure) = message.split_once("Failed to fetch metadata for file ")?;
    let (file, why) = failure.split_once(": ")?;
    let missing = why.contains(" not found");
    let (condition, problem) = match missing {
        true => ("FAILED_READ_FILE.FILE_NOT_EXIST", format!("data file `{file}` does not exist")),
        false => ("FAILED_READ_FILE.NO_HINT", format!("data file `{file}` cannot be read: {why}")),
    };
    let help = "The table's log names it. Restore the file, or clear and recompute the table by a full refresh.";
    Some(Error::data(problem).with_condition(condition).with_help(help))
}

fn named(error: &DataFusionError) -> Error {
    if let DataFusionError::ResourcesExhausted(detail) = error {
        return Error::new(Kind::Unavailable, format!("a query needs more memory than it may use: {detail}"))
            .with_condition(OUT_OF_MEMORY)
            .with_help(
                "Raise the `memory_limit`, or have streams read less at once: `maxFilesPerTrigger`, `maxBytesPerTrigger`.",
            );
    }
    let (kind, condition) = classification(error);
    let named = Error::new(kind, text(error));
    match condition {
        Some(condition) => named.with_condition(condition),
        None => named,
    }
}

fn text(error: &DataFusionError) -> String {
    error.strip_backtrace()
}

fn classification(error: &DataFusionError) -> (Kind, Option<&'static str>) {
    match error {
        DataFusionError::SQL(..) => (Kind::User, Some("PARSE_SYNTAX_ERROR")),
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::AmbiguousReference { .. } => (Kind::User, Some("AMBIGUOUS_REFERENCE")),
            SchemaError::FieldNotFound { .. } => (Kind::User, Some("UNRESOLVED_COLUMN.WITH_SUGGESTION")),
            _ => (Kind::User, None),
        },
        DataFusionError::Plan(_) => (Kind::User, None),
        DataFusionError::NotImplemented(_) => (Kind::Unsupported, None),
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => (Kind::Data, None),
        DataFusionError::ParquetError(_) => (Kind::Data, None),
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => (Kind::Unavailable, None),
        _ => (Kind::Internal, None),
    }
}
