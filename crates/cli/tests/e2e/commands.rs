//! Every command in a new folder, as the guide shows them; exit codes; pipes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Done, Pipeline};

fn initialised(language: &str) -> Pipeline {
    let parent = Pipeline::new(&[]);
    let done = parent.run(&["init", "shop", "--language", language]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.ends_with("Run it with: deltaworks run shop\n"), "{}", done.out);
    parent
}

#[test]
fn templates_of_both_languages_are_valid_and_run() {
    for language in ["sql", "python"] {
        let parent = initialised(language);
        let valid = parent.run(&["validate", "shop"]);
        assert_eq!((valid.code, valid.out.as_str()), (Some(0), "Pipeline shop is valid: 3 outputs and 3 flows.\n"));
        let ran = parent.run(&["run", "shop"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.err, "");
        let rows = parent.run(&["sql", "shop", "SELECT * FROM gold_customers ORDER BY customer", "--format", "csv"]);
        assert_eq!(rows.out, "customer,orders,spent,last_order\nAda,2,19.75,2026-01-06\nGrace,1,80.00,2026-01-05\n");
        // Nothing is new: nothing is written.
        let again = parent.run(&["run", "shop"]);
        assert!(again.out.contains("gold_customers  COMPLETED                          no op"), "{}", again.out);
    }
}

#[test]
fn init_does_not_touch_what_is_there() {
    let parent = initialised("sql");
    parent.run(&["init", "shop"]).complains(2, &["is not empty", "Choose another name"]);
    parent.run(&["init", "../shop2"]).complains(2, &["`../shop2` is no name for a pipeline", "Use letters"]);
}

#[test]
fn graph_is_drawn_in_three_languages() {
    let parent = initialised("sql");
    let graph = |format: &str| {
        let done = parent.run(&["graph", "shop", "--format", format]);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
        done.out
    };
    insta::assert_snapshot!("graph_text", graph("text"));
    insta::assert_snapshot!("graph_dot", graph("dot"));
    insta::assert_snapshot!("graph_mermaid", graph("mermaid"));
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let sound = ("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 1 AS one;\n");
    let failing = (
        "a.sql",
        "CREATE OR REFRESH MATERIALIZED VIEW a (CONSTRAINT c EXPECT (one > 1) ON VIOLATION FAIL UPDATE) AS SELECT 1 AS one;\n",
    );
    let invalid = ("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT one FROM b;\n");
    let code = |file: (&str, &str), arguments: &[&str]| Pipeline::new(&[file]).run(arguments).code;
    assert_eq!(code(sound, &["run"]), Some(0));
    assert_eq!(code(sound, &["validate"]), Some(0));
    assert_eq!(code(failing, &["run"]), Some(1));
    assert_eq!(code(sound, &["run", "--refresh", "nosuch"]), Some(2));
    assert_eq!(code(sound, &["run", "--full-refresh-all", "--refresh", "a"]), Some(2));
    assert_eq!(code(sound, &["run", "--refresh", ""]), Some(2));
    assert_eq!(code(sound, &["run", "--full-refresh", " , "]), Some(2));
    assert_eq!(code(sound, &["run", "--nosuch"]), Some(2));
    assert_eq!(code(sound, &["run", "nosuch"]), Some(2));
    assert_eq!(code(invalid, &["run"]), Some(3));
    assert_eq!(code(invalid, &["validate"]), Some(3));
    assert_eq!(code(invalid, &["graph"]), Some(3));
    assert_eq!(code(sound, &["sql", "SELECT nosuch"]), Some(1));
    assert_eq!(Pipeline::new(&[]).run(&["run"]).code, Some(2));
    for command in ["run", "validate"] {
        let missing = Pipeline::new(&[("deltaworks.yml", "name: p\nlibraries: [{file: {path: nosuch.sql}}]\n")]);
        missing.run(&[command]).complains(2, &["file `nosuch.sql` does not exist", "--> deltaworks.yml:2:"]);
        let unsupported = "name: p\nlibraries: [{glob: {include: a.txt}}]\n";
        let unsupported = Pipeline::new(&[("deltaworks.yml", unsupported), ("a.txt", "SELECT 1")]);
        unsupported.run(&[command]).complains(3, &["source file `a.txt` has an unsupported extension"]);
    }
}

#[test]
fn quiet_says_what_went_wrong_once_and_nothing_else() {
    let settings = "name: p\nfoo: 1\n";
    let pipeline =
        Pipeline::new(&[("deltaworks.yml", settings), ("a.sql", "CREATE MATERIALIZED VIEW a AS SELECT xx;\n")]);
    let done = pipeline.run(&["run", "--quiet"]);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""));
    assert_eq!(done.err.matches("column `xx` cannot be resolved").count(), 1, "{}", done.err);
    assert!(!done.err.contains("warning"), "{}", done.err);
}

