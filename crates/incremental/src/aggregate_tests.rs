//! Aggregation of streams against a plain model: which groups come out, of which rows, in which batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::error::Result;
use deltaworks_spark::operators::Deduplicate;
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::session::{SessionOptions, session_context};
use deltaworks_spark::streaming::{OpenContext, StreamReader, StreamSource, StreamingTable, replace_streams};
use futures::TryStreamExt as _;
use proptest::prelude::*;

use crate::{
    DIGEST_KEY, IncrementalPlanner, LatestEventTime, OutputMode, Watermarks, bind_state, bind_watermarks, output_mode,
    stateful_operators, unsupported_streaming, watermark_delays,
};

mod grouping_sets;

const MINUTE: i64 = 60_000_000;
/// What the queries of these tests declare.
const DELAY: i64 = 10;

/// An event: minutes since the epoch, key, value.
type Event = (Option<i64>, Option<String>, i64);

/// Start, end and values of a session.
type Session = (i64, i64, Vec<i64>);

/// An event before its batch has moved on in time, and a flag of its own.
type Drawn = (Option<i64>, Option<String>, i64, bool);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn table(events: &[Event]) -> Arc<dyn TableProvider> {
    let times: TimestampMicrosecondArray = events.iter().map(|(ts, ..)| ts.map(|ts| ts * MINUTE)).collect();
    let keys: StringArray = events.iter().map(|(_, key, _)| key.clone()).collect();
    let values: Int64Array = events.iter().map(|(.., value)| Some(*value)).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(times.with_timezone("UTC")), Arc::new(keys), Arc::new(values)];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    Arc::new(MemTable::try_new(schema(), vec![vec![batch]]).unwrap())
}

#[derive(Debug)]
struct Events;

#[async_trait]
impl StreamSource for Events {
    fn description(&self) -> String {
        "events".to_owned()
    }

    fn identity(&self) -> String {
        "events".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn open(&self, _: OpenContext) -> Result<Box<dyn StreamReader>> {
        Err(deltaworks_spark::error::Error::internal("not opened in tests"))
    }
}

#[async_trait]
impl RelationResolver for Events {
    async fn resolve(&self, _: &RelationRequest) -> Result<LogicalPlan> {
        let provider = provider_as_source(Arc::new(StreamingTable::new(Arc::new(Events))));
        Ok(LogicalPlanBuilder::scan("events", provider, None)?.build()?)
    }
}

fn session(partitions: usize, memory: usize) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc().unwrap();
    session_context(SessionOptions {
        conf: SparkConf::pipeline_defaults(),
        target_partitions: partitions,
        runtime,
        extension_planners: vec![Arc::new(IncrementalPlanner)],
    })
    .unwrap()
}

async fn planned(session: &SessionContext, sql: &str) -> LogicalPlan {
    let location = SourceLocation::new("q.sql", 1, 1);
    let query = deltaworks_spark::sql::parse_query(sql, &location).unwrap();
    deltaworks_spark::sql::plan_query(session, &query, &Events).await.unwrap()
}

/// A streaming query, its state and its watermark, between two batches.
struct Stream {
    session: SessionContext,
    plan: LogicalPlan,
    /// The stored groups, one item per batch that wrote some.
    state: Vec<RecordBatch>,
    current_us: Option<i64>,
    next_us: Option<i64>,
    late: u64,
}

impl Stream {
    async fn new(session: SessionContext, sql: &str) -> Self {
        let plan = planned(&session, sql).await;
        assert_eq!(unsupported_streaming(&plan).unwrap(), []);
        Self { session, plan, state: Vec::new(), current_us: None, next_us: None, late: 0 }
    }

