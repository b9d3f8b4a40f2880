//! Continuous pipelines: flows run until the update is stopped.

use std::net::TcpListener;
use std::time::Instant;

use crate::running::{PATIENCE, Running, rows_of};
use crate::support::Pipeline;

const SETTINGS: (&str, &str) =
    ("deltaworks.yml", "continuous: true\nconfiguration:\n  pipelines.trigger.interval: 50 ms\n");

/// How many rows the flow has written, as far as events were looked at.
fn written(running: &Running, flow: &str) -> u64 {
    running.seen.iter().filter_map(|event| rows_of(event, flow)).sum()
}

/// The latest version of a table.
fn version(pipeline: &Pipeline, table: &str) -> usize {
    let log = std::fs::read_dir(pipeline.table(table).join("_delta_log")).unwrap();
    log.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "json")).count() - 1
}

fn row(pipeline: &Pipeline, folder: &str, id: u64) {
    // Complete before it has its name: a listing must not find half a file.
    pipeline.write(&format!("{folder}.tmp"), &format!("{{\"id\": {id}}}\n"));
    std::fs::create_dir_all(pipeline.path().join(folder)).unwrap();
    let name = pipeline.path().join(folder).join(format!("{id}.json"));
    std::fs::rename(pipeline.path().join(format!("{folder}.tmp")), name).unwrap();
}

const STOPPED: [&str; 2] = ["STOPPING", "CANCELED"];

#[test]
fn what_arrives_becomes_rows_of_everything_downstream_until_the_update_is_stopped() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH STREAMING TABLE bronze AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');
             CREATE OR REFRESH STREAMING TABLE silver AS SELECT DISTINCT id % 10 AS digit FROM STREAM bronze;
             CREATE OR REFRESH MATERIALIZED VIEW gold AS SELECT count(*) AS n, sum(digit) AS sum FROM silver;",
        ),
    ]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    running.until_rows("gold", 1);
    assert_eq!(pipeline.query("SELECT n, sum FROM gold"), "n,sum\n1,1\n");

    // The second row is new in bronze, but not in silver.
    row(&pipeline, "in", 11);
    running.until_rows("bronze", 1);
    row(&pipeline, "in", 12);
    // An earlier refresh may have been under way when the row came.
    loop {
        running.until_rows("gold", 1);
        if pipeline.query("SELECT n, sum FROM gold") == "n,sum\n2,3\n" {
            break;
        }
    }

    let (code, states, errors) = running.stop();
    assert_eq!((code, states.as_slice(), errors.as_str()), (Some(0), STOPPED.map(str::to_owned).as_slice(), ""));
    assert_eq!(pipeline.query("SELECT id FROM bronze ORDER BY id"), "id\n1\n11\n12\n");

    // A triggered update finds nothing left to do.
    let before = ["bronze", "silver", "gold"].map(|table| version(&pipeline, table));
    assert_eq!(pipeline.run(&["run", "--set", "continuous=false"]).code, Some(0));
    assert_eq!(["bronze", "silver", "gold"].map(|table| version(&pipeline, table)), before);
}

#[test]
fn a_flow_without_input_writes_nothing_and_says_so_once() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH STREAMING TABLE quiet AS
             SELECT id FROM STREAM read_files('quiet', format => 'json', schema => 'id INT');
             CREATE OR REFRESH MATERIALIZED VIEW quiet_total AS SELECT count(*) AS n FROM quiet;
             CREATE OR REFRESH STREAMING TABLE busy AS
             SELECT id FROM STREAM read_files('busy', format => 'json', schema => 'id INT');",
        ),
    ]);
    row(&pipeline, "quiet", 0);
    row(&pipeline, "busy", 0);
    let mut running = Running::start(&pipeline);
    running.until_idle(&["quiet", "quiet_total", "busy"]);
    let before = ["quiet", "quiet_total"].map(|table| version(&pipeline, table));
    let heard = running.seen.len();
    // All have the same interval: while one has read twenty files, the others have looked for some many times.
    for id in 1..=20 {
        row(&pipeline, "busy", id);
        running.until_rows("busy", 1);
        running.until_status("busy", "IDLE");
    }
    let since: Vec<_> = running.seen[heard..].iter().map(|event| event["origin"]["flow_name"].clone()).collect();
    assert!(since.iter().all(|flow| flow == "busy"), "{}", running.told());
    assert_eq!(since.len(), 3 * 20, "a file is RUNNING, a batch and IDLE\n{}", running.told());
    assert_eq!(["quiet", "quiet_total"].map(|table| version(&pipeline, table)), before);
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(pipeline.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM busy"), "n,ids\n21,21\n");
}

