//! Outer and semi joins of two streams against a plain model: which rows come out by the last batch, each once.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::error::Result;
use deltaworks_spark::relation::{RelationRequest, RelationResolver, UnresolvedRelation};
use deltaworks_spark::session::{SessionOptions, session_context, with_sorted_joins};
use deltaworks_spark::streaming::{OpenContext, StreamReader, StreamSource, StreamingTable, replace_streams};
use proptest::prelude::*;

use crate::{
    DIGEST_KEY, EXPIRES, IncrementalPlanner, LatestEventTime, StatefulOperator, Watermarks, bind_state,
    bind_watermarks, stateful_operators, unsupported_streaming, watermark_delays,
};

const MINUTE: i64 = 60_000_000;
/// What the queries of these tests declare, in minutes.
const DELAYS: [i64; 2] = [10, 5];

/// An event: minutes since the epoch, key, a number of its own.
type Event = (Option<i64>, Option<String>, i64);

/// The numbers of a left and a right event that come out together.
type Joined = (Option<i64>, Option<i64>);

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
    let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC")), Arc::new(keys), Arc::new(values)];
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
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        let UnresolvedRelation::Table { name, .. } = &request.relation else { panic!("{request:?}") };
        let provider = provider_as_source(Arc::new(StreamingTable::new(Arc::new(Events))));
        Ok(LogicalPlanBuilder::scan(name.to_string(), provider, None)?.build()?)
    }
}

fn session(partitions: usize) -> SessionContext {
    session_context(SessionOptions {
        conf: SparkConf::pipeline_defaults(),
        target_partitions: partitions,
        runtime: Arc::default(),
        extension_planners: vec![Arc::new(IncrementalPlanner)],
    })
    .unwrap()
}

async fn planned(session: &SessionContext, sql: &str) -> LogicalPlan {
    let query = deltaworks_spark::sql::parse_query(sql, &SourceLocation::new("q.sql", 1, 1)).unwrap();
    deltaworks_spark::sql::plan_query(session, &query, &Events).await.unwrap()
}

/// The two streams, each with its watermark.
const STREAMS: [&str; 2] = [
    "STREAM(l) WATERMARK ts DELAY OF INTERVAL 10 MINUTES AS l",
    "STREAM(r) WATERMARK ts DELAY OF INTERVAL 5 MINUTES AS r",
];

fn joined(kind: &str, condition: &str) -> String {
    let columns = if matches!(kind, "LEFT SEMI" | "LEFT ANTI") { "l.value, NULL" } else { "l.value, r.value" };
    format!("SELECT {columns} FROM {} {kind} JOIN {} ON {condition}", STREAMS[0], STREAMS[1])
}

/// How far watermarks have come, in minutes.
#[derive(Debug, Default, Clone, Copy)]
struct Clock {
    seen: [Option<i64>; 2],
    current: Option<i64>,
    next: Option<i64>,
}

impl Clock {
    fn advance(&mut self, latest: [Option<i64>; 2]) {
        for (place, latest) in latest.into_iter().enumerate() {
            self.seen[place] = self.seen[place].max(latest.map(|latest| latest - DELAYS[place]));
        }
        self.current = self.next;
        let least = self.seen[0].zip(self.seen[1]).map(|(left, right)| left.min(right));
        self.next = self.next.max(least);
    }
}

/// A join, its state and its watermark, between two batches.
struct Stream {
    session: SessionContext,
    plan: LogicalPlan,
    kept: [Vec<RecordBatch>; 2],
    clock: Clock,
    late: u64,
}

impl Stream {
    async fn new(session: SessionContext, sql: &str) -> Self {
        let plan = planned(&session, sql).await;
        assert_eq!(unsupported_streaming(&plan).unwrap(), [], "{sql}");
        Self { session, plan, kept: Default::default(), clock: Clock::default(), late: 0 }
    }

