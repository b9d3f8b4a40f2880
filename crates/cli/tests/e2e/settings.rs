//! Settings of wrong types in every spelling: each problem at once, with its place.

use crate::support::Pipeline;

const SQL: (&str, &str) = ("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 1 AS one;\n");

#[test]
fn wrong_types_in_spark_pipeline_yml() {
    let settings = "name: shop\nstorage: [a]\nlibraries: yes\nconfiguration: 3\ncontinuous: maybe\nthreads: many\n";
    Pipeline::new(&[SQL, ("spark-pipeline.yml", settings)]).run(&["run"]).complains(
        2,
        &[
            "error[PIPELINE_SPEC_INVALID_FIELD]: setting `storage` must be a text, but is a list\n --> spark-pipeline.yml:2:10",
            "error[PIPELINE_SPEC_INVALID_FIELD]: setting `libraries` must be a list, but is `yes`\n --> spark-pipeline.yml:3:12",
            "error[PIPELINE_SPEC_FIELD_NOT_DICT]: setting `configuration` must be a map, but is an integer\n --> spark-pipeline.yml:4:16",
            "setting `continuous` must be true or false, but is `maybe`\n --> spark-pipeline.yml:5:13",
            "setting `threads` must be an integer above 0, but is `many`\n --> spark-pipeline.yml:6:10",
            "Found 5 errors.",
        ],
    );
}

#[test]
fn wrong_types_in_settings_json() {
    let settings = r#"{
  "name": "shop",
  "storage": {"a": 1},
  "continuous": "maybe",
  "configuration": {"a": {"b": 1}},
  "libraries": [{"file": {"path": ["a.sql"]}}],
  "clusters": {}
}"#;
    Pipeline::new(&[SQL, ("pipeline.json", settings)]).run(&["run"]).complains(
        2,
        &[
            "setting `storage` must be a text, but is a map\n --> pipeline.json:3:14",
            "setting `continuous` must be true or false, but is `maybe`\n --> pipeline.json:4:17",
            "value of `a` in setting `configuration` must be a text, but is a map\n --> pipeline.json:5:26",
            "`path` of library `file` must be a text, but is a list\n --> pipeline.json:6:35",
            "setting `clusters` must be a list, but is a map\n --> pipeline.json:7:15",
            "Found 5 errors.",
        ],
    );
}

#[test]
fn wrong_types_in_a_bundle() {
    let settings = "bundle:
  name: shop
resources:
  pipelines:
    orders:
      name: orders
      development: perhaps
      libraries:
        - file:
            path: [a.sql]
      configuration: none
";
    Pipeline::new(&[SQL, ("databricks.yml", settings)]).run(&["run"]).complains(
        2,
        &[
            "setting `development` must be true or false, but is `perhaps`\n --> databricks.yml:7:20",
            "`path` of library `file` must be a text, but is a list\n  --> databricks.yml:10:19",
            "setting `configuration` must be a map, but is a text\n  --> databricks.yml:11:22",
            "Found 3 errors.",
        ],
    );
}

#[test]
fn settings_that_cannot_be_read_are_not_passed_over() {
    for (name, text, place) in [
        ("spark-pipeline.yml", "name: [unclosed\n", "spark-pipeline.yml:2:1"),
        ("pipeline.json", "{\"name\": \"shop\",\n \"libraries\": [}\n", "pipeline.json:2:16"),
        ("databricks.yml", "bundle:\n\tname: shop\n", "databricks.yml:2:2"),
    ] {
        let done = Pipeline::new(&[SQL, (name, text)]).run(&["run"]);
        done.complains(2, &[&format!("error: settings file `{name}` cannot be read: "), place]);
    }
}
