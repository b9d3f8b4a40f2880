//! `deltaworks connect` as a process, with the stock PySpark client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod dml;
mod functions;
mod processors;
mod progress;
mod rust_client;
mod sessions;
mod spark_pipelines;
mod support;
mod tls;
mod transport;
mod workers;

use std::path::Path;
use std::process::Command;

use support::{Server, assert_done, python};

#[test]
fn tables_and_views_are_shared_and_sessions_are_not() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
a, b = connect(), connect()
a.sql("CREATE TABLE t (id INT, name STRING) PARTITIONED BY (name)").collect()
a.createDataFrame([(1, "x"), (2, "y")], "id int, name string").write.insertInto("t")
a.sql("INSERT INTO t (name, id) VALUES ('z', 3)").collect()
assert [tuple(r) for r in b.table("t").orderBy("id").collect()] == [(1, "x"), (2, "y"), (3, "z")]
a.sql("CREATE VIEW v AS SELECT id + 1 AS next FROM t").collect()
assert sorted(r.next for r in b.table("v").collect()) == [2, 3, 4]
a.sql("CREATE SCHEMA s").collect()
a.sql("USE s").collect()
assert (a.catalog.currentDatabase(), b.catalog.currentDatabase()) == ("s", "default")
a.range(3).write.saveAsTable("u")
assert b.table("s.u").count() == 3 and not b.catalog.tableExists("u")
a.range(1).createTempView("mine")
assert a.catalog.tableExists("mine") and not b.catalog.tableExists("mine")
a.range(2).createGlobalTempView("ours")
assert b.table("global_temp.ours").count() == 2
a.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
assert b.conf.get("spark.sql.session.timeZone") != "Asia/Tokyo"
assert [r.tableName for r in b.sql("SHOW TABLES").collect()] == ["t", "v"]
b.sql("DROP TABLE t").collect()
assert not b.catalog.tableExists("t")
"#,
    );
}

#[test]
fn datasets_with_a_place_of_their_own_are_known_and_not_shadowed() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = "CREATE OR REFRESH MATERIALIZED VIEW away LOCATION 'elsewhere/away' AS SELECT 7 AS n;";
    std::fs::write(folder.path().join("pipeline.sql"), pipeline).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_deltaworks")).arg("run").current_dir(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Server::start_in(folder, &[], &[]).check(
        r#"
a = connect()
assert a.catalog.tableExists("away")
try:
    a.range(3).write.mode("overwrite").saveAsTable("away")
    raise AssertionError("a client has written a dataset")
except Exception as error:
    assert "is a dataset of the pipeline" in str(error), error
assert [r.n for r in a.table("away").collect()] == [7]
"#,
    );
}

#[test]
fn views_that_the_pipeline_publishes_are_read_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = "CREATE MATERIALIZED VIEW t AS SELECT 7 AS n, 'x' AS s;
                    CREATE VIEW v (number) AS SELECT CAST(s AS INT) IS NULL AND n = 7 FROM t;
                    CREATE TEMPORARY VIEW hidden AS SELECT 1 AS one;";
    std::fs::write(folder.path().join("pipeline.sql"), pipeline).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_deltaworks")).arg("run").current_dir(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Server::start_in(folder, &[], &[]).check(
        r#"
a = connect()
# A session has ANSI mode, the pipeline had not.
assert [r.number for r in a.table("v").collect()] == [True]
assert [r.viewName for r in a.sql("SHOW VIEWS").collect()] == ["v"]
assert not a.catalog.tableExists("hidden")
assert [r.col_name for r in a.sql("DESCRIBE v").collect()] == ["number"]
a.sql("CREATE VIEW w AS SELECT NOT number AS n FROM v").collect()
assert [r.n for r in a.table("w").collect()] == [False]
for statement in ["DROP VIEW v", "CREATE OR REPLACE VIEW v AS SELECT 1 AS one"]:
    try:
        a.sql(statement).collect()
        raise SystemExit("a client has changed a view of the pipeline")
    except Exception as error:
        assert "is published by the pipeline" in str(error), error
"#,
    );
}

#[test]
fn errors_have_sparks_classes_and_details() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
from pyspark.errors import AnalysisException, ArithmeticException, NumberFormatException, ParseException
spark = connect()
def fails(kind, condition, sql):
    try:
        spark.sql(sql).collect()
    except kind as error:
        assert error.getCondition() == condition, error
        return error
    raise SystemExit(f"no error: {sql}")
