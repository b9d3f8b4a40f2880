//! Functions that give snapshots: when they are called, with what, and how their errors look.

use crate::support::Pipeline;

const SPEC: &str = "name: people\nid: people\n";

/// Follows the files of `daily`, and writes down what it is called with.
const FUNCTION: &str = r#"
import os
from pyspark import pipelines as dp

def next_day(latest):
    with open("calls.txt", "a") as calls:
        calls.write(f"{latest}\n")
    day = 1 if latest is None else latest + 1
    path = f"daily/{day}.json"
    if not os.path.exists(path):
        return None
    return spark.read.schema("id INT, name STRING").json(path), day

dp.create_streaming_table("people")
dp.create_auto_cdc_from_snapshot_flow("people", next_day, ["id"], 2)

@dp.materialized_view
def living():
    return spark.sql("SELECT id, name FROM people WHERE __END_AT IS NULL")
"#;

fn pipeline() -> Pipeline {
    Pipeline::new(&[
        ("deltaworks.yml", SPEC),
        ("pipeline.py", FUNCTION),
        ("daily/1.json", "{\"id\": 1, \"name\": \"Ada\"}\n"),
        ("daily/2.json", "{\"id\": 1, \"name\": \"Eve\"}\n"),
    ])
}

/// What the function was called with since the last time.
fn calls(pipeline: &Pipeline) -> Vec<String> {
    let path = pipeline.path().join("calls.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn succeeds(pipeline: &Pipeline, arguments: &[&str]) {
    let done = pipeline.run(arguments);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn the_function_is_called_with_the_last_version() {
    let pipeline = pipeline();
    succeeds(&pipeline, &["run"]);
    assert_eq!(calls(&pipeline), ["None", "1", "2"]);
    assert_eq!(pipeline.query("SELECT * FROM living"), "id,name\n1,Eve\n");
    succeeds(&pipeline, &["run"]);
    assert_eq!(calls(&pipeline), ["2"]);
    succeeds(&pipeline, &["validate"]);
    assert_eq!(calls(&pipeline), ["2"]);
    pipeline.write("daily/3.json", "{\"id\": 1, \"name\": \"Zoe\"}\n");
    // The table is left as it is: what reads it needs no more than its columns.
    succeeds(&pipeline, &["run", "--refresh", "living"]);
    assert_eq!(calls(&pipeline), Vec::<String>::new());
    assert_eq!(pipeline.query("SELECT * FROM living"), "id,name\n1,Eve\n");
    succeeds(&pipeline, &["run", "--full-refresh", "people"]);
    assert_eq!(calls(&pipeline), ["None", "1", "2", "3"]);
    succeeds(&pipeline, &["run"]);
    assert_eq!(pipeline.query("SELECT * FROM living"), "id,name\n1,Zoe\n");
}

#[test]
fn what_the_function_raises_is_shown_with_its_lines() {
    let pipeline = pipeline();
    pipeline.write("pipeline.py", &FUNCTION.replace("day = 1 if", "day = days[0] if"));
    pipeline.run(&["run"]).complains(
        1,
        &["NameError: name 'days' is not defined", "pipeline.py:8", "in next_day", "day = days[0] if latest is None"],
    );
}

#[test]
fn a_table_goes_on_with_the_kind_of_snapshots_it_had() {
    let pipeline = pipeline();
    let schema = "\"people\", schema=\"id INT, name STRING, __START_AT BIGINT, __END_AT BIGINT\"";
    let function = FUNCTION.replace("\"people\")", &format!("{schema})"));
    pipeline.write("pipeline.py", &function);
    succeeds(&pipeline, &["run"]);
    let dataset = function.replace("\"people\", next_day,", "\"people\", \"today\",")
        + "\n@dp.materialized_view\ndef today():\n    return spark.read.schema(\"id INT, name STRING\").json(\"daily/1.json\")\n";
    pipeline.write("pipeline.py", &dataset);
    pipeline.run(&["run"]).complains(1, &["AUTOCDC_INVALID_STATE.SNAPSHOT_SOURCE_DRIFT", "--full-refresh people"]);
    succeeds(&pipeline, &["run", "--full-refresh", "people"]);
    pipeline.write("pipeline.py", &function);
    pipeline.run(&["run"]).complains(1, &["AUTOCDC_INVALID_STATE.SNAPSHOT_SOURCE_DRIFT", "--full-refresh people"]);
}
