//! Auto Loader: discovery, limits, schema evolution, `read_files`.

use std::fs::File;
use std::time::{Duration, SystemTime};

use arrow::datatypes::DataType;

use super::*;
use crate::{READ_FILES, latest_of, state_of};

const JSON: (&str, &str) = ("cloudFiles.format", "json");

fn touch(dir: &TempDir, name: &str, seconds: u64) {
    let file = File::options().append(true).open(dir.path().join(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// The ledger after `slices`, as the next batch gets it.
fn after(slices: &[Slice]) -> OpenContext {
    let batches = slices.iter().map(|slice| slice.ledger.clone().unwrap()).collect();
    let ledger = Arc::new(MemTable::try_new(ledger_schema(), vec![batches]).unwrap());
    OpenContext { start: slices.last().map(|slice| slice.end.clone()), ledger: Some(ledger) }
}

async fn all(source: &Arc<dyn StreamSource>, columns: &[&str]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for slice in slices(source, OpenContext::default()).await {
        all.extend(rows(slice.input, columns).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn mode_rescue_keeps_new_columns_in_the_rescued_data() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": \"1\"}\n");
    let options = [JSON, ("cloudFiles.schemaEvolutionMode", "rescue")];
    open(&dir, &options).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": \"2\", \"b\": true}\n");
    let got = all(&open(&dir, &options).await.unwrap(), &["a", "_rescued_data"]).await.unwrap();
    let url = Url::from_file_path(dir.path().join("in/b.json")).unwrap();
    assert_eq!(got, ["1,".to_owned(), format!("2,{{\"b\":true,\"_file_path\":\"{url}\"}}")]);
}

#[tokio::test]
async fn mode_fail_on_new_columns_fails_again_and_again() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": \"1\"}\n");
    let options = [JSON, ("cloudFiles.schemaEvolutionMode", "failOnNewColumns")];
    open(&dir, &options).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": \"2\", \"b\": true}\n");
    for _ in 0..2 {
        let error = all(&open(&dir, &options).await.unwrap(), &["a"]).await.unwrap_err();
        assert_eq!(error.condition(), Some("UNKNOWN_FIELD_EXCEPTION.NEW_FIELDS_IN_FILE"));
        assert!(!is_schema_evolved(&error));
    }
}

#[tokio::test]
async fn mode_none_ignores_new_columns() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": \"1\"}\n");
    let options = [JSON, ("cloudFiles.schemaEvolutionMode", "none")];
    open(&dir, &options).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": \"2\", \"b\": true}\n");
    let source = open(&dir, &options).await.unwrap();
    assert!(source.schema().field_with_name("_rescued_data").is_err());
    assert_eq!(all(&source, &["a"]).await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn type_widening_fails_once_and_widens() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let options = [
        JSON,
        ("cloudFiles.inferColumnTypes", "true"),
        ("cloudFiles.schemaHints", "a SMALLINT"),
        ("cloudFiles.schemaEvolutionMode", "addNewColumnsWithTypeWidening"),
    ];
    open(&dir, &options).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": 40000}\n{\"a\": 2.5}\n");
    let error = all(&open(&dir, &options).await.unwrap(), &["a"]).await.unwrap_err();
    assert!(is_schema_evolved(&error), "{error}");
    let source = open(&dir, &options).await.unwrap();
    assert_eq!(source.schema().field_with_name("a").unwrap().data_type(), &DataType::Int32);
    let got = all(&source, &["a", "_rescued_data"]).await.unwrap();
    assert_eq!(got.iter().map(|row| row.split(',').next().unwrap()).collect::<Vec<_>>(), ["", "1", "40000"]);
    assert!(got[0].starts_with(",{\"a\":2.5,"), "{}", got[0]);
}

#[tokio::test]
async fn schema_location_keeps_numbered_schemas() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let kept = dir.path().join("kept").display().to_string();
    let options = [JSON, ("cloudFiles.schemaLocation", kept.as_str())];
    open(&dir, &options).await.unwrap();
    assert!(dir.path().join("kept/_schemas/0").exists());
    write(dir.path(), "in/a.json", "{\"b\": 1}\n");
    assert!(all(&open(&dir, &options).await.unwrap(), &["a"]).await.is_err());
    assert!(dir.path().join("kept/_schemas/1").exists());
    assert_eq!(all(&open(&dir, &options).await.unwrap(), &["a", "b"]).await.unwrap(), [",1"]);
}

