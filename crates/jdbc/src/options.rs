//! Options of reads and writes, typed. Names, defaults and what excludes what are Spark's.

use std::sync::Arc;

use arrow::datatypes::Schema;
use chrono_tz::Tz;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::{PREDICATE_PREFIX, ReadOptions};
use deltaworks_spark::types::parse_schema;
use deltaworks_spark::{Error, Result};

use crate::dialect::Dialect;
use crate::url::Target;

/// Maps the path of a SQLite file as the user wrote it to where the file lies.
pub type PathMapper = Arc<dyn Fn(&str) -> Result<String> + Send + Sync>;

/// Options of the source; those without an effect here are known all the same.
const KNOWN: &[&str] = &[
    "batchsize",
    "cascadeTruncate",
    "connectionProvider",
    "createTableColumnTypes",
    "createTableOptions",
    "customSchema",
    "dbtable",
    "driver",
    "fetchsize",
    "hint",
    "isolationLevel",
    "keytab",
    "lowerBound",
    "numPartitions",
    "partitionColumn",
    "password",
    "preferTimestampNTZ",
    "prepareQuery",
    "principal",
    "pushDownAggregate",
    "pushDownJoin",
    "pushDownLimit",
    "pushDownOffset",
    "pushDownPredicate",
    "pushDownTableSample",
    "query",
    "queryTimeout",
    "refreshKrb5Config",
    "sessionInitStatement",
    "truncate",
    "upperBound",
    "url",
    "user",
];

/// Options that are not the source's are properties of the connection. These have a meaning here.
pub(crate) const CONNECTION: &[&str] = &[
    "ApplicationName",
    "connectTimeout",
    "currentSchema",
    "options",
    "requireSSL",
    "serverSslCert",
    "ssl",
    "sslMode",
    "sslRootCert",
    "tinyInt1isBit",
    "useSSL",
    "yearIsDateType",
    "zeroDateTimeBehavior",
];

/// Properties of connections that are taken and have no effect, as what they change does not exist here.
const WITHOUT_EFFECT: &[&str] = &[
    "allowPublicKeyRetrieval",
    "characterEncoding",
    "connectionTimeZone",
    "loginTimeout",
    "prepareThreshold",
    "reWriteBatchedInserts",
    "rewriteBatchedStatements",
    "serverTimezone",
    "socketTimeout",
    "stringtype",
    "tcpKeepAlive",
    "useCursorFetch",
    "useUnicode",
];

/// Classes that programs name as drivers.
const DRIVERS: &[(&str, Dialect)] = &[
    ("org.postgresql.Driver", Dialect::Postgres),
    ("com.mysql.cj.jdbc.Driver", Dialect::MySql),
    ("com.mysql.jdbc.Driver", Dialect::MySql),
    ("org.mariadb.jdbc.Driver", Dialect::MySql),
    ("org.sqlite.JDBC", Dialect::Sqlite),
];

/// The names of all options that have a meaning, or none but are Spark's.
pub fn known_options() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().chain(CONNECTION).copied()
}

/// The options that nobody knows, as they were given.
pub fn unknown_options(given: &ReadOptions) -> Vec<&str> {
    let is_known = |key: &str| {
        key.starts_with(PREDICATE_PREFIX)
            || known_options().chain(WITHOUT_EFFECT.iter().copied()).any(|known| known.eq_ignore_ascii_case(key))
    };
    given.iter().map(|(key, _)| key).filter(|key| !is_known(key)).collect()
}

/// A database, and what is the same for all statements that are sent to it.
#[derive(Clone, Debug)]
pub(crate) struct Connecting {
    pub(crate) target: Target,
    /// `sessionInitStatement`
    pub(crate) session_init: Option<String>,
    /// `queryTimeout`, in seconds; none is no limit.
    pub(crate) timeout_s: Option<u64>,
    /// The zone of clocks in databases that store none: the session's.
    pub(crate) zone: Tz,
}

/// How a read is cut into parts by the values of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stride {
    pub(crate) column: String,
    pub(crate) lower: String,
    pub(crate) upper: String,
    pub(crate) partitions: u64,
}

