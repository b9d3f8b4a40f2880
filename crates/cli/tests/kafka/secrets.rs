//! Logins: they work, they are refused with a reason, and no password is shown or kept anywhere.

use std::path::Path;

use crate::broker::{Broker, PASSWORD, USER};
use crate::starts::{rows, runs};
use crate::support::{Done, Pipeline};
use crate::topics::{Topic, values};

const PYTHON: &str = r#"
import dlt
from pyspark.sql import functions as F

user = dbutils.secrets.get("kafka", "user")
password = dbutils.secrets.get("kafka", "password")

@dlt.table
def t():
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", spark.conf.get("servers"))
        .option("kafka.security.protocol", "SASL_PLAINTEXT")
        .option("kafka.sasl.mechanism", "PLAIN")
        .option(
            "kafka.sasl.jaas.config",
            "kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="{user}" password="{password}";',
        )
        .option("kafka.ssl.key.password", password)
        .option("subscribe", "secrets")
        .option("startingOffsets", "earliest")
        .load()
        .select("topic", "partition", "offset", F.col("value").cast("string").alias("value"))
    )
"#;

fn pipeline(broker: &Broker) -> Pipeline {
    let settings = format!("name: t\ndevelopment: true\nconfiguration:\n  servers: {}\n", broker.login_servers());
    Pipeline::new(&[("pipeline.py", PYTHON), ("deltaworks.yml", &settings)])
}

fn run(pipeline: &Pipeline, arguments: &[&str], password: &str) -> Done {
    let mut command = pipeline.command(arguments);
    command.env("DELTAWORKS_SECRET_KAFKA_USER", USER).env("DELTAWORKS_SECRET_KAFKA_PASSWORD", password);
    command.env("DELTAWORKS_LOG", "debug");
    Done::of(command)
}

/// No file below a folder holds `secret`.
fn holds_no(folder: &Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_no(&path, secret);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds the password", path.display());
        }
    }
}

#[test]
fn a_login_works_and_its_password_is_nowhere() {
    let broker = Broker::shared();
    let topic = Topic::create(broker, "secrets", 1);
    topic.produce(values(["a"]));
    let pipeline = pipeline(broker);
    for arguments in [&["validate"][..], &["graph"], &["run"], &["events", "--format", "json"], &["status"]] {
        let done = run(&pipeline, arguments, PASSWORD);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD), "{arguments:?} shows the password");
    }
    assert_eq!(rows(&pipeline), "0:0=a");
    holds_no(pipeline.path(), PASSWORD);
    let refused = run(&pipeline, &["run"], "wrong-password");
    refused.complains(1, &["refuses the login", "kafka.sasl.jaas.config"]);
    assert!(!refused.out.contains("wrong-password") && !refused.err.contains("wrong-password"), "{refused:?}");
    holds_no(pipeline.path(), "wrong-password");
}

#[test]
fn options_that_cannot_be_used_do_not_show_their_values() {
    let pipeline = Pipeline::new(&[]);
    let check = |options: &str, code: i32, expected: &str| {
        let sql = format!(
            "CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM STREAM read_kafka(
               bootstrapServers => '127.0.0.1:1', subscribe => 'x', {options})"
        );
        pipeline.write("pipeline.sql", &sql);
        let done = pipeline.run(&["run"]);
        done.complains(code, &[expected]);
        assert!(!done.err.contains("hunter2") && !done.out.contains("hunter2"), "{done:?}");
        holds_no(pipeline.path().join(".deltaworks").as_path(), "hunter2");
    };
    check("`kafka.sasl.jaas.config` => 'hunter2'", 3, "is not a JAAS configuration");
    check("`kafka.no.such.property` => 'hunter2'", 1, "Kafka option `no.such.property` cannot be used");
    check("`kafka.security.protocol` => 'hunter2'", 1, "Kafka option `security.protocol` cannot be used");
    check("`kafka.security.protocol` => 'SSL', `kafka.ssl.key.pem` => 'hunter2'", 1, "no client for Kafka");
    check("`kafka.ssl.truststore.location` => '/hunter2.jks'", 3, "of type JKS is not supported yet");
}

#[test]
fn logins_in_sql() {
    let broker = Broker::shared();
    let topic = Topic::create(broker, "secrets.sql", 1);
    topic.produce(values(["a"]));
    let sql = format!(
        "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT topic, partition, offset, CAST(value AS STRING) AS value FROM STREAM read_kafka(
           bootstrapServers => '{}', subscribe => 'secrets.sql', startingOffsets => 'earliest',
           `kafka.security.protocol` => 'SASL_PLAINTEXT', `kafka.sasl.mechanism` => 'PLAIN',
           `kafka.sasl.jaas.config` => 'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{USER}\" password=\"{PASSWORD}\";')",
        broker.login_servers()
    );
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql)]);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a");
}

#[test]
fn brokers_are_known_by_their_certificate() {
    let broker = Broker::shared();
    let topic = Topic::create(broker, "secrets.tls", 1);
    topic.produce(values(["a"]));
    let pipeline = |options: &str| {
        let sql = format!(
            "CREATE OR REFRESH STREAMING TABLE t AS
             SELECT topic, partition, offset, CAST(value AS STRING) AS value FROM STREAM read_kafka(
               bootstrapServers => '{}', subscribe => 'secrets.tls', startingOffsets => 'earliest',
               `kafka.security.protocol` => 'SSL' {options})",
            broker.tls_servers()
        );
        Pipeline::new(&[("pipeline.sql", &sql)])
    };
    let certificate = broker.certificate();
    let by_file = pipeline(&format!(", `kafka.ssl.ca.location` => '{}'", certificate.display()));
    runs(&by_file);
    assert_eq!(rows(&by_file), "0:0=a");
    let text = std::fs::read_to_string(&certificate).unwrap();
    let by_text =
        pipeline(&format!(", `kafka.ssl.truststore.type` => 'PEM', `kafka.ssl.truststore.certificates` => '{text}'"));
    runs(&by_text);
    assert_eq!(rows(&by_text), "0:0=a");
    pipeline("").run(&["run"]).complains(1, &["no TLS connection to Kafka", "kafka.ssl.ca.location"]);
}