#[test]
fn a_flow_that_fails_stops_those_that_read_it_and_no_others() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH STREAMING TABLE strict
               (CONSTRAINT small EXPECT (id < 100) ON VIOLATION FAIL UPDATE) AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');
             CREATE OR REFRESH MATERIALIZED VIEW strict_total AS SELECT count(*) AS n FROM strict;
             CREATE OR REFRESH STREAMING TABLE lenient AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');",
        ),
    ]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    running.until_rows("strict_total", 1);
    row(&pipeline, "in", 100);
    let failure = running.until_status("strict", "FAILED");
    assert_eq!(failure["level"], "ERROR");
    running.until_status("strict_total", "SKIPPED");
    row(&pipeline, "in", 2);
    while written(&running, "lenient") < 3 {
        running.until_rows("lenient", 1);
    }
    let (code, states, errors) = running.stop();
    assert_eq!((code, states.as_slice()), (Some(1), STOPPED.map(str::to_owned).as_slice()), "{errors}");
    assert!(errors.contains("EXPECTATION_VIOLATION") && errors.contains("pipeline.sql:1:"), "{errors}");
    assert_eq!(pipeline.query("SELECT id FROM lenient ORDER BY id"), "id\n1\n2\n100\n");
    assert_eq!(pipeline.query("SELECT id FROM strict"), "id\n1\n");
}

#[test]
fn a_flow_whose_source_does_not_answer_is_tried_again_while_others_go_on() {
    // A port that was free a moment ago: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sql = format!(
        "CREATE OR REFRESH STREAMING TABLE remote AS SELECT value FROM STREAM read_kafka(
           bootstrapServers => '127.0.0.1:{port}', subscribe => 'x', `kafka.request.timeout.ms` => 1000);
         CREATE OR REFRESH MATERIALIZED VIEW remote_total AS SELECT count(*) AS n FROM remote;
         CREATE OR REFRESH STREAMING TABLE local AS
         SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');"
    );
    let pipeline = Pipeline::new(&[SETTINGS, ("pipeline.sql", &sql)]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    for id in 2..4 {
        let failure = running.until_status("remote", "FAILED");
        assert_eq!(failure["level"], "WARN");
        row(&pipeline, "in", id);
        while written(&running, "local") < id {
            running.until_rows("local", 1);
        }
    }
    let (code, states, errors) = running.stop();
    assert_eq!((code, states.as_slice(), errors.as_str()), (Some(0), STOPPED.map(str::to_owned).as_slice(), ""));
    assert_eq!(pipeline.query("SELECT id FROM local ORDER BY id"), "id\n1\n2\n3\n");
}

#[test]
fn after_a_kill_every_row_is_there_once() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH STREAMING TABLE bronze AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT', maxFilesPerTrigger => 1);
             CREATE OR REFRESH STREAMING TABLE sums AS SELECT id % 2 AS odd, count(*) AS n FROM STREAM bronze GROUP BY 1;",
        ),
    ]);
    (0..40).for_each(|id| row(&pipeline, "in", id));
    for batches in [1, 5] {
        let mut running = Running::start(&pipeline);
        running.until_rows("bronze", batches);
        running.signal("KILL");
        assert_eq!(running.end().0, None);
    }
    row(&pipeline, "in", 40);
    let mut running = Running::start(&pipeline);
    running.until_status("sums", "IDLE");
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(pipeline.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM bronze"), "n,ids\n41,41\n");
    assert_eq!(pipeline.query("SELECT odd, n FROM sums ORDER BY odd"), "odd,n\n0,21\n1,20\n");
}

#[test]
fn queries_over_files_and_tables_outside_see_what_has_come() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH MATERIALIZED VIEW listed AS
             SELECT count(*) AS n FROM read_files('in', format => 'json', schema => 'id INT');
             CREATE OR REFRESH STREAMING TABLE named AS
             SELECT name FROM STREAM read_files('in', format => 'json', schema => 'id INT')
             JOIN read_files('names', format => 'csv', header => true, schema => 'id INT, name STRING') USING (id);",
        ),
        ("names/1.csv", "id,name\n1,one\n"),
    ]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    running.until_idle(&["listed", "named"]);
    pipeline.write("names/2.csv", "id,name\n2,two\n");
    row(&pipeline, "in", 2);
    while written(&running, "listed") < 2 || written(&running, "named") < 2 {
        running.until("a batch", |event| rows_of(event, "listed").or(rows_of(event, "named")).is_some());
    }
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(pipeline.query("SELECT n FROM listed"), "n\n2\n");
    assert_eq!(pipeline.query("SELECT name FROM named ORDER BY name"), "name\none\ntwo\n");
}

