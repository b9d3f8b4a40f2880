//! Options `kafka.*`: properties of Java's Kafka client as properties of librdkafka.
//!
//! Most have the same name. Some are called otherwise, some this source decides by itself, some belong to consumer
//! groups and have no meaning here, and some cannot be had without a JVM.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};

use super::{jaas, producer_properties as producer};
use crate::errors::invalid_option;

/// How long Kafka may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The configuration of clients. Values may be secret: nothing shows them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientProperties {
    /// `kafka.bootstrap.servers`
    pub(crate) servers: String,
    /// Under librdkafka's names.
    pub(crate) properties: BTreeMap<String, String>,
    /// How long Kafka may take to answer a question.
    pub(crate) answer_timeout: Duration,
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientProperties")
            .field("servers", &self.servers)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The `kafka.*` options under the names of Java's client, without the prefix.
struct Given(BTreeMap<String, String>);

impl Given {
    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// A type of key or trust store, and `JKS` if there is none, as for Java.
    fn store_type(&mut self, key: &str) -> String {
        self.take(key).unwrap_or_else(|| "JKS".to_owned()).to_ascii_uppercase()
    }
}

impl ClientProperties {
    /// The properties among the options of a reader.
    ///
    /// # Errors
    /// `User` if there are no servers, or a property is one that the source decides; `Unsupported` for properties that
    /// need a JVM.
    pub(crate) fn parse(options: &ReadOptions) -> Result<Self> {
        let given = given(options);
        given.0.keys().try_for_each(|key| refuse(key))?;
        // Java's default; librdkafka's is `read_committed`.
        let defaults = BTreeMap::from([("isolation.level".to_owned(), "read_uncommitted".to_owned())]);
        Self::of(given, defaults, "to read from Kafka")
    }

    /// The properties among the options of a sink.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn for_producer(options: &ReadOptions) -> Result<Self> {
        let mut given = given(options);
        given.0.keys().try_for_each(|key| refuse_in_sinks(key))?;
        let defaults = producer::take(&mut given.0)?;
        Self::of(given, defaults, "to write to Kafka")
    }

    fn of(mut given: Given, mut properties: BTreeMap<String, String>, purpose: &str) -> Result<Self> {
        let servers =
            given.take("bootstrap.servers").filter(|servers| !servers.trim().is_empty()).ok_or_else(|| {
                Error::user(format!("option `kafka.bootstrap.servers` is required {purpose}"))
                    .with_help("Set it to the brokers' addresses: `host:9092,other:9092`.")
            })?;
        let answer_timeout = answer_timeout(&mut given)?;
        let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
        set("bootstrap.servers", servers.clone());
        log_in(&mut given, &mut set)?;
        trust(&mut given, &mut set)?;
        keys(&mut given, &mut set)?;
        for (key, value) in given.0 {
            if !of_consumer_groups(&key) {
                set(renamed(&key), value);
            }
        }
        let speaks_tls = properties.get("security.protocol").is_some_and(|protocol| protocol.ends_with("ssl"));
        if speaks_tls && !properties.contains_key("ssl.ca.location") && !properties.contains_key("ssl.ca.pem") {
            // The system's authorities, also where OpenSSL is part of the program and does not know their place.
            properties.insert("ssl.ca.location".to_owned(), "probe".to_owned());
        }
        Ok(Self { servers, properties, answer_timeout })
    }
}

/// The options that are meant for the client.
fn given(options: &ReadOptions) -> Given {
    Given(options.iter().filter_map(|(key, value)| Some((java_name(key)?, value.to_owned()))).collect())
}

/// The name of Java's client for an option of a reader; `None` if it is not meant for the client.
fn java_name(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    match key.as_str() {
        // `read_kafka` has names of its own.
        "bootstrapservers" => Some("bootstrap.servers".to_owned()),
        _ => match key.strip_prefix("kafka.") {
            Some(name) => Some(name.to_owned()),
            // Named arguments of SQL cannot have dots unless they are quoted.
            None => key.strip_prefix("kafka_").map(|name| name.replace('_', ".")),
        },
    }
}

/// Properties that this source decides, and those that Spark refuses.
fn refuse(key: &str) -> Result<()> {
    let help = match key {
        "auto.offset.reset" => {
            "Say by option `startingOffsets` where a new checkpoint starts; later it starts where it ended."
        }
        "key.deserializer" | "value.deserializer" | "key.serializer" | "value.serializer" => {
            "Keys and values are BINARY; convert them in the query."
        }
        "enable.auto.commit" | "auto.commit.interval.ms" | "enable.auto.offset.store" => {
            "What was read is remembered in the checkpoint, not in Kafka."
        }
        "interceptor.classes" | "enable.partition.eof" | "plugin.library.paths" | "group.protocol" | "debug" => {
            "Remove it."
        }
        "sasl.login.callback.handler.class" | "sasl.client.callback.handler.class" | "sasl.login.class" => {
            return Err(Error::unsupported(format!("option `kafka.{key}`, a Java class,")).with_help(PASSWORD_ONLY));
        }
        key if key.starts_with("sasl.oauthbearer.") || key.starts_with("sasl.kerberos.") => {
            return Err(Error::unsupported(format!("option `kafka.{key}`")).with_help(PASSWORD_ONLY));
        }
        _ => return Ok(()),
    };
    Err(Error::user(format!("Kafka option `{key}` is not supported")).with_help(help))
}