#[tokio::test]
async fn bytes_limit_is_soft() {
    let dir = TempDir::new().unwrap();
    for name in ["a", "b", "c"] {
        write(dir.path(), &format!("in/{name}.json"), "{\"a\": \"0123456789\"}\n");
    }
    let source = open(&dir, &[JSON, ("cloudFiles.maxBytesPerTrigger", "1")]).await.unwrap();
    assert_eq!(slices(&source, OpenContext::default()).await.len(), 3);
    let source = open(&dir, &[JSON, ("cloudFiles.maxBytesPerTrigger", "45b")]).await.unwrap();
    let read = slices(&source, OpenContext::default()).await;
    let files: Vec<_> = read.iter().map(|slice| slice.ledger.as_ref().unwrap().num_rows()).collect();
    assert_eq!(files, [2, 1]);
    assert_eq!(read[0].backlog.files, Some(1));
}

#[tokio::test]
async fn changed_files_are_read_again_only_with_allow_overwrites() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    touch(&dir, "in/a.json", 1000);
    let source = open(&dir, &[JSON]).await.unwrap();
    let first = slices(&source, OpenContext::default()).await;
    write(dir.path(), "in/a.json", "{\"a\": 2}\n");
    touch(&dir, "in/a.json", 2000);
    assert!(slices(&source, after(&first)).await.is_empty());
    let source = open(&dir, &[JSON, ("cloudFiles.allowOverwrites", "true")]).await.unwrap();
    let second = slices(&source, after(&first)).await;
    assert_eq!(rows(Arc::clone(&second[0].input), &["a"]).await.unwrap(), ["2"]);
}

#[tokio::test]
async fn existing_files_can_be_left_out() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let options = [JSON, ("cloudFiles.includeExistingFiles", "false")];
    let source = open(&dir, &options).await.unwrap();
    let first = slices(&source, OpenContext::default()).await;
    assert_eq!(first.len(), 1);
    assert_eq!(rows(Arc::clone(&first[0].input), &["a"]).await.unwrap(), [""; 0]);
    write(dir.path(), "in/b.json", "{\"a\": 2}\n");
    let second = slices(&source, after(&first)).await;
    assert_eq!(rows(Arc::clone(&second[0].input), &["a"]).await.unwrap(), ["2"]);
    fs::remove_file(dir.path().join("in/a.json")).unwrap();
    fs::remove_file(dir.path().join("in/b.json")).unwrap();
    let none = slices(&source, OpenContext::default()).await;
    assert_eq!((none.len(), none[0].ledger.as_ref().unwrap().num_rows()), (1, 0));
    write(dir.path(), "in/c.json", "{\"a\": 3}\n");
    let next = slices(&source, after(&none)).await;
    assert_eq!(rows(Arc::clone(&next[0].input), &["a"]).await.unwrap(), ["3"]);
}

#[tokio::test]
async fn files_are_chosen_by_glob_and_time() {
    let dir = TempDir::new().unwrap();
    for (name, seconds) in [("in/2023/a.json", 86_400), ("in/2024/b.json", 172_800), ("in/other/c.csv", 1)] {
        write(dir.path(), name, &format!("{{\"f\": \"{name}\"}}\n"));
        touch(&dir, name, seconds);
    }
    let read = async |path: &str, options: &[(&str, &str)]| {
        let options: ReadOptions = options.iter().copied().collect();
        let paths = [dir.path().join(path).display().to_string()];
        let table = batch_provider(Some(READ_FILES), &paths, None, &options, &context(&dir)).await?;
        rows(table, &["f"]).await
    };
    assert_eq!(read("in/{2023,2024}/*.json", &[]).await.unwrap(), ["in/2023/a.json", "in/2024/b.json"]);
    assert_eq!(read("in/202[4-9]", &[]).await.unwrap(), ["in/2024/b.json"]);
    let after = [("format", "json"), ("modifiedAfter", "1970-01-02T12:00:00")];
    assert_eq!(read("in", &after).await.unwrap(), ["in/2024/b.json"]);
    let before = [("format", "json"), ("modifiedBefore", "1970-01-02T12:00:00"), ("fileNamePattern", "*.json")];
    assert_eq!(read("in", &before).await.unwrap(), ["in/2023/a.json"]);
    let error = read("in", &[]).await.unwrap_err();
    assert_eq!(error.condition(), Some("CF_FORMAT_INFERENCE_FAILED"));
    assert_eq!(read("gone", &[("format", "json")]).await.unwrap_err().condition(), Some("PATH_NOT_FOUND"));
}

