//! Sinks: tables that a pipeline writes but does not own.

use crate::support::Pipeline;

const PIPELINE: &str = r#"
from pyspark import pipelines as dp

dp.create_sink("archive", "delta", {"path": "out", "mergeSchema": spark.conf.get("merge")})

@dp.table
def events():
    return spark.readStream.format("json").schema("id INT, kind STRING").load("in")

@dp.append_flow(target="archive")
def archived():
    return spark.readStream.table("events").select(spark.conf.get("columns").split(","))
"#;

const OUT: &str = "SELECT * FROM delta.`out` ORDER BY id";

fn pipeline() -> Pipeline {
    Pipeline::new(&[("pipeline.py", PIPELINE), ("in/1.json", "{\"id\": 1, \"kind\": \"a\"}\n")])
}

fn with<'a>(columns: &'a str, merge: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--set", columns, "--set", merge], more].concat()
}

#[test]
fn columns_are_added_if_the_sink_says_so() {
    let pipeline = pipeline();
    let (id, both) = ("configuration.columns=id", "configuration.columns=id,kind");
    let (no, yes) = ("configuration.merge=false", "configuration.merge=true");
    assert_eq!(pipeline.run(&with(id, no, &[])).code, Some(0));
    assert_eq!(pipeline.query(OUT), "id\n1\n");
    pipeline.write("in/2.json", "{\"id\": 2, \"kind\": \"b\"}\n");
    pipeline.run(&with(both, no, &[])).complains(
        1,
        &["error[DELTA_METADATA_MISMATCH]: the table of sink `archive` has no column `kind`", "mergeSchema"],
    );
    assert_eq!(pipeline.query(OUT), "id\n1\n");
    assert_eq!(pipeline.run(&with(both, yes, &[])).code, Some(0));
    assert_eq!(pipeline.query(OUT), "id,kind\n1,\n2,b\n");
}

#[test]
fn full_refresh_sends_everything_again_and_clears_nothing() {
    let pipeline = pipeline();
    let (id, no) = ("configuration.columns=id", "configuration.merge=false");
    assert_eq!(pipeline.run(&with(id, no, &[])).code, Some(0));
    assert_eq!(pipeline.run(&with(id, no, &["--full-refresh", "archive"])).code, Some(0));
    assert_eq!(pipeline.query(OUT), "id\n1\n1\n");
    assert_eq!(pipeline.run(&with(id, no, &[])).code, Some(0));
    assert_eq!(pipeline.query(OUT), "id\n1\n1\n");
}

#[test]
fn tables_of_pipelines_are_no_sinks() {
    let owner = Pipeline::new(&[("pipeline.sql", "CREATE MATERIALIZED VIEW t LOCATION 'kept' AS SELECT 1 AS id;")]);
    assert_eq!(owner.run(&["run"]).code, Some(0));
    let pipeline = pipeline();
    let kept = owner.path().join("kept");
    pipeline.write("pipeline.py", &PIPELINE.replace("\"out\"", &format!("{:?}", kept.to_string_lossy())));
    pipeline.run(&with("configuration.columns=id", "configuration.merge=false", &[])).complains(
        1,
        &["TABLE_ALREADY_MANAGED_BY_OTHER_PIPELINE", "is a dataset of a pipeline, which alone writes it"],
    );
    assert_eq!(owner.query("SELECT id FROM t"), "id\n1\n");
}

/// A sink whose function writes down its calls, and does what `END` says.
const CALLS: &str = r#"
from pyspark import pipelines as dp
import json, os

@dp.table
def events():
    return spark.readStream.format("json").schema("id INT, kind STRING").load("in")

@dp.foreach_batch_sink(name="calls")
def write_down(rows, batch_id):
    ids = sorted(row.id for row in rows.collect())
    with open("calls.txt", "a") as calls:
        print(f"{batch_id}: {ids}", file=calls)
    END

@dp.append_flow(target="calls")
def to_calls():
    return spark.readStream.table("events").select("id")
"#;

