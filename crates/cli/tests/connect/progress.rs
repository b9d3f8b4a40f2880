//! What clients are told of a query while it runs, and after it.

use crate::support::{Server, python};

#[test]
fn clients_are_told_how_far_a_query_is() {
    let settings = ["--set", "configuration.spark.connect.progress.reportInterval=20ms"];
    let server = Server::start(&settings, &[("DELTAWORKS_PYTHON", &python())]);
    server.check(
        r#"
import os, tempfile, time
spark = connect()
folder = tempfile.mkdtemp()
spark.range(1000).write.json(os.path.join(folder, "numbers"))
told = []
def handler(stages, inflight_tasks, operation_id, done):
    told.append((list(stages), inflight_tasks, operation_id, done))
    if inflight_tasks > 0:
        open(os.path.join(folder, "go"), "w").close()

def waits(i):
    give_up = time.monotonic() + 120
    while not os.path.exists(os.path.join(folder, "go")):
        assert time.monotonic() < give_up, "nobody was told that the query runs"
        time.sleep(0.01)
    return i

# The query ends only if its client hears of it while it runs.
spark.registerProgressHandler(handler)
numbers = spark.read.schema("id long").json(os.path.join(folder, "numbers"))
rows = numbers.groupBy((F.col("id") % 2).alias("k")).count()
rows = rows.select(F.udf(waits, "long")("count").alias("n")).collect()
assert sorted(r.n for r in rows) == [500, 500], rows
assert len({operation for _, _, operation, _ in told}) == 1, told
stages, inflight, _, done = told[-1]
assert done and inflight == 0, told[-1]
assert stages and all(s.done and s.num_completed_tasks == s.num_tasks > 0 for s in stages), stages
assert sum(s.num_bytes_read for s in stages) > 0, stages
assert [done for _, _, _, done in told].count(True) == 1, told

spark.range(1000).write.saveAsTable("stored")
told.clear()
assert spark.table("stored").agg(F.sum("id")).first()[0] == 499_500
assert sum(s.num_bytes_read for s in told[-1][0]) > 0, told[-1]

told.clear()
spark.range(10).write.saveAsTable("t")
stages, _, _, done = told[-1]
assert done and stages and all(s.done for s in stages), told
spark.removeProgressHandler(handler)
told.clear()
assert spark.table("t").count() == 10 and told == []
"#,
    );
}

#[test]
fn progress_can_be_switched_off() {
    let server = Server::start(&["--set", "configuration.spark.connect.progress.reportInterval=0"], &[]);
    server.check(
        r#"
spark = connect()
told = []
def handler(stages, inflight_tasks, operation_id, done):
    told.append((list(stages), done))
spark.registerProgressHandler(handler)
assert spark.range(10).filter("id > 3").count() == 6
assert told == [([], True)], told
"#,
    );
}

#[test]
fn operators_tell_what_they_have_counted() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
spark = connect()
df = spark.range(100).filter("id % 10 = 0")
assert len(df.collect()) == 10
collected = df.executionInfo.metrics
operators = collected._metrics
assert operators[0].parent_plan_id == operators[0].plan_id == 0, operators
assert {m.parent_plan_id for m in operators} <= {m.plan_id for m in operators}, operators
filters = [m for m in operators if m.name == "FilterExec"]
assert filters, operators
rows = {v.name: v.value for m in filters for v in m.metrics}
assert rows["output_rows"] == 10, rows
assert "FilterExec" in collected.toText(), collected.toText()
"#,
    );
}
