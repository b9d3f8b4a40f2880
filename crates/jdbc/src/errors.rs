//! What reads and writes report: servers that do not answer, logins and statements that are refused.

use deltaworks_spark::{Error, Kind};

use crate::url::Target;

/// Whether something was done to read or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Reading
    Reading,
    /// Writing
    Writing,
}

/// What kind of refusal it is, whatever the database calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// User or password are wrong, or the user may not log in.
    Login,
    /// The database does not exist.
    NoDatabase,
    /// The table does not exist.
    NoTable,
    /// The user lacks a right.
    NoRight,
    /// The statement is wrong.
    Statement,
    /// It took longer than `queryTimeout`.
    Timeout,
    /// A row cannot be stored.
    Row,
    /// Something else.
    Other,
}

/// No connection comes about.
pub(crate) fn no_answer(target: &Target, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the database at `{target}` does not answer: {why}"))
        .with_help("Check host and port of option `url`, and that the server runs and accepts connections from here.")
}

/// A connection broke.
pub(crate) fn lost(target: &Target, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the connection to the database at `{target}` broke: {why}"))
        .with_help("Run it again; writes that were not complete have left nothing behind.")
}

/// TLS does not come about.
pub(crate) fn no_tls(target: &Target, why: &str) -> Error {
    Error::user(format!("no TLS connection to the database at `{target}`: {why}")).with_help(
        "Give the certificate authority by `sslrootcert` (a PEM file), or say by `sslmode` how strict the check is: \
         `require` takes any certificate, `disable` uses no TLS.",
    )
}

/// The database refuses something; `why` is its message.
pub(crate) fn refused(target: &Target, doing: Doing, refusal: Refusal, why: &str) -> Error {
    let at = format!("the database at `{target}`");
    match refusal {
        Refusal::Login => Error::user(format!("{at} refuses the login: {why}"))
            .with_help("Check options `user` and `password`, and that this user may log in from this machine."),
        Refusal::NoDatabase => {
            Error::user(format!("{at} does not exist: {why}")).with_help("Correct the database's name in option `url`.")
        }
        Refusal::NoTable => Error::user(format!("{at} has no such table: {why}"))
            .with_condition("TABLE_OR_VIEW_NOT_FOUND")
            .with_help("Correct option `dbtable` or `query`; name the schema, too, if it is not the default one."),
        Refusal::NoRight => Error::user(format!("{at} does not allow this user to do that: {why}")).with_help(
            match doing {
                Doing::Reading => "Grant SELECT on the table.",
                Doing::Writing => "Grant INSERT on the table; overwriting also takes the right to create and drop it.",
            },
        ),
        Refusal::Statement => Error::user(format!("{at} refuses the statement: {why}")).with_help(match doing {
            Doing::Reading => "Options `dbtable`, `query`, `prepareQuery`, `predicates` and `sessionInitStatement` are SQL of this database.",
            Doing::Writing => "Options `createTableOptions`, `createTableColumnTypes` and `sessionInitStatement` are SQL of this database.",
        }),
        Refusal::Timeout => Error::new(Kind::Unavailable, format!("{at} took too long: {why}"))
            .with_help("Raise option `queryTimeout`, or read less at once."),
        Refusal::Row => Error::data(format!("{at} does not take a row: {why}"))
            .with_help("Nothing was written. Correct the rows, or the table."),
        Refusal::Other => Error::user(format!("{at} fails: {why}")),
    }
}

/// A column of a type that is not read.
pub(crate) fn unreadable(column: &str, data_type: &str) -> Error {
    Error::unsupported(format!("column `{column}` of type `{data_type}`"))
        .with_help("Cast it in option `query`, for example to text.")
}

/// What came is not what the type demands.
pub(crate) fn malformed(column: &str) -> Error {
    Error::data(format!("the database sent a value of column `{column}` that cannot be read"))
        .with_help("Cast the column in option `query`, for example to text.")
}

/// A task ended without a result.
pub(crate) fn lost_task(error: &tokio::task::JoinError) -> Error {
    match error.is_cancelled() {
        true => Error::new(Kind::Cancelled, "the work on a database was cancelled"),
        false => Error::internal("the work on a database ended without a result"),
    }
}

/// The innermost reason of an error, which says most: `Connection refused (os error 111)`.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
