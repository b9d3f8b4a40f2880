//! Functions that clients give names: in SQL, and table functions in Python.

use crate::support::Server;

#[test]
fn stored_functions_are_shared_and_temporary_ones_are_not() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
a, b = connect(), connect()
a.sql("CREATE TABLE t AS SELECT * FROM VALUES (1), (5) AS t(id)").collect()
a.sql("CREATE FUNCTION top(least INT DEFAULT 2) RETURNS TABLE (id INT) RETURN SELECT id FROM t WHERE id >= least").collect()
a.sql("CREATE FUNCTION next(x INT) RETURNS INT RETURN x + 1").collect()
a.sql("CREATE TEMPORARY FUNCTION mine(x INT) RETURNS INT RETURN next(x) * 10").collect()
assert [r.id for r in b.sql("SELECT * FROM top()").collect()] == [5]
assert [r.x for r in a.sql("SELECT mine(id) AS x FROM top(least => 1) ORDER BY 1").collect()] == [20, 60]
assert a.catalog.functionExists("mine") and not b.catalog.functionExists("mine") and b.catalog.functionExists("next")
assert b.catalog.getFunction("next").namespace == ["default"]
df = b.table("t")
assert [r[0] for r in df.select(F.call_function("next", F.col("id"))).orderBy("id").collect()] == [2, 6]
assert [r[0] for r in df.selectExpr("default.next(id) AS n").orderBy("n").collect()] == [2, 6]
b.sql("CREATE SCHEMA s").collect()
b.sql("USE s").collect()
assert [r.id for r in b.sql("SELECT * FROM default.top()").collect()] == [5], "t is the one beside the function"
try:
    b.sql("SELECT mine(1)").collect()
    raise SystemExit("known to another session")
except Exception as error:
    assert error.getCondition() == "UNRESOLVED_ROUTINE", error
b.conf.set("spark.sql.ansi.enabled", "false")
try:
    b.sql("SELECT default.next('x')").collect()
    raise SystemExit("read under other settings")
except Exception as error:
    assert "spark.sql.ansi.enabled" in str(error), error
a.sql("DROP FUNCTION next").collect()
assert not a.catalog.functionExists("next")
"#,
    );
}

#[test]
fn table_functions_in_python_have_names_in_sql() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
from pyspark.sql.functions import AnalyzeResult, OrderingColumn, PartitioningColumn, SelectedColumn, udtf
from pyspark.sql.types import IntegerType, StructType

spark = connect()
rows = lambda query: [tuple(row) for row in spark.sql(query).collect()]
spark.sql("CREATE TEMP VIEW v AS SELECT * FROM VALUES ('a', 1), ('b', 5), ('a', 3) AS t(k, x)")

@udtf(returnType="word: string")
class Words:
    def eval(self, text: str):
        for word in text.split():
            yield word,
    def terminate(self):
        yield "end",

@udtf(returnType="k: string, n: int, first: int")
class Count:
    def __init__(self):
        self.seen = []
    def eval(self, row):
        self.seen.append(row)
    def terminate(self):
        yield self.seen[0]["k"], len(self.seen), self.seen[0]["x"]

@udtf
class Columns:
    @staticmethod
    def analyze(n, prefix):
        schema = StructType()
        for i in range(n.value):
            schema = schema.add(f"{prefix.value}{i}", IntegerType())
        return AnalyzeResult(schema)
    def eval(self, n, prefix):
        yield tuple(range(n))

@udtf
class Totals:
    def __init__(self, analysis):
        self.schema, self.total = analysis.schema, []
    @staticmethod
    def analyze(table):
        schema = StructType().add("k", "string").add("seen", "string")
        by, order = [PartitioningColumn("k")], [OrderingColumn("x", ascending=False)]
        return AnalyzeResult(schema, partitionBy=by, orderBy=order, select=[SelectedColumn("k"), SelectedColumn("x + 1", "y")])
    def eval(self, row):
        self.k = row["k"]
        self.total.append(str(row["y"]))
    def terminate(self):
        yield self.k, ",".join(self.total)

for name, function in {"words": Words, "counted": Count, "cols": Columns, "totals": Totals}.items():
    spark.udtf.register(name, function)