/// A read, as its options say.
#[derive(Clone, Debug)]
pub(crate) struct ReadJob {
    pub(crate) connecting: Connecting,
    /// What stands behind FROM.
    pub(crate) from: String,
    /// What stands before SELECT.
    pub(crate) prepare: String,
    pub(crate) stride: Option<Stride>,
    /// Conditions, each of which is a part.
    pub(crate) predicates: Vec<String>,
    pub(crate) custom_schema: Option<Schema>,
    pub(crate) push_predicates: bool,
    pub(crate) push_limit: bool,
    /// Whether clocks without a zone become TIMESTAMP_NTZ.
    pub(crate) prefer_ntz: bool,
    /// Rows of a batch at most.
    pub(crate) fetch_rows: Option<usize>,
}

/// A write, as its options say.
#[derive(Clone, Debug)]
pub(crate) struct WriteJob {
    pub(crate) connecting: Connecting,
    /// The table's name as written, and its parts.
    pub(crate) table: String,
    pub(crate) name: Vec<String>,
    /// Whether overwriting keeps the table.
    pub(crate) truncate: bool,
    pub(crate) cascade_truncate: bool,
    /// Rows of an INSERT statement at most.
    pub(crate) batch_rows: usize,
    /// `READ COMMITTED` and so on; the database's own if none.
    pub(crate) isolation: Option<&'static str>,
    /// What stands behind CREATE TABLE (...).
    pub(crate) create_options: String,
    pub(crate) create_types: Option<String>,
    pub(crate) case_sensitive: bool,
}

/// Looks options up and reads values.
struct Options<'a>(&'a ReadOptions);

impl<'a> Options<'a> {
    /// The value, if there is one.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).filter(|value| !value.trim().is_empty())
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(value) => Err(invalid(key, value, "true or false")),
        }
    }

    fn count(&self, key: &str, least: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.trim().parse() {
            Ok(count) if count >= least => Ok(Some(count)),
            _ => Err(invalid(key, value, &format!("a whole number of at least {least}"))),
        }
    }

    fn connecting(&self, conf: &SparkConf, paths: &PathMapper) -> Result<Connecting> {
        let url = self.get("url").ok_or_else(|| missing("`url`"))?;
        let mut target = Target::parse(url)?;
        for (key, value) in self.0.iter() {
            if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key)) && !key.starts_with(PREDICATE_PREFIX) {
                target.set_default(key, value);
            }
        }
        for key in ["user", "password"] {
            if let Some(value) = self.0.get(key) {
                target.set_default(key, value);
            }
        }
        if target.dialect == Dialect::Sqlite {
            target.database = paths(&target.database)?;
        }
        self.check_driver(target.dialect)?;
        for key in ["keytab", "principal", "connectionProvider"] {
            if self.get(key).is_some() {
                return Err(Error::unsupported(format!("option `{key}` of format `jdbc`"))
                    .with_help("Log in by `user` and `password`."));
            }
        }
        let known = [CONNECTION, WITHOUT_EFFECT, &["user", "password"]].concat();
        for name in target.properties_besides(&known) {
            tracing::debug!(property = name, "a property of the connection has no effect");
        }
        Ok(Connecting {
            target,
            session_init: self.get("sessionInitStatement").map(str::to_owned),
            timeout_s: self.count("queryTimeout", 0)?.filter(|seconds| *seconds > 0),
            zone: conf.time_zone,
        })
    }

    fn check_driver(&self, dialect: Dialect) -> Result<()> {
        let Some(class) = self.get("driver") else { return Ok(()) };
        match DRIVERS.iter().find(|(known, _)| *known == class.trim()) {
            Some((_, of)) if *of == dialect => Ok(()),
            Some(_) => {
                Err(Error::user(format!("option `driver` names `{class}`, which is not the driver of option `url`"))
                    .with_help("Leave option `driver` out."))
            }
            None => Err(Error::unsupported(format!("the JDBC driver `{class}`"))
                .with_help("Leave option `driver` out: no driver of Java is used.")),
        }
    }

    fn stride(&self) -> Result<Option<Stride>> {
        let given = ["partitionColumn", "lowerBound", "upperBound"].map(|key| self.get(key));
        let partitions = self.count("numPartitions", 1)?;
        match (given, partitions) {
            // Alone, it is a limit of what can be done side by side.
            ([None, None, None], _) => Ok(None),
            ([Some(column), Some(lower), Some(upper)], Some(partitions)) => Ok(Some(Stride {
                column: column.to_owned(),
                lower: lower.to_owned(),
                upper: upper.to_owned(),
                partitions,
            })),
            _ => Err(Error::user(
                "options `partitionColumn`, `lowerBound`, `upperBound` and `numPartitions` are given all or none",
            )
            .with_condition("INVALID_PARAMETER_VALUE")
            .with_help("The bounds cut the table into parts; rows beyond them are in the first and the last one.")),
        }
    }

    /// What stands behind FROM.
    fn from(&self) -> Result<(String, bool)> {
        match (self.get("dbtable"), self.get("query")) {
            (Some(_), Some(_)) => Err(Error::user("options `dbtable` and `query` exclude each other")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Give one of them.")),
            (Some(table), None) => Ok((table.trim().to_owned(), false)),
            (None, Some(query)) => {
                let query = query.trim().trim_end_matches(';');
                Ok((format!("({query}) SPARK_GEN_SUBQ_0"), true))
            }
            (None, None) => Err(missing("`dbtable` or `query`")),
        }
    }
}

