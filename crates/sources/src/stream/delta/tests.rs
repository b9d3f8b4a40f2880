//! Streams of real tables, rows and offsets asserted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Lake, Table, TableDefinition, Writer, WriterOptions, WrittenFiles, location};
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::streaming::{Offset, OpenContext, Slice, StreamSource};
use deltaworks_spark::{Error, Kind, Result};
use serde_json::json;
use tempfile::TempDir;

use super::delta_stream;
use crate::{SourceContext, batch_provider, stream_relation};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
}

/// A table in its own folder, partitioned by `name`: each name of a commit is a file.
struct Fixture {
    dir: TempDir,
    table: Table,
}

impl Fixture {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let table = Self::create(&dir).await;
        Self { dir, table }
    }

    /// A table with a change data feed.
    async fn recording() -> Self {
        let dir = TempDir::new().unwrap();
        let table = Self::create_with(&dir, &[("delta.enableChangeDataFeed", "true")]).await;
        Self { dir, table }
    }

    async fn create(dir: &TempDir) -> Table {
        Self::create_with(dir, &[]).await
    }

    async fn create_with(dir: &TempDir, properties: &[(&str, &str)]) -> Table {
        let mut definition = TableDefinition::new(schema());
        definition.properties =
            properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        definition.partition_columns = vec!["name".to_owned()];
        Lake::default().create(&location::from_path(&dir.path().join("t")).unwrap(), &definition).await.unwrap()
    }

    /// A file for each name, one after the other: streams read files in the order in which they were written.
    async fn files(&self, rows: &[(i64, &str)]) -> WrittenFiles {
        let mut files = WrittenFiles::default();
        for rows in rows.chunk_by(|a, b| a.1 == b.1) {
            files.extend(self.file(rows).await);
        }
        files
    }

    async fn file(&self, rows: &[(i64, &str)]) -> WrittenFiles {
        let ids: Int64Array = rows.iter().map(|(id, _)| *id).collect();
        let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap();
        let mut writer = Writer::new(&self.table, WriterOptions::for_table(&self.table).unwrap()).unwrap();
        writer.write(batch).await.unwrap();
        writer.close().await.unwrap()
    }

    async fn append(&mut self, rows: &[(i64, &str)]) -> u64 {
        let files = self.files(rows).await;
        Commit::append(files).commit(&mut self.table).await.unwrap()
    }

    async fn overwrite(&mut self, rows: &[(i64, &str)]) -> u64 {
        let files = if rows.is_empty() { WrittenFiles::default() } else { self.files(rows).await };
        Commit::overwrite(files).commit(&mut self.table).await.unwrap()
    }

    /// A commit that moves the rows of all files into the same files again, as a compaction does.
    async fn compact(&mut self) {
        let files = self.table.files().unwrap();
        let actions = files.iter().flat_map(|file| {
            let remove = json!({"remove": {"path": file.path, "dataChange": false, "deletionTimestamp": 1}});
            let partition = file.path.split('/').next().unwrap().strip_prefix("name=").unwrap();
            let add = json!({"add": {
                "path": file.path, "size": file.size_bytes, "modificationTime": 1, "dataChange": false,
                "partitionValues": {"name": partition}
            }});
            [remove.to_string(), add.to_string()]
        });
        let log = self.log(self.table.version() + 1);
        std::fs::write(log, actions.collect::<Vec<_>>().join("\n")).unwrap();
        self.table.refresh().await.unwrap();
    }

    fn log(&self, version: u64) -> PathBuf {
        self.dir.path().join(format!("t/_delta_log/{version:020}.json"))
    }

    async fn source(&self, options: &[(&str, &str)]) -> Result<Arc<dyn StreamSource>> {
        let options: ReadOptions = options.iter().copied().collect();
        delta_stream(self.table.location(), &options, &context()).await
    }

    /// What the stream has to read after `start`: per slice its rows and its end.
    async fn read(&self, options: &[(&str, &str)], start: Option<&Offset>) -> Result<Vec<(Vec<String>, Offset)>> {
        read(&self.source(options).await?, start).await
    }

    fn offset(&self, version: u64, index: u64, initial: bool) -> Offset {
        json!({"table_id": self.table.id().unwrap(), "version": version, "index": index, "initial": initial})
    }
}

