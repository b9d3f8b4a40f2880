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

/// Its rows live for 100 seconds in a list; a timer that each row puts off says how many there are.
const PROCESSOR: &str = r#"
import dlt
import pandas as pd
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

class Quiet(StatefulProcessor):
    def init(self, handle):
        self.handle = handle
        self.seen = handle.getValueState("seen", "n INT")
        self.recent = handle.getListState("recent", "n INT", 100_000)
        self.kinds = handle.getMapState("kinds", "n INT", "n INT", 100_000)
        self.mark = handle.getValueState("mark", "n INT", 100_000)

    def handleInputRows(self, key, rows, timerValues):
        now = timerValues.getCurrentProcessingTimeInMs()
        count = sum(len(frame) for frame in rows)
        self.seen.update(((self.seen.get() or (0,))[0] + count,))
        self.recent.appendList([(1,)] * count)
        if not self.kinds.containsKey((1,)):
            self.kinds.updateValue((1,), (1,))
        self.kinds.updateValue((now,), (1,))
        if not self.mark.exists():
            self.mark.update((1,))
        for timer in list(self.handle.listTimers()):
            self.handle.deleteTimer(timer)
        self.handle.registerTimer(now + 60_000)
        return iter([])

    def handleExpiredTimer(self, key, timerValues, expiredTimerInfo):
        now = timerValues.getCurrentProcessingTimeInMs()
        recent, kinds = (sum(1 for _ in rows) for rows in (self.recent.get(), self.kinds.keys()))
        mark = 1 if self.mark.exists() else 0
        if key[0] == "again":
            self.handle.registerTimer(now + 60_000)
        yield pd.DataFrame({"k": [key[0]], "seen": [f"{self.seen.get()[0]}{recent}{kinds}{mark}"], "at": [now]})

@dlt.table
def gone():
    events = spark.readStream.format("json").schema("k STRING").load("in/")
    return events.groupBy("k").transformWithStateInPandas(
        Quiet(), "k STRING, seen STRING, at LONG", "append", "ProcessingTime"
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
    fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.py"), pipeline).unwrap();
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
    let test = Test::new(PIPELINE);
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
    let test = Test::new(PIPELINE);
    test.file("1.json", &["a", "again"]);
    let cancel = CancellationToken::new();
    let sink = TwoBatches { clock: Arc::clone(&test.clock), cancel: cancel.clone(), batches: 0 };
    test.open(true).update(UpdateRequest::default(), vec![Box::new(sink)], cancel).await.unwrap();
    assert_eq!(test.rows_of(1_060_001).await, "a1 again1");
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_and_state_of_a_processor_expire_by_the_clock() {
    let test = Test::new(PROCESSOR);
    test.file("1.json", &["a", "a", "again"]);
    assert_eq!(test.added_at(1_000_000).await, "");
    assert_eq!(test.added_at(1_059_999).await, "", "their time has not come");
    assert_eq!(test.added_at(1_060_000).await, "a2221 again1121", "a timer expires at its time, without new rows");
    assert_eq!(test.added_at(1_060_001).await, "", "what was handled is not handled again");
    test.file("2.json", &["a", "b"]);
    assert_eq!(test.added_at(1_099_000).await, "");
    test.file("3.json", &["b"]);
    assert_eq!(test.added_at(1_119_999).await, "", "rows put a timer off");
    assert_eq!(test.added_at(1_159_000).await, "a3110 again1000", "what was written at 1000 seconds has expired");
    assert_eq!(test.added_at(1_179_999).await, "b2231");
    assert_eq!(test.added_at(1_300_000).await, "again1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuous_update_handles_timers_at_each_trigger() {
    let test = Test::new(PROCESSOR);
    test.file("1.json", &["a", "again"]);
    let cancel = CancellationToken::new();
    let sink = TwoBatches { clock: Arc::clone(&test.clock), cancel: cancel.clone(), batches: 0 };
    test.open(true).update(UpdateRequest::default(), vec![Box::new(sink)], cancel).await.unwrap();
    assert_eq!(test.rows_of(1_060_001).await, "a1121 again1121");
}