#[tokio::test]
async fn read_files_detects_the_format_and_infers_types() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.csv", "id,price\n1,2.5\n2,x\n");
    let got = batch(READ_FILES, &dir, &[("schemaHints", "price DOUBLE")], &["id", "price"]).await.unwrap();
    assert_eq!(got, ["1,2.5", "2,"]);
    let options = ReadOptions::new();
    let paths = [dir.path().join("in").display().to_string()];
    let source = stream_relation(None, &paths, None, &options, &context(&dir)).await.unwrap();
    assert_eq!(all(&source, &["id", "price"]).await.unwrap(), ["1,2.5", "2,x"]);
}

#[tokio::test]
async fn read_files_globs_strictly_and_reads_folders_whole() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/1.json", "{\"a\": 1}\n");
    write(dir.path(), "in/sub/2.json", "{\"a\": 2}\n");
    let streamed = async |format: &str, path: &str, options: &[(&str, &str)]| {
        let options: ReadOptions = options.iter().copied().collect();
        let paths = [dir.path().join(path).display().to_string()];
        let source = stream_relation(Some(format), &paths, None, &options, &context(&dir)).await.unwrap();
        all(&source, &["a"]).await.unwrap()
    };
    let json = ("format", "json");
    assert_eq!(streamed(READ_FILES, "in/*.json", &[json]).await, ["1"]);
    assert_eq!(streamed(READ_FILES, "in/*", &[json]).await, ["1", "2"]);
    assert_eq!(streamed(READ_FILES, "in/*.json", &[json, ("useStrictGlobber", "false")]).await, ["1", "2"]);
    assert_eq!(streamed("cloudFiles", "in/*.json", &[JSON]).await, ["1", "2"]);
    assert_eq!(batch(READ_FILES, &dir, &[json], &["a"]).await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn a_reader_knows_whether_files_have_come_since() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let source = open(&dir, &[JSON]).await.unwrap();
    let mut reader = source.open(OpenContext::default()).await.unwrap();
    let first = reader.next_slice().await.unwrap().unwrap();
    assert!(reader.next_slice().await.unwrap().is_none());
    assert!(!reader.has_news().await.unwrap());
    write(dir.path(), "in/b.json", "{\"a\": 2}\n");
    assert!(reader.has_news().await.unwrap());
    let mut reader = source.open(after(&[first])).await.unwrap();
    assert!(reader.next_slice().await.unwrap().is_some());
    assert!(!reader.has_news().await.unwrap());
}

#[tokio::test]
async fn files_read_at_once_can_be_listed_anew() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n");
    let paths = [dir.path().join("in").display().to_string()];
    let context = context(&dir);
    let before = batch_provider(Some("json"), &paths, None, &ReadOptions::new(), &context).await.unwrap();
    write(dir.path(), "in/b.json", "{\"a\": 2, \"b\": 3}\n");
    let now = latest_of(before.as_ref()).await.unwrap().unwrap();
    assert_ne!(state_of(before.as_ref()), state_of(now.as_ref()));
    assert_eq!(rows(before, &["a"]).await.unwrap(), ["1"]);
    assert_eq!(rows(Arc::clone(&now), &["a"]).await.unwrap(), ["1", "2"]);
    let again = latest_of(now.as_ref()).await.unwrap().unwrap();
    assert_eq!((state_of(again.as_ref()), again.schema()), (state_of(now.as_ref()), now.schema()));
}