fn context() -> SourceContext {
    SourceContext::new(SparkConf::pipeline_defaults())
}

async fn slices(source: &Arc<dyn StreamSource>, start: Option<&Offset>) -> Result<Vec<Slice>> {
    let mut reader = source.open(OpenContext { start: start.cloned(), ledger: None }).await?;
    let mut slices = Vec::new();
    while let Some(slice) = reader.next_slice().await? {
        assert_eq!(slice.input.schema(), source.schema());
        slices.push(slice);
    }
    Ok(slices)
}

async fn read(source: &Arc<dyn StreamSource>, start: Option<&Offset>) -> Result<Vec<(Vec<String>, Offset)>> {
    let mut read = Vec::new();
    for slice in slices(source, start).await? {
        read.push((rows(slice.input).await, slice.end));
    }
    Ok(read)
}

async fn rows(provider: Arc<dyn TableProvider>) -> Vec<String> {
    let batches = SessionContext::new().read_table(provider).unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let mut rows: Vec<String> = lines.map(cells).collect();
    rows.sort();
    rows
}

fn condition(error: &Error) -> &str {
    error.condition().unwrap_or_default()
}

#[tokio::test]
async fn snapshot_comes_first_then_each_commit_once() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    let source = fixture.source(&[]).await.unwrap();
    let url = fixture.table.location().to_string();
    assert_eq!((source.identity(), source.description()), (format!("delta:{url}"), format!("delta[{url}]")));
    let first = read(&source, None).await.unwrap();
    assert_eq!(first, [(vec!["1|a".to_owned(), "2|b".to_owned()], fixture.offset(3, 0, false))]);
    assert_eq!(read(&source, Some(&first[0].1)).await.unwrap(), []);
    fixture.append(&[(3, "a")]).await;
    fixture.append(&[(4, "c")]).await;
    let second = read(&source, Some(&first[0].1)).await.unwrap();
    assert_eq!(second, [(vec!["3|a".to_owned(), "4|c".to_owned()], fixture.offset(5, 0, false))]);
    assert_eq!(fixture.read(&[], Some(&second[0].1)).await.unwrap(), []);
}

#[tokio::test]
async fn slices_cut_snapshot_and_commits_and_go_on_where_they_stopped() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a"), (2, "b"), (3, "c")]).await;
    let options = [("maxFilesPerTrigger", "2")];
    let source = fixture.source(&options).await.unwrap();
    let mut reader = source.open(OpenContext::default()).await.unwrap();
    let one = reader.next_slice().await.unwrap().unwrap();
    assert_eq!((one.backlog.files, one.end.clone()), (Some(1), fixture.offset(1, 2, true)));
    assert!(one.backlog.bytes.unwrap() > 0);
    let mut got = rows(one.input).await;
    fixture.append(&[(4, "d"), (5, "e"), (6, "f")]).await;
    fixture.append(&[(7, "g")]).await;
    let rest = fixture.read(&options, Some(&one.end)).await.unwrap();
    let ends: Vec<_> = rest.iter().map(|(_, end)| end.clone()).collect();
    assert_eq!(ends, [fixture.offset(2, 1, false), fixture.offset(3, 0, false), fixture.offset(4, 0, false)]);
    let resumed = fixture.read(&options, Some(&ends[0])).await.unwrap();
    assert_eq!(resumed, rest[1..]);
    got.extend(rest.into_iter().flat_map(|(rows, _)| rows));
    got.sort();
    assert_eq!(got, ["1|a", "2|b", "3|c", "4|d", "5|e", "6|f", "7|g"]);
}

