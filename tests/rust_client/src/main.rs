//! What a program with the Apache client for Rust does, at the server that `SPARK_REMOTE` names. Says `DONE` at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spark_connect::functions::{count, sum, upper};
use spark_connect::row::{Row, Value};
use spark_connect::{Column, DataFrame, DataType, Result, SparkSession, StructField, col, lit};

fn main() -> Result<()> {
    let remote = std::env::var("SPARK_REMOTE").expect("SPARK_REMOTE names the server");
    let spark = SparkSession::builder().remote(&remote).get_or_create()?;
    assert_eq!(spark.version()?, "4.2.0");
    sql(&spark)?;
    data_frames(&spark)?;
    local_rows(&spark)?;
    writes(&spark)?;
    errors(&spark)?;
    progress(&spark)?;
    other_sessions(&spark)?;
    spark.stop()?;
    println!("DONE");
    Ok(())
}

/// The rows of a DataFrame as text, one value after the other.
fn rows(df: &DataFrame) -> Result<Vec<String>> {
    let text = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::String(value) => value.clone(),
        other => format!("{other:?}"),
    };
    let row = |row: &Row| row.values().iter().map(text).collect::<Vec<_>>().join(",");
    Ok(df.collect()?.iter().map(row).collect())
}

fn sorted(df: &DataFrame, column: &str) -> Result<Vec<String>> {
    rows(&df.order_by(vec![col(column).expression().clone()]))
}

fn sql(spark: &SparkSession) -> Result<()> {
    let df = spark.sql("SELECT * FROM VALUES (1, 'a'), (2, NULL) AS t(id, s) ORDER BY id")?;
    assert_eq!(rows(&df)?, ["1,a", "2,NULL"]);
    let args = spark.sql("SELECT id * 2 AS n FROM range(3) WHERE id > 0")?;
    assert_eq!(sorted(&args, "n")?, ["2", "4"]);
    spark.conf().set("spark.sql.session.timeZone", "Asia/Tokyo")?;
    assert_eq!(rows(&spark.sql("SELECT current_timezone()")?)?, ["Asia/Tokyo"]);
    Ok(())
}

fn data_frames(spark: &SparkSession) -> Result<()> {
    let numbers = spark.range(10)?.with_column("k", col("id") % lit(3));
    assert_eq!(rows(&numbers.filter(col("id").gt(lit(7))))?, ["8,2", "9,0"]);
    let aggregates: Vec<Column> = vec![sum(col("id")).alias("total"), count(col("id")).alias("n")];
    let grouped = numbers.group_by(vec![col("k")]);
    let totals = grouped.agg(aggregates.iter().map(|column| column.expression().clone()).collect());
    assert_eq!(sorted(&totals, "k")?, ["0,18,4", "1,12,3", "2,15,3"]);
    let names = spark.sql("SELECT * FROM VALUES (0, 'zero'), (1, 'one') AS t(k, name)")?;
    let joined = totals.join_using(&names, vec!["k"], spark_connect::plan::JoinType::Inner);
    let joined = joined.select(vec![upper(col("name")).alias("name"), col("total")]);
    assert_eq!(sorted(&joined, "name")?, ["ONE,12", "ZERO,18"]);
    assert_eq!(numbers.count()?, 10);
    // More rows than one response holds.
    let many = spark.range(300_000)?.collect()?;
    assert_eq!(many.len(), 300_000);
    assert_eq!(many[299_999].get(0), Some(&Value::Long(299_999)));
    Ok(())
}

fn local_rows(spark: &SparkSession) -> Result<()> {
    let field = |name: &str, data_type| StructField {
        name: name.to_owned(),
        data_type,
        nullable: true,
        metadata: BTreeMap::new(),
    };
    let schema = DataType::Struct {
        fields: vec![
            field("id", DataType::Long),
            field("s", DataType::String { collation: "UTF8_BINARY".to_owned() }),
            field("d", DataType::Double),
        ],
    };
    let row = |values| Row::new(vec!["id".to_owned(), "s".to_owned(), "d".to_owned()], values);
    let given = vec![
        row(vec![Value::Long(1), Value::String("a".to_owned()), Value::Double(1.5)]),
        row(vec![Value::Long(2), Value::Null, Value::Null]),
    ];
    let df = spark.create_dataframe(given, schema)?;
    assert_eq!(sorted(&df, "id")?, ["1,a,1.5", "2,NULL,NULL"]);
    df.create_or_replace_temp_view("given")?;
    assert_eq!(rows(&spark.sql("SELECT count(s), sum(d) FROM given")?)?, ["1,1.5"]);
    Ok(())
}

fn writes(spark: &SparkSession) -> Result<()> {
    spark.range(3)?.write().save_as_table("numbers")?;
    spark.range(5)?.filter(col("id").gt(lit(2))).write().mode("append").save_as_table("numbers")?;
    assert_eq!(sorted(&spark.table("numbers")?, "id")?, ["0", "1", "2", "3", "4"]);
    spark.sql("DELETE FROM numbers WHERE id = 0")?.collect()?;
    assert_eq!(spark.table("numbers")?.count()?, 4);
    spark.sql("CREATE TABLE names (id INT, name STRING)")?.collect()?;
    spark.sql("INSERT INTO names VALUES (1, 'one')")?.collect()?;
    assert_eq!(rows(&spark.table("names")?)?, ["1,one"]);
    let folder = std::env::current_dir().expect("a folder").join("files");
    let folder = folder.to_string_lossy();
    spark.range(4)?.write().parquet(&folder)?;
    assert_eq!(sorted(&spark.read().parquet(&folder), "id")?, ["0", "1", "2", "3"]);
    Ok(())
}

fn errors(spark: &SparkSession) -> Result<()> {
    let failed = |sql: &str| match spark.sql(sql).and_then(|df| df.collect()) {
        Ok(rows) => panic!("{sql} gave {rows:?}"),
        Err(error) => error,
    };
    let missing = failed("SELECT * FROM nothing");
    assert_eq!(missing.get_condition().as_deref(), Some("TABLE_OR_VIEW_NOT_FOUND"), "{missing}");
    assert_eq!(missing.get_sql_state().as_deref(), Some("42P01"), "{missing}");
    assert_eq!(failed("SELEC 1").get_condition().as_deref(), Some("PARSE_SYNTAX_ERROR"));
    assert_eq!(failed("SELECT 1 / 0").get_condition().as_deref(), Some("DIVIDE_BY_ZERO"));
    // The session lives.
    assert_eq!(spark.range(2)?.count()?, 2);
    Ok(())
}

fn progress(spark: &SparkSession) -> Result<()> {
    let done = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&done);
    let handler = spark.register_progress_handler(move |progress| {
        let all_done = !progress.stages.is_empty() && progress.stages.iter().all(|stage| stage.done);
        counting.fetch_add(usize::from(all_done), Ordering::SeqCst);
    });
    spark.range(100)?.filter(col("id").gt(lit(10))).collect()?;
    spark.remove_progress_handler(handler);
    assert!(done.load(Ordering::SeqCst) > 0, "nobody was told that the query is done");
    Ok(())
}

fn other_sessions(spark: &SparkSession) -> Result<()> {
    let other = spark.new_session();
    assert!(other.table("given").and_then(|df| df.count()).is_err(), "temporary views are of one session");
    assert_eq!(other.table("numbers")?.count()?, 4);
    Ok(())
}