assert rows("SELECT * FROM words('x y')") == [("x",), ("y",), ("end",)]
texts = "VALUES ('a b'), (''), ('c') AS t(s)"
assert rows(f"SELECT s, w.word FROM {texts}, LATERAL words(s) AS w") == [("a b", "a"), ("a b", "b"), ("c", "c"), ("c", "end")]
assert rows(f"SELECT s, w FROM {texts} LEFT JOIN LATERAL words(s) AS q(w) ON TRUE WHERE w IS NULL") == [("", None)]
assert rows("SELECT * FROM counted(TABLE(v) PARTITION BY k ORDER BY x DESC) ORDER BY k") == [("a", 2, 3), ("b", 1, 5)]
assert rows("SELECT * FROM counted(row => TABLE(SELECT k, x + 1 AS x FROM v) WITH SINGLE PARTITION ORDER BY (x))") == [("a", 3, 2)]
assert spark.sql("SELECT * FROM cols(1 + 1, prefix => 'é')").columns == ["é0", "é1"]
assert rows("SELECT * FROM totals(TABLE(v)) ORDER BY k") == [("a", "4,2"), ("b", "6")]
for query, condition in {
    "SELECT * FROM totals(TABLE(v) PARTITION BY x)": "TABLE_VALUED_FUNCTION_REQUIRED_METADATA_INCOMPATIBLE_WITH_CALL",
    "SELECT * FROM counted(TABLE(v), TABLE(v))": "TABLE_VALUED_FUNCTION_TOO_MANY_TABLE_ARGUMENTS",
    "SELECT * FROM cols('x', 'y')": "TABLE_VALUED_FUNCTION_FAILED_TO_ANALYZE_IN_PYTHON",
    "SELECT * FROM nosuch(1)": "UNRESOLVABLE_TABLE_VALUED_FUNCTION",
}.items():
    try:
        rows(query)
        raise SystemExit(f"not refused: {query}")
    except Exception as error:
        assert error.getCondition() == condition, error
assert rows("SHOW USER FUNCTIONS LIKE 'words'") == [("words",)]
spark.sql("DROP TEMPORARY FUNCTION words")
assert rows("SHOW USER FUNCTIONS LIKE 'words'") == []
"#,
    );
}

#[test]
fn records_of_other_formats_are_read_and_written_by_dataframes() {
    let server = Server::start(&[], &[]);
    let descriptor = concat!(env!("CARGO_MANIFEST_DIR"), "/../spark/src/functions/protobuf/tests/messages.desc");
    let script = r#"
from pyspark.sql import Row
from pyspark.sql.avro.functions import from_avro, to_avro
from pyspark.sql.protobuf.functions import from_protobuf, to_protobuf

spark = connect()
df = spark.createDataFrame([(1, Row(age=2, name="Alice"))], ("key", "value"))
avro = df.select(to_avro(df.value).alias("avro"))
assert avro.collect() == [Row(avro=b"\x00\x00\x04\x00\nAlice")], avro.collect()
schema = """[{"type": "record", "name": "value", "fields": [
    {"name": "age", "type": ["long", "null"]}, {"name": "name", "type": ["string", "null"]}]}, "null"]"""
read = avro.select(from_avro("avro", schema, {"mode": "PERMISSIVE"}).alias("v"))
assert read.collect() == [Row(v=Row(age=2, name="Alice"))], read.collect()
suits = spark.createDataFrame(["SPADES"], "string")
suit = '["null", {"type": "enum", "name": "value", "symbols": ["SPADES", "HEARTS"]}]'
assert suits.select(to_avro("value", suit).alias("suit")).collect() == [Row(suit=b"\x02\x00")]
# What is put together is never NULL, so there is no union around it.
assert df.select(to_avro(F.struct(F.lit(1).alias("a"))).alias("s")).collect() == [Row(s=b"\x02")]

rows = [Row(value=Row(text="x", numbers=[1, 2])), Row(value=Row(text="", numbers=[])), Row(value=None)]
df = spark.createDataFrame(rows, "value STRUCT<text: STRING, numbers: ARRAY<INT>>")
messages = df.select(to_protobuf("value", "Inner", descFilePath=DESCRIPTOR).alias("m"))
assert messages.collect() == [Row(m=b"\n\x01x\x12\x02\x01\x02"), Row(m=b""), Row(m=None)], messages.collect()
with open(DESCRIPTOR, "rb") as file:
    read = from_protobuf("m", "deltaworks.test.Inner", binaryDescriptorSet=file.read(), options={"emit.default.values": "true"})
assert messages.select(read.alias("value")).collect() == rows

df = spark.createDataFrame([("<p><a>1</a></p>",)], ["x"])
read = df.select(F.from_xml("x", F.schema_of_xml("<p><a>1</a></p>"), {"mode": "FAILFAST"}).alias("v"))
assert read.collect() == [Row(v=Row(a=1))], read.collect()
assert read.select(F.to_xml("v", {"rowTag": "r", "indent": ""}).alias("t")).collect() == [Row(t="<r><a>1</a></r>\n")]

for wrong, says in [
    (lambda: spark.range(1).select(F.theta_sketch_agg("id")).collect(), "`theta_sketch_agg` is not supported"),
    (lambda: spark.sql("SELECT st_srid(X'00')").collect(), "`st_srid` is not supported"),
    (lambda: spark.sql("SELECT 'x' COLLATE UTF8_LCASE").collect(), "`UTF8_LCASE` is not supported"),
    (lambda: spark.range(1).writeTo("t").partitionedBy(F.partitioning.days("id")).create(), "`days` is not supported"),
    (lambda: avro.select(from_protobuf("avro", "com.example.Message")).collect(), "Java class"),
]:
    try:
        wrong()
    except Exception as error:
        assert says in str(error), error
    else:
        raise SystemExit(f"no error: {says}")
"#;
    server.check(&script.replace("DESCRIPTOR", &format!("{descriptor:?}")));
}
