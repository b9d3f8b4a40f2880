//! The monitoring queries that Databricks' users have, on our event log, after updates with new columns, dropped
//! rows, a failure and what it skipped.

use crate::support::Pipeline;

const ID: &str = "11111111-2222-3333-4444-555555555555";

const SQL: &str = "
CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT * FROM STREAM read_files('in', format => 'json', maxFilesPerTrigger => 1);
CREATE OR REFRESH STREAMING TABLE silver (
  CONSTRAINT known EXPECT (id IS NOT NULL) ON VIOLATION DROP ROW,
  CONSTRAINT positive EXPECT (amount > 0)
) AS SELECT id, CAST(amount AS INT) AS amount FROM STREAM bronze;
CREATE OR REFRESH MATERIALIZED VIEW gold AS SELECT count(*) AS n, sum(amount) AS amount FROM silver;
CREATE OR REFRESH MATERIALIZED VIEW strict (
  CONSTRAINT few EXPECT (n < 3) ON VIOLATION FAIL UPDATE
) AS SELECT n FROM gold;
CREATE OR REFRESH MATERIALIZED VIEW below AS SELECT * FROM strict;
";

/// Two updates: a sound one over two files; one that meets a new column and breaks an expectation.
fn updated_twice() -> Pipeline {
    let pipeline = Pipeline::new(&[
        ("pipeline.sql", SQL),
        ("deltaworks.yml", &format!("name: shop\nid: {ID}\n")),
        ("in/1.json", "{\"id\": 1, \"amount\": 5}\n{\"id\": 2, \"amount\": -1}\n"),
        ("in/2.json", "{\"amount\": 7}\n"),
    ]);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    pipeline.write("in/3.json", "{\"id\": 3, \"amount\": 5, \"colour\": \"red\"}\n");
    let mut second = pipeline.command(&["run"]);
    second.env("USER", "ada");
    assert_eq!(crate::support::Done::of(second).code, Some(1));
    pipeline
}

impl Pipeline {
    /// The rows of a query that may read `event_log_raw` and `latest_update`, the names of the documented queries.
    #[track_caller]
    fn monitor(&self, query: &str) -> String {
        self.query(&format!(
            "WITH event_log_raw AS (SELECT * FROM event_log('{ID}')),
             latest_update AS (
               SELECT origin.update_id AS id FROM event_log_raw
               WHERE event_type = 'create_update' ORDER BY timestamp DESC LIMIT 1)
             {query}"
        ))
    }
}

