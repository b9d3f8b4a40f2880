//! SIGINT and SIGTERM end an update in order; the next one goes on where it stopped.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Pipeline;

const FILES: usize = 200;

/// A stream of one file per batch, so that an update takes many commits.
fn pipeline() -> Pipeline {
    let pipeline = Pipeline::new(&[(
        "pipeline.sql",
        "CREATE OR REFRESH STREAMING TABLE bronze AS
         SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT', maxFilesPerTrigger => 1);
         CREATE OR REFRESH MATERIALIZED VIEW gold AS SELECT count(*) AS n, sum(id) AS sum FROM bronze;",
    )]);
    (0..FILES).for_each(|id| pipeline.write(&format!("in/{id}.json"), &format!("{{\"id\": {id}}}\n")));
    pipeline
}

fn interrupted_by(signal: &str) {
    let pipeline = pipeline();
    let mut child = pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let committed = |event: &Value| event["details"]["flow_progress"]["metrics"]["num_output_rows"] == 1;
    assert!(events.any(|event| committed(&event)), "no batch was committed");
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let rest: Vec<Value> = events.collect();
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(status.code(), Some(1), "{errors}");
    let states: Vec<&str> =
        rest.iter().filter_map(|event| event["details"]["update_progress"]["state"].as_str()).collect();
    assert_eq!(states, ["STOPPING", "CANCELED"], "{errors}");
    let flows = |name: &str| {
        let of_flow = rest.iter().filter(|event| event["origin"]["flow_name"] == name);
        of_flow.filter_map(|event| event["details"]["flow_progress"]["status"].as_str()).next_back()
    };
    assert_eq!(flows("bronze"), Some("STOPPED"));

    // What was committed before is whole, and what follows is neither lost nor repeated.
    assert_eq!(
        pipeline.query("SELECT count(*) = count(DISTINCT id) AS whole, count(*) > 0 AS some FROM bronze"),
        "whole,some\ntrue,true\n"
    );
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n, sum FROM gold"), format!("n,sum\n{FILES},{}\n", FILES * (FILES - 1) / 2));
}

#[test]
fn interrupt_while_python_is_evaluated_cancels_the_update() {
    let pipeline = Pipeline::new(&[(
        "pipeline.py",
        "import dlt, pathlib, time
pathlib.Path('evaluating').touch()
while not pathlib.Path('never').exists():
    time.sleep(0.01)
",
    )]);
    let child = pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !pipeline.path().join("evaluating").exists() {
        std::thread::yield_now();
    }
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let done = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!((done.status.code(), err.as_str()), (Some(1), ""), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["details"]["update_progress"]["state"], "CANCELED");
}

#[test]
fn functions_that_loop_are_killed_when_the_update_is_cancelled() {
    let pipeline = Pipeline::new(&[(
        "pipeline.py",
        "import dlt, os, pathlib
from pyspark.sql import functions as F

@F.udf('long')
def loops(i):
    pathlib.Path('FOLDER/pid.new').write_text(str(os.getpid()))
    os.rename('FOLDER/pid.new', 'FOLDER/pid')
    while True:
        pass

@dlt.table
def never():
    return spark.range(3).select(loops('id').alias('id'))
",
    )]);
    let source = std::fs::read_to_string(pipeline.path().join("pipeline.py")).unwrap();
    pipeline.write("pipeline.py", &source.replace("FOLDER", &pipeline.path().display().to_string()));
    let mut child = pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = pipeline.path().join("pid");
    while !pid.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the update has ended");
        std::thread::yield_now();
    }
    let worker = std::fs::read_to_string(pid).unwrap();
    let sent = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let done = child.wait_with_output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["details"]["update_progress"]["state"], "CANCELED");
    let given_up = Instant::now() + Duration::from_mins(1);
    while Command::new("kill").args(["-0", &worker]).output().unwrap().status.success() {
        assert!(Instant::now() < given_up, "worker {worker} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn the_process_of_the_sources_ends_with_its_engine() {
    let pipeline = Pipeline::new(&[(
        "pipeline.py",
        "import dlt, os, pathlib, threading
try:
    input()
except EOFError:
    pathlib.Path('pid.new').write_text(str(os.getpid()))
    os.rename('pid.new', 'pid')
threading.Event().wait()
",
    )]);
    let mut child = pipeline.command(&["validate"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = pipeline.path().join("pid");
    while !pid.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the pipeline was evaluated without an end");
        std::thread::yield_now();
    }
    let process = std::path::Path::new("/proc").join(std::fs::read_to_string(pid).unwrap());
    assert!(process.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let given_up = Instant::now() + Duration::from_mins(1);
    while process.exists() {
        assert!(Instant::now() < given_up, "{} is still there", process.display());
        std::thread::yield_now();
    }
}

#[test]
fn interrupt_ends_the_update_in_order() {
    interrupted_by("INT");
}

#[test]
fn termination_ends_the_update_in_order() {
    interrupted_by("TERM");
}