/// Properties that a sink decides besides those of [`refuse`].
fn refuse_in_sinks(key: &str) -> Result<()> {
    match key {
        "transactional.id" => Err(Error::user(format!("Kafka option `{key}` is not supported"))
            .with_help("Records are sent at least once, without transactions. Remove it.")),
        "partitioner.class" => Err(Error::unsupported(format!("option `kafka.{key}`, a Java class,"))
            .with_help("Give the partition in a column `partition`.")),
        key => refuse(key),
    }
}

const PASSWORD_ONLY: &str =
    "Log in by user and password: `kafka.sasl.mechanism` PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or by certificate.";

fn answer_timeout(given: &mut Given) -> Result<Duration> {
    let mut milliseconds = |key: &str| {
        given.take(key).map(|value| {
            let number = value.trim().parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| invalid_option(&format!("kafka.{key}"), &value, "a number of milliseconds"))
        })
    };
    let request = milliseconds("request.timeout.ms").transpose()?;
    let api = milliseconds("default.api.timeout.ms").transpose()?;
    Ok(api.or(request).map_or(ANSWER_TIMEOUT, Duration::from_millis))
}

fn log_in<T>(given: &mut Given, set: &mut impl FnMut(&str, String) -> T) -> Result<()> {
    let protocol = given.take("security.protocol").map(|protocol| protocol.to_ascii_lowercase());
    let mechanism = given.take("sasl.mechanism").or_else(|| given.take("sasl.mechanisms"));
    if let Some(jaas) = given.take("sasl.jaas.config") {
        let login = jaas::parse(&jaas)?;
        set("sasl.username", login.username);
        set("sasl.password", login.password);
    }
    if protocol.as_deref().is_some_and(|protocol| protocol.starts_with("sasl")) {
        match mechanism.as_deref().map(str::to_ascii_uppercase).as_deref() {
            Some(known @ ("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")) => {
                set("sasl.mechanism", known.to_owned());
            }
            // Java's default.
            other => {
                let other = other.unwrap_or("GSSAPI");
                return Err(Error::unsupported(format!("`kafka.sasl.mechanism` {other}")).with_help(PASSWORD_ONLY));
            }
        }
    }
    if let Some(protocol) = protocol {
        set("security.protocol", protocol);
    }
    Ok(())
}

fn trust<T>(given: &mut Given, set: &mut impl FnMut(&str, String) -> T) -> Result<()> {
    let kind = given.store_type("ssl.truststore.type");
    let location = given.take("ssl.truststore.location");
    given.take("ssl.truststore.password");
    if let Some(certificates) = given.take("ssl.truststore.certificates") {
        set("ssl.ca.pem", certificates);
    }
    match (location, kind.as_str()) {
        (Some(location), "PEM") => {
            set("ssl.ca.location", location);
        }
        (Some(_), _) => return Err(java_store("ssl.truststore", &kind, "`kafka.ssl.ca.location`")),
        (None, _) => {}
    }
    if let Some(algorithm) = given.take("ssl.endpoint.identification.algorithm") {
        set("ssl.endpoint.identification.algorithm", if algorithm.is_empty() { "none".to_owned() } else { algorithm });
    }
    Ok(())
}

fn keys<T>(given: &mut Given, set: &mut impl FnMut(&str, String) -> T) -> Result<()> {
    let kind = given.store_type("ssl.keystore.type");
    if let Some(chain) = given.take("ssl.keystore.certificate.chain") {
        set("ssl.certificate.pem", chain);
    }
    if let Some(key) = given.take("ssl.keystore.key") {
        set("ssl.key.pem", key);
    }
    let Some(location) = given.take("ssl.keystore.location") else { return Ok(()) };
    let by_name = location.ends_with(".p12") || location.ends_with(".pfx");
    match kind.as_str() {
        // One file has both.
        "PEM" => {
            set("ssl.certificate.location", location.clone());
            set("ssl.key.location", location);
        }
        "PKCS12" => {
            set("ssl.keystore.location", location);
        }
        _ if by_name => {
            set("ssl.keystore.location", location);
        }
        _ => {
            return Err(java_store(
                "ssl.keystore",
                &kind,
                "`kafka.ssl.certificate.location` and `kafka.ssl.key.location`",
            ));
        }
    }
    Ok(())
}

fn java_store(key: &str, kind: &str, instead: &str) -> Error {
    Error::unsupported(format!("`kafka.{key}.location` of type {kind}")).with_help(format!(
        "Export it as PEM (`keytool -importkeystore` to PKCS12, then `openssl pkcs12`) and give the file by {instead}, \
         or set `kafka.{key}.type` to PEM."
    ))
}