    /// Runs a batch; with `evict`, what the watermark has passed is not kept.
    async fn run(&mut self, rows: [&[Event]; 2], evict: bool) -> Vec<Joined> {
        let us = |minutes: Option<i64>| minutes.map(|minutes| minutes * MINUTE);
        let watermarks = Watermarks { late_us: us(self.clock.current), final_us: us(self.clock.next) };
        let operators = stateful_operators(&self.plan).unwrap();
        let prior = |batches: &Vec<RecordBatch>| -> Option<Arc<dyn TableProvider>> {
            Some(Arc::new(MemTable::try_new(batches.first()?.schema(), vec![batches.clone()]).unwrap()))
        };
        let state = |(operator, kept): (&StatefulOperator, &Vec<RecordBatch>)| {
            operator.state(prior(kept), watermarks, DIGEST_KEY)
        };
        let states: Vec<_> = operators.iter().zip(&self.kept).map(state).collect();
        let latest: Vec<_> = watermark_delays(&self.plan).unwrap().iter().map(|_| LatestEventTime::default()).collect();
        let plan = bind_watermarks(bind_state(self.plan.clone(), &states).unwrap(), &latest).unwrap();
        let plan = replace_streams(plan, &[table(rows[0]), table(rows[1])]).unwrap();
        let batches = self.session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        for ((kept, state), operator) in self.kept.iter_mut().zip(&states).zip(&operators) {
            state.finished().await.unwrap();
            kept.extend(state.new_rows.take().in_memory().unwrap().iter().cloned());
            self.late += state.late_rows.count();
            if let (true, true, Some(final_us)) = (evict, operator.expires, watermarks.final_us) {
                *kept = kept.iter().map(|batch| alive(batch, final_us)).collect();
            }
        }
        self.clock.advance([0, 1].map(|place| latest[place].get().map(|us| us / MINUTE)));
        let number = |batch: &RecordBatch, column: usize, row: usize| {
            let column = arrow::compute::cast(batch.column(column), &DataType::Int64).unwrap();
            column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
        };
        let of = |batch: &RecordBatch| -> Vec<Joined> {
            (0..batch.num_rows()).map(|row| (number(batch, 0, row), number(batch, 1, row))).collect()
        };
        batches.iter().flat_map(of).collect()
    }

    /// Runs all batches, and the one that closes an update.
    async fn run_all(&mut self, batches: &[[Vec<Event>; 2]], evict: bool) -> Vec<Joined> {
        let mut found = Vec::new();
        for [left, right] in batches {
            found.extend(self.run([left, right], evict).await);
        }
        if self.clock.next > self.clock.current {
            found.extend(self.run([&[], &[]], evict).await);
        }
        found.sort_unstable();
        found
    }
}

fn alive(batch: &RecordBatch, final_us: i64) -> RecordBatch {
    let expires = batch.column_by_name(EXPIRES).unwrap().as_primitive::<TimestampMicrosecondType>();
    let alive: BooleanArray = expires.iter().map(|expires| Some(expires.unwrap() > final_us)).collect();
    filter_record_batch(batch, &alive).unwrap()
}

/// What a join must give: `r.ts` is from `low` to `high` minutes after `l.ts`, if there are such bounds.
fn model(kind: &str, low: Option<i64>, high: Option<i64>, batches: &[[Vec<Event>; 2]]) -> (Vec<Joined>, u64) {
    let mut clock = Clock::default();
    let (mut accepted, mut late): ([Vec<&Event>; 2], u64) = Default::default();
    let mut latest_final = None;
    for batch in batches {
        latest_final = clock.next;
        for (side, events) in batch.iter().enumerate() {
            for event in events {
                let is_late = event.0.zip(clock.current).is_some_and(|(ts, watermark)| ts <= watermark);
                if is_late { late += 1 } else { accepted[side].push(event) }
            }
        }
        let latest = |side: usize| batch[side].iter().filter_map(|event| event.0).max();
        clock.advance([latest(0), latest(1)]);
    }
    // The batch that closes the update.
    latest_final = latest_final.max(clock.next);
    let matches = |left: &Event, right: &Event| {
        left.1.is_some()
            && left.1 == right.1
            && left.0.zip(right.0).is_some_and(|(left, right)| {
                low.is_none_or(|low| right >= left + low) && high.is_none_or(|high| right <= left + high)
            })
    };
    let over = |ts: Option<i64>, after: Option<i64>| {
        ts.is_none_or(|ts| latest_final.zip(after).is_some_and(|(watermark, after)| ts + after <= watermark))
    };
    let [left, right] = accepted;
    let mut found: Vec<Joined> = Vec::new();
    for l in &left {
        let partners: Vec<i64> = right.iter().filter(|r| matches(l, r)).map(|r| r.2).collect();
        match kind {
            "LEFT SEMI" => found.extend((!partners.is_empty()).then_some((Some(l.2), None))),
            "LEFT ANTI" => {}
            _ => found.extend(partners.iter().map(|r| (Some(l.2), Some(*r)))),
        }
        let preserved = matches!(kind, "LEFT" | "LEFT ANTI" | "FULL");
        if preserved && partners.is_empty() && over(l.0, high) {
            found.push((Some(l.2), None));
        }
    }
    for r in right.iter().filter(|r| matches!(kind, "RIGHT" | "FULL") && !left.iter().any(|l| matches(l, r))) {
        if over(r.0, low.map(|low| -low)) {
            found.push((None, Some(r.2)));
        }
    }
    found.sort_unstable();
    (found, late)
}

