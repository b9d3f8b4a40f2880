//! Topics as sinks: what records hold, that all arrive, and brokers that are not there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::broker::{Broker, PASSWORD, USER};
use crate::starts::runs;
use crate::support::{Done, Pipeline};
use crate::topics::Topic;

const PIPELINE: &str = r#"
from pyspark import pipelines as dp
import json

dp.create_sink("out", "kafka", json.loads(spark.conf.get("options")))

@dp.table
def events():
    return spark.readStream.format("json").schema("id INT, kind STRING").load("in")

@dp.append_flow(target="out")
def to_out():
    return spark.readStream.table("events").selectExpr(*json.loads(spark.conf.get("columns")))
"#;

/// A pipeline that sends these columns of the rows `id` 1 of `kind` a, and `id` 2 of `kind` b.
fn pipeline(options: &[(&str, &str)], columns: &[&str]) -> Pipeline {
    let options: BTreeMap<_, _> = options.iter().copied().collect();
    let settings = serde_json::json!({
        "name": "t",
        "development": true,
        "configuration": {
            "options": serde_json::to_string(&options).unwrap(),
            "columns": serde_json::to_string(columns).unwrap(),
        },
    });
    Pipeline::new(&[
        ("pipeline.py", PIPELINE),
        ("deltaworks.yml", &settings.to_string()),
        ("in/1.json", "{\"id\": 1, \"kind\": \"a\"}\n{\"id\": 2, \"kind\": \"b\"}\n"),
    ])
}

/// The records of a topic as `partition:key=value{headers}`, in order of partition and offset.
fn records(topic: &Topic<'_>, partitions: i32) -> Vec<String> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", topic.broker.servers())
        .set("group.id", "reader-of-sinks")
        .set("enable.partition.eof", "true")
        .set("log_level", "0")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..partitions {
        let (_, end) = client.fetch_watermarks(&topic.name, partition, Duration::from_secs(30)).unwrap();
        left += end;
        list.add_partition_offset(&topic.name, partition, Offset::Beginning).unwrap();
    }
    client.assign(&list).unwrap();
    let mut found = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} records of `{}` do not come", topic.name);
        let Some(Ok(record)) = client.poll(Duration::from_millis(100)) else { continue };
        left -= 1;
        let text =
            |bytes: Option<&[u8]>| bytes.map_or("NULL".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let headers = record.headers().map_or(String::new(), |headers| {
            headers.iter().map(|header| format!("{{{}={}}}", header.key, text(header.value))).collect()
        });
        let shown = format!("{}:{}={}{headers}", record.partition(), text(record.key()), text(record.payload()));
        found.push((record.partition(), record.offset(), shown));
    }
    found.sort();
    found.into_iter().map(|(.., shown)| shown).collect()
}

