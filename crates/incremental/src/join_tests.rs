//! Joins of two streams: in batches the same pairs as over the whole, each once.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{JoinType, LogicalPlan, LogicalPlanBuilder, col};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltaworks_spark::error::Result;
use deltaworks_spark::session::with_sorted_joins;
use deltaworks_spark::streaming::{OpenContext, StreamReader, StreamSource, StreamingTable, replace_streams};
use proptest::prelude::*;

use crate::{
    DIGEST_KEY, IncrementalQueryPlanner, StatefulOperator, Watermarks, bind_state, stateful_operators,
    unsupported_streaming,
};

type Row = (Option<String>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Int64, false)]))
}

fn table(rows: &[Row]) -> Arc<dyn TableProvider> {
    let keys: StringArray = rows.iter().map(|(key, _)| key.clone()).collect();
    let values: Int64Array = rows.iter().map(|(_, value)| *value).collect();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap();
    Arc::new(MemTable::try_new(schema(), vec![vec![batch]]).unwrap())
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

    async fn open(&self, _: OpenContext) -> Result<Box<dyn StreamReader>> {
        Err(deltaworks_spark::error::Error::internal("not opened in tests"))
    }
}

/// Rows of `l` and `r` with the same key, of which that of `l` has the smaller value.
fn joined() -> LogicalPlan {
    let scan = |name: &str| {
        let provider: Arc<dyn TableProvider> = Arc::new(StreamingTable::new(Arc::new(NoStream)));
        LogicalPlanBuilder::scan(name, provider_as_source(provider), None).unwrap()
    };
    let smaller = col("l.value").lt(col("r.value"));
    scan("l")
        .join(scan("r").build().unwrap(), JoinType::Inner, (vec!["l.key"], vec!["r.key"]), Some(smaller))
        .unwrap()
        .project(vec![col("l.key"), col("l.value").alias("low"), col("r.value").alias("high")])
        .unwrap()
        .build()
        .unwrap()
}

fn session(partitions: usize) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_default_features()
        .with_query_planner(Arc::new(IncrementalQueryPlanner))
        .build();
    SessionContext::new_with_state(state)
}

/// Runs a batch with the rows of `l` and `r`, and adds to the state of both sides.
async fn run(
    session: &SessionContext,
    plan: &LogicalPlan,
    kept: &mut [Vec<RecordBatch>; 2],
    rows: [&[Row]; 2],
) -> Vec<String> {
    let prior = |batches: &Vec<RecordBatch>| -> Option<Arc<dyn TableProvider>> {
        let schema = batches.first()?.schema();
        Some(Arc::new(MemTable::try_new(schema, vec![batches.clone()]).unwrap()))
    };
    let operators = stateful_operators(plan).unwrap();
    let state = |(operator, kept): (&StatefulOperator, &Vec<RecordBatch>)| {
        operator.state(prior(kept), Watermarks::default(), DIGEST_KEY)
    };
    let states: Vec<_> = operators.iter().zip(kept.iter()).map(state).collect();
    let bound = bind_state(plan.clone(), &states).unwrap();
    let bound = replace_streams(bound, &[table(rows[0]), table(rows[1])]).unwrap();
    let batches = session.execute_logical_plan(bound).await.unwrap().collect().await.unwrap();
    for (kept, state) in kept.iter_mut().zip(&states) {
        state.finished().await.unwrap();
        kept.extend(state.new_rows.take().in_memory().unwrap().iter().cloned());
    }
    let cell =
        |batch: &RecordBatch, column: usize, row: usize| array_value_to_string(batch.column(column), row).unwrap();
    let mut found = Vec::new();
    for batch in &batches {
        found
            .extend((0..batch.num_rows()).map(|row| (0..3).map(|i| cell(batch, i, row)).collect::<Vec<_>>().join(" ")));
    }
    found
}

#[test]
fn the_condition_must_not_change() {
    let plan = joined();
    assert_eq!(unsupported_streaming(&plan).unwrap(), []);
    let fingerprints: Vec<_> = stateful_operators(&plan).unwrap().into_iter().map(|side| side.fingerprint).collect();
    assert_eq!(
        fingerprints,
        [
            "left side of inner join on key = key AND value < value:2",
            "right side of inner join on key = key AND value < value:2"
        ]
    );
}

#[tokio::test]
async fn columns_that_came_later_are_null_in_old_rows() {
    let (session, plan) = (session(1), joined());
    let old = RecordBatch::try_from_iter([("key", Arc::new(StringArray::from(vec!["a"])) as _)]).unwrap();
    let mut kept = [vec![old], Vec::new()];
    let new: [Row; 1] = [(Some("a".to_owned()), 3)];
    // Neither is NULL less than 3, nor do the two sides have anything else in common.
    assert_eq!(run(&session, &plan, &mut kept, [&[], &new]).await, Vec::<String>::new());
    assert_eq!(
        run(&session, &plan, &mut [Vec::new(), kept[1].clone()], [&[(Some("a".to_owned()), 2)], &[]]).await,
        ["a 2 3"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batches_give_the_pairs_of_the_whole_once(batches in prop::collection::vec((
        prop::collection::vec((prop::option::weighted(0.9, "[a-c]"), 0i64..5), 0..10),
        prop::collection::vec((prop::option::weighted(0.9, "[a-c]"), 0i64..5), 0..10)), 1..5), partitions in 1usize..4, sorts in any::<bool>())
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (session, plan) = (session(partitions), joined());
            let session = if sorts { with_sorted_joins(&session) } else { session };
            let (mut kept, mut found) = ([Vec::new(), Vec::new()], Vec::new());
            for (left, right) in &batches {
                found.extend(run(&session, &plan, &mut kept, [left, right]).await);
            }
            let left: Vec<&Row> = batches.iter().flat_map(|(left, _)| left).collect();
            let right: Vec<&Row> = batches.iter().flat_map(|(_, right)| right).collect();
            let mut expected = Vec::new();
            for (key, low) in left {
                let pairs = right.iter().filter(|(other, high)| key.is_some() && key == other && low < high);
                expected.extend(pairs.map(|(_, high)| format!("{} {low} {high}", key.as_deref().unwrap())));
            }
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        });
    }
}
