//! The stock PySpark client against the service, with a host that keeps its tables in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{AnalysisContext, ConnectHost, ConnectSession, PipelineReply, Purpose};
use deltaworks_spark::connect::{proto, service};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::session::{SessionOptions, session_context};
use parking_lot::Mutex;

struct Nothing;

#[async_trait]
impl RelationResolver for Nothing {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        Err(Error::user(format!("nothing to read: {request:?}")).with_condition("TABLE_OR_VIEW_NOT_FOUND"))
    }
}

struct Memory(Mutex<SparkConf>);

#[async_trait]
impl ConnectHost for Memory {
    async fn session(&self, _: &str, _: &str) -> Result<Arc<dyn ConnectSession>> {
        Ok(Arc::new(Self(Mutex::new(SparkConf::pipeline_defaults()))))
    }

    async fn release(&self, _: &str, _: &str) {}
}

#[async_trait]
impl ConnectSession for Memory {
    fn context(&self) -> SessionContext {
        session_context(SessionOptions {
            conf: self.conf(),
            target_partitions: 2,
            runtime: Default::default(),
            extension_planners: Vec::new(),
        })
        .unwrap()
    }

    fn resolver(&self, _: Purpose, _: Option<&AnalysisContext>) -> Arc<dyn RelationResolver> {
        Arc::new(Nothing)
    }

    fn conf(&self) -> SparkConf {
        self.0.lock().clone()
    }

    fn set_conf(&self, key: &str, value: &str) -> Result<()> {
        self.0.lock().set(key, value)
    }

    fn unset_conf(&self, key: &str) -> Result<()> {
        self.0.lock().all.remove(key);
        Ok(())
    }

    async fn pipeline_command(&self, _: &proto::PipelineCommand, _: Option<&AnalysisContext>) -> Result<PipelineReply> {
        Err(Error::unsupported("a pipeline in this test"))
    }
}

const SCRIPT: &str = r#"
from pyspark.errors import AnalysisException
from pyspark.sql import Window, functions as F
from pyspark.sql.connect.session import SparkSession
spark = SparkSession.builder.remote("sc://localhost:PORT").getOrCreate()
df = spark.createDataFrame([(1, "a", 2.0), (2, "b", 3.0), (2, "c", None)], "id int, name string, x double")
assert df.columns == ["id", "name", "x"], df.columns
assert [r.n for r in df.groupBy("id").agg(F.count("*").alias("n")).orderBy("id").collect()] == [1, 2]
assert df.filter(F.col("x").isNull()).count() == 1
assert [r.y for r in df.withColumn("y", F.col("id") + 1).orderBy("name").collect()] == [2, 3, 3]
j = df.join(df.alias("b").select(F.col("b.id").alias("k"), "name"), df["name"] == F.col("b.name"))
joined = df.alias("l").join(df.alias("r"), F.col("l.name") == F.col("r.name"))
assert joined.columns == ["id", "name", "x"] * 2, joined.columns
assert joined.select("l.id").count() == 3
assert df.join(df.select("id", F.lit(1).alias("one")), "id", "left").count() == 5
assert sorted(r.col for r in df.groupBy().agg(F.collect_list("id").alias("l")).select(F.explode("l")).collect()) == [1, 2, 2]
assert df.selectExpr("id * 2 as d", "upper(name)").orderBy("d").first()[0] == 2
w = Window.partitionBy("id").orderBy("name")
assert [r.n for r in df.withColumn("n", F.row_number().over(w)).orderBy("name").collect()] == [1, 1, 2]
assert df.unionByName(df).count() == 6
df.createOrReplaceTempView("v")
assert spark.sql("SELECT count(*) AS c FROM v").collect()[0].c == 3
assert spark.range(10).limit(3).count() == 3
few = spark.createDataFrame([(1,), (2,)], "k int")
assert [tuple(r) for r in df.select("name").crossJoin(few).take(3)] == [("a", 1), ("a", 2), ("b", 1)]
pairs = F.create_map(F.lit("a"), F.array(F.lit(1), F.lit(2)))
assert spark.sql("SELECT element_at(:m, 'a') AS c", args={"m": pairs}).first().c == [1, 2]
assert [tuple(r) for r in spark.sql("SELECT ?, ?", args=[F.lit(1), F.struct(F.lit("x"))]).collect()] == [(1, ("x",))]
try:
    spark.sql("SELECT :x", args={"x": F.upper(F.lit("a"))}).collect()
    raise SystemExit("no error")