#[test]
fn a_column_that_appears_is_taken_up_while_other_flows_go_on() {
    let pipeline = Pipeline::new(&[
        SETTINGS,
        (
            "pipeline.sql",
            "CREATE OR REFRESH STREAMING TABLE growing AS
             SELECT * EXCEPT (_rescued_data) FROM STREAM read_files('in', format => 'json');
             CREATE OR REFRESH STREAMING TABLE other AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');",
        ),
    ]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    running.until_rows("growing", 1);
    for (id, column) in [(2, "size"), (3, "colour")] {
        pipeline.write("wide.tmp", &format!("{{\"id\": {id}, \"{column}\": \"new\"}}\n"));
        std::fs::rename(pipeline.path().join("wide.tmp"), pipeline.path().join(format!("in/{id}.json"))).unwrap();
        let failure = running.until_status("growing", "FAILED");
        assert_eq!(failure["level"], "WARN");
        running.until_rows("growing", 1);
    }
    row(&pipeline, "in", 4);
    running.until_rows("growing", 1);
    while written(&running, "other") < 4 {
        running.until_rows("other", 1);
    }
    let (code, states, errors) = running.stop();
    assert_eq!((code, states.as_slice()), (Some(0), STOPPED.map(str::to_owned).as_slice()), "{errors}");
    assert_eq!(
        pipeline.query("SELECT id, size, colour FROM growing ORDER BY id"),
        "id,size,colour\n1,,\n2,new,\n3,,new\n4,,\n"
    );
    assert_eq!(pipeline.query("SELECT id FROM other ORDER BY id"), "id\n1\n2\n3\n4\n");
}

/// A batch that takes until there is a file `go`.
const SLOW: &str = "import dlt, pathlib
from pyspark.sql import functions as F

here = pathlib.Path.cwd()

@F.udf('int')
def slow(id):
    import time
    (here / 'working').touch()
    while not (here / 'go').exists():
        time.sleep(0.01)
    return id

@dlt.table
def rows():
    with open('evaluated', 'a') as file:
        file.write('once\\n')
    return spark.readStream.schema('id INT').json('in').select(slow('id').alias('id'))
";

/// A pipeline in the middle of a batch, told to stop.
fn stopping_within_a_batch() -> (Pipeline, Running) {
    let pipeline = Pipeline::new(&[SETTINGS, ("pipeline.py", SLOW)]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    let deadline = Instant::now() + PATIENCE;
    while !pipeline.path().join("working").exists() {
        assert!(Instant::now() < deadline, "no row was worked on\n{}", running.told());
        std::thread::yield_now();
    }
    running.signal("INT");
    running.until("STOPPING", |event| event["details"]["update_progress"]["state"] == "STOPPING");
    (pipeline, running)
}

#[test]
fn the_batch_under_way_is_committed_before_the_update_ends() {
    let (pipeline, mut running) = stopping_within_a_batch();
    pipeline.write("go", "");
    let (code, states, errors) = running.end();
    assert_eq!((code, states.as_slice(), errors.as_str()), (Some(0), STOPPED.map(str::to_owned).as_slice(), ""));
    assert_eq!(pipeline.query("SELECT id FROM rows"), "id\n1\n");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (pipeline, mut running) = stopping_within_a_batch();
    running.signal("INT");
    assert_eq!(running.end().0, Some(130));
    pipeline.write("go", "");
    assert_eq!(pipeline.run(&["run", "--set", "continuous=false"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT id FROM rows"), "id\n1\n");
}

#[test]
fn a_function_that_defines_a_flow_is_called_once() {
    let pipeline = Pipeline::new(&[SETTINGS, ("pipeline.py", SLOW), ("go", "")]);
    row(&pipeline, "in", 1);
    let mut running = Running::start(&pipeline);
    running.until_rows("rows", 1);
    row(&pipeline, "in", 2);
    running.until_rows("rows", 1);
    assert_eq!(running.stop().0, Some(0));
    assert_eq!(std::fs::read_to_string(pipeline.path().join("evaluated")).unwrap(), "once\n");
    assert_eq!(pipeline.query("SELECT id FROM rows ORDER BY id"), "id\n1\n2\n");
}

#[test]
fn intervals_that_are_none_are_refused_where_they_stand() {
    let sql = "CREATE OR REFRESH MATERIALIZED VIEW one
               TBLPROPERTIES ('pipelines.trigger.interval' = 'often') AS SELECT 1 AS n;";
    let settings = "continuous: true\nconfiguration:\n  pipelines.trigger.interval: 10 parsecs\n";
    let pipeline = Pipeline::new(&[("deltaworks.yml", settings), ("pipeline.sql", sql)]);
    let message = "error[INVALID_CONF_VALUE.TRIGGER_INTERVAL]: `pipelines.trigger.interval` must be a time like \
                   `10 seconds` or `1 minute`, but is `10 parsecs`\n --> deltaworks.yml:3:31";
    pipeline.run(&["run"]).complains(2, &[message, "help: Write a whole number above 0 and a unit"]);
    let interval = ["--set", "configuration.pipelines.trigger.interval=1 second"];
    pipeline.run(&["run", interval[0], interval[1]]).complains(3, &["but is `often`\n --> pipeline.sql:1:1"]);
    pipeline.run(&["validate", interval[0], interval[1]]).complains(3, &["but is `often`\n --> pipeline.sql:1:1"]);
    // A triggered update has no use for them.
    assert_eq!(pipeline.run(&["run", "--set", "continuous=false"]).code, Some(0));
}

#[test]
fn a_selection_is_refused() {
    let pipeline = Pipeline::new(&[("pipeline.sql", "CREATE OR REFRESH MATERIALIZED VIEW one AS SELECT 1 AS n;")]);
    let done = pipeline.run(&["run", "--continuous", "--refresh", "one"]);
    done.complains(2, &["INVALID_REFRESH_SELECTION.CONTINUOUS_PIPELINE_NOT_SUPPORTED", "--set continuous=false"]);
    assert!(!pipeline.table("one").exists());
}
