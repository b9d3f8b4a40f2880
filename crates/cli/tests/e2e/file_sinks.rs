//! Sinks that write files, with the log that says which of them count, and sinks for people.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Done, Pipeline};

const FILES: usize = 12;

/// A batch for each file of the input.
const PIPELINE: &str = r#"
from pyspark import pipelines as dp

dp.create_sink("out", "json", {"path": "/mnt/lake/out"})

@dp.append_flow(target="out")
def copied():
    reader = spark.readStream.format("json").option("maxFilesPerTrigger", 1)
    return reader.schema("id INT").load("in")
"#;

const SETTINGS: &str = "name: sinks\npath_mappings:\n  /mnt/lake: lake\n";

fn pipeline() -> Pipeline {
    let pipeline = Pipeline::new(&[("pipeline.py", PIPELINE), ("deltaworks.yml", SETTINGS)]);
    (0..FILES).for_each(|id| pipeline.write(&format!("in/{id:02}.json"), &format!("{{\"id\": {id}}}\n")));
    pipeline
}

#[track_caller]
fn runs(pipeline: &Pipeline) -> Done {
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    done
}

/// The entries of a sink's log, in order of their numbers: each a name and the files that it names.
fn log(folder: &Path) -> Vec<(String, Vec<Value>)> {
    let entries = std::fs::read_dir(folder.join("_spark_metadata")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_by_key(|name| name.trim_end_matches(".compact").parse::<u32>().unwrap());
    let read = |name: String| {
        let text = std::fs::read_to_string(folder.join("_spark_metadata").join(&name)).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("v1"));
        (name, lines.map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    names.into_iter().map(read).collect()
}

#[test]
fn a_folder_has_a_log_of_the_files_that_count_as_spark_writes_it() {
    let pipeline = pipeline();
    runs(&pipeline);
    let out = pipeline.path().join("lake/out");
    let log = log(&out);
    let names: Vec<&str> = log.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9.compact", "10", "11"]);
    let files: Vec<usize> = log.iter().map(|(_, files)| files.len()).collect();
    assert_eq!(files, [1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1, 1]);
    for file in log.iter().flat_map(|(_, files)| files) {
        let keys: Vec<&String> = file.as_object().unwrap().keys().collect();
        let expected = ["path", "size", "isDir", "modificationTime", "blockReplication", "blockSize", "action"];
        assert_eq!(keys, expected);
        let path = file["path"].as_str().unwrap().strip_prefix("file://").unwrap();
        assert_eq!(Path::new(path).parent(), Some(out.as_path()), "{path}");
        assert_eq!(file["size"].as_u64(), Some(std::fs::metadata(path).unwrap().len()));
        assert_eq!((&file["action"], &file["isDir"]), (&"add".into(), &false.into()));
    }

    // What no entry names is not there, for reads of the folder; a pattern is one of files.
    pipeline.write("lake/out/part-00000-leftover-c000.json", "{\"id\": 999}\n");
    let count = |source: &str| pipeline.query(&format!("SELECT count(*) AS n, max(id) AS last FROM {source}"));
    assert_eq!(count("json.`lake/out`"), "n,last\n12,11\n");
    assert_eq!(count("read_files('/mnt/lake/out', format => 'json')"), "n,last\n12,11\n");
    assert_eq!(count("json.`lake/out/*.json`"), "n,last\n13,999\n");
    let ignored = "name: sinks\nconfiguration:\n  spark.sql.streaming.fileStreamSink.ignoreMetadata: \"true\"\n";
    pipeline.write("deltaworks.yml", ignored);
    assert_eq!(count("json.`lake/out`"), "n,last\n13,999\n");
}

#[test]
fn streams_read_the_files_that_count_wherever_the_folder_lies_by_now() {
    let source = pipeline();
    runs(&source);
    source.write("lake/out/part-00000-leftover-c000.json", "{\"id\": 999}\n");
    let reader = Pipeline::new(&[(
        "pipeline.sql",
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT id FROM STREAM read_files('moved', format => 'json', schema => 'id INT');",
    )]);
    let moved = reader.path().join("moved");
    std::fs::rename(source.path().join("lake/out"), &moved).unwrap();
    runs(&reader);
    assert_eq!(reader.query("SELECT count(*) AS n, max(id) AS last FROM t"), "n,last\n12,11\n");

    // A file that is named and gone is missed.
    let (_, files) = &log(&moved)[11];
    let name = files[0]["path"].as_str().unwrap().rsplit('/').next().unwrap();
    std::fs::remove_file(moved.join(name)).unwrap();
    reader.run(&["run"]).complains(3, &["FAILED_READ_FILE.FILE_NOT_EXIST", name, "ignoreMissingFiles"]);
    // A log with a hole is no log.
    std::fs::remove_file(moved.join("_spark_metadata/10")).unwrap();
    reader.run(&["run"]).complains(3, &["entry 10 is missing", "in the log of the sink that writes `moved`"]);
}

/// Kills the process (SIGKILL) at instants spread over an update; the next one goes on: no row is lost, and none comes twice.
#[test]
fn killed_at_any_instant_each_row_is_in_one_file_that_counts() {
    let instants = 20;
    let clean = pipeline();
    let started = Instant::now();
    runs(&clean);
    let duration = started.elapsed();
    for instant in 0..instants {
        let killed = pipeline();
        let mut command = killed.command(&["run"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + duration * (instant + 1) / instants;
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        runs(&killed);
        assert_eq!(
            killed.query("SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(id) AS sum FROM json.`lake/out`"),
            "n,ids,sum\n12,12,66\n",
            "killed after {} of {instants} parts of {duration:?}",
            instant + 1
        );
    }
}

#[test]
fn a_full_refresh_sends_everything_again_and_clears_nothing() {
    let pipeline = pipeline();
    runs(&pipeline);
    let done = pipeline.run(&["run", "--full-refresh", "out"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let query = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM json.`lake/out`";
    assert_eq!(pipeline.query(query), "n,ids\n24,12\n");
}

#[test]
fn a_delta_table_is_no_folder_for_files() {
    let pipeline = pipeline();
    pipeline.write("lake/out/_delta_log/00000000000000000000.json", "");
    let expected = "`/mnt/lake/out`, the folder of sink `out`, is a Delta table";
    pipeline.run(&["validate"]).complains(3, &[expected, "pipeline.py:4"]);
    pipeline.write("pipeline.py", &PIPELINE.replace("/mnt/lake", "s3://bucket"));
    pipeline.run(&["validate"]).complains(3, &["in the path of sink `out`"]);
}

const CONSOLE: &str = r#"
from pyspark import pipelines as dp

dp.create_sink("screen", "console", {"numRows": "2", "truncate": "5"})
dp.create_sink("nowhere", "noop")

def rows():
    return spark.readStream.format("json").schema("id INT, name STRING").option("maxFilesPerTrigger", 1).load("in")

dp.append_flow(target="screen", name="shown")(rows)
dp.append_flow(target="nowhere", name="dropped")(rows)
"#;

#[test]
fn the_console_shows_the_first_rows_of_each_batch() {
    let pipeline = Pipeline::new(&[
        ("pipeline.py", CONSOLE),
        ("in/1.json", "{\"id\": 1, \"name\": \"abcdefgh\"}\n{\"id\": 2}\n{\"id\": 3}\n"),
        ("in/2.json", "{\"id\": 4, \"name\": \"x\"}\n"),
    ]);
    let rule = "-------------------------------------------";
    let first = format!(
        "{rule}\nBatch: 0\n{rule}\n+---+-----+\n| id| name|\n+---+-----+\n|  1|ab...|\n|  2| NULL|\n+---+-----+\nonly showing top 2 rows\n\n"
    );
    let second = format!("{rule}\nBatch: 1\n{rule}\n+---+----+\n| id|name|\n+---+----+\n|  4|   x|\n+---+----+\n\n");
    let shown = |text: &str| text.contains(&first) && text.contains(&second) && text.matches("Batch: ").count() == 2;
    let done = runs(&pipeline);
    assert!(shown(&done.out), "{}", done.out);
    assert!(done.out.contains("Flow 'dropped' has COMPLETED"), "{}", done.out);
    // Beside events that a program reads, it is shown on standard error.
    let done = pipeline.run(&["run", "--json", "--full-refresh-all"]);
    assert!(shown(&done.err), "{done:?}");
    assert!(done.out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", done.out);
}
