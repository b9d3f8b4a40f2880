//! PostgreSQL: connections, and what its errors mean.

mod read;
mod secure;
mod types;
mod write;

use std::time::Duration;

use deltaworks_spark::{Error, Result};
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

pub(crate) use read::{describe, read};
pub(crate) use write::write;

use crate::errors::{Doing, Refusal, lost, no_answer, no_tls, refused, root};
use crate::options::Connecting;
use crate::tls::{self, Mode};
use crate::url::Target;
use secure::Tls;

/// How long a server may take to answer, unless a property says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection. It closes when this is dropped, whatever the server still has to send.
struct Connection {
    client: Client,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    async fn open(connecting: &Connecting, doing: Doing) -> Result<Self> {
        let target = &connecting.target;
        let mode = Mode::of(target)?;
        let tls = Tls::new(tls::client(target, mode)?);
        let opened = config(target, mode)?.connect(tls).await.map_err(|error| not_connected(target, &error));
        let (client, connection) = opened?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        let connection = Self { client, task: task.abort_handle() };
        if let Some(seconds) = connecting.timeout_s {
            connection.run(connecting, doing, &format!("SET statement_timeout = '{seconds}s'")).await?;
        }
        if let Some(statement) = &connecting.session_init {
            connection.run(connecting, doing, statement).await?;
        }
        Ok(connection)
    }

    /// Runs statements that give no rows.
    async fn run(&self, connecting: &Connecting, doing: Doing, statements: &str) -> Result<()> {
        self.client.batch_execute(statements).await.map_err(|error| failed(&connecting.target, doing, &error))
    }
}

fn config(target: &Target, mode: Mode) -> Result<Config> {
    let mut config = Config::new();
    for (host, port) in &target.hosts {
        config.host(host).port(*port);
    }
    // As Java's driver: without a user, that of the operating system.
    if let Some(user) = target.property("user") {
        config.user(user);
    } else if let Ok(user) = std::env::var("USER") {
        config.user(user);
    }
    if let Some(password) = target.property("password") {
        config.password(password);
    }
    if !target.database.is_empty() {
        config.dbname(&target.database);
    }
    let mut options = target.property("options").unwrap_or_default().to_owned();
    if let Some(schema) = target.property("currentSchema") {
        let schema = schema.replace('\\', "\\\\").replace(' ', "\\ ");
        options = format!("{options} -c search_path={schema}");
    }
    if !options.trim().is_empty() {
        config.options(options.trim());
    }
    let seconds = target.property("connectTimeout").map(str::trim).unwrap_or_default();
    let timeout = match seconds.parse() {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => CONNECT_TIMEOUT,
    };
    config.connect_timeout(timeout).application_name(target.property("ApplicationName").unwrap_or("deltaworks"));
    config.ssl_mode(match mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    Ok(config)
}

fn not_connected(target: &Target, error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(_) => failed(target, Doing::Reading, error),
        None => {
            let (text, reason) = (error.to_string(), root(error));
            if text.contains("TLS") {
                return no_tls(target, &reason);
            }
            if text.contains("authentication") || text.contains("password") || text.contains("invalid configuration") {
                return refused(target, Doing::Reading, Refusal::Login, &reason);
            }
            no_answer(target, &reason)
        }
    }
}

/// What the server, or the connection to it, says.
fn failed(target: &Target, doing: Doing, error: &tokio_postgres::Error) -> Error {
    let Some(answer) = error.as_db_error() else { return lost(target, &root(error)) };
    let mut why = answer.message().to_owned();
    for (label, text) in [("detail", answer.detail()), ("hint", answer.hint())] {
        if let Some(text) = text {
            why.push_str(&format!(" ({label}: {text})"));
        }
    }
    refused(target, doing, refusal(answer.code()), &why)
}

fn refusal(code: &SqlState) -> Refusal {
    match code.code() {
        "3D000" => Refusal::NoDatabase,
        "42P01" | "3F000" => Refusal::NoTable,
        "42501" => Refusal::NoRight,
        "57014" => Refusal::Timeout,
        code => match code.get(..2) {
            Some("28") => Refusal::Login,
            Some("42" | "0A") => Refusal::Statement,
            Some("22" | "23") => Refusal::Row,
            _ => Refusal::Other,
        },
    }
}
