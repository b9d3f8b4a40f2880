//! Reads of real files, rows asserted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod auto_loader;
mod bad_records;
mod clean_source;
mod file_age;
mod formats;
mod malformed;
mod plain_parquet;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::streaming::{OpenContext, Slice, StreamSource};
use deltaworks_spark::{Error, Result};
use tempfile::TempDir;
use url::Url;

use crate::{SourceContext, batch_provider, is_schema_evolved, ledger_schema, stream_relation};

fn context(dir: &TempDir) -> SourceContext {
    let mut context = SourceContext::new(SparkConf::pipeline_defaults());
    context.schema_store = Some(Url::from_file_path(dir.path().join("_store")).unwrap());
    context
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

async fn rows(table: Arc<dyn TableProvider>, columns: &[&str]) -> Result<Vec<String>> {
    let frame = SessionContext::new().read_table(table)?;
    let frame = if columns.is_empty() { frame } else { frame.select_columns(columns)? };
    let text = pretty_format_batches(&frame.collect().await?)?.to_string();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows: Vec<String> = lines.map(|line| cells(line).join(",")).collect();
    rows.sort();
    Ok(rows)
}

async fn open(dir: &TempDir, options: &[(&str, &str)]) -> Result<Arc<dyn StreamSource>> {
    let options: ReadOptions = options.iter().copied().collect();
    stream_relation(Some("cloudFiles"), &[dir.path().join("in").display().to_string()], None, &options, &context(dir))
        .await
}

async fn slices(source: &Arc<dyn StreamSource>, open: OpenContext) -> Vec<Slice> {
    let mut reader = source.open(open).await.unwrap();
    let mut slices = Vec::new();
    while let Some(slice) = reader.next_slice().await.unwrap() {
        slices.push(slice);
    }
    slices
}

async fn batch(format: &str, dir: &TempDir, options: &[(&str, &str)], columns: &[&str]) -> Result<Vec<String>> {
    let options: ReadOptions = options.iter().copied().collect();
    let paths = [dir.path().join("in").display().to_string()];
    rows(batch_provider(Some(format), &paths, None, &options, &context(dir)).await?, columns).await
}

#[tokio::test]
async fn json_is_inferred_with_broken_lines_kept() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"b\": 1, \"a\": [1, 2], \"s\": {\"x\": \"y\"}}\n{broken\n\n{\"b\": 2.5}\n");
    let got = batch("json", &dir, &[], &["_corrupt_record", "a", "b", "s"]).await.unwrap();
    assert_eq!(got, [",,2.5,", ",[1, 2],1.0,{x: y}", "{broken,,,"]);
}

#[tokio::test]
async fn csv_by_header_pads_and_types() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/day=2024-01-01/a.csv", "id,name\n1,\"x, \"\"y\"\"\"\n2\n3,z,extra\n");
    let options = [("header", "true"), ("inferSchema", "true"), ("escape", "\"")];
    let got = batch("csv", &dir, &options, &["id", "name", "day"]).await.unwrap();
    assert_eq!(got, ["1,x, \"y\",2024-01-01", "2,,2024-01-01", "3,z,2024-01-01"]);
}

#[tokio::test]
async fn auto_loader_reads_each_file_once_in_limited_slices() {
    let dir = TempDir::new().unwrap();
    for name in ["a", "b", "c"] {
        write(dir.path(), &format!("in/{name}.json"), &format!("{{\"n\": \"{name}\", \"o\": {{ \"k\" : 1 }}}}\n"));
    }
    let options = [("cloudFiles.format", "json"), ("cloudFiles.maxFilesPerTrigger", "2")];
    let source = open(&dir, &options).await.unwrap();
    let read = slices(&source, OpenContext::default()).await;
    let sizes: Vec<_> = read.iter().map(|slice| slice.ledger.as_ref().unwrap().num_rows()).collect();
    assert_eq!(sizes, [2, 1]);
    let got = rows(Arc::clone(&read[1].input), &["n", "o", "_rescued_data"]).await.unwrap();
    assert_eq!(got, ["c,{\"k\":1},"]);
    let batches = vec![read.iter().map(|slice| slice.ledger.clone().unwrap()).collect()];
    let ledger = Arc::new(MemTable::try_new(ledger_schema(), batches).unwrap());
    write(dir.path(), "in/d.json", "{\"n\": \"d\"}\n");
    let next = slices(&source, OpenContext { start: Some(read[1].end.clone()), ledger: Some(ledger) }).await;
    assert_eq!(rows(Arc::clone(&next[0].input), &["n"]).await.unwrap(), ["d"]);
    assert_eq!(next[0].end["files"], 4);
}

#[tokio::test]
async fn new_columns_fail_once_and_are_there_afterwards() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let options = [("cloudFiles.format", "json"), ("cloudFiles.inferColumnTypes", "true")];
    let source = open(&dir, &options).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": \"x\", \"b\": 2}\n");
    let failed = rows(Arc::clone(&slices(&source, OpenContext::default()).await[0].input), &["a"]).await;
    let error: Error = failed.unwrap_err();
    assert!(is_schema_evolved(&error), "{error}");
    let source = open(&dir, &options).await.unwrap();
    let read = slices(&source, OpenContext::default()).await;
    let got = rows(Arc::clone(&read[0].input), &["a", "b", "_rescued_data"]).await.unwrap();
    let url = Url::from_file_path(dir.path().join("in/b.json")).unwrap();
    assert_eq!(got, [",2,{\"a\":\"x\",\"_file_path\":\"".to_owned() + url.as_str() + "\"}", "1,,".to_owned()]);
}

#[tokio::test]
async fn byte_ranges_lose_and_repeat_no_line() {
    let dir = TempDir::new().unwrap();
    let text: String = (0..400_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    write(dir.path(), "in/a.json", &text);
    let paths = [dir.path().join("in").display().to_string()];
    let table = batch_provider(Some("json"), &paths, None, &ReadOptions::new(), &context(&dir)).await.unwrap();
    let session = SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(4));
    session.register_table("t", table).unwrap();
    let frame =
        session.sql("SELECT count(*), sum(n), count(DISTINCT n), max(_metadata.file_size) FROM t").await.unwrap();
    let got = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    assert!(got.contains("| 400000 ") && got.contains("79999800000"), "{got}");
    assert!(got.contains(&text.len().to_string()), "{got}");
}
