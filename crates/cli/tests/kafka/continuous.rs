//! Continuous pipelines: records are read as they come, also after an outage.

use crate::broker::Broker;
use crate::running::{Running, rows_of};
use crate::starts::{rows, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Record, Topic, values};

#[test]
fn records_are_read_as_they_come_and_on_after_an_outage() {
    let mut broker = Broker::start();
    let options = "subscribe => 'stream', startingOffsets => 'earliest', `kafka.request.timeout.ms` => 1500";
    let sql = streaming_table("t", &broker, options);
    let settings = "name: t\ncontinuous: true\nconfiguration:\n  pipelines.trigger.interval: 100 ms\n";
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", settings)]);
    let topic = Topic::create(&broker, "stream", 1);
    topic.produce(values(["a"]));
    let mut running = Running::start(&pipeline);
    running.until_rows("t", 1);
    topic.produce(values(["b", "c"]));
    running.until_rows("t", 2);
    broker.stop();
    let failure = running.until_status("t", "FAILED");
    assert_eq!(failure["level"], "WARN");
    broker.resume();
    let topic = Topic { broker: &broker, name: "stream".to_owned() };
    topic.produce(values(["d"]));
    running.until_rows("t", 1);
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(rows(&pipeline), "0:0=a 0:1=b 0:2=c 0:3=d");
}

#[test]
fn a_backlog_is_read_in_batches_whose_size_adapts_unless_the_user_sets_it() {
    let topic = Topic::create(Broker::shared(), "continuous.backlog", 2);
    let records = (0..120_000).map(|n| Record::value(n.to_string()).at(n % 2)).collect();
    topic.produce_with(&[("linger.ms", "20"), ("queue.buffering.max.messages", "200000")], records);
    let batches = |limit: &str, count: usize| {
        let options = format!("subscribe => 'continuous.backlog', startingOffsets => 'earliest'{limit}");
        let sql = streaming_table("t", topic.broker, &options);
        let settings = "name: t\ncontinuous: true\nconfiguration:\n  pipelines.trigger.interval: 100 ms\n";
        let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", settings)]);
        let mut running = Running::start(&pipeline);
        let rows = |running: &mut Running| {
            let event = running.until("a batch", |event| rows_of(event, "t").is_some());
            rows_of(&event, "t").unwrap()
        };
        let rows: Vec<u64> = (0..count).map(|_| rows(&mut running)).collect();
        assert_eq!(running.stop().0, Some(0));
        rows
    };
    let adapted = batches("", 2);
    assert_eq!((adapted[0], adapted[0] + adapted[1]), (100_000, 120_000));
    assert_eq!(batches(", maxOffsetsPerTrigger => 1000000", 1), [120_000]);
}
