//! Counts of columns without NULLs.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use crate::conf::SparkConf;
use crate::session::{SessionOptions, session_context};

/// A table that knows how many of its values are NULL.
#[derive(Debug)]
struct Counted(MemTable, Vec<Precision<usize>>);

#[async_trait]
impl TableProvider for Counted {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.0.schema());
        for (column, nulls) in statistics.column_statistics.iter_mut().zip(&self.1) {
            column.null_count = *nulls;
        }
        Some(statistics)
    }
}

/// `t(k, full, some)` and `u(key, value)`: `full`, `k` and `value` have no NULLs, `some` and `key` have.
fn session() -> SessionContext {
    let conf = SparkConf::pipeline_defaults();
    let runtime = Arc::new(RuntimeEnv::default());
    let options = SessionOptions { conf, target_partitions: 2, runtime, extension_planners: Vec::new() };
    let context = session_context(options).unwrap();
    let exact = |nulls: usize| Precision::Exact(nulls);
    let register = |name: &str, columns: Vec<(&str, Vec<Option<i64>>)>, nulls: Vec<Precision<usize>>| {
        let columns = columns.into_iter().map(|(name, values)| (name, Arc::new(Int64Array::from(values)) as _));
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table(name, Arc::new(Counted(table, nulls))).unwrap();
    };
    let t = vec![
        ("k", vec![Some(1), Some(1), Some(2), Some(3)]),
        ("full", vec![Some(7), Some(8), Some(9), Some(7)]),
        ("some", vec![Some(7), None, None, Some(1)]),
    ];
    register("t", t, vec![exact(0), exact(0), exact(2)]);
    let u = vec![("key", vec![Some(1), Some(5), None]), ("value", vec![Some(1), Some(2), Some(3)])];
    register("u", u, vec![Precision::Inexact(0), exact(0)]);
    context
}

/// The rows, and whether each of the counts is one of rows.
async fn counts(query: &str) -> (String, Vec<bool>) {
    let frame = session().sql(query).await.unwrap();
    let plan = frame.clone().into_optimized_plan().unwrap().display_indent().to_string();
    let rows = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    let rows: Vec<_> =
        rows.lines().filter(|line| line.starts_with('|')).skip(1).map(|line| line.replace(' ', "")).collect();
    let aggregates = plan.lines().find(|line| line.contains("aggr=")).unwrap();
    let (_, aggregates) = aggregates.split_once("aggr=").unwrap();
    (rows.join(" "), aggregates.split("count(").skip(1).map(|count| count.starts_with("Int64(1)")).collect())
}

#[tokio::test]
async fn counts_of_columns_without_null_count_rows() {
    let (rows, of_rows) = counts("SELECT count(full), count(some), sum(full) FROM t").await;
    assert_eq!(rows, "|4|2|31|");
    // The name follows the count: `count(1) AS count(t.full)`.
    assert_eq!(of_rows, [true, false, false]);
}

#[tokio::test]
async fn through_filters_subqueries_and_inner_joins() {
    let query = "SELECT a.k, count(b.n) FILTER (WHERE b.n > 1) FROM t a JOIN \
                 (SELECT key, value AS n FROM u WHERE value < 3) b ON a.k = b.key GROUP BY a.k ORDER BY 1";
    assert_eq!(counts(query).await, ("|1|0|".to_owned(), vec![true, false]));
    let query = "SELECT count(a.full) FROM t a LEFT SEMI JOIN u ON a.k = u.key";
    assert_eq!(counts(query).await, ("|2|".to_owned(), vec![true, false]));
}

#[tokio::test]
async fn not_where_an_outer_join_adds_null() {
    let query = "SELECT count(t.full), count(u.value) FROM t LEFT JOIN u ON t.k = u.key";
    assert_eq!(counts(query).await, ("|4|2|".to_owned(), vec![true, false, false]));
    let query = "SELECT count(t.full), count(u.value) FROM t FULL JOIN u ON t.k = u.key";
    assert_eq!(counts(query).await, ("|4|4|".to_owned(), vec![false, false]));
}

#[tokio::test]
async fn not_of_distinct_values_expressions_or_uncertain_columns() {
    assert_eq!(counts("SELECT count(DISTINCT full), count(nullif(full, 7)) FROM t").await.0, "|3|2|");
    let query = "SELECT count(DISTINCT full), count(nullif(full, 7)), count(full, some) FROM t";
    assert!(!counts(query).await.1.contains(&true));
    assert_eq!(counts("SELECT count(key) FROM u").await, ("|2|".to_owned(), vec![false]));
}