except AnalysisException as error:
    assert error.getCondition() == "INVALID_SQL_ARG", error
words = spark.tvf.sql_keywords()
assert words.columns == ["keyword", "reserved"] and words.filter("keyword = 'SELECT'").count() == 1
assert spark.sql("SELECT NAME FROM collations()").first().NAME == "UTF8_BINARY"
assert df.select(df.colRegex("`(ID|x)?+.+`")).columns == ["name"]
texts = spark.createDataFrame([('{"a": 1, "b": {"c": "x"}}',), ("",), (None,), ('{"a": 2.5}',)], "t string")
read = spark.read.json(texts)
assert read.schema.simpleString() == "struct<a:double,b:struct<c:string>>", read.schema
assert [(r.a, r.b and r.b.c) for r in read.collect()] == [(1.0, "x"), (2.5, None)]
broken = spark.read.json(spark.createDataFrame([("{",), ('{"a": 1}',)], "t string"))
assert [tuple(r) for r in broken.collect()] == [("{", None), (None, 1)], broken.collect()
lines = spark.createDataFrame([("1;x",), ("2;",)], "t string")
assert [tuple(r) for r in spark.read.csv(lines, "n int, s string", sep=";").collect()] == [(1, "x"), (2, None)]
drawn = [r.id for r in spark.range(0, 20, 1, 1).sample(True, 1.5, 42).collect()]
assert drawn == [int(i) for i in "1 2 3 4 5 6 7 7 7 8 8 8 9 10 10 11 11 11 11 13 16 17 17 17 18 18 18 18 19".split()], drawn
kept = df.withColumn("r", F.expr("rand()")).cache()
first = [r.r for r in kept.collect()]
assert [r.r for r in kept.collect()] == first
assert [r.r for r in kept.filter("id = 2").select("r").collect()] == first[1:]
assert kept.join(kept.select("name", F.col("r").alias("s")), "name").filter("r = s").count() == 3
assert kept.storageLevel.useMemory
spark.catalog.refreshByPath("/nowhere")
again = [r.r for r in kept.collect()]
assert again != first
kept.unpersist()
assert [r.r for r in kept.collect()] != again and not kept.storageLevel.useMemory
try:
    df.select("nope").columns
    raise SystemExit("no error")
except AnalysisException as error:
    assert "UNRESOLVED_COLUMN" in str(error), error
df.show()
print("OK")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn stock_client_runs_dataframe_code() {
    let home = std::env::var("HOME").unwrap_or_default();
    let python =
        std::env::var("DELTAWORKS_TEST_PYTHON").unwrap_or_else(|_| format!("{home}/.cache/deltaworks/venv/bin/python"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = Arc::new(Memory(Mutex::new(SparkConf::pipeline_defaults())));
    let server = tokio::spawn(service::serve(host, listener, "secret".to_owned(), std::future::pending()));
    // A file, because the client takes `python -c` for a doctest.
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("client.py");
    std::fs::write(&script, SCRIPT.replace("PORT", &port.to_string())).unwrap();
    let output = tokio::process::Command::new(&python)
        .arg(&script)
        .env("SPARK_CONNECT_MODE_ENABLED", "1")
        .env("SPARK_CONNECT_AUTHENTICATE_TOKEN", "secret")
        .output()
        .await
        .expect("DELTAWORKS_TEST_PYTHON must name a Python with pyspark-client");
    server.abort();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.trim().ends_with("OK"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