#[tokio::test]
async fn snapshot_is_finished_as_it_was_although_the_table_was_rewritten() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a"), (2, "b")]).await;
    let options = [("maxBytesPerTrigger", "1"), ("skipChangeCommits", "true")];
    let source = fixture.source(&options).await.unwrap();
    let one = source.open(OpenContext::default()).await.unwrap().next_slice().await.unwrap().unwrap();
    fixture.overwrite(&[(9, "z")]).await;
    fixture.append(&[(3, "c")]).await;
    let mut got = rows(one.input).await;
    assert_eq!(got.len(), 1);
    for (rows, _) in read(&source, Some(&one.end)).await.unwrap() {
        assert_eq!(rows.len(), 1);
        got.extend(rows);
    }
    got.sort();
    assert_eq!(got, ["1|a", "2|b", "3|c"]);
}

#[tokio::test]
async fn commits_without_new_rows_are_passed_over() {
    let mut fixture = Fixture::new().await;
    assert_eq!(fixture.read(&[], None).await.unwrap(), []);
    fixture.overwrite(&[]).await;
    let source = fixture.source(&[]).await.unwrap();
    fixture.append(&[(1, "a")]).await;
    let first = read(&source, None).await.unwrap();
    assert_eq!(first, [(vec!["1|a".to_owned()], fixture.offset(3, 0, false))]);
    fixture.compact().await;
    Commit::append(WrittenFiles::default())
        .comment(Some("people".to_owned()))
        .commit(&mut fixture.table)
        .await
        .unwrap();
    assert_eq!(read(&source, Some(&first[0].1)).await.unwrap(), []);
    fixture.append(&[(2, "a")]).await;
    fixture.compact().await;
    let second = read(&source, Some(&first[0].1)).await.unwrap();
    assert_eq!(second, [(vec!["2|a".to_owned()], fixture.offset(7, 0, false))]);
}

#[tokio::test]
async fn truncation_of_an_empty_table_is_no_change() {
    let mut fixture = Fixture::new().await;
    let anchored = fixture.read(&[("startingVersion", "0")], None).await.unwrap();
    assert_eq!(anchored, [(vec![], fixture.offset(1, 0, false))]);
    fixture.overwrite(&[]).await;
    fixture.append(&[(1, "a")]).await;
    let next = fixture.read(&[], Some(&anchored[0].1)).await.unwrap();
    assert_eq!(next, [(vec!["1|a".to_owned()], fixture.offset(3, 0, false))]);
}

#[tokio::test]
async fn full_refresh_of_the_source_fails_unless_change_commits_are_skipped() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    let start = fixture.offset(2, 0, false);
    fixture.overwrite(&[]).await;
    fixture.append(&[(2, "b")]).await;
    let error = fixture.read(&[], Some(&start)).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::User, "DELTA_SOURCE_IGNORE_DELETE"));
    assert!(error.message().contains("at version 2"), "{error}");
    assert!(error.help().unwrap().contains("full refresh"), "{error}");
    for option in ["ignoreDeletes", "skipChangeCommits", "ignoreChanges"] {
        let read = fixture.read(&[(option, "true")], Some(&start)).await.unwrap();
        assert_eq!(read, [(vec!["2|b".to_owned()], fixture.offset(4, 0, false))], "{option}");
    }
}

#[tokio::test]
async fn rewritten_rows_fail_unless_change_commits_are_skipped() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    let start = fixture.offset(2, 0, false);
    fixture.overwrite(&[(1, "b")]).await;
    fixture.append(&[(2, "b")]).await;
    for options in [&[][..], &[("ignoreDeletes", "true")]] {
        let error = fixture.read(options, Some(&start)).await.unwrap_err();
        assert_eq!((error.kind(), condition(&error)), (Kind::User, "DELTA_SOURCE_TABLE_IGNORE_CHANGES"));
    }
    let skipped = fixture.read(&[("skipChangeCommits", "true")], Some(&start)).await.unwrap();
    assert_eq!(skipped[0].0, ["2|b"]);
    let again = fixture.read(&[("ignoreChanges", "true")], Some(&start)).await.unwrap();
    assert_eq!(again[0].0, ["1|b", "2|b"]);
    assert_eq!(fixture.read(&[], None).await.unwrap()[0].0, ["1|b", "2|b"]);
}

