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
