//! Deduplication over whole tables and batch by batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryPool as _};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{
    Expr, JoinType, LogicalPlan, LogicalPlanBuilder, col, exists, in_subquery, lit, not_exists,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltaworks_spark::operators::{Deduplicate, EventTimeWatermark};
use deltaworks_spark::streaming::{OpenContext, StreamReader, StreamSource, StreamingTable, replace_streams};
use futures::TryStreamExt as _;
use proptest::prelude::*;

use crate::{DIGEST_KEY, IncrementalQueryPlanner, Watermarks, bind_state, stateful_operators, unsupported_streaming};

type Row = (Option<String>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Int64, false)]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|(key, _)| key.clone()).collect();
    let values: Int64Array = rows.iter().map(|(_, value)| *value).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap()
}

fn table(rows: &[Row]) -> Arc<dyn TableProvider> {
    Arc::new(MemTable::try_new(schema(), vec![vec![batch(rows)]]).unwrap())
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let keys = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
        let keys = keys.as_any().downcast_ref::<StringArray>().unwrap().clone();
        let values = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
        rows.extend(
            (0..batch.num_rows()).map(|i| (keys.is_valid(i).then(|| keys.value(i).to_owned()), values.value(i))),
        );
    }
    rows
}

fn session(partitions: usize) -> SessionContext {
    session_in(Arc::default(), partitions)
}

fn session_in(runtime: Arc<RuntimeEnv>, partitions: usize) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_runtime_env(runtime)
        .with_default_features()
        .with_query_planner(Arc::new(IncrementalQueryPlanner))
        .build();
    SessionContext::new_with_state(state)
}

#[derive(Debug)]
struct NoStream;

#[async_trait]
impl StreamSource for NoStream {
    fn description(&self) -> String {
        "test".to_owned()
    }

