//! SQLite: files, and what its errors mean.

mod read;
mod types;
mod write;

use std::path::Path;
use std::time::Duration;

use deltaworks_spark::{Error, Kind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub(crate) use read::{describe, read};
pub(crate) use write::write;

use crate::errors::{Doing, Refusal, refused};
use crate::options::Connecting;
use crate::url::Target;

/// How long to wait for others who write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the file; one that is written is made if it does not exist.
fn open(connecting: &Connecting, doing: Doing) -> Result<Connection> {
    let target = &connecting.target;
    let flags = match doing {
        Doing::Reading => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Doing::Writing => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    if doing == Doing::Reading && !Path::new(&target.database).is_file() {
        return Err(Error::user(format!("there is no SQLite database `{}`", target.database))
            .with_condition("PATH_NOT_FOUND")
            .with_help("Correct the path in option `url`; relative ones start at the folder the program runs in."));
    }
    let fail = |error: rusqlite::Error| failed(target, doing, &error);
    let connection = Connection::open_with_flags(&target.database, flags).map_err(fail)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
    if let Some(statement) = &connecting.session_init {
        connection.execute_batch(statement).map_err(fail)?;
    }
    Ok(connection)
}

/// What the library says.
fn failed(target: &Target, doing: Doing, error: &rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    // A statement that is wrong comes with its text, which may be long; the message is enough.
    let why = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Kind::Unavailable, format!("the database at `{target}` is locked: {why}"))
                .with_help("Another program writes it. Try again when it is done.")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Error::user(format!("`{}` cannot be opened as a SQLite database: {why}", target.database))
                .with_help("Correct the path in option `url`; the folder of a new database has to exist.")
        }
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => refused(target, doing, Refusal::Row, &why),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => refused(target, doing, Refusal::NoRight, &why),
        _ if why.starts_with("no such table") => refused(target, doing, Refusal::NoTable, &why),
        _ => refused(target, doing, Refusal::Statement, &why),
    }
}
