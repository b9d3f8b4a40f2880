//! Texts as views: the same rows and types, with casts where something computes.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;

use crate::conf::SparkConf;
use crate::session::{SessionOptions, session_context};
use crate::text_table::{TextTable, TextViews};

impl TextViews for MemTable {
    fn with_views(&self, columns: &[usize]) -> Arc<dyn TableProvider> {
        let rows = self.batches[0].try_read().unwrap()[0].clone();
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).enumerate().map(|(index, (field, values))| {
            let values = match columns.contains(&index) {
                true => cast(values, &DataType::Utf8View).unwrap(),
                false => Arc::clone(values),
            };
            (field.name().clone(), values, true)
        });
        Arc::new(in_memory(RecordBatch::try_from_iter_with_nullable(columns).unwrap()))
    }
}

fn in_memory(rows: RecordBatch) -> MemTable {
    MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap()
}

/// `t(a, b, n)` and `u(k, b, v)`, with views or without.
fn session(views: bool) -> SessionContext {
    let conf = SparkConf::pipeline_defaults();
    let runtime = Arc::new(RuntimeEnv::default());
    let options = SessionOptions { conf, target_partitions: 1, runtime, extension_planners: Vec::new() };
    let context = session_context(options).unwrap();
    let register = |name: &str, columns: [(&str, [Option<&str>; 5]); 3]| {
        let columns = columns.map(|(name, values)| (name, Arc::new(StringArray::from(values.to_vec())) as _, true));
        let table = in_memory(RecordBatch::try_from_iter_with_nullable(columns).unwrap());
        let provider: Arc<dyn TableProvider> = match views {
            true => Arc::new(TextTable::new(Arc::new(table))),
            false => Arc::new(table),
        };
        context.register_table(name, provider).unwrap();
    };
    let long = Some("a text of more than twelve bytes");
    let t = [
        ("a", [Some("x"), Some("y"), None, long, Some("x")]),
        ("b", [Some("p1"), Some("y"), Some("p2"), Some("q"), None]),
        ("n", [Some("1"), Some("2"), Some("3"), Some("4"), Some("5")]),
    ];
    register("t", t);
    register("u", [("k", [Some("x"), Some("x"), Some("X"), long, None]), t[1], ("v", t[2].1)]);
    context
}

const QUERIES: [&str; 17] = [
    "SELECT a, count(*) AS c FROM t WHERE a IN ('x', 'y') AND b LIKE 'p%' GROUP BY a ORDER BY a",
    "SELECT a, b FROM t WHERE a = b OR a > 'xx' OR 'p2' = b ORDER BY n DESC LIMIT 3",
    "SELECT t.n, u.v FROM t JOIN u ON t.a = u.k AND t.b <> u.v WHERE u.v >= '2' ORDER BY t.n, u.v",
    "SELECT t.n, s.w FROM t JOIN (SELECT lower(k) AS w FROM u) s ON t.a = s.w ORDER BY 1, 2",
    "SELECT t.n, u.v FROM t LEFT JOIN u ON t.a = u.k ORDER BY 1, 2",
    "SELECT n FROM t WHERE a NOT IN (SELECT k FROM u WHERE k IS NOT NULL) ORDER BY n",
    "SELECT upper(a) AS big, a || b AS both FROM t WHERE character_length(a) > 1 ORDER BY n",
    "SELECT n, CASE WHEN a = 'x' THEN b ELSE n END AS c, a IS NULL AS i FROM t ORDER BY n",
    "SELECT a FROM t UNION ALL SELECT k FROM u ORDER BY 1",
    "SELECT n, row_number() OVER (PARTITION BY a ORDER BY b) AS r FROM t ORDER BY n",
    "SELECT n FROM t WHERE a IS NOT DISTINCT FROM b OR a IS NULL ORDER BY n",
    "SELECT a, b, count(n) AS c FROM t GROUP BY GROUPING SETS ((a), (b)) ORDER BY a, b, c",
    "SELECT n FROM t WHERE a = (SELECT max(k) FROM u) ORDER BY n",
    "SELECT DISTINCT a FROM t ORDER BY a",
    "SELECT min(a) AS l, max(b) AS m, count(DISTINCT a) AS d FROM t",
    "SELECT a AS c, max(b) FILTER (WHERE a = 'x') AS m FROM t GROUP BY a HAVING max(b) LIKE 'p_' ORDER BY 1",
    "SELECT * FROM t ORDER BY n",
];

#[tokio::test]
async fn rows_and_types_are_the_same() {
    let (with, without) = (session(true), session(false));
    for query in QUERIES {
        let [one, other] = [with.sql(query).await.unwrap(), without.sql(query).await.unwrap()];
        assert_eq!(one.schema(), other.schema(), "{query}");
        let (plan, expected) = (one.clone().into_optimized_plan().unwrap().to_string(), other.collect().await.unwrap());
        let rows = one.collect().await.unwrap();
        let table = |rows: &[RecordBatch]| pretty_format_batches(rows).unwrap().to_string();
        assert_eq!(table(&rows), table(&expected), "{query}\n{plan}");
        assert!(rows.iter().all(|rows| rows.schema().fields().iter().all(|f| f.data_type() != &DataType::Utf8View)));
    }
}

#[tokio::test]
async fn texts_are_made_where_something_computes() {
    let context = session(true);
    let mut plans = String::new();
    for query in [QUERIES[0], QUERIES[2], QUERIES[3], QUERIES[6], QUERIES[9]] {
        let plan = context.sql(query).await.unwrap().into_optimized_plan().unwrap();
        plans.push_str(&format!("{query}\n{plan}\n\n"));
    }
    insta::assert_snapshot!(plans);
}
