//! Every error of the analysis as a user sees it.

use crate::support::Pipeline;

const CUSTOMERS: &str = "CREATE OR REFRESH MATERIALIZED VIEW customers AS SELECT 1 AS id, 'Ada' AS name, 36 AS age;\n";

/// What `deltaworks validate` says about SQL, after a sound dataset `customers` in the first line.
#[track_caller]
fn sql(text: &str) -> String {
    invalid(&[("pipeline.sql", &format!("{CUSTOMERS}{text}\n")), ("in/1.json", "{\"id\": 1}\n")])
}

/// The same for Python.
#[track_caller]
fn python(text: &str) -> String {
    let head = "import dlt\nfrom pyspark.sql import functions as F\n\n@dlt.table\ndef customers():\n    return spark.range(1).selectExpr(\"id\", \"'Ada' AS name\")\n\n";
    invalid(&[("pipeline.py", &format!("{head}{text}\n"))])
}

#[track_caller]
fn invalid(files: &[(&str, &str)]) -> String {
    let pipeline = Pipeline::new(files);
    let done = pipeline.run(&["validate"]);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{done:?}");
    done.err.replace(&pipeline.path().canonicalize().unwrap().display().to_string(), "<folder>")
}

macro_rules! cases {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), $text);
        })*
    };
}

