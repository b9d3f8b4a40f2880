//! Storage that is full, closed, damaged or in use.

use std::fs::File;
use std::process::Command;

use crate::support::{Done, Pipeline};

const SQL: &str = "
CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT, text STRING');
CREATE OR REFRESH MATERIALIZED VIEW gold AS SELECT count(*) AS n, sum(id) AS sum FROM bronze;
";

fn pipeline() -> Pipeline {
    Pipeline::new(&[("pipeline.sql", SQL), ("in/1.json", "{\"id\": 1, \"text\": \"a\"}\n")])
}

#[test]
fn storage_that_is_a_file_is_refused() {
    let pipeline = pipeline();
    pipeline.write("taken", "");
    pipeline.write("deltaworks.yml", "storage: taken\n");
    pipeline.run(&["run"]).complains(
        1,
        &[
            "error: storage folder `",
            "taken/system` cannot be created: Not a directory",
            "Check that `storage` names a folder",
        ],
    );
}

#[test]
fn storage_that_cannot_be_written_is_refused() {
    let pipeline = pipeline();
    // Not even root can make folders there.
    pipeline.write("deltaworks.yml", "storage: /sys/deltaworks\n");
    pipeline
        .run(&["run"])
        .complains(1, &["error: storage folder `/sys/deltaworks/system` cannot be created", "can be written"]);
}

#[test]
fn full_storage_fails_the_flow_and_loses_nothing() {
    let pipeline = pipeline();
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    let words = (0..40_000).map(|id| format!("{{\"id\": {id}, \"text\": \"{:x}\"}}\n", id * 2_654_435_761_u64));
    pipeline.write("in/2.json", &words.collect::<String>());
    // No file may grow beyond 64 blocks; the signal that says so is ignored, so that writing fails instead.
    let program = env!("CARGO_BIN_EXE_deltaworks");
    let mut limited = Command::new("sh");
    limited.current_dir(pipeline.path()).args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" run --development"]);
    let done = Done::of({
        limited.arg(program);
        limited
    });
    done.complains(
        1,
        &[
            "pipeline.sql:2:1",
            "error: storage is full: File too large",
            "Free space and run again: nothing of what was being written is visible.",
        ],
    );
    assert!(!done.err.contains("panicked"), "{}", done.err);
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM bronze"), "n\n1\n");
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n FROM gold"), "n\n40001\n");
}

#[test]
fn missing_data_file_is_named_until_a_full_refresh() {
    let pipeline = pipeline();
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    let data = std::fs::read_dir(pipeline.table("bronze")).unwrap().map(|entry| entry.unwrap().path());
    data.filter(|path| path.is_file()).for_each(|path| std::fs::remove_file(path).unwrap());
    pipeline.run(&["sql", "SELECT * FROM bronze"]).complains(
        1,
        &["error[FAILED_READ_FILE.FILE_NOT_EXIST]: data file `", ".parquet` does not exist", "full refresh"],
    );
    pipeline.write("in/2.json", "{\"id\": 2, \"text\": \"b\"}\n");
    pipeline.run(&["run"]).complains(1, &["pipeline.sql:4:1", "error[FAILED_READ_FILE.FILE_NOT_EXIST]"]);
    assert_eq!(pipeline.run(&["run", "--full-refresh", "bronze"]).code, Some(0));
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n, sum FROM gold"), "n,sum\n2,3\n");
}

#[test]
fn damaged_log_is_named_until_the_folder_is_removed() {
    let pipeline = pipeline();
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    std::fs::write(pipeline.table("bronze").join("_delta_log/00000000000000000001.json"), "{\"broken").unwrap();
    let done = pipeline.run(&["run"]);
    done.complains(
        1,
        &[
            "error[DELTA_STATE_RECOVER_ERROR]: the Delta log of the table at `",
            "pipeline.sql:2:1",
            "remove the table's folder",
        ],
    );
    assert!(!format!("{}{}", done.out, done.err).contains("::"), "no backtraces: {done:?}");
    std::fs::remove_dir_all(pipeline.table("bronze")).unwrap();
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n, sum FROM gold"), "n,sum\n1,1\n");
}

#[test]
fn second_update_is_refused_while_one_is_active() {
    let pipeline = pipeline();
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    let lock = File::options().write(true).open(pipeline.path().join(".deltaworks/system/update.lock")).unwrap();
    lock.lock().unwrap();
    let refused = pipeline.run(&["run"]);
    refused
        .complains(1, &["error[UPDATE_ALREADY_ACTIVE]: update ", "of this pipeline is active", "Wait until it ends"]);
    // Reading goes on.
    assert_eq!(pipeline.query("SELECT n FROM gold"), "n\n1\n");
    drop(lock);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
}

