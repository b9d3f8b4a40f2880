//! Parquet files that DataFusion's scan reads, and those that it must not.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array};
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::formats::{columns, texts, write_parquet};
use super::*;

/// A session over the files, read by Spark's reader with the options given.
async fn session(dir: &TempDir, options: &[(&str, &str)]) -> Result<SessionContext> {
    let options: ReadOptions = options.iter().copied().collect();
    let paths = [dir.path().join("in").display().to_string()];
    let table = batch_provider(Some("parquet"), &paths, None, &options, &context(dir)).await?;
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    ctx.register_table("t", table)?;
    Ok(ctx)
}

/// Whose scan it is, and the rows.
async fn asked(ctx: &SessionContext, query: &str) -> (bool, Vec<String>) {
    let frame = ctx.sql(query).await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    let rows = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    let rows = rows.lines().filter(|line| line.starts_with('|')).skip(1).map(|line| line.replace([' ', '|'], ""));
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    (plan.contains("DataSourceExec"), rows)
}

fn longs(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[tokio::test]
async fn datafusion_reads_columns_that_are_as_wanted() {
    let dir = TempDir::new().unwrap();
    let some = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as _;
    write_parquet(
        &dir,
        "in/a.parquet",
        &columns(&[("id", longs(&[1, 2, 3])), ("n", some), ("s", texts(&["x", "y", "z"]))]),
    );
    write_parquet(&dir, "in/b.parquet", &columns(&[("s", texts(&["w"])), ("id", longs(&[4])), ("more", longs(&[0]))]));
    let ctx = session(&dir, &[]).await.unwrap();
    assert_eq!(asked(&ctx, "SELECT id FROM t WHERE id > 2").await, (true, vec!["3".to_owned(), "4".to_owned()]));
    assert_eq!(asked(&ctx, "SELECT s FROM t").await.1, ["w", "x", "y", "z"]);
    // The second file has no such column; nobody else knows of the file.
    assert_eq!(
        asked(&ctx, "SELECT n, id FROM t WHERE id <> 2").await,
        (false, ["11", "33", "4"].map(str::to_owned).to_vec())
    );
    let names = asked(&ctx, "SELECT id, _metadata['file_name'] FROM t WHERE id > 2").await;
    assert_eq!(names, (false, vec!["3a.parquet".to_owned(), "4b.parquet".to_owned()]));
}

#[tokio::test]
async fn nan_is_found_though_no_bound_tells_of_it() {
    let dir = TempDir::new().unwrap();
    let numbers = Arc::new(Float64Array::from(vec![1.0, f64::NAN])) as _;
    write_parquet(&dir, "in/a.parquet", &columns(&[("x", numbers), ("id", longs(&[1, 2]))]));
    let ctx = session(&dir, &[]).await.unwrap();
    assert_eq!(asked(&ctx, "SELECT id FROM t WHERE x > 5").await, (true, vec!["2".to_owned()]));
    assert_eq!(asked(&ctx, "SELECT id FROM t ORDER BY x DESC LIMIT 1").await.1, ["2"]);
    assert_eq!(asked(&ctx, "SELECT max(id), min(id) FROM t").await.1, ["21"]);
}

#[tokio::test]
async fn bounds_are_estimates() {
    let dir = TempDir::new().unwrap();
    for (name, ids) in [("in/a.parquet", [3, 7]), ("in/b.parquet", [5, 9])] {
        let numbers = Arc::new(Float64Array::from(vec![1.0, 2.0])) as _;
        write_parquet(&dir, name, &columns(&[("id", longs(&ids)), ("x", numbers), ("s", texts(&["a", "b"]))]));
    }
    let ctx = session(&dir, &[]).await.unwrap();
    let plan = ctx.sql("SELECT id, x, s FROM t").await.unwrap().create_physical_plan().await.unwrap();
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).unwrap();
    let bounds: Vec<_> = statistics
        .column_statistics
        .iter()
        .map(|column| (column.min_value.clone(), column.max_value.clone()))
        .collect();
    let estimate = |bound: i64| Precision::Inexact(ScalarValue::Int64(Some(bound)));
    assert_eq!(bounds[0], (estimate(3), estimate(9)));
    // NaN may be among numbers, and texts may have been cut off.
    assert_eq!(bounds[1..], [(Precision::Absent, Precision::Absent), (Precision::Absent, Precision::Absent)]);
    assert_eq!(asked(&ctx, "SELECT min(id), max(id) FROM t").await, (true, vec!["39".to_owned()]));
}

#[tokio::test]
async fn row_groups_are_shared_out_and_left_out() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("in");
    fs::create_dir_all(&folder).unwrap();
    let ids: Vec<i64> = (0..400_000).map(|id| id * 7_919 % 1_000_003).collect();
    let batch = columns(&[("id", longs(&ids)), ("place", longs(&(0..400_000).collect::<Vec<_>>()))]);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(50_000)).build();
    let file = fs::File::create(folder.join("a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let ctx = session(&dir, &[]).await.unwrap();
    let sum: i64 = ids.iter().sum();
    let (datafusions, all) = asked(&ctx, "SELECT count(*), count(DISTINCT id), sum(id) FROM t").await;
    assert!(datafusions);
    assert_eq!(all, [format!("400000400000{sum}")]);
    let late = asked(&ctx, "SELECT min(place), max(place), count(*) FROM t WHERE place >= 399990").await.1;
    assert_eq!(late, ["39999039999910"]);
}

#[tokio::test]
async fn errors_name_the_file() {
    let dir = TempDir::new().unwrap();
    write_parquet(&dir, "in/a.parquet", &columns(&[("id", longs(&[1]))]));
    let ctx = session(&dir, &[]).await.unwrap();
    let plan = ctx.sql("SELECT id FROM t").await.unwrap().create_physical_plan().await.unwrap();
    fs::remove_file(dir.path().join("in/a.parquet")).unwrap();
    let gone = Error::from(datafusion::physical_plan::collect(plan, ctx.task_ctx()).await.unwrap_err());
    assert_eq!(gone.condition(), Some("FAILED_READ_FILE.FILE_NOT_EXIST"));
    assert!(gone.to_string().contains("a.parquet"), "{gone}");
    let gone = Error::from(ctx.sql("SELECT id FROM t").await.unwrap().collect().await.unwrap_err());
    assert_eq!(gone.condition(), Some("FAILED_READ_FILE.FILE_NOT_EXIST"));
    let passed_over = session(&dir, &[("ignoreMissingFiles", "true")]).await;
    assert!(passed_over.is_err(), "there is no file at all");
}
