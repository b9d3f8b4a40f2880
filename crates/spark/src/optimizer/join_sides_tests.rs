//! The order of the rows of joins.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;

use crate::conf::SparkConf;
use crate::session::{SessionOptions, session_context};

/// Tables `l` and `r` of keys, which are in the columns `a` and `b`.
fn session(left: Vec<i64>, right: Vec<i64>) -> SessionContext {
    let conf = SparkConf::pipeline_defaults();
    let runtime = Arc::new(RuntimeEnv::default());
    let options = SessionOptions { conf, target_partitions: 2, runtime, extension_planners: Vec::new() };
    let context = session_context(options).unwrap();
    for (table, column, keys) in [("l", "a", left), ("r", "b", right)] {
        let batch =
            RecordBatch::try_from_iter_with_nullable([(column, Arc::new(Int64Array::from(keys)) as _, true)]).unwrap();
        let table_of = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table(table, Arc::new(table_of)).unwrap();
    }
    context
}

/// The rows, 0 for NULL.
async fn rows(context: &SessionContext, from: &str) -> Vec<Vec<i64>> {
    let batches = context.sql(&format!("SELECT * FROM {from}")).await.unwrap().collect().await.unwrap();
    let row = |batch: &RecordBatch, row: usize| {
        let column = |column: &arrow::array::ArrayRef| {
            column.as_primitive::<Int64Type>().iter().nth(row).flatten().unwrap_or_default()
        };
        batch.columns().iter().map(column).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn rows_of_small_inputs_come_in_the_order_of_the_left_one() {
    let context = session(vec![3, 1, 2], vec![2, 3]);
    let expected = [[3, 2], [3, 3], [1, 2], [1, 3], [2, 2], [2, 3]];
    assert_eq!(rows(&context, "l CROSS JOIN r").await, expected);
    assert_eq!(rows(&context, "l JOIN r ON a = b").await, [[3, 3], [2, 2]]);
    assert_eq!(rows(&context, "l JOIN r ON a > b").await, [[3, 2]]);
    assert_eq!(rows(&context, "l LEFT SEMI JOIN r ON a = b").await, [[3], [2]]);
    assert_eq!(rows(&context, "l LEFT ANTI JOIN r ON a = b").await, [[1]]);
    assert_eq!(rows(&context, "l RIGHT JOIN r ON a = b").await, [[2, 2], [3, 3]]);
}

#[tokio::test]
async fn of_a_left_join_a_small_right_one_is_kept_even_if_it_is_larger() {
    let context = session(vec![3, 1, 2], (0..100).rev().collect());
    assert_eq!(rows(&context, "l LEFT JOIN r ON a = b").await, [[3, 3], [1, 1], [2, 2]]);
    assert_eq!(rows(&context, "l JOIN r ON a = b").await, [[3, 3], [2, 2], [1, 1]]);
}

#[tokio::test]
async fn a_large_right_one_streams() {
    let context = session(vec![3, 1, 2], (0..1_000_000).rev().collect());
    let plan = context.sql("SELECT * FROM l LEFT JOIN r ON a = b").await.unwrap().create_physical_plan().await.unwrap();
    let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("join_type=Left"), "{text}");
    let mut found = rows(&context, "l LEFT JOIN r ON a = b").await;
    found.sort();
    assert_eq!(found, [[1, 1], [2, 2], [3, 3]]);
}

#[tokio::test]
async fn not_in_is_a_plain_anti_join_where_nothing_is_null() {
    let context = session(vec![3, 1, 2], vec![2]);
    for (query, is_aware, expected) in [
        ("l WHERE a NOT IN (SELECT b FROM r)", false, vec![[3], [1]]),
        ("l WHERE a NOT IN (SELECT b FROM r WHERE b < 10)", false, vec![[3], [1]]),
        ("(SELECT a FROM l JOIN r ON a <> b) WHERE a NOT IN (SELECT b + 1 FROM r)", true, vec![[1]]),
        ("l WHERE a NOT IN (SELECT b FROM r UNION ALL SELECT NULL)", true, vec![]),
        ("(SELECT a FROM l UNION ALL SELECT NULL) WHERE a NOT IN (SELECT b FROM r)", true, vec![[1], [3]]),
    ] {
        let plan = context.sql(&format!("SELECT * FROM {query}")).await.unwrap().create_physical_plan().await.unwrap();
        let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        assert_eq!(text.contains("null_aware"), is_aware, "{query}\n{text}");
        let mut found = rows(&context, query).await;
        if is_aware {
            found.sort();
        }
        assert_eq!(found, expected, "{query}");
    }
}