/// `l.ts` and so many minutes.
fn plus(side: &str, minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{side}.ts {sign} INTERVAL {} MINUTES", minutes.abs())
}

fn condition(low: Option<i64>, high: Option<i64>, turned: bool) -> String {
    let mut condition = "l.key = r.key".to_owned();
    match (low, high) {
        (Some(low), Some(high)) if !turned => {
            condition += &format!(" AND r.ts BETWEEN {} AND {}", plus("l", low), plus("l", high));
        }
        _ => {
            if let Some(low) = low {
                condition += &match turned {
                    true => format!(" AND l.ts <= {}", plus("r", -low)),
                    false => format!(" AND r.ts >= {}", plus("l", low)),
                };
            }
            if let Some(high) = high {
                condition += &match turned {
                    true => format!(" AND {} <= l.ts", plus("r", -high)),
                    false => format!(" AND r.ts <= {}", plus("l", high)),
                };
            }
        }
    }
    condition
}

#[tokio::test]
async fn rows_without_a_partner_wait_for_the_watermark() {
    let event = |ts, key: &str, number| (Some(ts), Some(key.to_owned()), number);
    let mut stream = Stream::new(session(2), &joined("FULL", &condition(Some(0), Some(20), false))).await;
    let first = [event(100, "a", 1), event(100, "b", 2)];
    assert_eq!(stream.run([&first, &[event(110, "a", 3), event(90, "c", 4)]], true).await, [(Some(1), Some(3))]);
    // The watermark is 90: the event at 90 has no partner any more, those at 100 may have one up to 120.
    let found = stream.run([&[event(140, "d", 5)], &[event(120, "b", 6), event(140, "e", 7)]], true).await;
    assert_eq!(sorted(found), [(None, Some(4)), (Some(2), Some(6))]);
    // It is 130 now. All that is left is waited for; an event that comes after a batch which knew it is late.
    assert_eq!(stream.run([&[], &[]], true).await, []);
    assert_eq!(stream.run([&[event(129, "e", 8)], &[]], true).await, []);
    assert_eq!(stream.run([&[event(200, "x", 9)], &[event(200, "y", 10)]], true).await, []);
    assert_eq!(sorted(stream.run([&[], &[]], true).await), [(None, Some(7)), (Some(5), None)]);
    assert_eq!(stream.run([&[], &[]], true).await, []);
    assert_eq!(stream.late, 1);
    let kept: usize = stream.kept.iter().flatten().map(RecordBatch::num_rows).sum();
    assert_eq!(kept, 2, "only the events at 200 may find partners");
}

