//! Statements that change rows of tables, as stock PySpark sends them.

use std::path::Path;
use std::process::Command;

use super::support::Server;

const HELPERS: &str = r#"
spark = connect()
def rows(table, order="1, 2"):
    return [tuple(r) for r in spark.sql(f"SELECT * FROM {table} ORDER BY {order}").collect()]
def run(statement):
    return [tuple(r) for r in spark.sql(statement).collect()]
def version(table):
    return spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").first().version
def last(table):
    return spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").first()
def fails(condition, statement, *parts):
    try:
        spark.sql(statement).collect()
    except Exception as error:
        assert f"[{condition}]" in str(error), error
        for part in parts:
            assert part in str(error), (part, error)
        return
    raise SystemExit(f"no error: {statement}")
"#;

fn check(script: &str) {
    Server::start(&[], &[]).check(&format!("{HELPERS}{script}"));
}

#[test]
fn rows_are_deleted() {
    check(
        r#"
run("CREATE TABLE t (id INT, p STRING) PARTITIONED BY (p)")
run("INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'b'), (4, NULL)")
assert spark.sql("DELETE FROM t WHERE id > 100").columns == ["num_affected_rows"]
assert version("t") == 1, "nothing was affected"
assert run("DELETE FROM t x WHERE x.id = 2 OR x.p <> 'a' AND x.id IS NULL") == [(1,)]
assert rows("t") == [(1, "a"), (3, "b"), (4, None)]
entry = last("t")
assert (entry.operation, entry.operationParameters["predicate"]) == (
    "DELETE", "[\"x.id = 2 OR x.p <> 'a' AND x.id IS NULL\"]"), entry
metrics = entry.operationMetrics
assert (metrics["numDeletedRows"], metrics["numCopiedRows"]) == ("1", "1"), metrics
assert (metrics["numRemovedFiles"], metrics["numAddedFiles"]) == ("1", "1"), metrics
# Whole partitions go without any file being written.
assert run("DELETE FROM t WHERE p = 'b'") == [(1,)]
assert last("t").operationMetrics["numAddedFiles"] == "0"
# A condition that is NULL is for no row.
assert run("DELETE FROM t WHERE p = NULL") == [(0,)]
run("CREATE TABLE gone AS SELECT 4 AS id")
assert run("DELETE FROM t WHERE id IN (SELECT id FROM gone)") == [(1,)]
run("INSERT INTO t VALUES (5, 'e'), (6, 'f'), (7, 'g')")
assert run("DELETE FROM t WHERE EXISTS (SELECT 1 FROM gone WHERE gone.id + 1 = t.id)") == [(1,)]
assert run("DELETE FROM default.t WHERE default.t.id = (SELECT max(id) FROM t)") == [(1,)]
assert rows("t") == [(1, "a"), (6, "f")]
assert run("DELETE FROM t") == [(2,)]
assert rows("t") == [] and last("t").operationMetrics["numDeletedRows"] == "2"
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "DELETE FROM t\nWHERE ix = 1", "(line 2, pos 6)", "`id`")
fails("TABLE_OR_VIEW_NOT_FOUND", "DELETE FROM nothing")
fails("UNSUPPORTED_EXPR_FOR_OPERATOR", "DELETE FROM t WHERE count(*) > 1", "(line 1, pos 20)")
fails("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN", "DELETE FROM t WHERE id")
spark.range(1).createTempView("w")
fails("EXPECT_TABLE_NOT_VIEW.NO_ALTERNATIVE", "DELETE FROM w")
"#,
    );
}