#[test]
fn status_says_why_an_update_failed() {
    let pipeline = Pipeline::new(&[("a.sql", "CREATE MATERIALIZED VIEW a AS SELECT * FROM nosuch;\n")]);
    assert_eq!(pipeline.run(&["run"]).code, Some(3));
    let status = pipeline.run(&["status"]).out;
    assert!(status.contains("error: The table or view `nosuch` cannot be found"), "{status}");
}

#[test]
fn nothing_has_happened_before_the_first_update() {
    let pipeline = Pipeline::new(&[("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 1 AS one;\n")]);
    let name = pipeline.path().file_name().unwrap().to_str().unwrap();
    let said = |arguments: &[&str]| {
        let done = pipeline.run(arguments);
        (done.code, done.out, done.err)
    };
    assert_eq!(said(&["status"]), (Some(0), format!("Pipeline {name} has not run yet.\n"), String::new()));
    assert_eq!(said(&["events"]), (Some(0), "No events.\n".to_owned(), String::new()));
    assert_eq!(said(&["events", "--format", "json"]), (Some(0), String::new(), String::new()));
    assert!(!pipeline.path().join(".deltaworks").exists(), "looking leaves no trace");
}

#[test]
fn sources_that_are_no_text_say_so() {
    let pipeline = Pipeline::new(&[("a.sql", "")]);
    std::fs::write(pipeline.path().join("a.sql"), b"CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT '\xff' AS x;")
        .unwrap();
    pipeline
        .run(&["validate"])
        .complains(2, &["error: source file `a.sql` cannot be read: stream did not contain valid UTF-8"]);
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let invalid = Pipeline::new(&[("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT one FROM b;\n")]);
    assert!(!invalid.run(&["validate"]).err.contains('\u{1b}'));
    assert!(invalid.run(&["validate", "--color", "always"]).err.contains('\u{1b}'));
    let mut command = invalid.command(&["validate"]);
    command.env("NO_COLOR", "1");
    assert!(!Done::of(command).err.contains('\u{1b}'));
}