fails(ArithmeticException, "DIVIDE_BY_ZERO", "SELECT 1 / 0")
fails(NumberFormatException, "CAST_INVALID_INPUT", "SELECT CAST('a' AS INT)")
fails(ParseException, "PARSE_SYNTAX_ERROR", "SELECT FROM WHERE")
misspelt = fails(ParseException, "PARSE_SYNTAX_ERROR", "\n  SELEC 1")
assert "syntax error at or near `SELEC` (line 2, pos 2)" in str(misspelt), misspelt
missing = fails(AnalysisException, "TABLE_OR_VIEW_NOT_FOUND", "DROP TABLE nothing")
assert missing.getSqlState() == "42P01", missing.getSqlState()
assert missing.getMessageParameters() == {"relationName": "nothing"}, missing.getMessageParameters()
spark.conf.set("spark.sql.ansi.enabled", "false")
assert spark.sql("SELECT 1 / 0 AS x").first().x is None
spark.conf.unset("spark.sql.ansi.enabled")
fails(ArithmeticException, "DIVIDE_BY_ZERO", "SELECT 1 / 0")
"#,
    );
}

#[test]
fn a_query_is_interrupted() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import threading
from pyspark.errors import PySparkException
spark = connect()
ended = []
def run():
    spark.addTag("long")
    try:
        spark.range(10**13).select(F.sum(F.col("id") % 7)).collect()
    except PySparkException as error:
        ended.append(error)
thread = threading.Thread(target=run)
thread.start()
while not spark.interruptTag("long"):
    pass
thread.join(60)
assert ended and "OPERATION_CANCELED" in str(ended[0]), ended
assert spark.range(3).count() == 3
"#,
    );
}

#[test]
fn files_are_written_and_read_back() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import os, tempfile
spark = connect()
df = spark.createDataFrame([(1, "a,b", 1.5), (2, None, None), (3, "x\"y", 0.0)], "id int, s string, d double")
with tempfile.TemporaryDirectory() as folder:
    for format, options in [("parquet", {}), ("json", {}), ("csv", {"header": True})]:
        path = os.path.join(folder, format)
        df.write.format(format).options(**options).save(path)
        back = spark.read.format(format).options(**options).schema(df.schema).load(path)
        assert [tuple(r) for r in back.orderBy("id").collect()] == [tuple(r) for r in df.collect()], format
    path = os.path.join(folder, "parts")
    df.write.partitionBy("id").parquet(path)
    df.write.mode("append").partitionBy("id").parquet(path)
    assert sorted(os.listdir(path)) == ["_SUCCESS", "id=1", "id=2", "id=3"], os.listdir(path)
    assert spark.read.parquet(path).filter("id = 1").count() == 2
    df.limit(1).write.mode("overwrite").parquet(path)
    assert spark.read.parquet(path).count() == 1
    try:
        df.write.parquet(path)
        raise SystemExit("written twice")
    except Exception as error:
        assert "PATH_ALREADY_EXISTS" in str(error), error
"#,
    );
}

#[test]
fn functions_in_python_run_in_workers() {
    let python = python();
    let server = Server::start(&[], &[("DELTAWORKS_PYTHON", &python)]);
    server.check(
        r#"
import pandas as pd
from pyspark.errors import PythonException
spark = connect()
df = spark.createDataFrame([(1, "a"), (2, None)], "id int, s string")
shout = F.udf(lambda s, n: None if s is None else s.upper() * n, "string")
assert [r[0] for r in df.select(shout("s", F.lit(2))).collect()] == ["AA", None]
@F.pandas_udf("long")
def plus(a: pd.Series, b: pd.Series) -> pd.Series:
    return a + b
assert [r[0] for r in df.select(plus("id", F.lit(1))).collect()] == [2, 3]
spark.udf.register("twice", lambda i: i * 2, "int")
assert [r[0] for r in spark.sql("SELECT twice(id) FROM {df} ORDER BY id", df=df).collect()] == [2, 4]
try:
    def divides(i):
        return 1 // 0
    df.select(F.udf(divides, "int")("id")).collect()
    raise SystemExit("no error")
except PythonException as error:
    assert "ZeroDivisionError" in str(error), error
    assert "Traceback (most recent call last)" in str(error) and "in divides" in str(error), error
assert df.select(shout("s", F.lit(1))).count() == 2
"#,
    );
}

#[test]
fn the_token_is_required() {
    let server = Server::start(&[], &[("DELTAWORKS_CONNECT_TOKEN", "secret")]);
    let script = "assert connect().range(2).count() == 2";
    assert_done(&server.client(script, &[("SPARK_CONNECT_AUTHENTICATE_TOKEN", "secret")]));
    let refused = server.client(script, &[("SPARK_CONNECT_AUTHENTICATE_TOKEN", "wrong")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the token is missing or wrong"));
}

#[cfg(unix)]
#[test]
fn termination_ends_the_server_in_order() {
    let server = Server::start(&[], &[]);
    server.check("assert connect().range(2).count() == 2");
    assert!(server.terminate());
}

#[test]
fn another_address_needs_a_token() {
    let output = Command::new(env!("CARGO_BIN_EXE_deltaworks"))
        .args(["connect", "--host", "0.0.0.0", "--port", "0"])
        .env_remove("DELTAWORKS_CONNECT_TOKEN")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a token"));
}