impl Pipeline {
    /// The calls that a function has written down.
    fn calls(&self) -> String {
        std::fs::read_to_string(self.path().join("calls.txt")).unwrap_or_default()
    }

    #[track_caller]
    fn runs(&self, arguments: &[&str]) {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

fn calls(end: &str) -> Pipeline {
    Pipeline::new(&[("pipeline.py", &CALLS.replace("END", end)), ("in/1.json", "{\"id\": 1}\n{\"id\": 2}\n")])
}

#[test]
fn a_batch_whose_function_fails_is_handed_over_again_and_nothing_is_lost() {
    let pipeline = calls("raise ValueError('no such service')");
    pipeline.run(&["run"]).complains(
        1,
        &["ValueError: no such service", "pipeline.py:14", "raise ValueError('no such service')", "in sink `calls`"],
    );
    assert_eq!(pipeline.calls(), "0: [1, 2]\n");
    // What has come meanwhile does not get into the batch.
    pipeline.write("in/2.json", "{\"id\": 3}\n");
    pipeline.run(&["run"]).complains(1, &["ValueError: no such service"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n");
    pipeline.write("pipeline.py", &CALLS.replace("END", "pass"));
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n0: [1, 2]\n1: [3]\n");
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n0: [1, 2]\n1: [3]\n");
    let pending = pipeline.path().join(".deltaworks/checkpoints/calls/to_calls/0/pending");
    assert!(!pending.exists(), "{} has rows that were delivered", pending.display());
}

#[test]
fn a_batch_that_was_promised_is_computed_anew_if_its_query_was_the_fault() {
    let pipeline = calls("assert 'kind' in rows.columns, 'no column kind'");
    pipeline.run(&["run"]).complains(1, &["AssertionError: no column kind"]);
    let fixed =
        CALLS.replace("END", "assert 'kind' in rows.columns").replace("select(\"id\")", "select(\"id\", \"kind\")");
    pipeline.write("pipeline.py", &fixed);
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n");
}

#[test]
fn a_full_refresh_hands_everything_over_again_from_batch_0_on() {
    let pipeline = calls("pass");
    pipeline.runs(&["run"]);
    pipeline.write("in/2.json", "{\"id\": 3}\n");
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n1: [3]\n");
    pipeline.runs(&["run", "--full-refresh", "calls"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n1: [3]\n0: [1, 2, 3]\n");
}

#[test]
fn a_function_that_ends_its_process_fails_its_batch_alone() {
    let pipeline = calls("os._exit(3)");
    pipeline.run(&["run"]).complains(1, &["the Python process ended early (exit status: 3)", "in sink `calls`"]);
    assert_eq!(pipeline.query("SELECT id FROM events ORDER BY id"), "id\n1\n2\n");
    pipeline.write("pipeline.py", &CALLS.replace("END", "pass"));
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n");
}

#[test]
fn a_batch_whose_function_may_have_done_its_work_is_never_another_one() {
    // The function ends the whole program after it has done its work.
    let pipeline = calls("os.kill(os.getppid(), 9)");
    assert_eq!(pipeline.run(&["run"]).code, None);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n");
    // Neither what has come meanwhile nor another query makes it another batch.
    pipeline.write("in/2.json", "{\"id\": 3}\n");
    pipeline.write("pipeline.py", &CALLS.replace("END", "pass").replace("select(\"id\")", "select(\"id\", \"kind\")"));
    pipeline.runs(&["run"]);
    assert_eq!(pipeline.calls(), "0: [1, 2]\n0: [1, 2]\n1: [3]\n");
}

#[test]
fn functions_read_and_write_what_any_client_can() {
    let pipeline = Pipeline::new(&[
        (
            "pipeline.py",
            r#"
import dlt
from pyspark.sql import functions as F

@dlt.table
def events():
    return spark.readStream.format("json").schema("id INT, kind STRING").load("in")

@dlt.table
def kinds():
    return spark.createDataFrame([("a", "apple"), ("b", "bread")], "kind string, name string")

@dlt.foreach_batch_sink
def other(rows, batch_id):
    rows.createOrReplaceTempView("batch")
    spark.sql("SELECT count(*) AS n FROM batch").write.mode("append").saveAsTable("counts")

@dlt.foreach_batch_sink
def everything(rows, batch_id):
    assert not rows.isStreaming and rows.columns == ["id", "kind", "twice"]
    kept = rows.cache()
    kept.createOrReplaceTempView("batch")
    assert kept.count() == len(kept.toPandas()) and not kept.isEmpty()
    named = spark.sql("SELECT id, twice, name FROM batch JOIN kinds USING (kind)")
    named.withColumn("batch", F.lit(batch_id)).write.mode("append").saveAsTable("named")
    named.write.mode("overwrite").parquet(f"{folder}/files/{batch_id}")
    (
        named.write.format("delta")
        .mode("append")
        .option("txnAppId", "everything")
        .option("txnVersion", batch_id)
        .save(f"{folder}/once")
    )
    kept.unpersist()

@dlt.append_flow(target="everything")
def to_everything():
    return dlt.read_stream("events").withColumn("twice", F.col("id") * 2)

@dlt.append_flow(target="other")
def to_other():
    return dlt.read_stream("events")

folder = spark.conf.get("folder")
"#,
        ),
        ("in/1.json", "{\"id\": 1, \"kind\": \"a\"}\n{\"id\": 2, \"kind\": \"b\"}\n"),
    ]);
    let folder = format!("configuration.folder={}", pipeline.path().display());
    // Nothing says that the function reads it.
    pipeline.runs(&["run", "--set", &folder, "--refresh", "kinds"]);
    pipeline.runs(&["run", "--set", &folder]);
    pipeline.write("in/2.json", "{\"id\": 3, \"kind\": \"a\"}\n");
    pipeline.runs(&["run", "--set", &folder]);
    assert_eq!(
        pipeline.query("SELECT * FROM named ORDER BY id"),
        "id,twice,name,batch\n1,2,apple,0\n2,4,bread,0\n3,6,apple,1\n"
    );
    assert_eq!(pipeline.query("SELECT n FROM counts ORDER BY n"), "n\n1\n2\n");
    let files = format!("SELECT id FROM parquet.`{}/files/1`", pipeline.path().display());
    assert_eq!(pipeline.query(&files), "id\n3\n");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM delta.`once`"), "n\n3\n");
    // Handed over again from batch 0 on: what Delta has seen of it is left out, as its transactions say.
    pipeline.runs(&["run", "--set", &folder, "--full-refresh", "everything"]);
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM delta.`once`"), "n\n3\n");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM named"), "n\n6\n");
}

#[test]
fn functions_cannot_write_datasets_of_the_pipeline() {
    let pipeline = calls("rows.write.mode('append').saveAsTable('events')");
    pipeline.run(&["run"]).complains(
        1,
        &["OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET", "is a dataset of the pipeline", "in sink `calls`"],
    );
}

#[test]
fn the_event_log_tells_of_sinks_and_their_batches() {
    let pipeline = calls("pass");
    pipeline.runs(&["run"]);
    let events = pipeline.query(
        "SELECT event_type, origin.sink_name AS sink, origin.batch_id AS batch,
                details:sink_definition.format AS format, details:flow_definition.output_sink AS output,
                details:flow_progress.metrics.num_output_rows AS rows
         FROM event_log(TABLE(events))
         WHERE event_type IN ('sink_definition', 'flow_definition', 'flow_progress')
           AND (origin.flow_name = 'to_calls' OR event_type = 'sink_definition')
           AND (event_type != 'flow_progress' OR origin.batch_id IS NOT NULL)
         ORDER BY CAST(sequence:data_plane_id.seq_no AS INT)",
    );
    assert_eq!(
        events,
        "event_type,sink,batch,format,output,rows\n\
         sink_definition,calls,,foreach_batch,,\n\
         flow_definition,,,,calls,\n\
         flow_progress,,0,,,2\n"
    );
}
