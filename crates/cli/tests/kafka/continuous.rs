//! Continuous pipelines: records are read as they come, also after an outage.

use crate::broker::Broker;
use crate::running::Running;
use crate::starts::{rows, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Topic, values};

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