cases! {
    sql_syntax_error: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT id,\nFROM customers WHERE;");
    sql_unclosed_text: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT 'open FROM customers;");
    sql_unknown_statement: sql("CREATE OR REFRESH MATERIALISED VIEW v AS SELECT 1 AS one;");
    sql_plain_query: sql("SELECT * FROM customers;");
    sql_unsupported_statement: sql("INSERT INTO customers VALUES (2, 'Bob', 20);");
    unknown_table: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT c.id FROM custmers AS c;");
    unknown_table_without_like: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT * FROM something_else;");
    unknown_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT id, nmae FROM customers;");
    unknown_column_of_alias: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT c.nmae FROM customers AS c;");
    unknown_column_in_where: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id FROM customers\nWHERE agee > 3;");
    unknown_field: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT s.nmae FROM (SELECT named_struct('name', name) AS s FROM customers);");
    unknown_function: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT uper(name) AS n FROM customers;");
    wrong_number_of_arguments: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT upper(name, id) AS n FROM customers;");
    ambiguous_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT id FROM customers a JOIN customers b ON a.id = b.id;");
    duplicate_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id, name AS ID FROM customers;");
    not_grouped: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT name, count(*) AS n FROM customers GROUP BY age;");
    type_mismatch_in_union: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id FROM customers UNION ALL SELECT array(name) FROM customers;");
    wrong_number_of_columns_in_union: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id FROM customers UNION ALL SELECT id, name FROM customers;");
    where_is_not_boolean: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id FROM customers WHERE array(id);");
    impossible_arithmetic: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT array(id) + 1 AS x FROM customers;");
    cycle: sql("CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT * FROM b;\nCREATE OR REFRESH MATERIALIZED VIEW b AS SELECT * FROM a;");
    reads_itself: sql("CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT * FROM a;");
    duplicate_dataset: sql("CREATE OR REFRESH MATERIALIZED VIEW Customers AS SELECT 2 AS id;");
    duplicate_flow: sql("CREATE OR REFRESH STREAMING TABLE t;\nCREATE FLOW f AS INSERT INTO t BY NAME SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');\nCREATE FLOW f AS INSERT INTO t BY NAME SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');");
    flow_into_unknown_table: sql("CREATE FLOW f AS INSERT INTO nowhere BY NAME SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');");
    flow_into_view: sql("CREATE FLOW f AS INSERT INTO customers BY NAME SELECT * FROM STREAM read_files('in', format => 'json', schema => 'id INT');");
    streaming_table_without_flow: sql("CREATE OR REFRESH STREAMING TABLE t;");
    streaming_table_of_batch_query: sql("CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM customers;");
    view_of_stream: sql("CREATE OR REFRESH STREAMING TABLE s AS SELECT * FROM STREAM read_files('in', format => 'text');\nCREATE OR REFRESH MATERIALIZED VIEW v AS SELECT * FROM STREAM s;");
    stream_of_materialized_view: sql("CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM STREAM customers;");
    unsupported_on_streams: sql("CREATE OR REFRESH STREAMING TABLE t AS SELECT value FROM STREAM read_files('in', format => 'text') ORDER BY value;");
    expectation_with_aggregate: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  CONSTRAINT total EXPECT (sum(id) > 0) ON VIOLATION DROP ROW\n) AS SELECT id FROM customers;");
    expectation_is_not_boolean: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  CONSTRAINT id EXPECT (id + 1)\n) AS SELECT id FROM customers;");
    expectation_of_unknown_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  CONSTRAINT paid EXPECT (idd > 0) ON VIOLATION DROP ROW\n) AS SELECT id FROM customers;");
    expectation_with_wrong_action: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  CONSTRAINT paid EXPECT (id > 0) ON VIOLATION IGNORE\n) AS SELECT id FROM customers;");
    declared_columns_differ: sql("CREATE OR REFRESH MATERIALIZED VIEW v (id INT, title STRING) AS SELECT id, name FROM customers;");
    unknown_partition_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v PARTITIONED BY (day) AS SELECT id FROM customers;");
    interval_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT id, INTERVAL '1' DAY AS span FROM customers;");
    partitioned_by_all_columns: sql("CREATE OR REFRESH MATERIALIZED VIEW v PARTITIONED BY (id, name) AS SELECT id, name FROM customers;");
    partitioned_twice: sql("CREATE OR REFRESH MATERIALIZED VIEW v PARTITIONED BY (name, NAME) AS SELECT id, name FROM customers;");
    partitioned_by_binary: sql("CREATE OR REFRESH MATERIALIZED VIEW v PARTITIONED BY (raw) AS SELECT id, CAST(name AS BINARY) AS raw FROM customers;");
    key_of_unknown_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v (id INT, CONSTRAINT k PRIMARY KEY (idd)) AS SELECT id FROM customers;");
    grouping_id_without_sets: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT name,\n  grouping_id() AS g FROM customers GROUP BY name;");
    grouping_without_sets: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT grouping(name) AS g FROM customers GROUP BY name;");
    check_of_unknown_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v TBLPROPERTIES ('delta.constraints.positive' = 'idd > 0')\nAS SELECT id FROM customers;");
    check_is_not_a_condition: sql("CREATE OR REFRESH MATERIALIZED VIEW v TBLPROPERTIES ('delta.constraints.positive' = 'id + 1')\nAS SELECT id FROM customers;");
    generated_from_unknown_column: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  id INT,\n  next INT GENERATED ALWAYS AS (idd + 1)\n) AS SELECT id FROM customers;");
    generated_at_random: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  id INT,\n  lot DOUBLE GENERATED ALWAYS AS (rand())\n) AS SELECT id FROM customers;");
    generated_now: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  id INT,\n  at TIMESTAMP GENERATED ALWAYS AS (current_timestamp())\n) AS SELECT id FROM customers;");
    generated_from_generated: sql("CREATE OR REFRESH MATERIALIZED VIEW v (\n  id INT,\n  a INT GENERATED ALWAYS AS (id + 1),\n  b INT GENERATED ALWAYS AS (a + 1)\n) AS SELECT id FROM customers;");
    iceberg_table: sql("CREATE OR REFRESH MATERIALIZED VIEW v USING ICEBERG AS SELECT id FROM customers;\nCREATE OR REFRESH MATERIALIZED VIEW w AS SELECT * FROM v;");
    published_view_of_temporary_view: sql("CREATE TEMPORARY VIEW step AS SELECT id FROM customers;\nCREATE VIEW v AS\nSELECT * FROM step;");
    published_view_of_private_table: sql("CREATE PRIVATE MATERIALIZED VIEW p AS SELECT 1 AS x;\nCREATE VIEW v AS SELECT * FROM p;\nCREATE VIEW w AS SELECT nothing FROM p;");
    expectation_of_published_view: sql("CREATE VIEW v (\n  CONSTRAINT positive EXPECT (id > 0)\n) AS SELECT id FROM customers;");
    broken_statement_is_told_once: sql("CREATE OR REFRESH MATERIALIZED VIEW a AS\nSELECT id, FROM customers WHERE;\nCREATE OR REFRESH MATERIALIZED VIEW b AS SELECT * FROM a;\nCREATE OR REFRESH STREAMING TABLE c;\nCREATE FLOW f AS INSERT INTO c BY NAME SELEC * FROM STREAM b;\nCREATE OR REFRESH STREAMING TABLE e AS SELECT * FROM STREAM c;");
    unclosed_text_is_told_once: sql("CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT 'open AS x FROM customers;\nCREATE OR REFRESH MATERIALIZED VIEW b AS SELECT * FROM a;");
    missing_semicolon_is_told_once: sql("CREATE OR REFRESH MATERIALIZED VIEW a AS SELECT id FROM customers\nCREATE OR REFRESH MATERIALIZED VIEW b AS SELECT id FROM a;\nCREATE OR REFRESH MATERIALIZED VIEW c AS SELECT id FROM a JOIN b USING (id);");
    flows_disagree: sql("CREATE OR REFRESH STREAMING TABLE t;\nCREATE FLOW f AS INSERT INTO t BY NAME SELECT id FROM STREAM read_files('in', format => 'json', schema => 'id INT');\nCREATE FLOW g AS INSERT INTO t BY NAME SELECT array(id) AS id FROM STREAM read_files('in', format => 'json', schema => 'id INT');");
    flow_with_undeclared_column: sql("CREATE OR REFRESH STREAMING TABLE t (id INT);\nCREATE FLOW f AS INSERT INTO t BY NAME SELECT id, 1 AS more FROM STREAM read_files('in', format => 'json', schema => 'id INT');");
    text_compared_with_a_number: sql("CREATE OR REFRESH MATERIALIZED VIEW v AS\nSELECT id,\n  '0.5' > 0 AS a,\n  name = 1 AS b FROM customers;\nCREATE OR REFRESH MATERIALIZED VIEW w AS SELECT nothing FROM v;");
    limit_on_a_stream: sql("CREATE OR REFRESH STREAMING TABLE t AS SELECT value FROM STREAM read_files('in', format => 'text')\nLIMIT 5;");
    window_on_a_stream: sql("CREATE OR REFRESH STREAMING TABLE t AS\nSELECT value, row_number() OVER (ORDER BY value) AS n FROM STREAM read_files('in', format => 'text');");
    outer_join_of_streams: sql("CREATE OR REFRESH STREAMING TABLE t AS SELECT a.value FROM STREAM read_files('in', format => 'text') AS a\nLEFT JOIN STREAM read_files('in', format => 'text') AS b ON a.value = b.value;");
    misspelt_reader_option: sql("CREATE OR REFRESH STREAMING TABLE t AS\nSELECT * FROM STREAM read_files('in', format => 'text', maxFilePerTrigger => 1);\nCREATE OR REFRESH MATERIALIZED VIEW w AS SELECT nothing FROM t;");
    python_expectation_on_its_line: python("@dlt.table\n@dlt.expect(\"fine\", \"id >= 0\")\n@dlt.expect_all({\n    \"also fine\": \"name IS NOT NULL\",\n    \"bad\": \"idd > 0\",\n})\ndef v():\n    return dlt.read(\"customers\")");
    python_sql_syntax_error: python("@dlt.table\ndef v():\n    return spark.sql(\"\"\"\n        SELEC 1\"\"\")");
    python_sql_unfinished_query: python("@dlt.table\ndef v():\n    return spark.sql(\"SELECT id FROM customers WHERE\")");
    python_broken_file_is_told_once: invalid(&[("a.py", "import dlt\n\n@dlt.table\ndef broken(:\n    pass\n"), ("b.sql", "CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT * FROM broken;\n")]);
    python_syntax_error: python("@dlt.table\ndef broken(:\n    return dlt.read(\"customers\")");
    python_exception: python("def parse(row):\n    return row[\"missing\"]\n\n@dlt.table\ndef raises():\n    return parse({})");
    python_exception_while_loading: python("THRESHOLD = int(\"many\")");
    python_missing_module: python("import not_installed_anywhere");
    python_unknown_column: python("@dlt.table\ndef v():\n    return dlt.read(\"customers\").select(\"id\", \"nmae\")");
    python_unknown_table: python("@dlt.table\ndef v():\n    return dlt.read(\"custmers\")");
    python_returns_nothing: python("@dlt.table\ndef v():\n    dlt.read(\"customers\")");
    python_duplicate_dataset: python("@dlt.table(name=\"customers\")\ndef again():\n    return spark.range(1)");
    python_unknown_argument: python("@dlt.table(comments=\"none\")\ndef v():\n    return spark.range(1)");
    python_bad_expectation: python("@dlt.table\n@dlt.expect_or_drop(\"positive\", \"idd >\")\ndef v():\n    return dlt.read(\"customers\")");
    python_no_datasets: invalid(&[("pipeline.py", "import dlt\n\nprint(\"nothing is defined here\")\n")]);
}