#[test]
fn rows_are_records_and_later_updates_send_only_what_is_new() {
    let topic = Topic::create(Broker::shared(), "sinks.columns", 3);
    let servers = topic.broker.servers();
    let pipeline = pipeline(
        &[("kafka.bootstrap.servers", &servers), ("topic", "sinks.columns")],
        &[
            "kind AS key",
            "CAST(to_json(struct(id)) AS BINARY) AS value",
            "array(struct('trace' AS key, CAST(kind AS BINARY) AS value)) AS headers",
            "id AS partition",
            "'elsewhere' AS topic",
            "id",
        ],
    );
    runs(&pipeline);
    let first = ["1:a={\"id\":1}{trace=a}", "2:b={\"id\":2}{trace=b}"];
    assert_eq!(records(&topic, 3), first);
    runs(&pipeline);
    assert_eq!(records(&topic, 3), first);
    pipeline.write("in/2.json", "{\"id\": 0}\n");
    runs(&pipeline);
    assert_eq!(records(&topic, 3), ["0:NULL={\"id\":0}{trace=NULL}", first[0], first[1]]);
    // A full refresh sends everything again.
    let done = pipeline.run(&["run", "--full-refresh", "out"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(records(&topic, 3).len(), 6);
}

#[test]
fn keys_go_to_the_partitions_that_javas_producer_chooses_and_values_may_be_null() {
    let topic = Topic::create(Broker::shared(), "sinks.keys", 4);
    let servers = topic.broker.servers();
    let by_column = pipeline(
        &[("kafka.bootstrap.servers", &servers)],
        &["concat('key-', id) AS key", "CASE WHEN id = 1 THEN kind END AS value", "'sinks.keys' AS topic"],
    );
    runs(&by_column);
    // By murmur2 of the key, without its sign, modulo 4.
    assert_eq!(records(&topic, 4), ["0:key-1=a", "2:key-2=NULL"]);
}

#[test]
fn rows_that_cannot_be_records_fail_the_batch_and_are_sent_when_they_can() {
    let topic = Topic::create(Broker::shared(), "sinks.wrong", 1);
    let servers = topic.broker.servers();
    let options = [("kafka.bootstrap.servers", servers.as_str())];
    let nameless = pipeline(&options, &["kind AS value", "IF(id = 1, 'sinks.wrong', NULL) AS topic"]);
    nameless.run(&["run"]).complains(1, &["a row for Kafka has NULL in its column `topic`", "in sink `out`"]);
    let unknown = pipeline(&options, &["kind AS value", "'sinks.nowhere' AS topic"]);
    unknown.run(&["run"]).complains(1, &["topic `sinks.nowhere` does not exist", "in sink `out`"]);
    let given = [("kafka.bootstrap.servers", servers.as_str()), ("topic", "sinks.wrong")];
    let partition = pipeline(&given, &["kind AS value", "7 AS partition"]);
    partition.run(&["run"]).complains(1, &["topic `sinks.wrong` has no partition 7", "in sink `out`"]);
    let large = pipeline(&given, &["repeat(kind, 2000000) AS value"]);
    large.run(&["run"]).complains(1, &["a record for topic `sinks.wrong` is too large", "kafka.max.request.size"]);
}

#[test]
fn a_broker_that_is_down_is_one_clear_error_and_the_next_run_delivers() {
    let mut broker = Broker::start();
    let servers = broker.servers();
    let topic = Topic::create(&broker, "sinks.outage", 1);
    topic.produce(Vec::new());
    broker.stop();
    let pipeline = pipeline(
        &[("kafka.bootstrap.servers", &servers), ("topic", "sinks.outage"), ("kafka.request.timeout.ms", "2000")],
        &["CAST(id AS STRING) AS value"],
    );
    assert_eq!(pipeline.run(&["validate"]).code, Some(0));
    let started = Instant::now();
    let expected = format!("Kafka at `{servers}` does not answer");
    pipeline.run(&["run"]).complains(1, &[&expected, "Connection refused", "in sink `out`"]);
    assert!(started.elapsed().as_secs() < 30);
    broker.resume();
    runs(&pipeline);
    let topic = Topic { broker: &broker, name: "sinks.outage".to_owned() };
    assert_eq!(records(&topic, 1), ["0:NULL=1", "0:NULL=2"]);
}

#[test]
fn every_row_of_many_arrives() {
    let topic = Topic::create(Broker::shared(), "sinks.many", 2);
    let servers = topic.broker.servers();
    let many = pipeline(
        &[
            ("kafka.bootstrap.servers", &servers),
            ("topic", "sinks.many"),
            // Rows have to wait for the client's memory.
            ("kafka.queue.buffering.max.messages", "100"),
        ],
        &["CAST(id AS STRING) AS value"],
    );
    let rows: String = (0..20_000).map(|id| format!("{{\"id\": {id}}}\n")).collect();
    many.write("in/1.json", &rows);
    runs(&many);
    let mut values: Vec<u32> =
        records(&topic, 2).iter().map(|record| record.split_once('=').unwrap().1.parse().unwrap()).collect();
    values.sort();
    assert_eq!(values, (0..20_000).collect::<Vec<u32>>());
}

#[test]
fn logins_work_and_passwords_are_nowhere() {
    let topic = Topic::create(Broker::shared(), "sinks.login", 1);
    let servers = topic.broker.login_servers();
    let run = |password: &str| -> (Pipeline, Done) {
        let jaas = format!(
            "kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{USER}\" password=\"{password}\";"
        );
        let pipeline = pipeline(
            &[
                ("kafka.bootstrap.servers", &servers),
                ("kafka.security.protocol", "SASL_PLAINTEXT"),
                ("kafka.sasl.mechanism", "PLAIN"),
                ("topic", "sinks.login"),
            ],
            &["kind AS value"],
        );
        // Not among the settings, which events may show.
        let source = PIPELINE.replace(
            "json.loads(spark.conf.get(\"options\"))",
            &format!("{{**json.loads(spark.conf.get(\"options\")), \"kafka.sasl.jaas.config\": '{jaas}'}}"),
        );
        pipeline.write("pipeline.py", &source);
        let mut command = pipeline.command(&["run"]);
        command.env("DELTAWORKS_LOG", "debug");
        let done = Done::of(command);
        (pipeline, done)
    };
    let (pipeline, done) = run(PASSWORD);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(records(&topic, 1), ["0:NULL=a", "0:NULL=b"]);
    let events = pipeline.run(&["events", "--format", "json"]);
    let (_, refused) = run("wrong-password");
    refused.complains(1, &["refuses the login", "in sink `out`"]);
    for (done, secret) in [(done, PASSWORD), (events, PASSWORD), (refused, "wrong-password")] {
        assert!(!done.out.contains(secret) && !done.err.contains(secret), "{done:?}");
    }
}

#[test]
fn what_cannot_be_sent_is_told_without_brokers() {
    let check = |options: &[(&str, &str)], column: &str, expected: &str| {
        let options = [&[("kafka.bootstrap.servers", "127.0.0.1:1")], options].concat();
        pipeline(&options, &[column]).run(&["validate"]).complains(3, &[expected, "pipeline.py:11", "in sink `out`"]);
    };
    check(&[], "kind AS value", "rows for Kafka need option `topic`, or a column `topic`");
    check(&[("topic", "t")], "id AS value", "column `value` of rows for Kafka must be STRING or BINARY, not INT");
    check(&[("topic", "t")], "kind AS key", "rows for Kafka need a column `value`");
}