impl ReadJob {
    /// Options of `spark.read.format("jdbc")`.
    ///
    /// # Errors
    /// `User` for wrong values and options that exclude each other; `Unsupported` for what has no counterpart here.
    pub(crate) fn parse(given: &ReadOptions, conf: &SparkConf, paths: &PathMapper) -> Result<Self> {
        let options = Options(given);
        let connecting = options.connecting(conf, paths)?;
        let (from, is_query) = options.from()?;
        let stride = options.stride()?;
        let predicates: Vec<String> = given.predicates().map(str::to_owned).collect();
        if is_query && stride.is_some() {
            return Err(Error::user("options `query` and `partitionColumn` exclude each other")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Give the query as `dbtable`, in parentheses and with a name: `(SELECT ...) AS t`."));
        }
        if !predicates.is_empty() && stride.is_some() {
            return Err(Error::user("`predicates` and option `partitionColumn` exclude each other")
                .with_help("Both say how the read is cut into parts: give one of them."));
        }
        let custom_schema = match options.get("customSchema") {
            Some(text) => Some(parse_schema(text).map_err(|error| error.context("in option `customSchema`"))?),
            None => None,
        };
        Ok(Self {
            connecting,
            from,
            prepare: options.get("prepareQuery").map(|text| format!("{} ", text.trim())).unwrap_or_default(),
            stride,
            predicates,
            custom_schema,
            push_predicates: options.flag("pushDownPredicate", true)?,
            push_limit: options.flag("pushDownLimit", true)?,
            prefer_ntz: options.flag("preferTimestampNTZ", false)?,
            fetch_rows: options.count("fetchsize", 0)?.filter(|rows| *rows > 0).map(|rows| rows as usize),
        })
    }
}

impl WriteJob {
    /// Options of `df.write.format("jdbc")`.
    ///
    /// # Errors
    /// Those of [`ReadJob::parse`].
    pub(crate) fn parse(given: &ReadOptions, conf: &SparkConf, paths: &PathMapper) -> Result<Self> {
        let options = Options(given);
        let connecting = options.connecting(conf, paths)?;
        let (table, is_query) = options.from()?;
        let name = if is_query { None } else { connecting.target.dialect.split_name(&table) };
        let name = name.ok_or_else(|| {
            Error::user("only a table can be written, and option `dbtable` is none")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Give the table's name, in the database's quotes if it needs some.")
        })?;
        options.count("numPartitions", 1)?;
        let isolation = match options.get("isolationLevel").map(|level| level.trim().to_ascii_uppercase()).as_deref() {
            None | Some("NONE") => None,
            Some("READ_UNCOMMITTED") => Some("READ UNCOMMITTED"),
            Some("READ_COMMITTED") => Some("READ COMMITTED"),
            Some("REPEATABLE_READ") => Some("REPEATABLE READ"),
            Some("SERIALIZABLE") => Some("SERIALIZABLE"),
            Some(other) => {
                let expected = "NONE, READ_UNCOMMITTED, READ_COMMITTED, REPEATABLE_READ or SERIALIZABLE";
                return Err(invalid("isolationLevel", other, expected));
            }
        };
        Ok(Self {
            connecting,
            table,
            name,
            truncate: options.flag("truncate", false)?,
            cascade_truncate: options.flag("cascadeTruncate", false)?,
            batch_rows: options.count("batchsize", 1)?.unwrap_or(1000) as usize,
            isolation,
            create_options: options.get("createTableOptions").map(|text| format!(" {text}")).unwrap_or_default(),
            create_types: options.get("createTableColumnTypes").map(str::to_owned),
            case_sensitive: conf.case_sensitive,
        })
    }
}

fn missing(what: &str) -> Error {
    Error::user(format!("option {what} of format `jdbc` is required")).with_condition("INVALID_PARAMETER_VALUE")
}

fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::user(format!("option `{key}` has value `{value}`, expected {expected}"))
        .with_condition("INVALID_PARAMETER_VALUE")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("url", "jdbc:postgresql://h/d?password=hunter2");

