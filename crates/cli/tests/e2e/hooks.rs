//! Event hooks of Python files: told every stable event of an update, and never in its way.

use crate::support::Pipeline;

const LOG_ALL: &str = "
import json
import dlt

def write(file, event):
    with open(file, 'a') as out:
        out.write(json.dumps(event) + '\\n')

@dlt.on_event_hook
def log_all(event):
    write('events.jsonl', event)

@dlt.table
def numbers():
    return spark.range(3)
";

fn pipeline(more: &str) -> Pipeline {
    Pipeline::new(&[("pipeline.py", &format!("{LOG_ALL}{more}"))])
}

impl Pipeline {
    /// The events that a hook has written to `file`.
    fn told(&self, file: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn hook_progress(&self) -> String {
        self.query(
            "SELECT level, details:hook_progress.name AS hook, message, error.exceptions[0].message AS error
             FROM event_log(TABLE(numbers)) WHERE event_type = 'hook_progress' ORDER BY CAST(sequence:data_plane_id.seq_no AS INT)",
        )
    }
}

#[test]
fn hooks_are_told_every_stable_event_in_order() {
    let pipeline = pipeline("");
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");

    let told = pipeline.told("events.jsonl");
    let ids: String = told.iter().map(|event| format!("{}\n", event["id"].as_str().unwrap())).collect();
    let logged = pipeline.query(
        "SELECT id FROM event_log(TABLE(numbers)) WHERE maturity_level = 'STABLE' ORDER BY CAST(sequence:data_plane_id.seq_no AS INT)",
    );
    assert_eq!(format!("id\n{ids}"), logged);
    assert_eq!(told[0]["event_type"], "create_update");
    assert_eq!(told.last().unwrap()["details"], serde_json::json!({"update_progress": {"state": "COMPLETED"}}));
    assert_eq!(pipeline.hook_progress(), "level,hook,message,error\n");
}

#[test]
fn failing_hooks_harm_nothing_and_are_disabled_if_they_say_so() {
    let pipeline = pipeline(
        "
@dlt.on_event_hook(max_allowable_consecutive_failures=1)
def breaks(event):
    write('broken.jsonl', event)
    event.clear()
    raise ValueError('no such pager')

@dlt.on_event_hook
def sees_the_whole_event(event):
    write('others.jsonl', event)
",
    );
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");

    let told = pipeline.told("events.jsonl");
    assert_eq!(pipeline.told("others.jsonl"), told);
    assert_eq!(pipeline.told("broken.jsonl"), told[..2]);
    assert_eq!(
        pipeline.hook_progress(),
        "level,hook,message,error\n\
         WARN,breaks,Event hook 'breaks' is FAILED.,ValueError: no such pager\n\
         WARN,breaks,Event hook 'breaks' has FAILED too often and is disabled until the next update.,ValueError: no such pager\n"
    );
    assert!(done.out.contains("ValueError: no such pager"), "{done:?}");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM numbers"), "n\n3\n");
}

#[test]
fn hooks_learn_of_failures_and_see_functions_that_wait_for_rows() {
    let pipeline = pipeline(
        "
@dlt.table
def counted():
    return spark.range(dlt.read('numbers').count())

@dlt.table
@dlt.expect_or_fail('impossible', 'id < 0')
def strict():
    return dlt.read('counted')
",
    );
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM counted"), "n\n3\n");

    let told = pipeline.told("events.jsonl");
    let failed: Vec<_> = told.iter().filter(|event| event["level"] == "ERROR").collect();
    assert_eq!(failed[0]["origin"]["flow_name"], "strict");
    assert_eq!(failed[0]["details"]["flow_progress"]["status"], "FAILED");
    assert!(failed[0]["error"]["exceptions"][0]["message"].as_str().unwrap().contains("impossible"), "{failed:?}");
    assert_eq!(told.last().unwrap()["details"], serde_json::json!({"update_progress": {"state": "FAILED"}}));
}

#[test]
fn a_hook_that_ends_the_process_does_not_end_the_update() {
    let pipeline = pipeline(
        "
import os

@dlt.on_event_hook
def ends(event):
    if event['event_type'] == 'flow_progress':
        os._exit(3)
",
    );
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("Event hooks are told nothing more: the Python process has ended."), "{done:?}");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM numbers"), "n\n3\n");
}

#[test]
fn functions_that_wait_fail_in_order_when_a_hook_ends_the_process() {
    let pipeline = pipeline(
        "
import os

@dlt.table
def first():
    return spark.range(dlt.read('numbers').count())

@dlt.table
def second():
    return spark.range(dlt.read('numbers').count())

@dlt.on_event_hook
def ends(event):
    if event['event_type'] == 'flow_progress':
        os._exit(3)
",
    );
    let done = pipeline.run(&["run"]);
    done.complains(1, &["the Python process ended early"]);
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM numbers"), "n\n3\n");
}

#[test]
fn validation_calls_no_hook() {
    let pipeline = pipeline("");
    let done = pipeline.run(&["validate"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!pipeline.path().join("events.jsonl").exists());
}
