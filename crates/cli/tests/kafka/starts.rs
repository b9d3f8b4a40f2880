//! Where reading starts and ends.

use crate::broker::Broker;
use crate::support::Pipeline;
use crate::topics::{Record, Topic, values};

/// A streaming table `t` of partition, offset and value, with these options besides the servers.
fn stream(broker: &Broker, options: &str) -> Pipeline {
    Pipeline::new(&[("pipeline.sql", &streaming_table("t", broker, options))])
}

pub fn streaming_table(name: &str, broker: &Broker, options: &str) -> String {
    format!(
        "CREATE OR REFRESH STREAMING TABLE {name} AS
         SELECT topic, partition, offset, CAST(value AS STRING) AS value
         FROM STREAM read_kafka(bootstrapServers => '{}', {options});\n",
        broker.servers()
    )
}

#[track_caller]
pub fn runs(pipeline: &Pipeline) {
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// The rows of `t`, as `partition:offset=value`.
#[track_caller]
pub fn rows(pipeline: &Pipeline) -> String {
    rows_of(pipeline, "t")
}

#[track_caller]
pub fn rows_of(pipeline: &Pipeline, table: &str) -> String {
    let query = format!(
        "SELECT concat(partition, ':', offset, '=', coalesce(value, 'NULL')) FROM {table} ORDER BY topic, partition, offset, value"
    );
    pipeline.query(&query).lines().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn earliest_reads_all_and_later_updates_only_what_is_new() {
    let topic = Topic::create(Broker::shared(), "starts.earliest", 2);
    topic.produce(vec![Record::value("a"), Record::value("b").at(1), Record::value("c")]);
    let pipeline = stream(topic.broker, "subscribe => 'starts.earliest', startingOffsets => 'earliest'");
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a 0:1=c 1:0=b");
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a 0:1=c 1:0=b");
    topic.produce(vec![Record::value("d").at(1)]);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a 0:1=c 1:0=b 1:1=d");
}

#[test]
fn latest_begins_with_what_comes_after_the_first_update() {
    let topic = Topic::create(Broker::shared(), "starts.latest", 1);
    topic.produce(values(["old"]));
    let pipeline = stream(topic.broker, "subscribe => 'starts.latest'");
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "");
    topic.produce(values(["new"]));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:1=new");
}

#[test]
fn offsets_are_given_by_partition() {
    let topic = Topic::create(Broker::shared(), "starts.json", 3);
    for partition in 0..3 {
        topic.produce(["a", "b", "c"].map(|value| Record::value(value).at(partition)).into());
    }
    let start = r#"{"starts.json":{"0":2,"1":-2,"2":-1}}"#;
    let pipeline = stream(topic.broker, &format!("subscribe => 'starts.json', startingOffsets => '{start}'"));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:2=c 1:0=a 1:1=b 1:2=c");
    let missing = stream(topic.broker, r#"subscribe => 'starts.json', startingOffsets => '{"starts.json":{"0":2}}'"#);
    missing.run(&["run"]).complains(1, &["KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED", "`starts.json-1`"]);
}

#[test]
fn timestamps_start_at_the_first_record_as_young() {
    let topic = Topic::create(Broker::shared(), "starts.time", 2);
    topic.produce(vec![
        Record::value("a").time(1_000),
        Record::value("b").time(2_000),
        Record::value("c").time(3_000),
        Record::value("x").at(1).time(1_500),
    ]);
    let start = "subscribe => 'starts.time', startingTimestamp => 2000";
    stream(topic.broker, start)
        .run(&["run"])
        .complains(1, &["`starts.time-1` has no record at or after the starting timestamp 2000"]);
    let pipeline = stream(topic.broker, &format!("{start}, startingOffsetsByTimestampStrategy => 'latest'"));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:1=b 0:2=c");
    let times = r#"{"starts.time":{"0":2001,"1":0}}"#;
    let pipeline =
        stream(topic.broker, &format!("subscribe => 'starts.time', startingOffsetsByTimestamp => '{times}'"));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:2=c 1:0=x");
}

#[test]
fn reads_at_once_have_two_ends() {
    let topic = Topic::create(Broker::shared(), "starts.batch", 2);
    topic.produce((0..6).map(|n| Record::value(n.to_string()).time(1_000 * (n + 1))).collect());
    topic.produce(vec![Record::value("x").at(1).time(4_000)]);
    let view = |options: &str| {
        let sql = streaming_table("t", topic.broker, options)
            .replace("STREAMING TABLE", "MATERIALIZED VIEW")
            .replace("STREAM read_kafka", "read_kafka");
        Pipeline::new(&[("pipeline.sql", &sql)])
    };
    let check = |options: &str, expected: &str| {
        let pipeline = view(&format!("subscribe => 'starts.batch'{options}"));
        runs(&pipeline);
        assert_eq!(rows(&pipeline), expected, "{options}");
    };
    check("", "0:0=0 0:1=1 0:2=2 0:3=3 0:4=4 0:5=5 1:0=x");
    check(
        r#", startingOffsets => '{"starts.batch":{"0":1,"1":-2}}', endingOffsets => '{"starts.batch":{"0":3,"1":-1}}'"#,
        "0:1=1 0:2=2 1:0=x",
    );
    check(", startingTimestamp => 3000, endingTimestamp => 5000", "0:2=2 0:3=3 1:0=x");
    check(r#", endingOffsetsByTimestamp => '{"starts.batch":{"0":2000,"1":0}}'"#, "0:0=0");
    let beyond = view(r#"subscribe => 'starts.batch', endingOffsets => '{"starts.batch":{"0":7,"1":-1}}'"#);
    beyond.run(&["run"]).complains(
        1,
        &[
            "KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE",
            "`starts.batch-0` is to be read up to offset 7, but ends at offset 6",
        ],
    );
    let latest = view("subscribe => 'starts.batch', startingOffsets => 'latest'");
    latest.run(&["validate"]).complains(3, &["`startingOffsets` cannot be latest (-1) in batch queries"]);
}

#[test]
fn partitions_can_be_assigned() {
    let topic = Topic::create(Broker::shared(), "starts.assign", 3);
    topic.produce((0..3).map(|partition| Record::value("v").at(partition)).collect());
    let pipeline = stream(topic.broker, r#"assign => '{"starts.assign":[0,2]}', startingOffsets => 'earliest'"#);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=v 2:0=v");
}

#[test]
fn topics_that_match_a_pattern_may_come_later() {
    let broker = Broker::shared();
    Topic::create(broker, "starts.pattern.a", 1).produce(values(["a"]));
    let pipeline = stream(broker, r"subscribePattern => 'starts\\.pattern\\..*', startingOffsets => 'latest'");
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "");
    Topic::create(broker, "starts.pattern.b", 1).produce(values(["b"]));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=b");
}

#[test]
fn new_partitions_are_read_from_their_beginning() {
    let topic = Topic::create(Broker::shared(), "starts.partitions", 1);
    topic.produce(values(["a"]));
    let pipeline = stream(topic.broker, "subscribe => 'starts.partitions', startingOffsets => 'latest'");
    runs(&pipeline);
    topic.add_partitions(2);
    topic.produce(vec![Record::value("b"), Record::value("c").at(1)]);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:1=b 1:0=c");
}

#[test]
fn topics_can_be_added_but_not_exchanged() {
    let broker = Broker::shared();
    Topic::create(broker, "starts.add.a", 1).produce(values(["a"]));
    Topic::create(broker, "starts.add.b", 1).produce(values(["b"]));
    let pipeline = stream(broker, "subscribe => 'starts.add.a', startingOffsets => 'earliest'");
    runs(&pipeline);
    let table = |topics: &str| streaming_table("t", broker, &format!("subscribe => '{topics}'"));
    pipeline.write("pipeline.sql", &table("starts.add.a,starts.add.b"));
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a 0:0=b");
    pipeline.write("pipeline.sql", &table("starts.other"));
    Topic::create(broker, "starts.other", 1);
    pipeline.run(&["run"]).complains(1, &["STREAMING_CHECKPOINT_INCOMPATIBLE", "full refresh"]);
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let pipeline = stream(Broker::shared(), "subscribe => 'starts.nowhere'");
    pipeline.run(&["run"]).complains(1, &["UNKNOWN_TOPIC_OR_PARTITION", "topic `starts.nowhere` does not exist"]);
}