    fn read(options: &[(&str, &str)]) -> Result<ReadJob> {
        let paths: PathMapper = Arc::new(|path| Ok(path.to_owned()));
        ReadJob::parse(&options.iter().copied().collect(), &SparkConf::pipeline_defaults(), &paths)
    }

    #[test]
    fn what_is_read_is_a_table_or_a_query() {
        assert_eq!(read(&[URL, ("dbtable", "s.t")]).unwrap().from, "s.t");
        assert_eq!(read(&[URL, ("query", "SELECT 1;")]).unwrap().from, "(SELECT 1) SPARK_GEN_SUBQ_0");
        let check = |options: &[(&str, &str)], expected: &str| {
            assert_eq!(read(options).unwrap_err().message(), expected);
        };
        check(&[URL], "option `dbtable` or `query` of format `jdbc` is required");
        check(&[("dbtable", "t")], "option `url` of format `jdbc` is required");
        check(&[URL, ("dbtable", "t"), ("query", "q")], "options `dbtable` and `query` exclude each other");
        let all = "options `partitionColumn`, `lowerBound`, `upperBound` and `numPartitions` are given all or none";
        check(&[URL, ("dbtable", "t"), ("partitionColumn", "a"), ("numPartitions", "2")], all);
        let parts = [("partitionColumn", "a"), ("lowerBound", "0"), ("upperBound", "9"), ("numPartitions", "2")];
        let both = "options `query` and `partitionColumn` exclude each other";
        check(&[[URL, ("query", "q")].as_slice(), &parts].concat(), both);
        check(
            &[URL, ("dbtable", "t"), ("pushDownPredicate", "yes")],
            "option `pushDownPredicate` has value `yes`, expected true or false",
        );
        check(
            &[URL, ("dbtable", "t"), ("driver", "oracle.jdbc.OracleDriver")],
            "the JDBC driver `oracle.jdbc.OracleDriver` is not supported yet",
        );
    }

    #[test]
    fn logins_come_from_the_url_or_from_options_and_are_not_shown() {
        let job =
            read(&[URL, ("dbtable", "t"), ("user", "me"), ("password", "other"), ("SSLMODE", "disable")]).unwrap();
        let target = &job.connecting.target;
        assert_eq!(
            ["user", "password", "sslmode"].map(|key| target.property(key)),
            [Some("me"), Some("hunter2"), Some("disable")]
        );
        assert!(!format!("{job:?}").contains("hunter2"));
    }

    #[test]
    fn slips_are_unknown() {
        let given: ReadOptions =
            [("dbTable", "t"), ("partitionColumns", "a"), ("sslmode", "x"), ("predicates.0", "a > 1")]
                .into_iter()
                .collect();
        assert_eq!(unknown_options(&given), ["partitionColumns"]);
    }

    #[test]
    fn only_tables_are_written() {
        let paths: PathMapper = Arc::new(|path| Ok(path.to_owned()));
        let given = [URL, ("dbtable", "(SELECT 1) t")].into_iter().collect();
        let error = WriteJob::parse(&given, &SparkConf::pipeline_defaults(), &paths).unwrap_err();
        assert_eq!(error.message(), "only a table can be written, and option `dbtable` is none");
    }
}