#[test]
fn rows_are_updated() {
    check(
        r#"
run("CREATE TABLE t (id INT NOT NULL, s STRUCT<a: INT, b: STRUCT<c: STRING, d: INT>>, n DECIMAL(4, 1), at DATE)")
run("INSERT INTO t SELECT 1, struct(1, struct('x', 1)), 1.5, DATE '2026-01-01'")
run("INSERT INTO t SELECT 2, struct(2, struct('y', 2)), 2.5, NULL")
assert run("UPDATE t SET n = id * 10, t.s.b.c = upper(s.b.c), at = DEFAULT WHERE id = 1") == [(1,)]
assert rows("t", "id")[0][1:] == ((1, ("X", 1)), 10, None), rows("t", "id")
assert last("t").operation == "UPDATE" and last("t").operationMetrics["numUpdatedRows"] == "1"
assert last("t").operationMetrics["numRemovedFiles"] == "1"
run("CREATE TABLE other AS SELECT 2 AS id, 'z' AS c")
assert run("UPDATE t AS x SET s.b.c = (SELECT max(c) FROM other WHERE other.id = x.id) WHERE id IN (SELECT id FROM other)") == [(1,)]
assert [r.c for r in spark.sql("SELECT s.b.c FROM t ORDER BY id").collect()] == ["X", "z"]
before = version("t")
# What a value is made of is looked at in rows that change only.
assert run("UPDATE t SET n = 1 / (id - 1) WHERE id = 2") == [(1,)]
fails("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION", "UPDATE t SET n = 123456")
fails("CAST_INVALID_INPUT", "UPDATE t SET id = 'a'")
fails("DELTA_NOT_NULL_CONSTRAINT_VIOLATED", "UPDATE t SET id = NULL WHERE id = 1")
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "UPDATE t SET\n  idd = 1", "(line 2, pos 2)")
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "UPDATE t SET id = 1, s.b.x = 1")
fails("DELTA_CONFLICT_SET_COLUMN", "UPDATE t SET s.b.c = 'a', s.b = NULL")
assert version("t") == before + 1
assert run("UPDATE t SET id = id") == [(2,)]
"#,
    );
}

#[test]
fn rows_are_merged() {
    check(
        r#"
run("CREATE TABLE t (id INT, v STRING, n INT)")
run("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
run("INSERT INTO t VALUES (3, 'c', 3), (4, 'd', 4)")
run("CREATE TABLE s AS SELECT * FROM VALUES (2, 'B', 20), (3, NULL, 30), (5, 'E', 50), (6, 'F', NULL) AS s(id, v, n)")
result = spark.sql("""
MERGE INTO t USING s ON t.id = s.id
WHEN MATCHED AND s.v IS NULL THEN DELETE
WHEN MATCHED THEN UPDATE SET v = concat(t.v, s.v), n = '7'
WHEN NOT MATCHED AND s.n > 0 THEN INSERT (id, v) VALUES (s.id, lower(s.v))
WHEN NOT MATCHED BY SOURCE AND n > 3 THEN UPDATE SET n = t.n * 100
WHEN NOT MATCHED BY SOURCE THEN DELETE""")
assert result.columns == ["num_affected_rows", "num_updated_rows", "num_deleted_rows", "num_inserted_rows"]
assert [f.dataType.simpleString() for f in result.schema] == ["bigint"] * 4
assert [tuple(r) for r in result.collect()] == [(5, 2, 2, 1)]
assert rows("t") == [(2, "bB", 7), (4, "d", 400), (5, "e", None)]
entry = last("t")
assert entry.operation == "MERGE" and entry.operationParameters["predicate"] == '["t.id = s.id"]', entry
assert entry.operationParameters["notMatchedPredicates"] == '[{"predicate":"s.n > 0","actionType":"insert"}]', entry
metrics = entry.operationMetrics
for name, number in [("numTargetRowsInserted", 1), ("numTargetRowsUpdated", 2), ("numTargetRowsDeleted", 2),
                     ("numTargetRowsCopied", 0), ("numTargetRowsMatchedUpdated", 1), ("numTargetFilesRemoved", 2),
                     ("numTargetRowsNotMatchedBySourceDeleted", 1), ("numOutputRows", 3)]:
    assert metrics[name] == str(number), (name, metrics)
assert run("MERGE INTO t USING (SELECT * FROM s WHERE id = 5) AS q ON t.id = q.id WHEN MATCHED THEN UPDATE SET *") == [(1, 1, 0, 0)]
assert rows("t")[2] == (5, "E", 50)
assert run("MERGE INTO t AS a USING s AS b ON a.id = b.id WHEN NOT MATCHED THEN INSERT *") == [(2, 0, 0, 2)]
before = version("t")
assert run("MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED THEN INSERT *") == [(0, 0, 0, 0)]
assert run("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND false THEN DELETE") == [(0, 0, 0, 0)]
assert version("t") == before
# Of a file that holds nothing that changes, nothing is written.
run("MERGE INTO t USING (SELECT 4 AS id) q ON t.id = q.id WHEN MATCHED THEN UPDATE SET n = 0")
assert last("t").operationMetrics["numTargetFilesRemoved"] == "1"
spark.createDataFrame([(6, "x", 1), (6, "y", 2)], "id int, v string, n int").createOrReplaceTempView("twice")
two = "MERGE INTO t USING twice ON t.id = twice.id WHEN MATCHED "
fails("DELTA_MULTIPLE_SOURCE_ROW_MATCHING_TARGET_ROW_IN_MERGE", two + "THEN UPDATE SET *")
assert run(two + "AND twice.v = 'y' THEN UPDATE SET *") == [(1, 1, 0, 0)]
assert run(two + "THEN DELETE") == [(1, 0, 1, 0)]
spark.sql("MERGE INTO t USING {new} AS n ON t.id = n.id WHEN NOT MATCHED THEN INSERT *",
          new=spark.createDataFrame([(8, "h", 8)], "id int, v string, n int")).collect()
assert (8, "h", 8) in rows("t") and [r.tableName for r in spark.sql("SHOW TABLES").collect()] == ["s", "t", "twice"]
# Any condition joins, and it may hold a subquery.
assert run("MERGE INTO t USING s ON t.n < s.n AND s.id = (SELECT max(id) - 1 FROM s) WHEN MATCHED THEN UPDATE SET v = 'less'")[0][1] > 0
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "MERGE INTO t USING s ON t.id = s.id\nWHEN MATCHED THEN UPDATE SET v = s.w", "(line 2, pos 33)")
fails("AMBIGUOUS_REFERENCE", "MERGE INTO t USING s ON id = s.id WHEN MATCHED THEN DELETE")
fails("AMBIGUOUS_REFERENCE", "MERGE INTO t USING t ON t.id = t.id WHEN MATCHED THEN DELETE")
fails("NON_LAST_MATCHED_CLAUSE_OMIT_CONDITION", "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE WHEN MATCHED THEN DELETE")
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "MERGE INTO t USING (SELECT 1 AS id) q ON t.id = q.id WHEN MATCHED THEN UPDATE SET *", "`v`")
"#,
    );
}