#[test]
fn documented_queries_give_what_happened() {
    let pipeline = updated_twice();

    let lineage = pipeline.monitor(
        "SELECT DISTINCT details:flow_definition.output_dataset AS output_dataset,
                details:flow_definition.input_datasets AS input_dataset,
                details:flow_definition.flow_type AS flow_type
         FROM event_log_raw, latest_update
         WHERE event_type = 'flow_definition' AND origin.update_id = latest_update.id ORDER BY 1",
    );
    let expected = "output_dataset,input_dataset,flow_type
below,\"[\"\"strict\"\"]\",MATERIALIZED_VIEW
bronze,[],APPEND
gold,\"[\"\"silver\"\"]\",MATERIALIZED_VIEW
silver,\"[\"\"bronze\"\"]\",APPEND
strict,\"[\"\"gold\"\"]\",MATERIALIZED_VIEW
";
    assert_eq!(lineage, expected);

    let quality = |updates: &str| {
        pipeline.monitor(&format!(
            "SELECT row_expectations.dataset AS dataset, row_expectations.name AS expectation,
                    SUM(row_expectations.passed_records) AS passing_records,
                    SUM(row_expectations.failed_records) AS failing_records
             FROM (SELECT explode(from_json(details :flow_progress :data_quality :expectations,
                     \"array<struct<name: string, dataset: string, passed_records: int, failed_records: int>>\"))
                     row_expectations
                   FROM event_log_raw, latest_update WHERE event_type = 'flow_progress' AND origin.update_id {updates})
             GROUP BY row_expectations.dataset, row_expectations.name ORDER BY 1, 2"
        ))
    };
    let header = "dataset,expectation,passing_records,failing_records\n";
    assert_eq!(
        quality("<> latest_update.id"),
        format!("{header}silver,known,2,1\nsilver,positive,2,1\nstrict,few,1,0\n")
    );
    assert_eq!(quality("= latest_update.id"), format!("{header}silver,known,1,0\nsilver,positive,1,0\n"));

    // One batch per file: the backlog shrinks.
    let backlog = pipeline.monitor(
        "SELECT origin.batch_id AS batch, details:flow_progress.metrics.num_output_rows AS rows,
                Double(details:flow_progress.metrics.backlog_bytes) AS backlog,
                details:flow_progress.metrics.backlog_files AS files
         FROM event_log_raw WHERE event_type = 'flow_progress' AND origin.flow_name = 'bronze'
           AND details:flow_progress.metrics IS NOT NULL ORDER BY batch",
    );
    assert_eq!(backlog, "batch,rows,backlog,files\n0,2,14.0,1\n1,1,0.0,0\n2,1,0.0,0\n");

    let status = pipeline.monitor(
        "SELECT origin.flow_name AS flow, max_by(details:flow_progress.status, origin.update_id || sequence) AS status
         FROM (SELECT origin, details, lpad(get_json_object(sequence, '$.data_plane_id.seq_no'), 9, '0') AS sequence
               FROM event_log_raw, latest_update
               WHERE event_type = 'flow_progress' AND origin.update_id = latest_update.id)
         GROUP BY origin.flow_name ORDER BY 1",
    );
    assert_eq!(
        status,
        "flow,status\nbelow,SKIPPED\nbronze,COMPLETED\ngold,COMPLETED\nsilver,COMPLETED\nstrict,FAILED\n"
    );

    let techniques = pipeline.monitor(
        "SELECT origin.flow_name AS flow, FILTER(parsed.technique_information, t -> t.is_chosen = true)[0].maintenance_type AS chosen
         FROM (SELECT origin, from_json(details:planning_information,
                 'struct<technique_information: array<struct<maintenance_type: string, is_chosen: boolean>>>') AS parsed
               FROM event_log_raw, latest_update
               WHERE event_type = 'planning_information' AND origin.update_id = latest_update.id) ORDER BY 1",
    );
    assert_eq!(
        techniques,
        "flow,chosen\ngold,MAINTENANCE_TYPE_COMPLETE_RECOMPUTE\nstrict,MAINTENANCE_TYPE_COMPLETE_RECOMPUTE\n"
    );
}

#[test]
fn failures_are_found_with_their_cause_and_place() {
    let pipeline = updated_twice();
    let errors = pipeline.monitor(
        "SELECT level, message, error.fatal AS fatal, error.exceptions[0].class_name AS class,
                error.exceptions[0].message LIKE '%Violated expectations: \\'few\\'%' AS explained,
                error.exceptions[0].stack[0].file_name AS file, error.exceptions[0].stack[0].line_number AS line
         FROM event_log_raw, latest_update
         WHERE error IS NOT NULL AND level = 'ERROR' AND origin.update_id = latest_update.id",
    );
    assert_eq!(
        errors,
        "level,message,fatal,class,explained,file,line\nERROR,Flow 'strict' has FAILED.,true,EXPECTATION_VIOLATION.VERBOSITY_OUTPUT,true,pipeline.sql,9\n"
    );
    // The new column made the flow fail once, which it got over by itself.
    let retried = pipeline.monitor(
        "SELECT level, error.exceptions[0].class_name AS class FROM event_log_raw
         WHERE event_type = 'flow_progress' AND origin.flow_name = 'bronze' AND error IS NOT NULL",
    );
    assert_eq!(retried, "level,class\nWARN,UNKNOWN_FIELD_EXCEPTION.NEW_FIELDS_IN_RECORD_WITH_FILE_PATH\n");
    let ended = pipeline.monitor(
        "SELECT level, details:update_progress.state AS state FROM event_log_raw
         WHERE event_type = 'update_progress' AND details:update_progress.state IN ('COMPLETED', 'FAILED', 'CANCELED')
         ORDER BY timestamp",
    );
    assert_eq!(ended, "level,state\nINFO,COMPLETED\nERROR,FAILED\n");
}

/// The query that the guide shows for failures.
const FAILURES: &str = "SELECT message, error.exceptions[0].message AS why,
       error.exceptions[0].stack[0].file_name AS file, error.exceptions[0].stack[0].line_number AS line
FROM event_log_raw WHERE level = 'ERROR' ORDER BY timestamp DESC";

#[test]
fn problems_of_definitions_have_their_place_in_the_log() {
    let pipeline = Pipeline::new(&[
        (
            "pipeline.sql",
            "CREATE MATERIALIZED VIEW a AS SELECT 1 AS x, '1' > 0 AS y;\nCREATE MATERIALIZED VIEW b AS\nSELECT z FROM a;\nCREATE MATERIALIZED VIEW c AS SELECT * FROM d;\n",
        ),
        ("deltaworks.yml", &format!("name: shop\nid: {ID}\n")),
    ]);
    assert_eq!(pipeline.run(&["run"]).code, Some(3));
    let failures = pipeline.monitor(FAILURES);
    assert!(failures.starts_with("message,why,file,line\n"), "{failures}");
    assert!(failures.contains("column `z` cannot be resolved"), "{failures}");
    assert!(failures.trim_end().ends_with(",pipeline.sql,3"), "{failures}");
    let all = pipeline.monitor(
        "SELECT e.class_name AS class, e.stack[0].line_number AS line
         FROM (SELECT explode(error.exceptions) AS e FROM event_log_raw WHERE level = 'ERROR') ORDER BY line",
    );
    assert_eq!(all, "class,line\nUNRESOLVED_COLUMN.WITH_SUGGESTION,3\nTABLE_OR_VIEW_NOT_FOUND,4\n");
}

#[test]
fn rows_read_are_those_of_the_sources() {
    let pipeline = Pipeline::new(&[
        (
            "pipeline.sql",
            "CREATE STREAMING TABLE raw AS
               SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT, amount INT');
             CREATE MATERIALIZED VIEW names AS SELECT * FROM VALUES (1, 'a'), (2, 'b'), (3, 'c') AS t(id, name);
             CREATE STREAMING TABLE distinct_rows AS SELECT DISTINCT id, amount FROM STREAM raw;
             CREATE STREAMING TABLE large (CONSTRAINT below EXPECT (amount < 30) ON VIOLATION DROP ROW) AS
               SELECT * FROM STREAM raw WHERE amount > 5;
             CREATE STREAMING TABLE checked (CONSTRAINT below EXPECT (amount < 30) ON VIOLATION DROP ROW) AS
               SELECT id, amount FROM STREAM raw;
             CREATE STREAMING TABLE named AS SELECT name FROM STREAM raw JOIN names USING (id);
             CREATE STREAMING TABLE few AS
               SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT, amount INT') WHERE id = 1;
             CREATE STREAMING TABLE latest;
             CREATE FLOW changes AS AUTO CDC INTO latest FROM STREAM raw KEYS (id) SEQUENCE BY amount;
             CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS amount FROM large;",
        ),
        ("deltaworks.yml", &format!("name: shop\nid: {ID}\n")),
        ("in/1.json", "{\"id\": 1, \"amount\": 1}\n{\"id\": 2, \"amount\": 2}\n{\"id\": 2, \"amount\": 2}\n"),
    ]);
    let read = |written: &str| {
        assert_eq!(pipeline.run(&["run"]).code, Some(0));
        pipeline.monitor(&format!(
            "SELECT origin.flow_name AS flow, details:flow_progress.metrics.num_input_rows AS read,
                    details:flow_progress.metrics.num_output_rows AS written,
                    details:flow_progress.data_quality.expectations[0].passed_records AS passed,
                    details:flow_progress.data_quality.expectations[0].failed_records AS failed
             FROM event_log_raw, latest_update
             WHERE event_type = 'flow_progress' AND details:flow_progress.metrics IS NOT NULL
               AND origin.update_id = latest_update.id AND origin.flow_name {written} ORDER BY 1"
        ))
    };
    // A filter leaves rows out, an expectation drops some: they have been read all the same.
    let header = "flow,read,written,passed,failed\n";
    assert_eq!(
        read("NOT IN ('names', 'total')"),
        format!(
            "{header}changes,3,,,\nchecked,3,3,3,0\ndistinct_rows,3,2,,\nfew,3,1,,\nlarge,3,0,0,0\nnamed,3,3,,\nraw,3,3,,\n"
        )
    );
    // What the flows remember of earlier rows, the other side of a join, and rows that change are nothing new.
    pipeline
        .write("in/2.json", "{\"id\": 3, \"amount\": 10}\n{\"id\": 2, \"amount\": 2}\n{\"id\": 1, \"amount\": 40}\n");
    assert_eq!(
        read("<> ''"),
        format!(
            "{header}changes,3,,,\nchecked,3,2,2,1\ndistinct_rows,3,2,,\nfew,3,1,,\nlarge,3,1,1,1\nnamed,3,3,,\nraw,3,3,,\ntotal,1,1,,\n"
        )
    );
}

#[test]
fn every_event_says_where_it_belongs() {
    let pipeline = updated_twice();
    let sound = pipeline.monitor(
        "SELECT count(*) = count(DISTINCT id) AS ids, count(*) = count(DISTINCT sequence) AS sequences,
                bool_and(details LIKE '{\"' || event_type || '\":%') AS details,
                bool_and(origin.pipeline_name = 'shop' AND origin.request_id = origin.update_id) AS origins,
                bool_and(maturity_level IN ('STABLE', 'EVOLVING')) AS maturity,
                bool_and((level = 'METRICS') = (details:flow_progress.metrics IS NOT NULL)) AS levels
         FROM event_log_raw",
    );
    assert_eq!(sound, "ids,sequences,details,origins,maturity,levels\ntrue,true,true,true,true,true\n");
    let who = pipeline.monitor(
        "SELECT details:user_action:action AS action, details:user_action:user_name AS user_name FROM event_log_raw, latest_update
         WHERE event_type = 'user_action' AND origin.update_id = latest_update.id",
    );
    assert_eq!(who, "action,user_name\nSTART,ada\n");
    let version = pipeline.monitor(
        "SELECT details:runtime_details.dbr_version AS version FROM event_log_raw, latest_update
         WHERE event_type = 'runtime_details' AND origin.update_id = latest_update.id",
    );
    assert_eq!(version, format!("version\n{}\n", env!("CARGO_PKG_VERSION")));
    // One table's own log, and the log as the Delta table it is.
    let of_table =
        "SELECT count(*) > 0 AS some, bool_and(origin.dataset_name = 'silver' OR origin.dataset_name IS NULL) AS own";
    let by_table = pipeline.query(&format!("{of_table} FROM event_log(TABLE(silver))"));
    assert!(by_table.starts_with("some,own\ntrue,"), "{by_table}");
    let by_path = pipeline.query("SELECT count(*) > 0 AS some FROM delta.`.deltaworks/system/events`");
    assert_eq!(by_path, "some\ntrue\n");
}

#[test]
fn published_event_log_is_a_table_of_its_name() {
    let settings = "name: shop\ncatalog: c\nschema: s\nevent_log: {name: log, catalog: c, schema: monitoring}\n";
    let pipeline = Pipeline::new(&[
        ("deltaworks.yml", settings),
        (
            "pipeline.sql",
            "CREATE MATERIALIZED VIEW o AS SELECT 1 AS x;
             CREATE MATERIALIZED VIEW updates AS
             SELECT count(*) AS n FROM monitoring.log WHERE event_type = 'create_update';",
        ),
    ]);
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    let query = "SELECT count(*) AS n FROM c.monitoring.log WHERE event_type = 'create_update'";
    assert_eq!(pipeline.query(query), "n\n1\n");
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n >= 1 AS some FROM updates"), "some\ntrue\n");
}

#[test]
fn first_update_reads_an_empty_event_log() {
    let pipeline = Pipeline::new(&[(
        "pipeline.sql",
        "CREATE MATERIALIZED VIEW o AS SELECT 1 AS x;
         CREATE MATERIALIZED VIEW mon AS SELECT count(DISTINCT origin.update_id) AS n FROM event_log(TABLE(o));",
    )]);
    let first = pipeline.run(&["run"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(pipeline.run(&["run"]).code, Some(0));
    assert_eq!(pipeline.query("SELECT n >= 1 AS some FROM mon"), "some\ntrue\n");
}
