//! How the errors of delta-rs become ours: which kind, which of Delta's condition names.

use deltalake::DeltaTableError;
use deltalake::ObjectStoreError;
use deltalake::kernel::transaction::{CommitConflictError, TransactionError};
use deltaworks_spark::error::{Error, Kind};

/// Classifies an error of delta-rs.
pub(crate) fn from_delta(error: DeltaTableError) -> Error {
    if let Some(refused) = refused_by_storage(&error) {
        return refused.with_source(error);
    }
    match error {
        DeltaTableError::Transaction { source } => from_transaction(source),
        DeltaTableError::VersionAlreadyExists(version) => {
            Error::new(Kind::Conflict, format!("version {version} was committed by somebody else"))
                .with_condition("DELTA_CONCURRENT_WRITE")
        }
        DeltaTableError::Arrow { source } => source.into(),
        DeltaTableError::InvalidVersion(version) => Error::user(format!("the table has no version {version}"))
            .with_condition("DELTA_VERSION_NOT_FOUND")
            .with_help("Use a version that the table's history still has."),
        other => {
            let kind = kind_of(&other);
            Error::new(kind, one_line(&other)).with_source(other)
        }
    }
}

fn kind_of(error: &DeltaTableError) -> Kind {
    match error {
        DeltaTableError::ObjectStore { source } => kind_of_store(source),
        DeltaTableError::InvalidJsonLog { .. }
        | DeltaTableError::InvalidStatsJson { .. }
        | DeltaTableError::Parquet { .. }
        | DeltaTableError::NotATable(_)
        | DeltaTableError::SchemaMismatch { .. }
        | DeltaTableError::KernelError(_)
        | DeltaTableError::InvalidData { .. } => Kind::Data,
        DeltaTableError::InvalidTableLocation(_) => Kind::User,
        DeltaTableError::Io { .. } => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

/// What the operating system said, where storage is full or closed: libraries wrap it under other names.
fn refused_by_storage(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    use std::io::ErrorKind;
    let advice = |io: &std::io::Error| match io.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Some(("storage is full", "Free space and run again: nothing of what was being written is visible."))
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some(("storage refuses access", "Check who owns the folder of the table and that it can be written."))
        }
        _ => None,
    };
    // Some of them are wrapped in another error of the same type.
    let (io, (problem, help)) = std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .find_map(|io| Some((io, advice(io)?)))?;
    Some(Error::new(Kind::Unavailable, format!("{problem}: {io}")).with_help(help))
}

/// The log of the table at `location` cannot be read.
pub(crate) fn while_opening(error: DeltaTableError, location: &impl std::fmt::Display) -> Error {
    let damaged = matches!(
        error,
        DeltaTableError::InvalidJsonLog { .. } | DeltaTableError::KernelError(_) | DeltaTableError::InvalidData { .. }
    );
    if !damaged || refused_by_storage(&error).is_some() {
        return from_delta(error).context(format!("while opening the table at `{location}`"));
    }
    Error::data(format!("the Delta log of the table at `{location}` cannot be read: {}", one_line(&error)))
        .with_condition("DELTA_STATE_RECOVER_ERROR")
        .with_help(
            "Restore the files of its `_delta_log`, or remove the table's folder to have the table computed anew.",
        )
        .with_source(error)
}

fn kind_of_store(error: &ObjectStoreError) -> Kind {
    match error {
        ObjectStoreError::NotFound { .. } => Kind::Data,
        ObjectStoreError::InvalidPath { .. } => Kind::User,
        _ => Kind::Unavailable,
    }
}

fn from_transaction(error: TransactionError) -> Error {
    let message = one_line(&error);
    match &error {
        TransactionError::CommitConflict(conflict) => {
            Error::new(Kind::Conflict, message).with_condition(conflict_condition(conflict))
        }
        TransactionError::VersionAlreadyExists(_) | TransactionError::MaxCommitAttempts(_) => {
            Error::new(Kind::Conflict, "the table was changed by somebody else at the same time")
                .with_condition("DELTA_CONCURRENT_WRITE")
        }
        TransactionError::DeltaTableAppendOnly => {
            Error::user("the table only allows appends, and this write removes rows")
                .with_condition("DELTA_CANNOT_MODIFY_APPEND_ONLY")
                .with_help("Set the table property `delta.appendOnly` to false.")
        }
        TransactionError::UnsupportedTableFeatures(features) => {
            let names: Vec<_> = features.iter().map(ToString::to_string).collect();
            Error::unsupported(format!("writing a table with the features {}", names.join(", ")))
                .with_condition("DELTA_UNSUPPORTED_FEATURES_FOR_WRITE")
        }
        TransactionError::TableFeaturesRequired(_) => {
            Error::new(Kind::Unsupported, message).with_condition("DELTA_FEATURES_REQUIRE_MANUAL_ENABLEMENT")
        }
        TransactionError::ObjectStore { source } => Error::new(kind_of_store(source), message),
        TransactionError::SerializeLogJson { .. } => Error::internal(message),
        TransactionError::LogStoreError { .. } => Error::new(Kind::Unavailable, message),
    }
    .with_source(error)
}

fn conflict_condition(conflict: &CommitConflictError) -> &'static str {
    match conflict {
        CommitConflictError::ConcurrentAppend => "DELTA_CONCURRENT_APPEND",
        CommitConflictError::ConcurrentDeleteRead => "DELTA_CONCURRENT_DELETE_READ",
        CommitConflictError::ConcurrentDeleteDelete => "DELTA_CONCURRENT_DELETE_DELETE",
        CommitConflictError::MetadataChanged | CommitConflictError::NoMetadata => "DELTA_METADATA_CHANGED",
        CommitConflictError::ConcurrentTransaction => "DELTA_CONCURRENT_TRANSACTION",
        CommitConflictError::ProtocolChanged(_)
        | CommitConflictError::UnsupportedWriterVersion(_)
        | CommitConflictError::UnsupportedReaderVersion(_) => "DELTA_PROTOCOL_CHANGED",
        CommitConflictError::CorruptedState { .. } | CommitConflictError::Predicate { .. } => "DELTA_CONCURRENT_WRITE",
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
