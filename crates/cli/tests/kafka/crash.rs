//! Kills the process (SIGKILL) at instants spread over an update; the next one gives the rows of a clean run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::starts::{runs, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Record, Topic};

const INSTANTS: u32 = 15;

/// The rows of both tables, in order.
fn tables(pipeline: &Pipeline) -> [String; 2] {
    [
        pipeline.query("SELECT partition, offset, value FROM bronze ORDER BY partition, offset"),
        pipeline.query("SELECT value, n FROM silver ORDER BY n"),
    ]
}

#[test]
fn killed_at_any_instant_every_record_is_read_once() {
    let topic = Topic::create(Broker::shared(), "crash", 3);
    topic.produce((0..90).map(|n| Record::value((n % 40).to_string()).at(n % 3)).collect());
    let options = "subscribe => 'crash', startingOffsets => 'earliest', maxOffsetsPerTrigger => 10";
    let sql = streaming_table("bronze", topic.broker, options)
        + "CREATE OR REFRESH STREAMING TABLE silver AS SELECT DISTINCT value, CAST(value AS INT) AS n FROM STREAM bronze;";
    let pipeline = || Pipeline::new(&[("pipeline.sql", &sql)]);
    let clean = pipeline();
    let started = Instant::now();
    runs(&clean);
    let duration = started.elapsed();
    let expected = tables(&clean);
    assert_eq!(expected.each_ref().map(|rows| rows.lines().count()), [1 + 90, 1 + 40]);
    for instant in 0..INSTANTS {
        let killed = pipeline();
        let mut command = killed.command(&["run"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + duration * (instant + 1) / INSTANTS;
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        runs(&killed);
        assert_eq!(tables(&killed), expected, "killed after {} of {INSTANTS} parts of {duration:?}", instant + 1);
    }
}
