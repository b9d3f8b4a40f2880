//! The plans of the rule, and that their rows are those of the plans without it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;

use super::EagerAggregation;
use crate::conf::SparkConf;
use crate::session::{SessionOptions, session_context};

const ORDERS: i32 = 60_000;
const CUSTOMERS: i32 = 700;

/// Orders of 750 customers and of nobody; 700 customers, of whom ten stand twice, in a thousand of countries.
fn session(ansi: bool) -> SessionContext {
    let mut conf = SparkConf::pipeline_defaults();
    conf.ansi = ansi;
    let options = SessionOptions {
        conf,
        target_partitions: 2,
        runtime: Arc::new(RuntimeEnv::default()),
        extension_planners: Vec::new(),
    };
    let context = session_context(options).unwrap();
    let hashed = |row: i32, modulo: i32| (row.wrapping_mul(2_654_435_i32)).rem_euclid(modulo);
    let orders: Vec<(&str, ArrayRef)> = vec![
        (
            "cid",
            Arc::new(
                (0..ORDERS).map(|row| (row % 97 != 0).then(|| hashed(row, CUSTOMERS + 50))).collect::<Int32Array>(),
            ),
        ),
        (
            "amount",
            Arc::new(
                (0..ORDERS).map(|row| (row % 13 != 0).then(|| i64::from(hashed(row, 1000)))).collect::<Int64Array>(),
            ),
        ),
        ("quantity", Arc::new((0..ORDERS).map(|row| Some(hashed(row, 9))).collect::<Int32Array>())),
        ("price", Arc::new((0..ORDERS).map(|row| Some(f64::from(hashed(row, 800)) / 4.0)).collect::<Float64Array>())),
        (
            "status",
            Arc::new((0..ORDERS).map(|row| Some(["new", "paid"][usize::from(row % 3 == 0)])).collect::<StringArray>()),
        ),
    ];
    let row = |id: i32| if id < CUSTOMERS { id } else { id - CUSTOMERS };
    let customers: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..CUSTOMERS + 10).map(|id| Some(row(id))).collect::<Int32Array>())),
        (
            "name",
            Arc::new(
                (0..CUSTOMERS + 10).map(|id| (id % 50 != 0).then(|| format!("n{}", id % 40))).collect::<StringArray>(),
            ),
        ),
        ("rating", Arc::new((0..CUSTOMERS + 10).map(|id| Some(f64::from(row(id)))).collect::<Float64Array>())),
    ];
    for (name, columns) in [("orders", orders), ("customers", customers)] {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))
                .unwrap();
        let halves = [
            batch.slice(0, batch.num_rows() / 2),
            batch.slice(batch.num_rows() / 2, batch.num_rows() - batch.num_rows() / 2),
        ];
        let table = MemTable::try_new(batch.schema(), halves.into_iter().map(|half| vec![half]).collect()).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

