//! Rows are computed once, and again where there is no room for them.
#![allow(clippy::unwrap_used)]

use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionContext};

use super::*;
use crate::conf::SparkConf;
use crate::session::{SessionOptions, session_context};

fn session(memory_bytes: usize) -> SessionContext {
    let pool = Arc::new(GreedyMemoryPool::new(memory_bytes));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let conf = SparkConf::pipeline_defaults();
    session_context(SessionOptions { conf, target_partitions: 2, runtime, extension_planners: Vec::new() }).unwrap()
}

/// The sum of random numbers: another one whenever the rows are computed.
async fn sum(context: &SessionContext, rows: &Arc<KeptRows>) -> String {
    let random = context.sql("SELECT random() AS x FROM range(1000)").await.unwrap();
    let kept = DataFrame::new(context.state(), Kept::plan(random.into_unoptimized_plan(), Arc::clone(rows)));
    let x = Expr::Column("x".into());
    let sum = datafusion::functions_aggregate::expr_fn::sum(x);
    let batches = kept.aggregate(Vec::new(), vec![sum]).unwrap().collect().await.unwrap();
    arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap()
}

#[tokio::test]
async fn rows_are_computed_once() {
    let context = session(1 << 20);
    let rows = Arc::<KeptRows>::default();
    let first = sum(&context, &rows).await;
    assert_eq!(sum(&context, &rows).await, first);
    assert!(context.runtime_env().memory_pool.reserved() > 0);
    assert_ne!(sum(&context, &Arc::default()).await, first, "other rows");
    drop(rows);
    assert_eq!(context.runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test]
async fn rows_without_room_are_computed_again() {
    let context = session(10_000);
    let rows = Arc::<KeptRows>::default();
    let first = sum(&context, &rows).await;
    assert_ne!(sum(&context, &rows).await, first);
    assert_eq!(context.runtime_env().memory_pool.reserved(), 0);
}