/// Properties of members of consumer groups, and of threads of Java's client: no reader is one.
fn of_consumer_groups(key: &str) -> bool {
    matches!(
        key,
        "session.timeout.ms"
            | "heartbeat.interval.ms"
            | "max.poll.interval.ms"
            | "max.poll.records"
            | "partition.assignment.strategy"
            | "group.instance.id"
            | "exclude.internal.topics"
            | "socket.connection.setup.timeout.max.ms"
            | "group.id"
    )
}

/// librdkafka's name for a property.
fn renamed(key: &str) -> &str {
    match key {
        "fetch.max.wait.ms" => "fetch.wait.max.ms",
        "receive.buffer.bytes" => "socket.receive.buffer.bytes",
        "send.buffer.bytes" => "socket.send.buffer.bytes",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<ClientProperties> {
        ClientProperties::parse(&[("kafka.bootstrap.servers", "h:9092")].iter().chain(given).copied().collect())
    }

    fn check(given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let defaults = [("bootstrap.servers", "h:9092"), ("isolation.level", "read_uncommitted")];
        let mut wanted: BTreeMap<String, String> =
            defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        wanted.extend(expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        assert_eq!(parse(given).unwrap().properties, wanted);
    }

    #[test]
    fn properties_get_librdkafkas_names() {
        check(&[], &[]);
        check(&[("subscribe", "t"), ("kafka.Fetch.Max.Wait.Ms", "5")], &[("fetch.wait.max.ms", "5")]);
        check(&[("kafka.isolation.level", "read_committed")], &[("isolation.level", "read_committed")]);
        check(&[("kafka.session.timeout.ms", "45000")], &[]);
        check(
            &[("kafka.ssl.endpoint.identification.algorithm", "")],
            &[("ssl.endpoint.identification.algorithm", "none")],
        );
        check(
            &[
                ("kafka.ssl.truststore.type", "PEM"),
                ("kafka.ssl.truststore.certificates", "-----BEGIN"),
                ("kafka.ssl.keystore.location", "/k.p12"),
                ("kafka.ssl.keystore.password", "p"),
            ],
            &[("ssl.ca.pem", "-----BEGIN"), ("ssl.keystore.location", "/k.p12"), ("ssl.keystore.password", "p")],
        );
    }

    #[test]
    fn event_hubs_log_in_by_jaas_config() {
        let jaas = "kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule required \
                    username=\"$ConnectionString\" password=\"Endpoint=sb://ns/;SharedAccessKey=x\";";
        check(
            &[
                ("kafka.security.protocol", "SASL_SSL"),
                ("kafka.sasl.mechanism", "PLAIN"),
                ("kafka.sasl.jaas.config", jaas),
                ("kafka.request.timeout.ms", "60000"),
            ],
            &[
                ("security.protocol", "sasl_ssl"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "$ConnectionString"),
                ("sasl.password", "Endpoint=sb://ns/;SharedAccessKey=x"),
                ("ssl.ca.location", "probe"),
            ],
        );
    }

    #[test]
    fn named_arguments_of_sql_are_properties() {
        let options: ReadOptions =
            [("bootstrapServers", "h:9092"), ("kafka_security_protocol", "SSL")].into_iter().collect();
        let parsed = ClientProperties::parse(&options).unwrap();
        assert_eq!(parsed.servers, "h:9092");
        assert_eq!(parsed.properties["security.protocol"], "ssl");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let message = |given: &[(&str, &str)]| parse(given).unwrap_err().to_string();
        starts_with(
            &message(&[("kafka.auto.offset.reset", "earliest")]),
            "Kafka option `auto.offset.reset` is not supported",
        );
        starts_with(
            &message(&[("kafka.enable.auto.commit", "true")]),
            "Kafka option `enable.auto.commit` is not supported",
        );
        starts_with(&message(&[("kafka.key.deserializer", "x")]), "Kafka option `key.deserializer` is not supported");
        starts_with(
            &message(&[("kafka.ssl.truststore.location", "/t.jks"), ("kafka.ssl.truststore.password", "hunter2")]),
            "`kafka.ssl.truststore.location` of type JKS is not supported yet",
        );
        starts_with(
            &message(&[("kafka.security.protocol", "SASL_SSL"), ("kafka.sasl.mechanism", "OAUTHBEARER")]),
            "`kafka.sasl.mechanism` OAUTHBEARER is not supported yet",
        );
        starts_with(
            &message(&[("kafka.sasl.login.callback.handler.class", "x.Y")]),
            "option `kafka.sasl.login.callback.handler.class`, a Java class, is not supported yet",
        );
        let none = ClientProperties::parse(&ReadOptions::new()).unwrap_err();
        assert_eq!(none.message(), "option `kafka.bootstrap.servers` is required to read from Kafka");
    }

    #[track_caller]
    fn starts_with(error: &str, start: &str) {
        assert!(error.starts_with(start) && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_output_has_no_values() {
        let parsed = parse(&[("kafka.sasl.password", "hunter2"), ("kafka.ssl.key.password", "hunter2")]).unwrap();
        let shown = format!("{parsed:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}