async fn plan(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

/// The rows of the query in some fixed order.
async fn rows(context: &SessionContext, sql: &str) -> Vec<String> {
    let plan = plan(context, sql).await;
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn without_the_rule(context: &SessionContext) -> SessionContext {
    let rules = context
        .state()
        .physical_optimizers()
        .iter()
        .filter(|rule| rule.name() != EagerAggregation.name())
        .cloned()
        .collect();
    let state = datafusion::execution::SessionStateBuilder::new_from_existing(context.state())
        .with_physical_optimizer_rules(rules);
    SessionContext::new_with_state(state.build())
}

fn is_eager(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let (join, first) = (text.find("HashJoinExec"), text.rfind("mode=Partial"));
    join.zip(first).is_some_and(|(join, first)| join < first)
}

const JOIN: &str = "FROM orders o JOIN customers c ON o.cid = c.id";

/// What is selected, and by what it is grouped.
const EAGER: [(&str, &str); 8] = [
    ("c.id, c.name, count(o.amount), sum(o.amount), max(o.status), min(o.price)", "c.id, c.name"),
    ("c.name, count(*), avg(o.amount), avg(o.price)", "c.name"),
    ("o.cid, c.name, sum(o.quantity)", "o.cid, c.name"),
    ("c.id % 7, sum(o.amount * o.quantity)", "c.id % 7"),
    ("upper(c.name), sum(CASE WHEN o.status = 'paid' THEN o.quantity ELSE 0 END)", "upper(c.name)"),
    ("c.name, sum(o.amount) FILTER (WHERE o.quantity > 4), bool_or(o.amount > 990)", "c.name"),
    ("c.name, o.cid + c.id, max(o.amount)", "c.name, o.cid + c.id"),
    ("DISTINCT c.name, o.cid", ""),
];

#[tokio::test]
async fn rows_are_those_of_plans_without_the_rule() {
    let context = session(false);
    let plain = without_the_rule(&context);
    for (select, by) in EAGER {
        let by = if by.is_empty() { String::new() } else { format!("GROUP BY {by}") };
        for filter in ["", "WHERE o.quantity > 3"] {
            let sql = format!("SELECT {select} {JOIN} {filter} {by}");
            assert!(is_eager(&plan(&context, &sql).await), "{sql}");
            assert!(!is_eager(&plan(&plain, &sql).await), "{sql}");
            let expected = rows(&plain, &sql).await;
            assert!(expected.len() > 10, "{sql}");
            assert_eq!(rows(&context, &sql).await, expected, "{sql}");
        }
    }
}

#[tokio::test]
async fn other_queries_are_left_alone() {
    let context = session(false);
    let cases = [
        // The aggregate needs both inputs, or rows of one key are told apart.
        format!("SELECT c.name, sum(o.amount * c.id) {JOIN} GROUP BY c.name"),
        format!("SELECT o.status, sum(o.amount) {JOIN} GROUP BY o.status"),
        format!("SELECT c.name, sum(o.amount) {JOIN} AND o.amount > c.id GROUP BY c.name"),
        format!("SELECT c.name, sum(o.amount) FILTER (WHERE c.id > 5) {JOIN} GROUP BY c.name"),
        // Rows without a partner stay.
        "SELECT c.name, sum(o.amount) FROM orders o LEFT JOIN customers c ON o.cid = c.id GROUP BY c.name".to_owned(),
        // The order of rows matters, or states are large.
        format!("SELECT c.name, array_agg(o.amount) {JOIN} GROUP BY c.name"),
        format!("SELECT c.name, count(DISTINCT o.amount) {JOIN} GROUP BY c.name"),
        // Floating point numbers as keys.
        "SELECT c.name, sum(o.amount) FROM orders o JOIN customers c ON o.price = c.rating GROUP BY c.name".to_owned(),
        // The join may leave most orders out.
        format!("SELECT c.name, sum(o.amount) {JOIN} WHERE c.name = 'n3' GROUP BY c.name"),
        // It may fail for rows that have no partner.
        format!("SELECT c.name, sum(CAST(o.status AS INT)) {JOIN} GROUP BY c.name"),
        // There are not many orders for each customer.
        "SELECT c.name, sum(o.amount) FROM customers o2 JOIN customers c ON o2.id = c.id JOIN orders o ON o.quantity = c.id GROUP BY c.name"
            .to_owned(),
        format!("SELECT sum(o.amount) {JOIN}"),
        format!("SELECT c.name, c.id, sum(o.amount) {JOIN} GROUP BY ROLLUP (c.name, c.id)"),
    ];
    for sql in cases {
        assert!(!is_eager(&plan(&context, &sql).await), "{sql}");
    }
}

#[tokio::test]
async fn sums_that_may_overflow_see_no_other_rows_in_ansi_mode() {
    let context = session(true);
    let eager = async |sql: String| is_eager(&plan(&context, &sql).await);
    assert!(eager(format!("SELECT c.name, sum(o.quantity), max(o.amount), count(*) {JOIN} GROUP BY c.name")).await);
    assert!(!eager(format!("SELECT c.name, sum(o.amount) {JOIN} GROUP BY c.name")).await);
    assert!(!eager(format!("SELECT c.name, max(o.amount * 2) {JOIN} GROUP BY c.name")).await);
}

#[tokio::test]
async fn states_are_made_below_the_join() {
    let context = session(false);
    let sql = format!(
        "SELECT c.id, upper(c.name) AS name, count(*) AS n, sum(o.amount) AS total {JOIN} GROUP BY c.id, upper(c.name)"
    );
    let plan = plan(&context, &sql).await;
    insta::assert_snapshot!(displayable(plan.as_ref()).indent(false).to_string());
}