#[test]
fn values_of_every_type_are_merged_into_a_table_without_rows() {
    check(
        r#"
run("CREATE TABLE t (id INT, v VARIANT, a ARRAY<INT>, m MAP<STRING, INT>, `x.y` STRING, `Sp ace` INT, d DATE) PARTITIONED BY (d)")
new = """SELECT 1 AS id, parse_json('{"a": 1}') AS v, array('1', 2) AS a, map('k', 1) AS m, 'q' AS `x.y`, 3 AS `sp ace`,
                DATE '2026-01-01' AS d"""
assert run(f"MERGE INTO t USING ({new}) AS s ON t.ID = s.Id WHEN NOT MATCHED THEN INSERT *") == [(1, 0, 0, 1)]
assert run("UPDATE t SET `X.y` = 'z', `sp ACE` = t.`Sp ace` + 1, d = NULL, m = map('l', '2') WHERE t.Id = 1") == [(1,)]
shown = "SELECT id, to_json(v), a, m, `x.y`, `Sp ace`, d FROM t"
assert run(shown) == [(1, '{"a":1}', [1, 2], {"l": 2}, "z", 4, None)], run(shown)
"#,
    );
}

#[test]
fn columns_of_a_source_may_become_columns_of_the_table() {
    check(
        r#"
run("CREATE TABLE t (id INT, v STRING)")
run("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
run("CREATE TABLE s AS SELECT * FROM VALUES (2, 2.5D), (3, 3.5D) AS s(id, extra)")
run("MERGE WITH SCHEMA EVOLUTION INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")
assert spark.table("t").columns == ["id", "v", "extra"]
assert rows("t") == [(1, "a", None), (2, "b", 2.5), (3, None, 3.5)], rows("t")
more = spark.createDataFrame([(1, True)], "id int, flag boolean").alias("m")
more.mergeInto("t", F.expr("t.id = m.id")).whenMatched().updateAll().withSchemaEvolution().merge()
assert rows("t")[0] == (1, "a", None, True), rows("t")
"#,
    );
}

#[test]
fn dataframes_are_merged() {
    check(
        r#"
run("CREATE TABLE t (id INT, v STRING)")
run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
df = spark.createDataFrame([(2, "B"), (3, None), (4, "D")], "id int, v string")
(df.mergeInto("t", F.col("t.id") == df.id)
   .whenMatched(df.v.isNull()).delete()
   .whenMatched().update({"v": F.concat(F.col("t.v"), df.v)})
   .whenNotMatched().insert({"id": df.id, "v": F.lower(df.v)})
   .whenNotMatchedBySource(F.col("t.id") > 0).update({"t.v": F.lit("alone")})
   .merge())
assert rows("t") == [(1, "alone"), (2, "bB"), (4, "d")], rows("t")
df.alias("n").mergeInto("t", F.expr("t.id = n.id")).whenMatched().updateAll().whenNotMatched().insertAll().merge()
assert rows("t") == [(1, "alone"), (2, "B"), (3, None), (4, "D")], rows("t")
assert last("t").operation == "MERGE"
try:
    df.mergeInto("t", F.col("t.id") == df.id).merge()
    raise SystemExit("no clause")
except Exception as error:
    assert "NO_MERGE_ACTION_SPECIFIED" in str(error), error
# A source whose rows are drawn by chance is drawn once.
chance = spark.range(100).select(F.col("id").cast("int").alias("id"), F.rand().cast("string").alias("v"))
chance.mergeInto("t", F.col("t.id") == chance.id).whenMatched().updateAll().whenNotMatched().insertAll().merge()
assert spark.table("t").count() == 100 == spark.table("t").select("v").distinct().count()
"#,
    );
}

#[test]
fn some_rows_are_replaced_by_others() {
    check(
        r#"
run("CREATE TABLE t (id INT, d STRING) PARTITIONED BY (d)")
run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'b'), (4, NULL)")
new = spark.createDataFrame([(9, "b")], "id int, d string")
new.writeTo("t").overwrite(F.col("d") == "b")
assert rows("t") == [(1, "a"), (4, None), (9, "b")], rows("t")
assert last("t").operation == "WRITE" and last("t").operationParameters["mode"] == "Overwrite"
spark.createDataFrame([(5, None), (6, "c")], "id int, d string").writeTo("t").overwritePartitions()
assert rows("t") == [(1, "a"), (5, None), (6, "c"), (9, "b")], rows("t")
run("INSERT INTO t REPLACE WHERE id >= 6 SELECT 7 AS id, 'a' AS d")
assert rows("t") == [(1, "a"), (5, None), (7, "a")], rows("t")
run("INSERT OVERWRITE t PARTITION (d = 'a') SELECT 8")
assert rows("t") == [(5, None), (8, "a")], rows("t")
fails("DELTA_REPLACE_WHERE_MISMATCH", "INSERT INTO t REPLACE WHERE id > 5 VALUES (1, 'a')")
fails("DELTA_NON_DETERMINISTIC_FUNCTION_NOT_SUPPORTED", "DELETE FROM t WHERE rand() < 2")
assert rows("t") == [(5, None), (8, "a")]
"#,
    );
}