#[test]
fn reader_that_goes_away_ends_the_output_quietly() {
    let parent = initialised("sql");
    assert_eq!(parent.run(&["run", "shop"]).code, Some(0));
    for arguments in [
        &["events", "shop", "--format", "json"][..],
        &["run", "shop", "--json"],
        &["sql", "shop", "SELECT explode(sequence(1, 100000)) AS n", "--format", "csv"],
    ] {
        let mut child = parent.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        drop(out);
        let done = child.wait_with_output().unwrap();
        assert_eq!(
            (done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn validation_leaves_no_schema_behind() {
    let query = "CREATE STREAMING TABLE t AS SELECT * EXCEPT (_rescued_data)
                 FROM STREAM read_files('in', format => 'json', schemaLocation => 'learned');\n";
    let pipeline = Pipeline::new(&[("a.sql", query), ("in/1.json", "{\"id\": \"not yet a number\"}\n")]);
    assert_eq!(pipeline.run(&["validate"]).code, Some(0));
    assert!(!pipeline.path().join(".deltaworks").exists());
    assert!(!pipeline.path().join("learned").exists());
    pipeline.write("in/1.json", "{\"id\": 1}\n");
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT typeof(id) AS type FROM t"), "type\nbigint\n");
}

#[test]
fn only_files_that_import_the_pipelines_api_are_evaluated() {
    let tool = "open('it-ran', 'w').close()\nHELP = '''\nimport dlt\n'''\n";
    let source = ("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 1 AS one;\n");
    let pipeline = Pipeline::new(&[source, ("tool.py", tool)]);
    assert_eq!(pipeline.run(&["validate"]).code, Some(0));
    assert!(!pipeline.path().join("it-ran").exists());
}

#[test]
fn streams_from_targets_of_changes_are_warned_of_unless_they_read_the_changes() {
    let source = |read: &str| {
        format!(
            "CREATE STREAMING TABLE t TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true');\n\
             CREATE FLOW f AS AUTO CDC INTO t FROM STREAM read_files('in', format => 'json', schema => 'id INT, seq INT')\n\
             KEYS (id) SEQUENCE BY seq;\n\
             CREATE STREAMING TABLE u AS SELECT id FROM STREAM {read};\n"
        )
    };
    let pipeline = Pipeline::new(&[("a.sql", &source("t")), ("in/1.json", "{\"id\": 1, \"seq\": 1}\n")]);
    pipeline.run(&["validate"]).complains(0, &["whose rows AUTO CDC rewrites", "a.sql:4", "readChangeFeed"]);
    pipeline.write("a.sql", &source("t WITH (readChangeFeed = true)"));
    let done = pipeline.run(&["validate"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.err.contains("warning"), "{done:?}");
    pipeline.write("a.sql", &source("t WITH (readChangeFeed = true)").replace("'true'", "'false'"));
    pipeline.run(&["validate"]).complains(3, &["DELTA_MISSING_CHANGE_DATA", "delta.enableChangeDataFeed"]);
}

#[test]
fn python_starts_without_what_it_seldom_needs() {
    // The user's file could not tell a module that the engine imported from one that it needs itself.
    let source = "import sys\n
import dlt\nfrom pyspark.sql import functions as F\n
@dlt.table\ndef t():
    loaded = [name for name in ('numpy', 'pandas', 'pyarrow') if name in sys.modules]
    assert not loaded, f'half a second for nothing: {loaded}'
    return spark.range(1).where(F.col('id') > 0).withColumn('a', F.lit('b'))\n";
    let done = Pipeline::new(&[("a.py", source)]).run(&["validate"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn sql_takes_commands_that_look_at_tables() {
    let pipeline = Pipeline::new(&[
        ("pipeline.sql", "CREATE OR REFRESH MATERIALIZED VIEW m AS SELECT 1 AS id;"),
        ("pipeline.json", r#"{"name": "shop", "target": "sales", "libraries": [{"file": {"path": "pipeline.sql"}}]}"#),
    ]);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT id FROM sales.m"), "id\n1\n");
    assert_eq!(pipeline.query("SHOW TABLES"), "namespace,tableName,isTemporary\nsales,m,false\n");
    assert_eq!(pipeline.query("DESCRIBE m"), "col_name,data_type,comment\nid,int,\n");
    let history = pipeline.query("DESCRIBE HISTORY m");
    let versions: Vec<_> = history.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(versions, ["1", "0"], "{history}");
    assert!(pipeline.query("EXPLAIN SELECT id FROM m").contains("== Physical Plan =="));
    pipeline.run(&["sql", "DESCRIBE HISTORY m LIMIT -1"]).complains(1, &["PARSE_SYNTAX_ERROR"]);
    pipeline.run(&["sql", "DESCRIBE HISTORY nosuch"]).complains(1, &["TABLE_OR_VIEW_NOT_FOUND"]);
    pipeline.run(&["sql", "DROP TABLE m"]).complains(1, &["is a dataset of the pipeline"]);
    assert_eq!(pipeline.query("SELECT id FROM m EXCEPT ALL SELECT 1"), "id\n");
}
