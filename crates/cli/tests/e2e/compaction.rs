//! Small files of streaming tables are put together, and nobody reads a row twice for it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Pipeline;

const FILES: u32 = 60;

/// A pipeline whose first run makes a batch, and so a file, of each row; `properties` are those of its first table.
fn pipeline(properties: &str) -> Pipeline {
    let pipeline = Pipeline::new(&[(
        "pipeline.sql",
        &format!(
            "CREATE OR REFRESH STREAMING TABLE bronze {properties} AS
             SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT', maxFilesPerTrigger => 1);
             CREATE OR REFRESH STREAMING TABLE silver AS SELECT id FROM STREAM bronze;"
        ),
    )]);
    (0..FILES).for_each(|id| pipeline.write(&format!("in/{id}.json"), &format!("{{\"id\": {id}}}\n")));
    pipeline
}

fn run(pipeline: &Pipeline) {
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// The actions of each commit of a table.
fn commits(pipeline: &Pipeline, table: &str) -> Vec<Vec<Value>> {
    let log = pipeline.table(table).join("_delta_log");
    let commit = |version: usize| std::fs::read_to_string(log.join(format!("{version:020}.json"))).ok();
    let actions = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (0..).map_while(commit).map(actions).collect()
}

/// What the history says of the commits that put files together.
fn compactions(pipeline: &Pipeline, table: &str) -> Vec<Value> {
    let infos = commits(pipeline, table).into_iter().flatten().map(|action| action["commitInfo"].clone());
    infos.filter(|info| info["operation"] == "OPTIMIZE").collect()
}

/// The files that a table consists of.
fn files(pipeline: &Pipeline, table: &str) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for action in commits(pipeline, table).into_iter().flatten() {
        let path = |kind: &str| action[kind]["path"].as_str().map(str::to_owned);
        files.extend(path("add"));
        path("remove").inspect(|path| assert!(files.remove(path), "{path} is no file of the table"));
    }
    files
}

#[test]
fn files_that_pile_up_are_put_together_and_streams_pass_over_it() {
    let pipeline = pipeline("");
    run(&pipeline);
    assert!(files(&pipeline, "bronze").len() < 50, "{:?}", files(&pipeline, "bronze"));
    let history = compactions(&pipeline, "bronze");
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(history[0]["operationParameters"]["auto"], "true");
    let removed: u32 = history[0]["operationMetrics"]["numRemovedFiles"].as_str().unwrap().parse().unwrap();
    assert!((50..=FILES).contains(&removed), "{removed}");
    for action in commits(&pipeline, "bronze")
        .into_iter()
        .rfind(|actions| actions.iter().any(|a| a["remove"].is_object()))
        .unwrap()
    {
        for kind in ["add", "remove"] {
            assert!(action[kind].is_null() || action[kind]["dataChange"] == false, "{action}");
        }
    }
    let whole = format!("n,ids,least,greatest\n{FILES},{FILES},0,{}\n", FILES - 1);
    let rows = |table: &str| {
        format!("SELECT count(*) n, count(DISTINCT id) ids, min(id) least, max(id) greatest FROM {table}")
    };
    assert_eq!(pipeline.query(&rows("bronze")), whole);
    assert_eq!(pipeline.query(&rows("silver")), whole);

    pipeline.write("in/more.json", "{\"id\": 1000}\n");
    run(&pipeline);
    assert_eq!(pipeline.query(&rows("silver")), format!("n,ids,least,greatest\n{0},{0},0,1000\n", FILES + 1));

    // Who reads the table from its start reads it once, too.
    let done = pipeline.run(&["run", "--full-refresh", "silver"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(pipeline.query(&rows("silver")), format!("n,ids,least,greatest\n{0},{0},0,1000\n", FILES + 1));
}

#[test]
fn tables_that_say_so_keep_their_files() {
    for property in ["'pipelines.autoOptimize.managed' = 'false'", "'delta.autoOptimize.autoCompact' = 'false'"] {
        let pipeline = pipeline(&format!("TBLPROPERTIES ({property})"));
        run(&pipeline);
        assert_eq!(compactions(&pipeline, "bronze"), Vec::<Value>::new());
        assert_eq!(files(&pipeline, "bronze").len(), FILES as usize);
    }
}