#[test]
fn the_change_feed_tells_what_became_of_each_row() {
    check(
        r#"
run("CREATE TABLE t (id INT, v STRING) TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')")
run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
def feed(version):
    found = spark.sql(f"SELECT id, v, _change_type FROM table_changes('t', {version}, {version}) ORDER BY 1, 3 DESC")
    return [tuple(r) for r in found.collect()]
run("UPDATE t SET v = upper(v) WHERE id = 2")
assert feed(2) == [(2, "b", "update_preimage"), (2, "B", "update_postimage")], feed(2)
run("DELETE FROM t WHERE id = 3")
assert feed(3) == [(3, "c", "delete")], feed(3)
run("""MERGE INTO t USING (SELECT * FROM VALUES (1, 'x'), (4, 'd') AS s(id, v)) s ON t.id = s.id
       WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT * WHEN NOT MATCHED BY SOURCE THEN DELETE""")
assert feed(4) == [(1, "a", "update_preimage"), (1, "x", "update_postimage"), (2, "B", "delete"), (4, "d", "insert")], feed(4)
run("MERGE INTO t USING (SELECT 5 AS id, 'e' AS v) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT *")
assert feed(5) == [(5, "e", "insert")], feed(5)
run("DELETE FROM t")
assert feed(6) == [(1, "x", "delete"), (4, "d", "delete"), (5, "e", "delete")], feed(6)
"#,
    );
}

