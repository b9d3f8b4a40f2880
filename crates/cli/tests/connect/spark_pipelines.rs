//! Spark's stock `spark-pipelines`, as `pyspark-client` ships it, against the server.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Server, python};

/// Runs `spark-pipelines` in `folder`.
fn spark_pipelines(server: &Server, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(python())
        .args(["-m", "pyspark.pipelines.cli"])
        .args(arguments)
        .env("SPARK_CONNECT_MODE_ENABLED", "1")
        .env("SPARK_REMOTE", &server.url)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

const SPEC: &str = "name: shop
storage: file:///unused
configuration:
  landing: LANDING
libraries:
  - glob:
      include: transformations/**
";

#[test]
fn its_own_sample_runs() {
    let server = Server::start(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    succeeds(&spark_pipelines(&server, folder.path(), &["init", "--name", "sample"]));
    let sample = folder.path().join("sample");

    let said = succeeds(&spark_pipelines(&server, &sample, &["dry-run"]));
    assert!(said.contains("is COMPLETED."), "{said}");
    server.check("assert connect().catalog.listTables() == []");

    let said = succeeds(&spark_pipelines(&server, &sample, &["run"]));
    assert!(said.contains("Flow 'example_sql_materialized_view' has COMPLETED."), "{said}");
    server.check(
        "spark = connect()
assert sorted(r.id for r in spark.table('example_python_materialized_view').collect()) == list(range(10))
assert sorted(r.id for r in spark.table('example_sql_materialized_view').collect()) == [0, 2, 4, 6, 8]",
    );
}

#[test]
fn streams_go_on_where_they_ended() {
    let server = Server::start(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let landing = folder.path().join("landing").display().to_string();
    write(
        folder.path(),
        &[
            ("spark-pipeline.yml", &SPEC.replace("LANDING", &landing)),
            (
                "transformations/bronze.py",
                "from pyspark import pipelines as dp
from pyspark.sql import functions as F

@dp.table
def bronze():
    return spark.readStream.schema('id INT, amount STRING').json(spark.conf.get('landing'))

@F.udf('string')
def level(amount):
    return 'high' if amount > 10 else 'low'

@dp.temporary_view
def levels():
    return spark.readStream.table('silver').withColumn('level', level('amount'))

dp.create_streaming_table('by_level')

@dp.append_flow(target='by_level')
def leveled():
    return spark.readStream.table('levels').select('id', 'level')
",
            ),
            (
                "transformations/silver.sql",
                "CREATE STREAMING TABLE silver AS
SELECT id, CAST(amount AS INT) AS amount FROM STREAM bronze WHERE id IS NOT NULL;
CREATE MATERIALIZED VIEW gold AS SELECT level, count(*) AS n FROM by_level GROUP BY level;
",
            ),
            ("landing/1.json", "{\"id\": 1, \"amount\": \"5\"}\n{\"id\": null, \"amount\": \"6\"}\n"),
        ],
    );
    succeeds(&spark_pipelines(&server, folder.path(), &["run"]));
    write(folder.path(), &[("landing/2.json", "{\"id\": 2, \"amount\": \"50\"}\n")]);
    succeeds(&spark_pipelines(&server, folder.path(), &["run"]));
    server.check(
        "spark = connect()
assert sorted(tuple(r) for r in spark.table('silver').collect()) == [(1, 5), (2, 50)]
assert sorted(tuple(r) for r in spark.table('by_level').collect()) == [(1, 'low'), (2, 'high')]
assert sorted(tuple(r) for r in spark.table('gold').collect()) == [('high', 1), ('low', 1)]",
    );

    std::fs::remove_file(folder.path().join("landing/1.json")).unwrap();
    succeeds(&spark_pipelines(&server, folder.path(), &["run", "--full-refresh", "bronze,silver,by_level"]));
    server.check("assert [tuple(r) for r in connect().table('silver').collect()] == [(2, 50)]");
}

#[test]
fn problems_end_the_command_with_their_place() {
    let server = Server::start(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("spark-pipeline.yml", &SPEC.replace("LANDING", "nowhere")),
            ("transformations/wrong.sql", "CREATE MATERIALIZED VIEW v AS\nSELECT nmae FROM t;"),
            (
                "transformations/t.py",
                "from pyspark import pipelines as dp\n\n@dp.materialized_view\ndef t():\n    return spark.sql('SELECT 1 AS name')\n",
            ),
        ],
    );
    for command in ["dry-run", "run"] {
        let output = spark_pipelines(&server, folder.path(), &[command]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("AnalysisException: [UNRESOLVED_COLUMN.WITH_SUGGESTION]"), "{said}");
        assert!(said.contains("transformations/wrong.sql:2:8"), "{said}");
    }
    write(
        folder.path(),
        &[("transformations/wrong.sql", "CREATE MATERIALIZED VIEW v AS\nSELECT CAST('x' AS INT) AS n FROM t;")],
    );
    let output = spark_pipelines(&server, folder.path(), &["run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("[CAST_INVALID_INPUT]"), "{said}");
    server.check("assert connect().table('t').count() == 1");
}