    fn identity(&self) -> String {
        "test".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn open(&self, _: OpenContext) -> deltaworks_spark::error::Result<Box<dyn StreamReader>> {
        Err(deltaworks_spark::error::Error::internal("not opened in tests"))
    }
}

fn scan(name: &str, provider: Arc<dyn TableProvider>) -> LogicalPlanBuilder {
    LogicalPlanBuilder::scan(name, provider_as_source(provider), None).unwrap()
}

fn stream(name: &str) -> LogicalPlanBuilder {
    scan(name, Arc::new(StreamingTable::new(Arc::new(NoStream))))
}

fn deduplicated(input: LogicalPlan) -> LogicalPlan {
    let keys = vec![Column::new(Some("t"), "key")];
    Deduplicate { input: Arc::new(input), keys, within_watermark: false }.into_plan()
}

async fn run(session: &SessionContext, plan: LogicalPlan) -> Vec<Row> {
    rows_of(&session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap())
}

fn row(key: &str, value: i64) -> Row {
    (Some(key.to_owned()), value)
}

/// Runs one batch with the state of the earlier ones, and adds to the state.
async fn run_batch(
    session: &SessionContext,
    plan: &LogicalPlan,
    state: &mut Vec<RecordBatch>,
    rows: &[Row],
) -> Vec<Row> {
    let operators = stateful_operators(plan).unwrap();
    let prior: Option<Arc<dyn TableProvider>> = (!state.is_empty()).then(|| {
        Arc::new(MemTable::try_new(state[0].schema(), vec![state.clone()]).unwrap()) as Arc<dyn TableProvider>
    });
    let bound_to = operators[0].state(prior, Watermarks::default(), DIGEST_KEY);
    let new_rows = bound_to.new_rows.clone();
    let bound = bind_state(plan.clone(), &[bound_to]).unwrap();
    let bound = replace_streams(bound, &[table(rows)]).unwrap();
    let found = run(session, bound).await;
    state.extend(new_rows.take().in_memory().unwrap().iter().cloned());
    found
}

#[tokio::test]
async fn first_row_per_key_is_kept_in_order() {
    let input = table(&[row("b", 1), (None, 2), row("a", 3), row("b", 4), (None, 5)]);
    let plan = deduplicated(scan("t", input).build().unwrap());
    assert_eq!(run(&session(1), plan).await, [row("b", 1), (None, 2), row("a", 3)]);
}

#[tokio::test]
async fn watermark_passes_all_rows_of_a_batch() {
    let input = scan("t", table(&[row("a", 1), row("a", 2)])).build().unwrap();
    let node = EventTimeWatermark { input: Arc::new(input), event_time: Column::new(Some("t"), "value"), delay_us: 1 };
    assert_eq!(run(&session(2), node.into_plan()).await, [row("a", 1), row("a", 2)]);
}

#[tokio::test]
async fn keys_of_earlier_batches_are_remembered() {
    let plan = deduplicated(stream("t").build().unwrap());
    let (session, mut state) = (session(2), Vec::new());
    let mut first = run_batch(&session, &plan, &mut state, &[row("a", 1), (None, 2), row("a", 3)]).await;
    first.sort();
    assert_eq!(first, [(None, 2), row("a", 1)]);
    assert_eq!(run_batch(&session, &plan, &mut state, &[row("a", 4), (None, 5), row("b", 6)]).await, [row("b", 6)]);
    assert_eq!(run_batch(&session, &plan, &mut state, &[row("a", 7)]).await, []);
    assert_eq!(state.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

#[tokio::test]
async fn columns_that_are_not_selected_still_make_the_key() {
    let plan = deduplicated(stream("t").build().unwrap());
    let plan = LogicalPlanBuilder::from(plan).filter(col("value").gt(lit(1))).unwrap();
    let plan = plan.project(vec![lit("x").alias("key"), col("value")]).unwrap().build().unwrap();
    let (session, mut state) = (session(2), Vec::new());
    let found = run_batch(&session, &plan, &mut state, &[row("a", 1), row("a", 2), row("b", 3)]).await;
    assert_eq!(found, [row("x", 3)]);
    assert_eq!(run_batch(&session, &plan, &mut state, &[row("a", 4), row("c", 5)]).await, [row("x", 5)]);
}

#[test]
fn changed_keys_are_refused() {
    let plan = deduplicated(stream("t").build().unwrap());
    let operator = stateful_operators(&plan).unwrap().remove(0);
    assert_eq!(operator.fingerprint, "deduplicate(key Utf8) by keyed digest");
    operator.check_compatible("deduplicate(key Utf8) by keyed digest").unwrap();
    // State that holds the keys themselves, as earlier versions wrote it.
    operator.check_compatible("deduplicate(key Utf8)").unwrap_err();
    let keys = vec![Column::new(Some("t"), "value")];
    let by_value = Deduplicate { input: Arc::new(stream("t").build().unwrap()), keys, within_watermark: false };
    assert_eq!(stateful_operators(&by_value.into_plan()).unwrap()[0].fingerprint, "deduplicate(value Int64)");
    let error = operator.check_compatible("deduplicate(value Int64)").unwrap_err();
    assert_eq!(error.help(), Some("Refresh the table fully, or change the query back."));
    let distinct = stream("t").distinct().unwrap().build().unwrap();
    assert_eq!(
        stateful_operators(&distinct).unwrap()[0].fingerprint,
        "deduplicate(key Utf8, value Int64) by keyed digest"
    );
    let over_table = deduplicated(scan("t", table(&[])).build().unwrap());
    assert_eq!(stateful_operators(&over_table).unwrap(), []);
}

#[test]
fn operators_that_need_the_whole_are_named() {
    let messages = |plan: LogicalPlanBuilder| -> Vec<String> {
        let problems = unsupported_streaming(&plan.build().unwrap()).unwrap();
        problems.into_iter().map(|problem| problem.diagnostic.message).collect()
    };
    let on = |join_type, left: LogicalPlanBuilder, right: LogicalPlanBuilder| {
        left.join(right.build().unwrap(), join_type, (vec!["l.key"], vec!["r.key"]), None).unwrap()
    };
    let fixed = |name| scan(name, table(&[]));
    assert_eq!(messages(stream("t").filter(col("value").gt(lit(1))).unwrap()), Vec::<String>::new());
    assert_eq!(messages(on(JoinType::Inner, stream("l"), fixed("r"))), Vec::<String>::new());
    assert_eq!(messages(on(JoinType::Left, stream("l"), fixed("r"))), Vec::<String>::new());
    assert_eq!(
        messages(on(JoinType::Left, fixed("l"), stream("r"))),
        ["a Left join that keeps rows of the static side is not possible on a stream"]
    );
    assert_eq!(messages(on(JoinType::Inner, stream("l"), stream("r"))), Vec::<String>::new());
    assert_eq!(
        messages(on(JoinType::Left, stream("l"), stream("r"))),
        [
            "a left outer join of two streams needs a watermark on the right one, and a condition on event times that says \
             how late a partner may come"
        ]
    );
    let aggregate = || stream("t").aggregate(vec![col("key")], vec![count(col("value"))]).unwrap();
    assert_eq!(messages(aggregate()), Vec::<String>::new());
    let twice = aggregate().aggregate(Vec::<Expr>::new(), vec![count(col("key"))]).unwrap();
    assert_eq!(
        messages(twice),
        [
            "a stateful operator over an aggregation without a watermark is not possible: that gives out all groups by each batch"
        ]
    );
    let joined = stream("l").join(
        aggregate().alias("r").unwrap().build().unwrap(),
        JoinType::Inner,
        (vec!["l.key"], vec!["r.key"]),
        None,
    );
    assert_eq!(
        messages(joined.unwrap()),
        [
            "a stateful operator over an aggregation without a watermark is not possible: that gives out all groups by each batch"
        ]
    );
    let keys = Arc::new(stream("r").project(vec![col("r.key")]).unwrap().build().unwrap());
    for condition in [in_subquery(col("l.key"), Arc::clone(&keys)), exists(Arc::clone(&keys)), not_exists(keys)] {
        assert_eq!(
            messages(stream("l").filter(condition).unwrap()),
            ["a stream cannot be read in a subquery of an expression"]
        );
    }
    let of_table = Arc::new(fixed("r").project(vec![col("r.key")]).unwrap().build().unwrap());
    assert_eq!(messages(stream("l").filter(in_subquery(col("l.key"), of_table)).unwrap()), Vec::<String>::new());
    assert_eq!(messages(aggregate().sort(vec![col("t.key").sort(true, true)]).unwrap()), Vec::<String>::new());
    let beside = aggregate().union(aggregate().build().unwrap()).unwrap();
    assert_eq!(
        messages(beside),
        ["UNION with an aggregation without a watermark is not possible on a stream: each batch replaces all rows"]
    );
    assert_eq!(
        messages(stream("t").sort(vec![col("value").sort(true, true)]).unwrap().limit(0, Some(1)).unwrap()),
        ["LIMIT is not possible on a stream", "ORDER BY is not possible on a stream"]
    );
}

/// A session with so much memory for a single partition, and with files beyond it or without.
fn small_session(bytes: usize, mode: DiskManagerMode) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    session_in(runtime.build_arc().unwrap(), 1)
}

#[tokio::test]
async fn too_little_memory_without_files_is_an_error() {
    let rows: Vec<_> = (0..10_000).map(|i| row(&format!("key {i}"), i)).collect();
    let plan = deduplicated(scan("t", table(&rows)).build().unwrap());
    let session = small_session(1000, DiskManagerMode::Disabled);
    let error = session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("DedupExec[0]"), "{error}");
}

#[tokio::test]
async fn more_keys_than_there_is_memory_for_are_divided() {
    let keys: Vec<_> = (0..60_000).map(|i| row(&format!("key {}", i * 7 % 30_000), i)).collect();
    let batches: Vec<_> = keys.chunks(5000).map(batch).collect();
    let input = || Arc::new(MemTable::try_new(schema(), vec![batches.clone()]).unwrap());
    let session = small_session(500_000, DiskManagerMode::OsTmpDirectory);
    let mut found = run(&session, deduplicated(scan("t", input()).build().unwrap())).await;
    found.sort();
    let mut expected: Vec<_> = (0..30_000).map(|i| row(&format!("key {}", i * 7 % 30_000), i)).collect();
    expected.sort();
    assert!(found == expected, "{} rows", found.len());
    // The same of a stream, which also remembers the keys: after a first batch without earlier ones, and after a second.
    let plan = deduplicated(stream("t").build().unwrap());
    let mut state = Vec::new();
    let mut found = Vec::new();
    for half in [&keys[..20_000], &keys] {
        let prior: Option<Arc<dyn TableProvider>> =
            state.first().map(|first: &RecordBatch| -> Arc<dyn TableProvider> {
                Arc::new(MemTable::try_new(first.schema(), vec![state.clone()]).unwrap())
            });
        let bound_to = stateful_operators(&plan).unwrap()[0].state(prior, Watermarks::default(), DIGEST_KEY);
        let bound = bind_state(plan.clone(), std::slice::from_ref(&bound_to)).unwrap();
        let rows: Vec<_> = half.chunks(5000).map(batch).collect();
        let rows = Arc::new(MemTable::try_new(schema(), vec![rows]).unwrap());
        // The join holds the rows with new keys; here it is the keys that find no room.
        let session =
            small_session(if state.is_empty() { 200_000 } else { 6_000_000 }, DiskManagerMode::OsTmpDirectory);
        found.extend(run(&session, replace_streams(bound, &[rows]).unwrap()).await);
        bound_to.finished().await.unwrap();
        let new = bound_to.new_rows.take();
        let new: Vec<_> = new.stream(bound_to.new_rows.schema()).try_collect().await.unwrap();
        state.extend(new);
    }
    found.sort();
    assert!(found == expected, "{} rows", found.len());
    assert_eq!(state.iter().map(RecordBatch::num_rows).sum::<usize>(), 30_000);
}

#[tokio::test]
async fn keys_of_the_first_batch_are_accounted_until_they_are_taken() {
    let pool = Arc::new(GreedyMemoryPool::new(100_000_000));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool) as _).build_arc().unwrap();
    let session = session_in(runtime, 2);
    let plan = deduplicated(stream("t").build().unwrap());
    let bound_to = stateful_operators(&plan).unwrap()[0].state(None, Watermarks::default(), DIGEST_KEY);
    let rows: Vec<_> = (0..20_000).map(|i| row(&format!("key {}", i % 10_000), i)).collect();
    let bound = bind_state(plan, std::slice::from_ref(&bound_to)).unwrap();
    assert_eq!(run(&session, replace_streams(bound, &[table(&rows)]).unwrap()).await.len(), 10_000);
    bound_to.finished().await.unwrap();
    assert!(pool.reserved() > 10_000 * 16, "{}", pool.reserved());
    let kept = bound_to.new_rows.take().rows();
    assert_eq!((kept, pool.reserved()), (10_000, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Batch by batch the same keys come out as over the whole, each with a row of the batch it was first in.
    #[test]
    fn batches_with_state_equal_the_whole(batches in prop::collection::vec(prop::collection::vec(
        prop::option::weighted(0.9, "[a-f]{1,2}"), 0..30), 1..5), partitions in 1usize..4)
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = session(partitions);
            let plan = deduplicated(stream("t").build().unwrap());
            let (mut state, mut found, mut expected, mut seen) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
            let mut next = 0;
            for keys in batches {
                let rows: Vec<Row> = keys.into_iter().map(|key| { next += 1; (key, next) }).collect();
                expected.extend(rows.iter().filter(|(key, _)| seen.insert(key.clone())).cloned());
                found.extend(run_batch(&session, &plan, &mut state, &rows).await);
            }
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        });
    }
}

#[tokio::test]
async fn same_key_in_several_partitions_is_kept_once() {
    let parts = vec![vec![batch(&[row("a", 1), row("b", 1)])], vec![batch(&[row("b", 1), row("c", 1)])]];
    let input = Arc::new(MemTable::try_new(schema(), parts).unwrap());
    let mut found = run(&session(2), deduplicated(scan("t", input).build().unwrap())).await;
    found.sort();
    assert_eq!(found, [row("a", 1), row("b", 1), row("c", 1)]);
}
