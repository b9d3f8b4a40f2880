//! `jdbc:` URLs: which database lies where, and the properties of connections to it.

use std::collections::BTreeMap;
use std::fmt;

use deltaworks_spark::{Error, Result};
use url::form_urlencoded;

use crate::dialect::Dialect;

/// A database, and how to connect to it. Properties may be secret: nothing shows their values.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) dialect: Dialect,
    /// Servers, in the order they are tried; none for SQLite.
    pub(crate) hosts: Vec<(String, u16)>,
    /// The database on the server, or the path of SQLite's file.
    pub(crate) database: String,
    /// By lower-case name.
    properties: BTreeMap<String, String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.to_string()).finish()
    }
}

/// Kind, place and name of the database.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        match self.dialect {
            Dialect::Sqlite => write!(f, "sqlite:{}", self.database),
            Dialect::Postgres => write!(f, "postgresql://{hosts}/{}", self.database),
            Dialect::MySql => write!(f, "mysql://{hosts}/{}", self.database),
        }
    }
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// `User` for what is no such URL, which is not shown; `Unsupported` for other databases.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = strip(url.trim(), "jdbc:").ok_or_else(no_url)?;
        let (kind, rest) = rest.split_once(':').ok_or_else(no_url)?;
        match kind.to_ascii_lowercase().as_str() {
            "postgresql" => server(Dialect::Postgres, rest),
            "mysql" | "mariadb" => server(Dialect::MySql, rest),
            "sqlite" => sqlite(rest),
            other if other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Err(Error::unsupported(format!("the database of `jdbc:{other}:`"))
                    .with_help("PostgreSQL, MySQL, MariaDB and SQLite can be read and written."))
            }
            _ => Err(no_url()),
        }
    }

    /// The value of a property, in any case.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Sets a property unless the URL has it.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) {
        self.properties.entry(name.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
    }

    /// The names of the properties that are not among `known`.
    pub(crate) fn properties_besides<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.properties.keys().map(String::as_str).filter(|key| !known.iter().any(|k| k.eq_ignore_ascii_case(key)))
    }
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len())?.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The URL itself may hold a password, so it is not shown.
fn no_url() -> Error {
    Error::user("option `url` is not a URL of a database").with_condition("INVALID_PARAMETER_VALUE").with_help(
        "Write `jdbc:postgresql://host:port/database`, `jdbc:mysql://host:port/database` or `jdbc:sqlite:/path`.",
    )
}

fn sqlite(rest: &str) -> Result<Target> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = strip(path, "file:").unwrap_or(path);
    if path.is_empty() || path == ":memory:" {
        return Err(Error::unsupported("a SQLite database in memory")
            .with_help("Name a file: `jdbc:sqlite:/path/of/database.db`."));
    }
    let path = path.to_owned();
    Ok(Target { dialect: Dialect::Sqlite, hosts: Vec::new(), database: path, properties: properties(query) })
}

fn server(dialect: Dialect, rest: &str) -> Result<Target> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut properties = properties(query);
    let (authority, database) = match place.strip_prefix("//") {
        Some(place) => place.split_once('/').unwrap_or((place, "")),
        // PostgreSQL's short form names no server.
        None => ("localhost", place),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            for (name, value) in [("user", user), ("password", password)] {
                if !value.is_empty() {
                    properties.entry(name.to_owned()).or_insert_with(|| decoded(value));
                }
            }
            hosts
        }
        None => authority,
    };
    let hosts = hosts.split(',').map(|host| host_and_port(host, dialect)).collect::<Result<Vec<_>>>()?;
    Ok(Target { dialect, hosts, database: decoded(database), properties })
}

fn host_and_port(text: &str, dialect: Dialect) -> Result<(String, u16)> {
    let default = if dialect == Dialect::Postgres { 5432 } else { 3306 };
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = match port {
        Some(port) => port.parse().map_err(|_| no_url())?,
        None => default,
    };
    Ok((host.to_owned(), port))
}

fn properties(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key).to_ascii_lowercase(), decoded(value))
        })
        .collect()
}

/// `%41` as `A`. A plus sign stays one, as in Java's drivers: passwords have them.
fn decoded(text: &str) -> String {
    let kept = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(kept.as_bytes()).map(|(key, _)| key.into_owned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_databases() {
        let check = |url: &str, expected: &str| assert_eq!(Target::parse(url).unwrap().to_string(), expected);
        check("jdbc:postgresql://db.example:5433/shop?user=me&password=a%26b", "postgresql://db.example:5433/shop");
        check("JDBC:PostgreSQL://one,two:1/shop", "postgresql://one:5432,two:1/shop");
        check("jdbc:postgresql:shop", "postgresql://localhost:5432/shop");
        check("jdbc:postgresql://[::1]/", "postgresql://[::1]:5432/");
        check("jdbc:mysql://me:secret@host/shop", "mysql://host:3306/shop");
        check("jdbc:mariadb://host:3307/shop", "mysql://host:3307/shop");
        check("jdbc:sqlite:/data/x.db", "sqlite:/data/x.db");
        check("jdbc:sqlite:file:x.db?mode=ro", "sqlite:x.db");
    }

    #[test]
    fn properties_are_decoded_and_never_shown() {
        let target = Target::parse("jdbc:postgresql://h/d?user=me&password=s%26+c%C3%A9%3Dret").unwrap();
        assert_eq!((target.property("USER"), target.property("password")), (Some("me"), Some("s&+cé=ret")));
        assert!(!format!("{target:?} {target}").contains("ret"));
        let target = Target::parse("jdbc:mysql://me:p%40ss@h/d").unwrap();
        assert_eq!((target.property("user"), target.property("password")), (Some("me"), Some("p@ss")));
    }

    #[test]
    fn what_is_no_url_is_not_shown() {
        for url in ["postgres://me:hunter2@h/d", "jdbc:postgresql://h:hunter2/d", "hunter2", "jdbc:hun/ter2:x"] {
            let error = Target::parse(url).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let error = Target::parse("jdbc:oracle:thin:@h:1:hunter2").unwrap_err();
        assert_eq!(error.message(), "the database of `jdbc:oracle:` is not supported yet");
    }
}