#[test]
fn small_files_go_together_and_old_ones_go() {
    check(
        r#"
import os, urllib.parse
from deltalake import DeltaTable
run("CREATE TABLE t (id INT, p STRING) PARTITIONED BY (p)")
for i in range(6):
    run(f"INSERT INTO t VALUES ({i}, 'a'), ({i + 10}, 'b c')")
before = rows("t")
result = spark.sql("OPTIMIZE t WHERE p = 'a'").first()
assert (result.metrics.numFilesAdded, result.metrics.numFilesRemoved) == (1, 6), result
assert rows("t") == before
folder = urllib.parse.unquote(urllib.parse.urlparse(result.path).path)
assert len(DeltaTable(folder).file_uris()) == 7
assert spark.sql("OPTIMIZE t").first().metrics.numFilesRemoved == 6
after = version("t")
assert spark.sql("OPTIMIZE t").first().metrics.numFilesRemoved == 0 and version("t") == after
assert last("t").operation == "OPTIMIZE" and last("t").operationMetrics["numRemovedFiles"] == "6"
assert rows("t") == before
fails("UNRESOLVED_COLUMN.WITH_SUGGESTION", "OPTIMIZE t WHERE id = 1")
fails("UNSUPPORTED_FEATURE.SQL_COMMAND", "OPTIMIZE t ZORDER BY (id)")
def files():
    return sum(name.endswith(".parquet") for _, _, names in os.walk(folder) for name in names if "_delta_log" not in _)
kept = files()
fails("DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT", "VACUUM t RETAIN 0 HOURS")
assert run("VACUUM t DRY RUN") == [] and files() == kept
spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
assert len(run("VACUUM t RETAIN 0 HOURS DRY RUN")) == 12 and files() == kept
assert len(run("VACUUM t RETAIN 0 HOURS")) == 1
assert len(DeltaTable(folder).file_uris()) == 2
assert files() == kept - 12, files()
assert rows("t") == before
"#,
    );
}

#[test]
fn rules_of_a_table_hold() {
    check(
        r#"
run("CREATE TABLE a (id INT) TBLPROPERTIES ('delta.appendOnly' = 'true')")
run("INSERT INTO a VALUES (1)")
fails("DELTA_CANNOT_MODIFY_APPEND_ONLY", "DELETE FROM a")
fails("DELTA_CANNOT_MODIFY_APPEND_ONLY", "UPDATE a SET id = 2")
assert run("MERGE INTO a USING (SELECT 2 AS id) s ON a.id = s.id WHEN NOT MATCHED THEN INSERT *") == [(1, 0, 0, 1)]
run("CREATE TABLE c (id INT) TBLPROPERTIES ('delta.constraints.positive' = 'id > 0')")
run("INSERT INTO c VALUES (1), (2)")
fails("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES", "UPDATE c SET id = -id WHERE id = 2")
assert rows("c", "1") == [(1,), (2,)] and version("c") == 1
"#,
    );
}