    /// Runs a batch; `compact` also merges what is stored. The rows as text.
    async fn run(&mut self, events: &[Event], compact: bool) -> Vec<String> {
        let operator = stateful_operators(&self.plan).unwrap().remove(0);
        let stored = |batches: Vec<RecordBatch>| -> Option<Arc<dyn TableProvider>> {
            let schema = batches.first()?.schema();
            Some(Arc::new(MemTable::try_new(schema, vec![batches]).unwrap()))
        };
        let watermarks = Watermarks { late_us: self.current_us, final_us: self.next_us };
        let state = operator.state(stored(self.state.clone()), watermarks, DIGEST_KEY);
        let latest: Vec<_> = watermark_delays(&self.plan).unwrap().iter().map(|_| LatestEventTime::default()).collect();
        let plan =
            bind_watermarks(bind_state(self.plan.clone(), std::slice::from_ref(&state)).unwrap(), &latest).unwrap();
        let plan = replace_streams(plan, &[table(events)]).unwrap();
        let batches = self.session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        state.finished().await.unwrap();
        let replaced = if compact { std::mem::take(&mut self.state) } else { Vec::new() };
        let replaced = if state.groups.replaces_all() { None } else { stored(replaced) };
        if state.groups.replaces_all() {
            self.state.clear();
        }
        let (_, rows) = state.groups.merged(&self.session, replaced, self.next_us).await.unwrap();
        self.state.extend(rows.try_collect::<Vec<_>>().await.unwrap());
        self.late += state.late_rows.count();
        self.current_us = self.next_us;
        let seen = latest.first().and_then(LatestEventTime::get).map(|time| time - DELAY * MINUTE);
        self.next_us = self.next_us.max(seen);
        let mut found: Vec<String> = batches.iter().flat_map(texts).collect();
        found.sort();
        found
    }

