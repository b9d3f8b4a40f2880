//! MySQL and MariaDB: connections, and what their errors mean.

mod read;
mod types;
mod write;

use std::time::Duration;

use deltaworks_spark::{Error, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Opts, OptsBuilder, SslOpts};

pub(crate) use read::{describe, read};
pub(crate) use write::write;

use crate::errors::{Doing, Refusal, lost, no_answer, no_tls, refused, root};
use crate::options::Connecting;
use crate::tls::{self, Mode};
use crate::url::Target;

/// How long a server may take to answer, unless a property says otherwise.
const CONNECT_TIMEOUT_MS: u64 = 30_000;

/// Moments are sent as UTC, and what does not fit into a column is an error.
const SESSION: &str = "SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')";

/// Connects to the first server that answers.
async fn connect(connecting: &Connecting, doing: Doing) -> Result<Conn> {
    let target = &connecting.target;
    let mut failure = no_answer(target, "no host is given");
    for (host, port) in &target.hosts {
        match connect_to(target, host, *port).await {
            Ok(mut connection) => {
                prepare(&mut connection, connecting, doing).await?;
                return Ok(connection);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn connect_to(target: &Target, host: &str, port: u16) -> Result<Conn> {
    let mode = Mode::of(target)?;
    match open(options(target, host, port, mode)?, target).await? {
        // The server has no TLS, and need not have it.
        Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) if mode == Mode::Prefer => {
            let opened = open(options(target, host, port, Mode::Disable)?, target).await?;
            opened.map_err(|error| not_connected(target, &error))
        }
        opened => opened.map_err(|error| not_connected(target, &error)),
    }
}

async fn open(options: Opts, target: &Target) -> Result<mysql_async::Result<Conn>> {
    let timeout_ms = match target.property("connectTimeout").map(|text| text.trim().parse()) {
        Some(Ok(timeout_ms @ 1..)) => timeout_ms,
        _ => CONNECT_TIMEOUT_MS,
    };
    let opened = tokio::time::timeout(Duration::from_millis(timeout_ms), Conn::new(options)).await;
    opened.map_err(|_| no_answer(target, "connection timed out"))
}

fn options(target: &Target, host: &str, port: u16, mode: Mode) -> Result<Opts> {
    let mut options = OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port)
        .user(target.property("user"))
        .pass(target.property("password"))
        .db_name((!target.database.is_empty()).then_some(target.database.as_str()))
        // Whoever names a port means it.
        .prefer_socket(false)
        .init(vec![SESSION.to_owned()]);
    if mode != Mode::Disable {
        // The client makes its settings with the process's provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let checks_chain = matches!(mode, Mode::VerifyCa | Mode::VerifyFull);
        let mut roots = Vec::new();
        if checks_chain {
            roots = tls::certificates(target)?.iter().map(|certificate| certificate.as_ref().to_vec().into()).collect();
        }
        options = options.ssl_opts(
            SslOpts::default()
                .with_root_certs(roots)
                .with_disable_built_in_roots(checks_chain)
                .with_danger_accept_invalid_certs(!checks_chain)
                .with_danger_skip_domain_validation(mode != Mode::VerifyFull),
        );
    }
    Ok(options.into())
}

async fn prepare(connection: &mut Conn, connecting: &Connecting, doing: Doing) -> Result<()> {
    let fail = |error: mysql_async::Error| failed(&connecting.target, doing, &error);
    if let Some(seconds) = connecting.timeout_s {
        let version: Option<String> = connection.query_first("SELECT VERSION()").await.map_err(fail)?;
        let is_mariadb = version.is_some_and(|version| version.to_ascii_lowercase().contains("mariadb"));
        let statement = match is_mariadb {
            true => format!("SET SESSION max_statement_time = {seconds}"),
            false => format!("SET SESSION max_execution_time = {}", seconds.saturating_mul(1000)),
        };
        connection.query_drop(statement).await.map_err(fail)?;
    }
    if let Some(statement) = &connecting.session_init {
        connection.query_drop(statement).await.map_err(fail)?;
    }
    Ok(())
}

fn not_connected(target: &Target, error: &mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(_) => failed(target, Doing::Reading, error),
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => no_tls(target, "the server has no TLS"),
        mysql_async::Error::Io(mysql_async::IoError::Tls(error)) => no_tls(target, &error.to_string()),
        mysql_async::Error::Driver(error) => refused(target, Doing::Reading, Refusal::Login, &error.to_string()),
        other if tls::is_cause(other) => no_tls(target, &root(other)),
        other => no_answer(target, &root(other)),
    }
}

/// What the server, or the connection to it, says.
fn failed(target: &Target, doing: Doing, error: &mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(answer) => refused(target, doing, refusal(answer.code), &answer.message),
        other => lost(target, &root(other)),
    }
}

fn refusal(code: u16) -> Refusal {
    match code {
        1045 | 1698 | 1862 | 2059 => Refusal::Login,
        1044 | 1142 | 1143 | 1227 => Refusal::NoRight,
        1049 => Refusal::NoDatabase,
        1146 => Refusal::NoTable,
        1054 | 1064 | 1071 | 1103 | 1111 | 1166 | 1305 => Refusal::Statement,
        1969 | 3024 => Refusal::Timeout,
        1048 | 1062 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1451 | 1452 | 3819 | 4025 => Refusal::Row,
        _ => Refusal::Other,
    }
}
