//! Brokers that do not answer, and that come back.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Instant;

use crate::broker::Broker;
use crate::starts::{rows, runs, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Topic, values};

#[test]
fn a_dead_broker_is_one_clear_error_in_bounded_time() {
    // A port that was free a moment ago: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sql = format!(
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM STREAM read_kafka(
           bootstrapServers => '127.0.0.1:{port}', subscribe => 'x', `kafka.request.timeout.ms` => 2000)"
    );
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", "name: t\ndevelopment: true\n")]);
    // Whether a pipeline is right can be told without brokers.
    assert_eq!(pipeline.run(&["validate"]).code, Some(0));
    let started = Instant::now();
    pipeline.run(&["run"]).complains(
        1,
        &[&format!("Kafka at `127.0.0.1:{port}` does not answer"), "Connection refused", "kafka.bootstrap.servers"],
    );
    assert!(started.elapsed().as_secs() < 30);
}

#[test]
fn a_broker_that_comes_back_is_read_on() {
    let mut broker = Broker::start();
    let options = "subscribe => 'outages', startingOffsets => 'earliest', `kafka.request.timeout.ms` => 1500";
    let sql = streaming_table("t", &broker, options);
    // It is tried again after 5, 10, 20 and more seconds, by when the broker has come back on any machine.
    let settings = "name: t\nconfiguration:\n  pipelines.maxFlowRetryAttempts: '5'\n";
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", settings)]);
    let topic = Topic::create(&broker, "outages", 1);
    topic.produce(values(["a"]));
    runs(&pipeline);
    topic.produce(values(["b"]));
    broker.stop();
    let mut run = pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut events = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The first attempt fails; one of the next finds the broker.
    let failed = events.find(|event| event.contains("does not answer")).expect("the outage is noticed");
    assert!(failed.contains("WARN"), "{failed}");
    broker.resume();
    let rest: Vec<String> = events.collect();
    assert!(run.wait().unwrap().success(), "{rest:#?}");
    assert_eq!(rows(&pipeline), "0:0=a 0:1=b");
}

#[test]
fn a_broker_that_dies_while_it_is_read_fails_the_batch_alone() {
    let mut broker = Broker::start();
    let options = "subscribe => 'middle', startingOffsets => 'earliest', maxOffsetsPerTrigger => 1, \
                   `kafka.request.timeout.ms` => 1500";
    let sql = streaming_table("t", &broker, options);
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", "name: t\ndevelopment: true\n")]);
    let topic = Topic::create(&broker, "middle", 1);
    // Reading takes longer than stopping the broker: every record is a batch.
    topic.produce(values(0..300));
    let mut run = pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    events.find(|event| event.contains("num_output_rows\":1")).expect("a batch is reported");
    broker.stop();
    let rest: Vec<String> = events.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert!(rest.iter().any(|event| event.contains("does not answer")), "{rest:#?}");
    let read = rows(&pipeline);
    broker.resume();
    runs(&pipeline);
    let all: Vec<String> = (0..300).map(|n| format!("0:{n}={n}")).collect();
    assert!(all.join(" ").starts_with(&read) && read.len() < all.join(" ").len(), "{read}");
    assert_eq!(rows(&pipeline), all.join(" "));
}