fn sorted(mut rows: Vec<Joined>) -> Vec<Joined> {
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn windows_and_times_are_keys() {
    let event = |ts, number| (Some(ts), Some("a".to_owned()), number);
    let batches =
        [[vec![event(1, 1), event(22, 2)], vec![event(3, 3), event(31, 4)]], [vec![event(60, 5)], vec![event(61, 6)]]];
    let windows = format!(
        "SELECT l.n, r.n FROM (SELECT window, sum(value) AS n FROM {} GROUP BY window(ts, '10 minutes')) l \
         FULL JOIN (SELECT window, sum(value) AS n FROM {} GROUP BY window(ts, '10 minutes')) r ON l.window = r.window",
        STREAMS[0], STREAMS[1]
    );
    let plan = planned(&session(1), &windows).await;
    assert_eq!(unsupported_streaming(&plan).unwrap(), []);
    let fingerprints: Vec<_> = stateful_operators(&plan).unwrap().into_iter().map(|state| state.fingerprint).collect();
    assert_eq!(fingerprints[2], "left side of full join on window = window:2 until watermark");
    let mut stream = Stream::new(session(1), &joined("FULL", "l.ts = r.ts")).await;
    assert_eq!(stream.run_all(&batches, true).await, model("FULL", Some(0), Some(0), &batches).0);
}

#[tokio::test]
async fn what_would_wait_for_ever_is_refused() {
    let session = session(1);
    let problem = async |kind: &str, condition: &str| {
        let plan = planned(&session, &joined(kind, condition)).await;
        unsupported_streaming(&plan).unwrap().first().map(|problem| problem.diagnostic.message.clone())
    };
    let needs = |kind: &str, side: &str| {
        Some(format!(
            "a {kind} join of two streams needs a watermark on {side}, and a condition on event times that says how late a \
             partner may come"
        ))
    };
    assert_eq!(problem("LEFT", "l.key = r.key").await, needs("left outer", "the right one"));
    assert_eq!(problem("LEFT", &condition(Some(0), None, false)).await, needs("left outer", "the right one"));
    assert_eq!(problem("LEFT SEMI", "l.key = r.key").await, needs("left semi", "the right one"));
    assert_eq!(problem("RIGHT", &condition(None, Some(0), false)).await, needs("right outer", "the left one"));
    assert_eq!(problem("FULL", &condition(None, Some(0), true)).await, needs("full outer", "both"));
    assert_eq!(problem("RIGHT", &condition(Some(0), None, true)).await, None);
    assert_eq!(problem("LEFT", "r.ts <= l.ts + INTERVAL 1 DAY AND l.value < r.value").await, None);
    assert_eq!(problem("LEFT", "r.ts <= l.ts + INTERVAL 1 MONTH").await, None);
    assert_eq!(
        problem("LEFT", "r.ts - INTERVAL 1 MONTH <= l.ts").await,
        needs("left outer", "the right one"),
        "a month has no length"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn batches_give_what_the_model_says(
        kind in prop::sample::select(vec!["LEFT", "RIGHT", "FULL", "LEFT SEMI", "LEFT ANTI"]),
        (low, span, open, turned) in (-6i64..7, 0i64..13, any::<bool>(), any::<bool>()),
        drawn in prop::collection::vec((
            prop::collection::vec((prop::option::weighted(0.95, 0i64..14), prop::option::weighted(0.9, "[ab]")), 0..6),
            prop::collection::vec((prop::option::weighted(0.95, 0i64..14), prop::option::weighted(0.9, "[ab]")), 0..6)), 1..7),
        partitions in 1usize..4, evict in any::<bool>(), sorts in any::<bool>())
    {
        let mut number = 0;
        let mut events = |base: i64, drawn: &[(Option<i64>, Option<String>)]| -> Vec<Event> {
            drawn.iter().map(|(ts, key)| {
                number += 1;
                (ts.map(|ts| base + ts), key.clone(), number)
            }).collect()
        };
        let batches: Vec<[Vec<Event>; 2]> = drawn
            .iter()
            .enumerate()
            .map(|(place, (left, right))| [events(place as i64 * 9, left), events(place as i64 * 9, right)])
            .collect();
        // What is not needed for the join to be possible may be missing.
        let low = (kind == "RIGHT" || kind == "FULL" || !open).then_some(low);
        let high = (kind != "RIGHT" || !open).then_some(low.unwrap_or(-3) + span);
        let (expected, late) = model(kind, low, high, &batches);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (found, found_late) = runtime.block_on(async {
            let session = session(partitions);
            let session = if sorts { with_sorted_joins(&session) } else { session };
            let mut stream = Stream::new(session, &joined(kind, &condition(low, high, turned))).await;
            (stream.run_all(&batches, evict).await, stream.late)
        });
        prop_assert_eq!(found, expected);
        prop_assert_eq!(found_late, late);
    }
}