#[tokio::test]
async fn starting_version_is_inclusive_and_latest_is_remembered() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    assert_eq!(fixture.read(&[("startingVersion", "2")], None).await.unwrap()[0].0, ["2|b"]);
    let latest = fixture.read(&[("startingVersion", "latest")], None).await.unwrap();
    assert_eq!(latest, [(vec![], fixture.offset(3, 0, false))]);
    fixture.append(&[(3, "c")]).await;
    let next = fixture.read(&[("startingVersion", "latest")], Some(&latest[0].1)).await.unwrap();
    assert_eq!(next[0].0, ["3|c"]);
    let error = fixture.read(&[("startingVersion", "9")], None).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::User, "DELTA_VERSION_NOT_FOUND"));
}

#[tokio::test]
async fn starting_timestamp_is_the_first_commit_then_or_later() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    for (version, seconds) in [(0, 0), (1, 86_400), (2, 172_800)] {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().append(true).open(fixture.log(version)).unwrap().set_modified(at).unwrap();
    }
    for (time, expected) in [
        ("1970-01-01", &["1|a", "2|b"][..]),
        ("1970-01-02", &["1|a", "2|b"]),
        ("1970-01-02T00:00:01", &["2|b"]),
        ("1970-01-03", &["2|b"]),
    ] {
        assert_eq!(fixture.read(&[("startingTimestamp", time)], None).await.unwrap()[0].0, expected, "{time}");
    }
    let error = fixture.read(&[("startingTimestamp", "1970-01-04")], None).await.unwrap_err();
    assert_eq!(condition(&error), "DELTA_TIMESTAMP_GREATER_THAN_COMMIT");
}

#[tokio::test]
async fn excluded_files_are_not_read() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a"), (2, "b")]).await;
    let source = fixture.source(&[("excludeRegex", "^name=b/")]).await.unwrap();
    let first = read(&source, None).await.unwrap();
    fixture.append(&[(3, "a"), (4, "b")]).await;
    let second = read(&source, Some(&first[0].1)).await.unwrap();
    assert_eq!((first[0].0.clone(), second[0].0.clone()), (vec!["1|a".to_owned()], vec!["3|a".to_owned()]));
}

#[tokio::test]
async fn table_created_again_or_log_cleaned_up_asks_for_a_full_refresh() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    fixture.append(&[(3, "c")]).await;
    let (early, late) = (fixture.offset(2, 0, false), fixture.offset(9, 0, false));
    let error = fixture.read(&[], Some(&late)).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::Data, "DELTA_VERSIONS_NOT_CONTIGUOUS"));
    let source = fixture.source(&[]).await.unwrap();
    std::fs::remove_file(fixture.log(2)).unwrap();
    let error = read(&source, Some(&early)).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::Data, "DELTA_VERSIONS_NOT_CONTIGUOUS"));
    assert!(error.help().unwrap().contains("full refresh"), "{error}");
    std::fs::remove_dir_all(fixture.dir.path().join("t")).unwrap();
    fixture.table = Fixture::create(&fixture.dir).await;
    fixture.append(&[(9, "z")]).await;
    let error = fixture.read(&[], Some(&early)).await.unwrap_err();
    assert_eq!(condition(&error), "DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE");
    assert!(error.help().unwrap().contains("full refresh"), "{error}");
    assert_eq!(fixture.read(&[], None).await.unwrap()[0].0, ["9|z"]);
}

#[tokio::test]
async fn new_columns_are_null_in_older_rows_and_lost_ones_are_an_error() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    let planned = fixture.source(&[]).await.unwrap();
    let mut wider = schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let files = fixture.files(&[(2, "b")]).await;
    Commit::append(files).schema(Arc::new(Schema::new(wider))).commit(&mut fixture.table).await.unwrap();
    let got = fixture.read(&[("startingVersion", "1")], None).await.unwrap();
    assert_eq!(got[0].0, ["1|a|", "2|b|"]);
    let error = read(&planned, None).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::Conflict, "DELTA_SCHEMA_CHANGED"));
    Commit::append(WrittenFiles::default()).schema(schema()).commit(&mut fixture.table).await.unwrap();
    let error = fixture.read(&[("startingVersion", "2")], None).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::User, "DELTA_SCHEMA_CHANGED_WITH_VERSION"));
    assert!(error.message().contains("column `age`"), "{error}");
}