#[test]
fn moved_folder_or_new_settings_file_repeat_nothing() {
    let parent = Pipeline::new(&[("a/pipeline.sql", SQL), ("a/in/1.json", "{\"id\": 1, \"text\": \"a\"}\n")]);
    assert_eq!(parent.run(&["run", "a"]).code, Some(0));
    std::fs::rename(parent.path().join("a"), parent.path().join("b")).unwrap();
    parent.write("b/deltaworks.yml", "name: shop\n");
    assert_eq!(parent.run(&["run", "b"]).code, Some(0));
    let rows = || parent.run(&["sql", "b", "SELECT n FROM gold", "--format", "csv"]).out;
    assert_eq!(rows(), "n\n1\n");
    parent.write("b/deltaworks.yml", "name: shop\nid: another\n");
    parent.run(&["run", "b"]).complains(
        2,
        &["error[PIPELINE_STORAGE_IN_USE]: storage `", "not to `another`", "or choose another `storage`"],
    );
    parent.write("b/deltaworks.yml", "name: shop\n");
    assert_eq!(rows(), "n\n1\n");
}

#[test]
fn names_cannot_leave_the_storage() {
    let sql = "
CREATE OR REFRESH STREAMING TABLE `../../outside` AS
SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');
CREATE OR REFRESH STREAMING TABLE `a/b c%`;
CREATE FLOW `../flow/..` AS INSERT INTO `a/b c%` BY NAME
SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');
CREATE OR REFRESH MATERIALIZED VIEW `..` AS SELECT * FROM `../../outside` UNION ALL SELECT * FROM `a/b c%`;
";
    let pipeline = Pipeline::new(&[("inner/pipeline.sql", sql), ("inner/in/1.json", "{\"id\": 1}\n")]);
    let done = pipeline.run(&["run", "inner"]);
    let outside: Vec<_> = std::fs::read_dir(pipeline.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["inner"], "{done:?}");
    let mut inside: Vec<_> =
        std::fs::read_dir(pipeline.path().join("inner")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    inside.sort();
    assert_eq!(inside, [".deltaworks", "in", "pipeline.sql"], "{done:?}");
    assert_eq!(done.code, Some(0), "{done:?}");
    let rows = pipeline.run(&["sql", "inner", "SELECT id FROM `..`", "--format", "csv"]);
    assert_eq!(rows.out, "id\n1\n1\n", "{rows:?}");
}

#[test]
fn private_tables_are_read_by_their_pipeline_only() {
    let pipeline = Pipeline::new(&[(
        "pipeline.sql",
        "CREATE PRIVATE MATERIALIZED VIEW hidden AS SELECT 1 AS id;\n\
         CREATE MATERIALIZED VIEW shown AS SELECT id + 1 AS id FROM hidden;\n",
    )]);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT * FROM shown"), "id\n2\n");
    pipeline.run(&["sql", "SELECT * FROM hidden"]).complains(
        1,
        &[
            "[TABLE_OR_VIEW_NOT_FOUND]",
            "`hidden` is private to the pipeline that defines it",
            "leave out PRIVATE (private=True)",
        ],
    );
    pipeline.write("pipeline.sql", "CREATE MATERIALIZED VIEW hidden AS SELECT 1 AS id;\n");
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT * FROM hidden"), "id\n1\n");
}

#[test]
fn a_flow_that_cannot_go_on_leaves_its_table_as_it_is() {
    let source = "FROM STREAM read_files('in', format => 'json', schema => 'id INT, v INT')";
    let table = |columns: &str| {
        format!(
            "CREATE STREAMING TABLE t AS SELECT id, {columns} {source} GROUP BY id;\nCREATE STREAMING TABLE u AS SELECT v {source};\n"
        )
    };
    let pipeline = Pipeline::new(&[("a.sql", &table("count(*) AS n")), ("in/1.json", "{\"id\": 1, \"v\": 7}\n")]);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    let history = pipeline.query("DESCRIBE HISTORY t");
    pipeline.write("a.sql", &table("count(*) AS n, sum(v) AS v"));
    pipeline.write("in/2.json", "{\"id\": 1, \"v\": 8}\n");
    let done = pipeline.run(&["run"]);
    done.complains(1, &["STREAMING_CHECKPOINT_INCOMPATIBLE", "a.sql:1:", "--full-refresh t"]);
    assert_eq!(pipeline.query("DESCRIBE HISTORY t"), history);
    // Others go on.
    assert_eq!(pipeline.query("SELECT v FROM u ORDER BY v"), "v\n7\n8\n");
    assert_eq!(pipeline.run(&["run", "--full-refresh", "t"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT * FROM t"), "id,n,v\n1,2,15\n");
}
