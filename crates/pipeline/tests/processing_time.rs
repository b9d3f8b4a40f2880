//! State that times out by the clock: a clock of the test's own says when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use deltaworks_pipeline::event::{Clock, Details, Event, EventSink, UpdateState};
use deltaworks_pipeline::{EngineOptions, Pipeline, UpdateRequest, spec};
use deltaworks_spark::Result;
use tokio_util::sync::CancellationToken;

const PIPELINE: &str = r#"
import dlt
import pandas as pd
from pyspark.sql.streaming.state import GroupStateTimeout

def quiet(key, frames, state):
    now = state.getCurrentProcessingTimeMs()
    if state.hasTimedOut:
        seen = state.get[0]
        if key[0] == "again":
            state.update((seen + 100,))
            state.setTimeoutDuration(60_000)
        elif key[0] != "idle":
            state.remove()
        yield pd.DataFrame({"k": [key[0]], "seen": [seen], "at": [now]})
        return
    state.update(((state.getOption or (0,))[0] + sum(len(frame) for frame in frames),))
    state.setTimeoutDuration(60_000)

@dlt.table
def gone():
    events = spark.readStream.format("json").schema("k STRING").load("in/")
    return events.groupBy("k").applyInPandasWithState(
        quiet, "k STRING, seen INT, at LONG", "seen INT", "append", GroupStateTimeout.ProcessingTimeTimeout
    )
"#;

/// Milliseconds since the epoch.
#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct Test {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Test {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.py"), PIPELINE).unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        Self { folder, clock: Arc::new(TestClock(AtomicI64::new(1_000_000))) }
    }

    fn file(&self, name: &str, keys: &[&str]) {
        let rows: String = keys.iter().map(|key| format!("{{\"k\": \"{key}\"}}\n")).collect();
        std::fs::write(self.folder.path().join("in").join(name), rows).unwrap();
    }

    fn open(&self, continuous: bool) -> Pipeline {
        let source = spec::discover(Some(Path::new(self.folder.path()))).unwrap();
        let (mut loaded, _) = spec::load(&source, &spec::LoadOptions::default()).unwrap();
        loaded.continuous = continuous;
        loaded.configuration.insert(spec::TRIGGER_INTERVAL.to_owned(), "10 ms".to_owned());
        if let Some(python) = std::env::var_os("DELTAWORKS_TEST_PYTHON") {
            loaded.python = Some(python.into());
        }
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Pipeline::open(loaded, &EngineOptions { clock, ..EngineOptions::default() }).unwrap()
    }

    /// The rows that an update at `now_ms` adds: the key, and what its state was.
    async fn added_at(&self, now_ms: i64) -> String {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        let pipeline = self.open(false);
        let outcome = pipeline.update(UpdateRequest::default(), Vec::new(), CancellationToken::new()).await.unwrap();
        assert_eq!(outcome.state, UpdateState::Completed, "{:?}", outcome.diagnostics);
        self.rows_of(now_ms).await
    }

    async fn rows_of(&self, now_ms: i64) -> String {
        let sql =
            format!("SELECT concat_ws(' ', sort_array(collect_list(k || seen))) AS r FROM gone WHERE at = {now_ms}");
        let rows = self.open(false).query(&sql).await.unwrap();
        let text = arrow::compute::cast(rows.batches[0].column(0), &DataType::Utf8).unwrap();
        text.as_string::<i32>().value(0).to_owned()
    }
}

/// Moves the clock on after the first batch, and ends the update after the second.
struct TwoBatches {
    clock: Arc<TestClock>,
    cancel: CancellationToken,
    batches: usize,
}

#[async_trait]
impl EventSink for TwoBatches {
    fn name(&self) -> &str {
        "the test"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events {
            let Details::FlowProgress(progress) = &event.details else { continue };
            if progress.metrics.is_none() {
                continue;
            }
            self.batches += 1;
            match self.batches {
                1 => self.clock.0.store(1_060_001, Ordering::SeqCst),
                _ => self.cancel.cancel(),
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_alone_has_groups_time_out() {
    let test = Test::new();
    test.file("1.json", &["a", "idle", "again"]);
    assert_eq!(test.added_at(1_000_000).await, "");
    assert_eq!(test.added_at(1_030_000).await, "", "their time has not come");
    assert_eq!(test.added_at(1_060_000).await, "", "a time is over once the clock has passed it");
    assert_eq!(test.added_at(1_060_001).await, "a1 again1 idle1", "without new rows");
    assert_eq!(test.added_at(1_060_002).await, "idle1", "what sets no other timeout is called again");
    test.file("2.json", &["again", "a", "b"]);
    assert_eq!(test.added_at(1_070_000).await, "idle1", "rows put the timeout off");
    assert_eq!(test.added_at(1_125_000).await, "idle1");
    test.file("3.json", &["idle"]);
    assert_eq!(test.added_at(1_130_001).await, "a1 again102 b1");
    assert_eq!(test.added_at(1_130_002).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuous_update_looks_at_the_clock_at_each_trigger() {
    let test = Test::new();
    test.file("1.json", &["a", "again"]);
    let cancel = CancellationToken::new();
    let sink = TwoBatches { clock: Arc::clone(&test.clock), cancel: cancel.clone(), batches: 0 };
    test.open(true).update(UpdateRequest::default(), vec![Box::new(sink)], cancel).await.unwrap();
    assert_eq!(test.rows_of(1_060_001).await, "a1 again1");
}