#[test]
fn writers_that_meet_lose_nothing() {
    check(
        r#"
import threading
run("CREATE TABLE t (id INT, n INT)")
run("INSERT INTO t SELECT id, 0 FROM range(4)")
failed = []
def add(who):
    try:
        session = connect()
        for _ in range(3):
            session.sql("UPDATE t SET n = n + 1 WHERE id = 0 OR id = %d" % who).collect()
    except Exception as error:
        failed.append(error)
threads = [threading.Thread(target=add, args=(who,)) for who in (1, 2, 3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed, failed
assert rows("t") == [(0, 9), (1, 3), (2, 3), (3, 3)], rows("t")
"#,
    );
}

#[test]
fn merges_do_what_a_walk_through_the_rows_does() {
    check(
        r#"
import random, urllib.parse
from deltalake import DeltaTable
chance = random.Random(7)
for case in range(12):
    run("DROP TABLE IF EXISTS t")
    feed = chance.choice(["true", "false"])
    run(f"CREATE TABLE t (k INT, v INT) TBLPROPERTIES ('delta.enableChangeDataFeed' = '{feed}')")
    keys = list(range(30))
    chance.shuffle(keys)
    target = {k: chance.choice([None, *range(5)]) for k in keys[:20]}
    for part in range(3):
        some = [(k, v) for k, v in target.items() if k % 3 == part]
        if some:
            spark.createDataFrame(some, "k int, v int").write.insertInto("t")
    source = {k: chance.choice([None, *range(5)]) for k in chance.sample(range(35), 15)}
    spark.createDataFrame(list(source.items()), "k int, v int").createOrReplaceTempView("arrivals")
    run("""MERGE INTO t USING arrivals AS s ON t.k = s.k
           WHEN MATCHED AND s.v < t.v THEN DELETE WHEN MATCHED AND s.v IS NOT NULL THEN UPDATE SET v = t.v + s.v
           WHEN NOT MATCHED AND s.v > 0 THEN INSERT (v, k) VALUES (s.v, s.k)
           WHEN NOT MATCHED BY SOURCE AND t.v = 0 THEN DELETE WHEN NOT MATCHED BY SOURCE AND t.v > 2 THEN UPDATE SET v = -v""")
    expected = []
    for k, v in target.items():
        if k in source:
            w = source[k]
            if None not in (v, w) and w < v:
                continue
            expected.append((k, v) if w is None else (k, None if v is None else v + w))
        elif v != 0:
            expected.append((k, -v if v is not None and v > 2 else v))
    expected += [(k, w) for k, w in source.items() if k not in target and w is not None and w > 0]
    assert sorted(rows("t"), key=str) == sorted(expected, key=str), case
    if case % 4 == 0:
        path = urllib.parse.urlparse(spark.sql("OPTIMIZE t").first().path).path
        other = DeltaTable(path).to_pyarrow_table().to_pylist()
        assert sorted([(r["k"], r["v"]) for r in other], key=str) == sorted(expected, key=str), case
"#,
    );
}

#[test]
fn what_a_pipeline_counts_on_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_path_buf();
    std::fs::create_dir(root.join("in")).unwrap();
    std::fs::create_dir(root.join("events")).unwrap();
    let pipeline = "CREATE STREAMING TABLE st AS SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');
        CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM st;
        CREATE STREAMING TABLE kept;
        CREATE FLOW f AS AUTO CDC INTO kept FROM STREAM read_files('events', format => 'json', schema => 'id INT, seq INT')
        KEYS (id) SEQUENCE BY seq;
        CREATE STREAMING TABLE gen (id INT, twice INT GENERATED ALWAYS AS (id * 2))
        AS SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');";
    std::fs::write(root.join("pipeline.sql"), pipeline).unwrap();
    std::fs::write(root.join("events/1.json"), "{\"id\": 1, \"seq\": 1}\n").unwrap();
    let arrive = |name: &str, ids: &[i32]| {
        let lines: String = ids.iter().map(|id| format!("{{\"id\": {id}}}\n")).collect();
        std::fs::write(root.join("in").join(name), lines).unwrap();
        update(&root);
    };
    arrive("1.json", &[1, 2, 3]);
    let server = Server::start_in(folder, &[], &[]);
    server.check(&format!(
        "{HELPERS}{}",
        r#"
assert run("DELETE FROM st WHERE id = 2") == [(1,)]
assert run("UPDATE st SET id = 30 WHERE id = 3") == [(1,)]
assert run("UPDATE gen SET id = 10 WHERE id = 1") == [(1,)]
assert rows("gen") == [(2, 4), (3, 6), (10, 20)], rows("gen")
fails("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES", "UPDATE gen SET twice = 1 WHERE id = 2")
for statement in ["DELETE FROM mv", "UPDATE kept SET id = 5", "DELETE FROM kept",
                  "MERGE INTO st USING (SELECT 9 AS id) s ON st.id = s.id WHEN NOT MATCHED THEN INSERT *"]:
    fails("OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET", statement)
"#
    ));
    // The next update goes on where the last one stopped.
    arrive("2.json", &[4]);
    server.check(&format!(
        "{HELPERS}{}",
        "assert rows('st', '1') == [(1,), (4,), (30,)], rows('st', '1')\nassert rows('mv', '1') == [(3,)]"
    ));
}

fn update(folder: &Path) {
    let run = Command::new(env!("CARGO_BIN_EXE_deltaworks")).arg("run").current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}
