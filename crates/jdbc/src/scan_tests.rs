//! Statements that scans send, and rows they get, with SQLite, which needs no server.

use std::path::Path;

use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Kind, Result};
use tempfile::TempDir;

use crate::JDBC;
use crate::options::PathMapper;

struct Database {
    folder: TempDir,
}

impl Database {
    fn new(statements: &str) -> Self {
        let database = Self { folder: tempfile::tempdir().unwrap() };
        let connection = rusqlite::Connection::open(database.path()).unwrap();
        connection.execute_batch(statements).unwrap();
        database
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("shop.db")
    }

    async fn context(&self, options: &[(&str, &str)], predicates: &[&str]) -> Result<SessionContext> {
        let mut given: ReadOptions = options.iter().copied().collect();
        given.set("url", format!("jdbc:sqlite:{}", self.path().display()));
        given.set_predicates(&predicates.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let paths: PathMapper = std::sync::Arc::new(|path| Ok(path.to_owned()));
        let provider = crate::provider(None, &given, &SparkConf::pipeline_defaults(), &paths).await?;
        let ctx = SessionContext::new();
        ctx.register_table("t", provider)?;
        Ok(ctx)
    }

    /// The statements that a query sends, one a line.
    async fn statements(&self, options: &[(&str, &str)], query: &str) -> String {
        let ctx = self.context(options, &[]).await.unwrap();
        let plan = ctx.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        let scan = shown.lines().find(|line| line.contains("JdbcExec")).unwrap().trim();
        let place = self.path().display().to_string();
        scan.split_once("statements=").unwrap().1.replace("; ", "\n").replace(&place, "shop.db")
    }

    /// The rows of a query.
    async fn rows(&self, options: &[(&str, &str)], query: &str) -> Result<String> {
        let batches = self.context(options, &[]).await?.sql(query).await?.collect().await?;
        Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
    }
}

const ORDERS: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL(10, 2), weight REAL, paid BOOLEAN, day DATE, at TIMESTAMP, raw BLOB);
    INSERT INTO orders VALUES
      (1, 'Zoë', 10.5, 0.1, 1, '2024-01-31', '2024-01-31 12:30:00.5', x'00ff'),
      (9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      (-9223372036854775808, '日本', '99999999.99', 1e300, 0, '0001-01-01', '9999-12-31 23:59:59.999999', x'');";

#[tokio::test]
async fn projections_filters_and_limits_are_sent() {
    let database = Database::new(ORDERS);
    let table = [("dbtable", "orders")];
    let shown = [
        "SELECT id FROM t WHERE id > 5 AND weight <= 0.5",
        "SELECT name FROM t WHERE name = 'Zoë' LIMIT 1",
        "SELECT id, name FROM t WHERE id IN (1, 2) OR name IS NULL LIMIT 2",
        "SELECT count(*) FROM t",
        "SELECT id FROM t WHERE upper(name) = 'X' LIMIT 1",
        "SELECT id FROM t WHERE NOT (id = 1 OR weight > 2)",
    ];
    let mut sent = Vec::new();
    for query in shown {
        sent.push(format!("{query}\n    {}", database.statements(&table, query).await));
    }
    insta::assert_snapshot!(sent.join("\n"));
    let off = [table[0], ("pushDownPredicate", "false"), ("pushDownLimit", "false")];
    let sent = database.statements(&off, "SELECT id FROM t WHERE id > 5 LIMIT 1").await;
    assert_eq!(sent, "[SELECT \"id\" FROM orders]");
}

#[tokio::test]
async fn queries_and_partitions_are_sent() {
    let database = Database::new(ORDERS);
    let query = [("query", "SELECT id FROM orders"), ("prepareQuery", "WITH x AS (SELECT 1)")];
    let sent = database.statements(&query, "SELECT * FROM t").await;
    assert_eq!(sent, "[WITH x AS (SELECT 1) SELECT \"id\" FROM (SELECT id FROM orders) SPARK_GEN_SUBQ_0]");
    let parts = [
        ("dbtable", "orders"),
        ("partitionColumn", "id"),
        ("lowerBound", "0"),
        ("upperBound", "10"),
        ("numPartitions", "2"),
    ];
    let sent = database.statements(&parts, "SELECT name FROM t WHERE id <> 3").await;
    assert_eq!(
        sent,
        "[SELECT \"name\" FROM orders WHERE (\"id\" <> 3) AND (\"id\" < 5 OR \"id\" IS NULL)\nSELECT \"name\" FROM orders WHERE (\"id\" <> 3) AND (\"id\" >= 5)]"
    );
    let ctx = database.context(&[("dbtable", "orders")], &["id < 0", "id = 1"]).await.unwrap();
    let batches = ctx.sql("SELECT id FROM t ORDER BY id").await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn values_of_all_types() {
    let database = Database::new(ORDERS);
    let shown = database.rows(&[("dbtable", "orders")], "SELECT * FROM t ORDER BY id").await.unwrap();
    insta::assert_snapshot!(shown);
    let custom = [("dbtable", "orders"), ("customSchema", "ID DECIMAL(38, 0), weight STRING")];
    let types = database.rows(&custom, "SELECT arrow_typeof(id), arrow_typeof(weight) FROM t LIMIT 1").await.unwrap();
    assert!(types.contains("Decimal128(38, 0)") && types.contains("Utf8"), "{types}");
    let untyped = database.rows(&[("query", "SELECT count(*) AS n, 'x' AS s FROM orders")], "SELECT * FROM t").await;
    assert_eq!(untyped.unwrap(), "+---+---+\n| n | s |\n+---+---+\n| 3 | x |\n+---+---+");
}

#[tokio::test]
async fn each_row_is_read_once_whatever_the_parts() {
    let numbers = (-50..50).map(|n| format!("({n})")).collect::<Vec<_>>().join(",");
    let database = Database::new(&format!("CREATE TABLE n (id INTEGER); INSERT INTO n VALUES (NULL), {numbers};"));
    for (lower, upper, partitions) in [(0, 10, 3), (-60, 60, 7), (-5, -4, 9), (100, 200, 5), (0, 0, 4)] {
        let (lower, upper, partitions) = (lower.to_string(), upper.to_string(), partitions.to_string());
        let parts = [
            ("dbtable", "n"),
            ("partitionColumn", "id"),
            ("lowerBound", lower.as_str()),
            ("upperBound", &upper),
            ("numPartitions", &partitions),
        ];
        let counts = "SELECT count(*) AS n, count(DISTINCT id) AS d, sum(id) AS s FROM t";
        let rows = database.rows(&parts, counts).await.unwrap();
        assert!(rows.contains("| 101 | 100 | -50 |"), "{lower} {upper} {partitions}\n{rows}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let database = Database::new("CREATE TABLE t (a INT, b DATE); INSERT INTO t VALUES ('abc', 'never');");
    let failure = async |options: &[(&str, &str)], query: &str| database.rows(options, query).await.unwrap_err();
    let error = failure(&[("dbtable", "nobody")], "SELECT 1").await;
    assert_eq!(error.condition(), Some("TABLE_OR_VIEW_NOT_FOUND"));
    assert!(error.message().ends_with("has no such table: no such table: nobody"), "{error}");
    let error = failure(&[("query", "SELECT FROM FROM")], "SELECT 1").await;
    assert!(error.message().contains("refuses the statement"), "{error}");
    let error = failure(&[("dbtable", "t")], "SELECT a FROM t").await;
    assert_eq!((error.kind(), error.message()), (Kind::Data, "column `a` has a value `abc` that is no INT"));
    let error = failure(&[("dbtable", "t")], "SELECT b FROM t").await;
    assert_eq!(error.message(), "column `b` has a value `never` that is no DATE");
    std::fs::remove_file(database.path()).unwrap();
    let error = failure(&[("dbtable", "t")], "SELECT 1").await;
    assert_eq!(error.condition(), Some("PATH_NOT_FOUND"));
    assert!(!Path::new(&database.path()).exists());
    assert_eq!(JDBC, "jdbc");
}
