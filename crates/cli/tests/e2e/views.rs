//! Views that a pipeline publishes, as those see them who query its storage.

use crate::support::Pipeline;

const TABLE: &str =
    "CREATE OR REFRESH MATERIALIZED VIEW orders AS\nSELECT * FROM VALUES (1, 10), (2, -3) AS t(id, amount);\n";

fn updated(views: &str) -> Pipeline {
    let pipeline = Pipeline::new(&[("pipeline.sql", &format!("{TABLE}{views}"))]);
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    pipeline
}

#[test]
fn a_published_view_is_queried_like_a_table() {
    let pipeline = updated(
        "CREATE VIEW sound (number COMMENT 'of the order', amount) COMMENT 'orders that count' AS
           SELECT id, amount FROM orders WHERE amount > 0;
         CREATE VIEW doubled AS SELECT number, 2 * amount AS amount FROM sound;
         CREATE OR REFRESH MATERIALIZED VIEW total AS SELECT sum(amount) AS amount FROM doubled;",
    );
    assert_eq!(pipeline.query("SELECT * FROM sound"), "number,amount\n1,10\n");
    assert_eq!(
        pipeline.query("SELECT d.number FROM spark_catalog.default.DOUBLED AS d WHERE d.amount = 20"),
        "number\n1\n"
    );
    assert_eq!(pipeline.query("SELECT * FROM total"), "amount\n20\n");
    assert_eq!(
        pipeline.query("SHOW VIEWS"),
        "namespace,viewName,isTemporary\ndefault,doubled,false\ndefault,sound,false\n"
    );
    pipeline
        .run(&["sql", "DROP VIEW sound"])
        .complains(1, &["OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET", "is published by the pipeline"]);
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM sound"), "n\n1\n");
}

#[test]
fn a_view_means_what_it_meant_in_its_pipeline() {
    let pipeline = Pipeline::new(&[
        (
            "pipeline.sql",
            "CREATE MATERIALIZED VIEW other.t AS SELECT 7 AS x;
             USE SCHEMA other;
             CREATE VIEW v AS SELECT x, CAST('no' AS INT) AS n, :region AS region, '${greeting}' AS greeting
             FROM t;",
        ),
        ("deltaworks.yml", "name: shop\nparameters: {region: north}\nconfiguration: {greeting: hello}\n"),
    ]);
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    pipeline.write("deltaworks.yml", "name: shop\nconfiguration: {spark.sql.ansi.enabled: 'true'}\n");
    assert_eq!(pipeline.query("SELECT * FROM other.v"), "x,n,region,greeting\n7,,north,hello\n");
}

#[test]
fn a_view_that_leaves_the_pipeline_is_gone_after_the_next_update() {
    let pipeline = updated("CREATE VIEW a AS SELECT id FROM orders;\nCREATE VIEW b AS SELECT id FROM orders;\n");
    pipeline.write("pipeline.sql", &format!("{TABLE}CREATE VIEW b AS SELECT id + 1 AS id FROM orders;\n"));
    // Nothing changes before an update does it.
    assert_eq!(pipeline.run(&["validate"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT * FROM a ORDER BY id"), "id\n1\n2\n");
    let done = pipeline.run(&["run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    pipeline.run(&["sql", "SELECT * FROM a"]).complains(1, &["TABLE_OR_VIEW_NOT_FOUND", "`a` cannot be found"]);
    assert_eq!(pipeline.query("SELECT * FROM b ORDER BY id"), "id\n2\n3\n");
    // A view that became a table is read as one.
    pipeline.write("pipeline.sql", &format!("{TABLE}CREATE MATERIALIZED VIEW b AS SELECT 5 AS id;\n"));
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT * FROM b"), "id\n5\n");
}

#[test]
fn a_flow_does_not_read_a_view_that_its_pipeline_no_longer_defines() {
    let pipeline = updated("CREATE VIEW a AS SELECT id FROM orders;\n");
    pipeline.write("pipeline.sql", &format!("{TABLE}CREATE MATERIALIZED VIEW c AS SELECT * FROM a;\n"));
    pipeline.run(&["validate"]).complains(3, &["`a` cannot be found"]);
}

#[test]
fn a_view_whose_query_does_not_resolve_says_why() {
    let pipeline = updated("CREATE VIEW v AS\nSELECT id, amount FROM orders;\n");
    std::fs::remove_dir_all(pipeline.table("orders")).unwrap();
    pipeline.run(&["sql", "SELECT * FROM v"]).complains(
        1,
        &[
            "TABLE_OR_VIEW_NOT_FOUND",
            "`orders` cannot be found",
            "in view `v`",
            "Update the pipeline that publishes the view",
        ],
    );
}

#[test]
fn temporary_views_stay_within_the_pipeline() {
    let pipeline = updated(
        "CREATE TEMPORARY VIEW step AS SELECT id FROM orders;\nCREATE MATERIALIZED VIEW m AS SELECT * FROM step;\n",
    );
    pipeline.run(&["sql", "SELECT * FROM step"]).complains(1, &["`step` cannot be found"]);
    assert_eq!(pipeline.query("SHOW VIEWS"), "namespace,viewName,isTemporary\n");
}