    fn stored_rows(&self) -> usize {
        self.state.iter().map(RecordBatch::num_rows).sum()
    }
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: usize, row: usize| array_value_to_string(batch.column(column), row).unwrap();
    (0..batch.num_rows())
        .map(|row| (0..batch.num_columns()).map(|column| cell(column, row)).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Grouping as a model has it.
#[derive(Debug, Clone, Copy)]
enum Windows {
    Fixed { length: i64, slide: i64 },
    Sessions { gap: i64 },
}

const TUMBLING: Windows = Windows::Fixed { length: 5, slide: 5 };
const SLIDING: Windows = Windows::Fixed { length: 10, slide: 4 };
const SESSIONS: Windows = Windows::Sessions { gap: 4 };

impl Windows {
    fn sql(self) -> String {
        let (call, name) = match self {
            Self::Fixed { length, slide } => (format!("window(ts, '{length} minutes', '{slide} minutes')"), "window"),
            Self::Sessions { gap } => (format!("session_window(ts, '{gap} minutes')"), "session_window"),
        };
        format!(
            "SELECT CAST(unix_timestamp({name}.start) / 60 AS INT), CAST(unix_timestamp({name}.end) / 60 AS INT), \
             coalesce(key, '-'), count(*), sum(value), count(DISTINCT value), array_join(sort_array(collect_set(value)), ',') \
             FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL {DELAY} MINUTES GROUP BY {call}, key"
        )
    }

    /// The windows of an event of its own, as start and end.
    fn of(self, ts: i64) -> Vec<(i64, i64)> {
        match self {
            Self::Fixed { length, slide } => (ts - length + 1..=ts)
                .filter(|start| start.rem_euclid(slide) == 0)
                .map(|start| (start, start + length))
                .collect(),
            Self::Sessions { gap } => vec![(ts, ts + gap)],
        }
    }
}

type Group = (i64, i64, Option<String>);

/// The rule in plain words: what is late is left out, what the watermark has passed comes out, once.
struct Model {
    windows: Windows,
    open: BTreeMap<Group, Vec<i64>>,
    current: Option<i64>,
    next: Option<i64>,
    late: u64,
}

impl Model {
    fn new(windows: Windows) -> Self {
        Self { windows, open: BTreeMap::new(), current: None, next: None, late: 0 }
    }

    fn run(&mut self, events: &[Event]) -> Vec<String> {
        for (ts, key, value) in events {
            let Some(ts) = ts else { continue };
            for (start, end) in self.windows.of(*ts) {
                match self.current.is_some_and(|watermark| end <= watermark) {
                    true => self.late += 1,
                    false => self.open.entry((start, end, key.clone())).or_default().push(*value),
                }
            }
        }
        if let Windows::Sessions { .. } = self.windows {
            self.open = joined(std::mem::take(&mut self.open));
        }
        let last = self.next;
        let is_final = |group: &Group| last.is_some_and(|watermark| group.1 <= watermark);
        let (over, open) = std::mem::take(&mut self.open).into_iter().partition(|(group, _)| is_final(group));
        self.open = open;
        self.current = self.next;
        self.next = self.next.max(events.iter().filter_map(|(ts, ..)| *ts).max().map(|latest| latest - DELAY));
        let over: BTreeMap<Group, Vec<i64>> = over;
        let mut rows: Vec<String> = over.iter().map(|(group, values)| row(group, values)).collect();
        rows.sort();
        rows
    }
}

fn joined(sessions: BTreeMap<Group, Vec<i64>>) -> BTreeMap<Group, Vec<i64>> {
    let mut by_key: BTreeMap<Option<String>, Vec<Session>> = BTreeMap::new();
    for ((start, end, key), values) in sessions {
        let of_key = by_key.entry(key).or_default();
        match of_key.last_mut() {
            Some(last) if start <= last.1 => {
                last.1 = last.1.max(end);
                last.2.extend(values);
            }
            _ => of_key.push((start, end, values)),
        }
    }
    let flat = |(key, sessions): (Option<String>, Vec<Session>)| {
        sessions.into_iter().map(move |(start, end, values)| ((start, end, key.clone()), values))
    };
    by_key.into_iter().flat_map(flat).collect()
}

fn row((start, end, key): &Group, values: &[i64]) -> String {
    let different: BTreeSet<i64> = values.iter().copied().collect();
    let listed: Vec<String> = different.iter().map(ToString::to_string).collect();
    format!(
        "{start} {end} {} {} {} {} {}",
        key.as_deref().unwrap_or("-"),
        values.len(),
        values.iter().sum::<i64>(),
        different.len(),
        listed.join(",")
    )
}

fn event(ts: i64, key: &str, value: i64) -> Event {
    (Some(ts), Some(key.to_owned()), value)
}

#[tokio::test]
async fn a_window_comes_out_once_and_late_rows_are_counted() {
    let mut stream = Stream::new(session(2, 1 << 30), &TUMBLING.sql()).await;
    assert_eq!(stream.run(&[event(1, "a", 1), event(7, "a", 2)], false).await, Vec::<String>::new());
    assert_eq!(stream.run(&[event(21, "a", 3), event(2, "a", 4)], false).await, Vec::<String>::new());
    // The watermark is at 11: two windows are over.
    assert_eq!(stream.run(&[], false).await, ["0 5 a 2 5 2 1,4", "5 10 a 1 2 1 2"]);
    assert_eq!(stream.run(&[event(3, "a", 5), event(12, "a", 6)], false).await, Vec::<String>::new());
    assert_eq!(stream.late, 1);
    assert_eq!(stream.run(&[event(40, "b", 7)], true).await, Vec::<String>::new());
    assert_eq!(stream.run(&[], true).await, ["10 15 a 1 6 1 6", "20 25 a 1 3 1 3"]);
    assert_eq!(stream.stored_rows(), 1);
}

#[tokio::test]
async fn groups_without_a_time_never_come_out() {
    let sql = "SELECT ts, count(*) FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL 10 MINUTES GROUP BY ts";
    let mut stream = Stream::new(session(2, 1 << 30), sql).await;
    assert_eq!(stream.run(&[(None, None, 1), event(1, "a", 1), event(60, "a", 1)], false).await, Vec::<String>::new());
    assert_eq!(stream.run(&[], true).await, ["1970-01-01T00:01:00Z 1"]);
    assert_eq!(stream.stored_rows(), 2);
}

#[tokio::test]
async fn without_a_watermark_every_batch_gives_all_groups() {
    let sql = "SELECT key, count(*), sum(value), avg(value), count(DISTINCT value), min(ts) IS NULL, \
               stddev(value) IS NULL, approx_count_distinct(value), first(value) IS NULL, percentile(value, 0.5) \
               FROM STREAM(events) GROUP BY key";
    let mut stream = Stream::new(session(2, 1 << 30), sql).await;
    assert_eq!(output_mode(&stream.plan), OutputMode::Complete);
    let first = stream.run(&[event(1, "a", 1), event(1, "a", 1), (None, None, 5)], false).await;
    assert_eq!(first, [" 1 5 5.0 1 true true 1 false 5.0", "a 2 2 1.0 1 false false 1 false 1.0"]);
    let second = stream.run(&[event(1, "a", 4), event(1, "b", 4)], true).await;
    let whole = [
        " 1 5 5.0 1 true true 1 false 5.0",
        "a 3 6 2.0 2 false false 2 false 1.0",
        "b 1 4 4.0 1 false true 1 false 4.0",
    ];
    assert_eq!(second, whole);
    assert_eq!(stream.run(&[], true).await, whole);
    assert_eq!(stream.stored_rows(), 3);
}

#[tokio::test]
async fn what_must_not_change_is_in_the_fingerprint() {
    let session = session(1, 1 << 30);
    let of = async |sql: &str| stateful_operators(&planned(&session, sql).await).unwrap().remove(0).fingerprint;
    let windows = |delay: &str, filter: &str| {
        format!(
            "SELECT count(DISTINCT value) AS n FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL {delay} \
             {filter} GROUP BY window(ts, '10 minutes', '5 minutes'), key"
        )
    };
    let fingerprint = of(&windows("10 MINUTES", "")).await;
    insta::assert_snapshot!(fingerprint, @"aggregate(count(DISTINCT value) Int64) by (window(10 minutes, 5 minutes), key Utf8)");
    assert_eq!(of(&windows("1 HOUR", "WHERE value > 1")).await, fingerprint);
    insta::assert_snapshot!(
        of("SELECT key, sum(value) FROM STREAM(events) GROUP BY key").await,
        @"complete aggregate(sum(value) Int64) by (key Utf8)"
    );
    insta::assert_snapshot!(
        of("SELECT sum(value) FROM STREAM(events) GROUP BY ROLLUP(key, value)").await,
        @"complete aggregate(sum(value) Int64) by (key in sets Utf8, value in sets Int64, grouping sets 0 1 3 Int64)"
    );
}

#[tokio::test]
async fn a_watermark_that_no_key_has_is_a_problem() {
    let session = session(1, 1 << 30);
    let problems = async |sql: &str| -> Vec<String> {
        let problems = unsupported_streaming(&planned(&session, sql).await).unwrap();
        problems.into_iter().map(|problem| problem.diagnostic.message).collect()
    };
    let read = "FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL 10 MINUTES";
    assert_eq!(
        problems(&format!("SELECT key, count(*) {read} GROUP BY key")).await,
        ["an aggregation of a stream with a watermark must group by the watermark's column or a window over it"]
    );
    assert_eq!(
        problems("SELECT count(*) FROM STREAM(events) GROUP BY session_window(ts, '5 minutes')").await,
        ["session_window on a stream needs a watermark on its time"]
    );
    assert_eq!(problems(&format!("SELECT count(*) {read} GROUP BY ROLLUP(ts, key)")).await, Vec::<String>::new());
    assert_eq!(
        problems(&format!("SELECT count(*) {read} GROUP BY CUBE(key, value)")).await,
        ["an aggregation of a stream with a watermark must group by the watermark's column or a window over it"]
    );
    let twice = format!(
        "SELECT window, max(n) FROM (SELECT window_time(window) AS t, count(*) AS n {read} GROUP BY window(ts, '5 minutes')) \
         GROUP BY window(t, '10 minutes')"
    );
    assert_eq!(problems(&twice).await, Vec::<String>::new());
}

#[tokio::test]
async fn too_little_memory_is_an_error() {
    let session = session(1, 20_000);
    let sql = "SELECT key, collect_set(value) FROM STREAM(events) GROUP BY key";
    let plan = planned(&session, sql).await;
    let operator = stateful_operators(&plan).unwrap().remove(0);
    let events: Vec<_> = (0..5_000).map(|i| event(1, &format!("key {i}"), i)).collect();
    let bound = bind_state(plan, &[operator.state(None, Watermarks::default(), DIGEST_KEY)]).unwrap();
    let bound = replace_streams(bound, &[table(&events)]).unwrap();
    let error = session.execute_logical_plan(bound).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("Resources exhausted"), "{error}");
}

/// Runs a batch of deduplication; `kept` are the keys so far, and when they expire.
async fn run_deduplication(
    session: &SessionContext,
    plan: &LogicalPlan,
    kept: &mut Vec<RecordBatch>,
    watermarks: Watermarks,
    events: &[Event],
) -> (Vec<String>, u64) {
    let operator = stateful_operators(plan).unwrap().remove(0);
    assert!(operator.expires);
    let prior = kept.first().map(|first| -> Arc<dyn TableProvider> {
        Arc::new(MemTable::try_new(first.schema(), vec![kept.clone()]).unwrap())
    });
    let state = operator.state(prior, watermarks, DIGEST_KEY);
    let plan =
        replace_streams(bind_state(plan.clone(), std::slice::from_ref(&state)).unwrap(), &[table(events)]).unwrap();
    let batches = session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    kept.extend(state.new_rows.take().in_memory().unwrap().iter().cloned());
    (batches.iter().flat_map(texts).collect(), state.late_rows.count())
}

fn events() -> impl Strategy<Value = Vec<Vec<(Event, bool)>>> {
    let key = prop::option::weighted(0.9, "[ab]");
    // Batches move on in time, so that rows are late by as much as they lie back.
    let one = (prop::option::weighted(0.95, 0i64..40), key, 0i64..4, any::<bool>());
    prop::collection::vec(prop::collection::vec(one, 0..8), 1..7).prop_map(|batches| {
        let batches = batches.into_iter().enumerate();
        let moved = |(n, batch): (usize, Vec<Drawn>)| {
            let event = |(ts, key, value, flag): Drawn| ((ts.map(|ts| ts + 12 * n as i64), key, value), flag);
            batch.into_iter().map(event).collect()
        };
        batches.map(moved).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Each batch gives out what the model does, however events are split into batches and state into files.
    #[test]
    fn batches_give_out_what_the_rule_says(
        batches in events(), partitions in 1usize..4, kind in 0usize..3
    ) {
        let windows = [TUMBLING, SLIDING, SESSIONS][kind];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut stream = Stream::new(session(partitions, 1 << 30), &windows.sql()).await;
            let mut model = Model::new(windows);
            // The last batch has no rows: it follows when the watermark has moved.
            for batch in batches.into_iter().chain([Vec::new()]) {
                let compact = batch.first().is_some_and(|(_, compact)| *compact);
                let rows: Vec<Event> = batch.into_iter().map(|(event, _)| event).collect();
                assert_eq!(stream.run(&rows, compact).await, model.run(&rows));
                assert_eq!(stream.late, model.late);
            }
        });
    }

    /// A key is remembered until the watermark has passed it; rows that the watermark has passed are late.
    #[test]
    fn keys_are_forgotten_when_the_rule_says(batches in events(), within in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = session(1, 1 << 30);
            let sql = format!("SELECT ts, key, value FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL {DELAY} MINUTES");
            let input = Arc::new(planned(&session, &sql).await);
            let columns = input.schema().columns();
            let keys = if within { vec![columns[1].clone()] } else { vec![columns[0].clone(), columns[1].clone()] };
            let plan = Deduplicate { input, keys, within_watermark: within }.into_plan();
            let (mut kept, mut current, mut next): (_, Option<i64>, Option<i64>) = (Vec::new(), None, None);
            // Until when each key is remembered; for ever if its row has no time.
            let mut known: BTreeMap<(Option<i64>, Option<String>), Option<i64>> = BTreeMap::new();
            for batch in batches {
                let rows: Vec<Event> = batch.into_iter().map(|(event, _)| event).collect();
                let (mut expected, mut late) = (Vec::new(), 0);
                for (ts, key, value) in &rows {
                    if ts.zip(current).is_some_and(|(ts, watermark)| ts <= watermark) {
                        late += 1;
                        continue;
                    }
                    let id = (ts.filter(|_| !within), key.clone());
                    let forgotten = |until: &Option<i64>| until.zip(current).is_some_and(|(until, now)| until <= now);
                    if known.get(&id).is_none_or(forgotten) {
                        known.insert(id, ts.map(|ts| if within { ts + DELAY } else { ts }));
                        expected.push(*value);
                    }
                }
                let us = |minutes: Option<i64>| minutes.map(|minutes| minutes * MINUTE);
                let watermarks = Watermarks { late_us: us(current), final_us: us(next) };
                let (found, found_late) = run_deduplication(&session, &plan, &mut kept, watermarks, &rows).await;
                let mut found: Vec<i64> =
                    found.iter().map(|row| row.rsplit(' ').next().unwrap().parse().unwrap()).collect();
                found.sort();
                expected.sort();
                assert_eq!((found, found_late), (expected, late));
                current = next;
                next = next.max(rows.iter().filter_map(|(ts, ..)| *ts).max().map(|latest| latest - DELAY));
            }
        });
    }

    /// Without a watermark the last batch's result is that of all rows at once.
    #[test]
    fn the_whole_result_is_that_of_all_rows(batches in events(), partitions in 1usize..4) {
        let sql = "SELECT coalesce(key, '-'), count(*), sum(value), count(DISTINCT value) FROM STREAM(events) GROUP BY key";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut stream = Stream::new(session(partitions, 1 << 30), sql).await;
            let mut all: BTreeMap<Option<String>, Vec<i64>> = BTreeMap::new();
            for batch in batches {
                let compact = batch.first().is_some_and(|(_, compact)| *compact);
                let rows: Vec<Event> = batch.into_iter().map(|(event, _)| event).collect();
                rows.iter().for_each(|(_, key, value)| all.entry(key.clone()).or_default().push(*value));
                let mut expected: Vec<String> = all.iter().map(|(key, values)| {
                    let different: BTreeSet<_> = values.iter().collect();
                    let sum: i64 = values.iter().sum();
                    format!("{} {} {sum} {}", key.as_deref().unwrap_or("-"), values.len(), different.len())
                }).collect();
                expected.sort();
                assert_eq!(stream.run(&rows, compact).await, expected);
            }
        });
    }
}