#[tokio::test]
async fn format_delta_reads_mapped_paths_at_once_and_as_stream() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    let root = fixture.dir.path().display().to_string();
    let mut context = context();
    context.path_mapper = Arc::new(move |path| Ok(path.replace("/Volumes/main", &root)));
    let paths = ["/Volumes/main/t".to_owned()];
    let none = ReadOptions::new();
    let source = stream_relation(Some("Delta"), &paths, None, &none, &context).await.unwrap();
    assert_eq!(source.identity(), format!("delta:{}", fixture.table.location()));
    assert_eq!(read(&source, None).await.unwrap()[0].0, ["1|a", "2|b"]);
    let batch = batch_provider(Some("delta"), &paths, None, &none, &context).await.unwrap();
    assert_eq!(rows(batch).await, ["1|a", "2|b"]);
    let options: ReadOptions = [("versionAsOf", "1")].into_iter().collect();
    let batch = batch_provider(Some("delta"), &paths, None, &options, &context).await.unwrap();
    assert_eq!(rows(batch).await, ["1|a"]);
    let later = SystemTime::now() + Duration::from_secs(3600);
    File::options().append(true).open(fixture.log(2)).unwrap().set_modified(later).unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    let options: ReadOptions = [("timestampAsOf", now.as_str())].into_iter().collect();
    let batch = batch_provider(Some("delta"), &paths, None, &options, &context).await.unwrap();
    assert_eq!(rows(batch).await, ["1|a"]);
    let gone = ["/Volumes/main/gone".to_owned()];
    let error = stream_relation(Some("delta"), &gone, None, &none, &context).await.unwrap_err();
    assert_eq!(condition(&error), "DELTA_PATH_DOES_NOT_EXIST");
    let error = batch_provider(Some("delta"), &gone, None, &none, &context).await.unwrap_err();
    assert_eq!(condition(&error), "DELTA_PATH_DOES_NOT_EXIST");
    let error = batch_provider(Some("delta"), &paths, Some(schema()), &none, &context).await.unwrap_err();
    assert_eq!(condition(&error), "DELTA_UNSUPPORTED_SCHEMA_DURING_READ");
}

/// Id, name, type of change and version of each row of a slice of changes.
async fn changes(input: Arc<dyn TableProvider>) -> Vec<String> {
    let feed = SessionContext::new().read_table(input).unwrap();
    let columns = ["id", "name", "_change_type", "_commit_version"];
    let shown = feed.select_columns(&columns).unwrap().into_temporary_view();
    rows(shown).await
}

#[tokio::test]
async fn changes_are_the_snapshot_first_and_then_those_of_each_commit() {
    let mut fixture = Fixture::recording().await;
    fixture.append(&[(1, "a"), (2, "b")]).await;
    let options = [("readChangeFeed", "true"), ("maxFilesPerTrigger", "1")];
    let source = fixture.source(&options).await.unwrap();
    assert_eq!(source.identity(), format!("delta-changes:{}", fixture.table.location()));
    let mut reader = source.open(OpenContext::default()).await.unwrap();
    let one = reader.next_slice().await.unwrap().unwrap();
    assert_eq!(one.end, fixture.offset(1, 1, true));
    assert_eq!(changes(Arc::clone(&one.input)).await, ["1|a|insert|1"]);
    fixture.append(&[(3, "c")]).await;
    fixture.overwrite(&[(4, "d")]).await;
    fixture.compact().await;
    let mut reader = source.open(OpenContext { start: Some(one.end), ledger: None }).await.unwrap();
    let mut seen = Vec::new();
    let mut ends = Vec::new();
    while let Some(slice) = reader.next_slice().await.unwrap() {
        ends.push(slice.end.clone());
        seen.push(changes(slice.input).await);
    }
    assert_eq!(seen[0], ["2|b|insert|1"]);
    assert_eq!(seen[1], ["3|c|insert|2"]);
    assert_eq!(seen[2], ["1|a|delete|3", "2|b|delete|3", "3|c|delete|3", "4|d|insert|3"]);
    assert_eq!(seen.len(), 3, "a compaction changes no rows");
    assert_eq!(ends[2], fixture.offset(5, 0, false));
    let mut reader = source.open(OpenContext { start: Some(ends.remove(2)), ledger: None }).await.unwrap();
    assert!(reader.next_slice().await.unwrap().is_none());
}

#[tokio::test]
async fn changes_begin_where_an_option_says_and_need_to_be_recorded() {
    let mut fixture = Fixture::recording().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b")]).await;
    let source = fixture.source(&[("readChangeFeed", "true"), ("startingVersion", "2")]).await.unwrap();
    let slice = source.open(OpenContext::default()).await.unwrap().next_slice().await.unwrap().unwrap();
    assert_eq!(changes(slice.input).await, ["2|b|insert|2"]);
    let plain = Fixture::new().await;
    let error = plain.source(&[("readChangeFeed", "true")]).await.unwrap_err();
    assert_eq!((error.kind(), condition(&error)), (Kind::User, "DELTA_MISSING_CHANGE_DATA"));
}

#[tokio::test]
async fn changes_between_versions_are_read_at_once() {
    let mut fixture = Fixture::recording().await;
    fixture.append(&[(1, "a")]).await;
    fixture.overwrite(&[(2, "b")]).await;
    let read = async |options: &[(&str, &str)]| {
        let options: ReadOptions = options.iter().copied().chain([("readChangeFeed", "true")]).collect();
        let path = fixture.dir.path().join("t").display().to_string();
        batch_provider(Some("delta"), &[path], None, &options, &context()).await
    };
    let slice = async |input: Arc<dyn TableProvider>| {
        let feed = SessionContext::new().read_table(input).unwrap();
        rows(feed.select_columns(&["id", "_change_type"]).unwrap().into_temporary_view()).await
    };
    let all = read(&[("startingVersion", "0")]).await.unwrap();
    assert_eq!(slice(all).await, ["1|delete", "1|insert", "2|insert"]);
    let first = read(&[("startingVersion", "0"), ("endingVersion", "1")]).await.unwrap();
    assert_eq!(slice(first).await, ["1|insert"]);
    assert_eq!(condition(&read(&[]).await.unwrap_err()), "DELTA_NO_START_FOR_CDC_READ");
    assert_eq!(condition(&read(&[("startingVersion", "9")]).await.unwrap_err()), "DELTA_INVALID_CDC_RANGE");
}

#[tokio::test]
async fn a_reader_knows_whether_something_was_committed_since() {
    let mut fixture = Fixture::new().await;
    fixture.append(&[(1, "a")]).await;
    let source = fixture.source(&[]).await.unwrap();
    let mut reader = source.open(OpenContext::default()).await.unwrap();
    assert!(reader.next_slice().await.unwrap().is_some());
    assert!(!reader.has_news().await.unwrap());
    fixture.append(&[(2, "b")]).await;
    assert!(reader.has_news().await.unwrap());

    let mut fixture = Fixture::recording().await;
    fixture.append(&[(1, "a")]).await;
    let source = fixture.source(&[("readChangeFeed", "true")]).await.unwrap();
    let mut reader = source.open(OpenContext::default()).await.unwrap();
    assert!(!reader.has_news().await.unwrap());
    fixture.overwrite(&[(2, "b")]).await;
    assert!(reader.has_news().await.unwrap());
}

#[tokio::test]
async fn changes_of_partitions_whose_value_is_escaped_are_refused() {
    let mut fixture = Fixture::recording().await;
    fixture.append(&[(1, "a")]).await;
    fixture.append(&[(2, "b c")]).await;
    let read = async |version: &str| {
        let source = fixture.source(&[("readChangeFeed", "true"), ("startingVersion", version)]).await.unwrap();
        source.open(OpenContext::default()).await.unwrap().next_slice().await
    };
    let error = read("1").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("name=b%20c"), "{error}");
}
