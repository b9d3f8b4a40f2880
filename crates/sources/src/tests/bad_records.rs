//! `badRecordsPath`: which records and files are dropped, and what is written of them.

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::prelude::SessionConfig;
use deltaworks_spark::Kind;
use serde_json::Value;

use super::formats::{columns, texts, write_parquet};
use super::*;

const SCHEMA: &str = "id INT, o STRUCT<n: INT>";

/// The folder `in`, read with the folder `bad` for what cannot be read.
struct Source {
    dir: TempDir,
    now: DateTime<Utc>,
    bad: String,
}

impl Source {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        files.iter().for_each(|(name, text)| write(dir.path(), &format!("in/{name}"), text));
        let bad = dir.path().join("bad").display().to_string();
        Self { dir, now: "2026-01-31T10:20:30.5Z".parse().unwrap(), bad }
    }

    fn context(&self) -> SourceContext {
        let now = self.now;
        SourceContext { clock: Arc::new(move || now), ..context(&self.dir) }
    }

    async fn table(
        &self,
        format: &str,
        schema: Option<&str>,
        options: &[(&str, &str)],
    ) -> Result<Arc<dyn TableProvider>> {
        let (paths, options, schema) = self.request(schema, options);
        batch_provider(Some(format), &paths, schema, &options, &self.context()).await
    }

    async fn stream(
        &self,
        format: &str,
        schema: Option<&str>,
        options: &[(&str, &str)],
    ) -> Result<Arc<dyn StreamSource>> {
        let (paths, options, schema) = self.request(schema, options);
        stream_relation(Some(format), &paths, schema, &options, &self.context()).await
    }

    fn request(
        &self,
        schema: Option<&str>,
        options: &[(&str, &str)],
    ) -> (Vec<String>, ReadOptions, Option<arrow::datatypes::SchemaRef>) {
        let given = options.iter().copied().chain([("badRecordsPath", self.bad.as_str())]);
        let schema = schema.map(|text| Arc::new(deltaworks_spark::types::parse_schema(text).unwrap()));
        (vec![self.dir.path().join("in").display().to_string()], given.collect(), schema)
    }

    /// The files that were written, by name: their lines, of which the path is the file's name.
    fn written(&self) -> Vec<(String, Vec<Vec<String>>)> {
        let mut written = Vec::new();
        let mut folders = vec![Path::new(&self.bad).to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.bad).unwrap().display().to_string();
                    written.push((name, fs::read_to_string(path).unwrap().lines().map(fields).collect()));
                }
            }
        }
        written.sort();
        written
    }

    /// The lines of all files of a kind, in the order of the files read.
    fn lines(&self, kind: &str) -> Vec<Vec<String>> {
        let of_kind = self.written().into_iter().filter(|(name, _)| name.contains(kind));
        let mut lines: Vec<Vec<String>> = of_kind.flat_map(|(_, lines)| lines).collect();
        lines.sort_by(|a, b| a[0].cmp(&b[0]));
        lines
    }
}

fn fields(line: &str) -> Vec<String> {
    let line: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
    assert!(line["path"].as_str().unwrap().starts_with("file:///"), "{line:?}");
    let text = |key: &str| Some(line.get(key)?.as_str().unwrap().rsplit('/').next().unwrap().to_owned());
    ["path", "record", "reason"].into_iter().filter_map(text).collect()
}

/// Without the id of each.
fn names(written: &[(String, Vec<Vec<String>>)]) -> Vec<&str> {
    written.iter().map(|(name, _)| &name[..name.len() - "-00000000-0000-0000-0000-000000000000".len()]).collect()
}

#[tokio::test]
async fn json_that_does_not_fit_is_written_with_the_reason() {
    let lines = [
        r#"{"id": 1, "o": {"n": 1}}"#,
        r#"{"id": 2"#,
        "",
        r#"{"id": "x y", "new": 1}"#,
        r#"{"id": 4, "o": {"n": true}}"#,
        r#"[{"id": 5}, {"id": 5.5}]"#,
        r#""text""#,
        "[1]",
        r#"{"id": null}"#,
    ];
    let source = Source::new(&[("a.json", &lines.join("\n"))]);
    let table = source.table("json", Some(SCHEMA), &[]).await.unwrap();
    assert_eq!(rows(Arc::clone(&table), &["id", "o"]).await.unwrap(), [",", "1,{n: 1}", "5,"]);
    let bad = [
        ["a.json", lines[1], "malformed JSON"],
        ["a.json", lines[3], "column `id` is INT, but the value is `\"x y\"`"],
        ["a.json", lines[4], "column `o` is STRUCT<n: INT>, but the value of `o.n` is `true`"],
        ["a.json", r#"{"id": 5.5}"#, "column `id` is INT, but the value is `5.5`"],
        ["a.json", lines[6], "neither a JSON object nor an array of objects"],
        ["a.json", lines[7], "neither a JSON object nor an array of objects"],
    ];
    let written = source.written();
    assert_eq!(names(&written), ["20260131T102030/bad_records/part-00000"]);
    assert_eq!(written[0].1, bad);
    // Whatever is asked of the rows, they are the same.
    let count = SessionContext::new().read_table(table).unwrap().count().await.unwrap();
    assert_eq!((count, source.written()), (3, written));
}

#[tokio::test]
async fn csv_of_another_length_or_type_is_written() {
    let source = Source::new(&[("a.csv", "id,name\n1,a\nx,b\n3\n4,d,e\n5,\"f\n"), ("b.csv", "id,name\n6,g\n")]);
    let table = source.table("csv", Some("id INT, name STRING"), &[("header", "true")]).await.unwrap();
    assert_eq!(rows(table, &["id", "name"]).await.unwrap(), ["1,a", "5,f", "6,g"]);
    let bad = [
        ["a.csv", "x,b", "column `id` is INT, but the value is `x`"],
        ["a.csv", "3", "the number of values is 1, expected 2"],
        ["a.csv", "4,d,e", "the number of values is 3, expected 2"],
    ];
    assert_eq!(source.lines("bad_records"), bad);
}

#[tokio::test]
async fn records_of_several_lines_are_written_whole() {
    let source = Source::new(&[("a.json", "{\n\"id\": 1\n}"), ("b.json", "{\n\"id\": ")]);
    let table = source.table("json", Some("id INT"), &[("multiLine", "true")]).await.unwrap();
    assert_eq!(rows(table, &["id"]).await.unwrap(), ["1"]);
    assert_eq!(source.lines("bad_records"), [["b.json", "{\n\"id\": ", "malformed JSON"]]);
}

#[tokio::test]
async fn values_that_are_rescued_are_no_bad_records() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n{\"id\": \"x\"}\n{\"id\": 3\n")]);
    let options = [("cloudFiles.format", "json"), ("rescuedDataColumn", "_rescued_data")];
    let stream = source.stream("cloudFiles", Some("id INT"), &options).await.unwrap();
    let slices = slices(&stream, OpenContext::default()).await;
    assert_eq!(rows(Arc::clone(&slices[0].input), &["id"]).await.unwrap(), ["", "1"]);
    assert_eq!(source.lines("bad_records"), [["a.json", "{\"id\": 3", "malformed JSON"]]);
}

#[tokio::test]
async fn there_is_no_column_for_what_is_written_unless_the_schema_has_it() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n{\"id\": 2\n")]);
    let table = source.table("json", None, &[]).await.unwrap();
    let names: Vec<_> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "_metadata"]);
    let table = source.table("json", Some("id INT, _corrupt_record STRING"), &[]).await.unwrap();
    assert_eq!(rows(table, &["id", "_corrupt_record"]).await.unwrap(), ["1,"]);
}

#[tokio::test]
async fn files_that_are_broken_or_gone_are_written_and_the_others_read() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n"), ("b.json", "{\"id\": 2}\n"), ("c.json.gz", "no gzip")]);
    let stream = source.stream("json", Some("id INT"), &[]).await.unwrap();
    let slices = slices(&stream, OpenContext::default()).await;
    fs::remove_file(source.dir.path().join("in/a.json")).unwrap();
    assert_eq!(rows(Arc::clone(&slices[0].input), &["id"]).await.unwrap(), ["2"]);
    let written = source.written();
    assert!(names(&written).iter().all(|name| name.starts_with("20260131T102030/bad_files/part-0000")), "{written:?}");
    let bad = source.lines("bad_files");
    assert_eq!((bad.len(), bad[0][0].as_str(), bad[1][0].as_str()), (2, "a.json", "c.json.gz"));
    assert!(bad[0][1].ends_with("a.json` was listed but does not exist any more"), "{bad:?}");
}

#[tokio::test]
async fn parquet_that_is_broken_or_of_another_type_is_a_bad_file() {
    let source = Source::new(&[("a.parquet", "PAR1 this is cut off")]);
    write_parquet(&source.dir, "in/b.parquet", &columns(&[("id", texts(&["x"]))]));
    write_parquet(&source.dir, "in/c.parquet", &columns(&[("name", texts(&["x"]))]));
    let table = source.table("parquet", Some("id INT, name STRING"), &[]).await.unwrap();
    assert_eq!(rows(table, &["id", "name"]).await.unwrap(), [",x"]);
    let bad = source.lines("bad_files");
    assert_eq!((bad.len(), bad[0][0].as_str(), bad[1][0].as_str()), (2, "a.parquet", "b.parquet"));
    assert!(bad[1][1].ends_with("b.parquet` has type STRING, expected INT"), "{bad:?}");
}

#[tokio::test]
async fn schema_inference_passes_over_files_that_cannot_be_read() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n"), ("b.json.gz", "no gzip")]);
    let table = source.table("json", None, &[]).await.unwrap();
    assert_eq!(rows(table, &["id"]).await.unwrap(), ["1"]);
    assert_eq!(source.lines("bad_files")[0][0], "b.json.gz");
}

#[tokio::test]
async fn nothing_is_written_where_nothing_is_bad() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n")]);
    let table = source.table("json", Some("id INT"), &[]).await.unwrap();
    assert_eq!(rows(table, &["id"]).await.unwrap(), ["1"]);
    assert!(!Path::new(&source.bad).exists());
}

#[tokio::test]
async fn one_read_writes_the_same_files_however_often_it_is_scanned() {
    let mut source = Source::new(&[("a.json", "{\"id\": 1}\n{\"id\"\n")]);
    let first = source.table("json", Some("id INT"), &[]).await.unwrap();
    rows(Arc::clone(&first), &["id"]).await.unwrap();
    let written = source.written();
    rows(first, &[]).await.unwrap();
    assert_eq!(source.written(), written);
    // A later read has a folder of its own; the name says that it is of the same.
    source.now += TimeDelta::seconds(1);
    rows(source.table("json", Some("id INT"), &[]).await.unwrap(), &["id"]).await.unwrap();
    let (before, after) = (&written[0].0, &source.written()[1].0);
    assert_eq!(after, &before.replace("20260131T102030", "20260131T102031"));
    // What is read in another way, or has changed, is not the same.
    rows(source.table("json", Some("id DATE"), &[]).await.unwrap(), &["id"]).await.unwrap();
    write(source.dir.path(), "in/a.json", "{\"id\": 1}\n{\"id\"\n{\"id\"\n");
    rows(source.table("json", Some("id INT"), &[]).await.unwrap(), &["id"]).await.unwrap();
    let bad: Vec<usize> = source.written().iter().map(|(_, lines)| lines.len()).collect();
    assert_eq!((bad.len(), bad.iter().sum::<usize>()), (4, 1 + 1 + 2 + 2));
}

#[tokio::test]
async fn many_are_written_in_parts_and_none_is_lost_between_threads() {
    let filler = "x".repeat(1000);
    let text: String = (0..20_000).map(|n| format!("{{\"id\": {n}}}\n{{\"id\": {n}, {filler}\n")).collect();
    let source = Source::new(&[("a.json", &text)]);
    let table = source.table("json", Some("id INT"), &[]).await.unwrap();
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    assert_eq!(session.read_table(table).unwrap().count().await.unwrap(), 20_000);
    let written = source.written();
    let parts: Vec<&str> = names(&written).iter().map(|name| &name[name.len() - "part-00000".len()..]).collect();
    assert_eq!(parts, ["part-00000", "part-00000", "part-00001", "part-00001"]);
    let mut records: Vec<String> =
        written.into_iter().flat_map(|(_, lines)| lines).map(|line| line[1].clone()).collect();
    records.sort();
    records.dedup();
    assert_eq!(records.len(), 20_000);
    let largest = fs::read_dir(Path::new(&source.bad).join("20260131T102030/bad_records")).unwrap();
    assert!(largest.map(|part| part.unwrap().metadata().unwrap().len()).max().unwrap() < 9 << 20);
}

#[tokio::test]
async fn rows_do_not_end_well_before_all_is_written() {
    let source = Source::new(&[("a.json", "{\"id\": 1}\n{\"id\"\n")]);
    let table = source.table("json", Some("id INT"), &[]).await.unwrap();
    // The folder cannot come into being where there is a file.
    fs::write(&source.bad, "").unwrap();
    let error = rows(table, &["id"]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().starts_with("cannot write bad records to `"), "{error}");
}

#[tokio::test]
async fn what_was_written_is_never_input() {
    let mut source = Source::new(&[("a.json", "{\"id\": 1}\n{\"id\"\n")]);
    source.bad = source.dir.path().join("in/bad").display().to_string();
    for _ in 0..2 {
        let options = [("format", "json"), ("rescuedDataColumn", "_rescued_data")];
        let table = source.table("read_files", Some("id INT"), &options).await.unwrap();
        assert_eq!(rows(table, &["id"]).await.unwrap(), ["1"]);
    }
    assert_eq!(source.lines("bad_records").len(), 1);
    source.bad = source.dir.path().display().to_string();
    let error = source.table("json", Some("id INT"), &[]).await.unwrap_err();
    assert!(error.message().contains("holds the files of"), "{error}");
}

#[tokio::test]
async fn options_that_contradict_it_are_refused() {
    let mut source = Source::new(&[("a.json", "{\"id\": 1}\n")]);
    let error = source.stream("json", Some("id INT"), &[("mode", "PERMISSIVE")]).await.unwrap_err();
    assert_eq!(error.message(), "option `mode` is `PERMISSIVE`, but `badRecordsPath` is itself a mode");
    source.bad = String::new();
    let error = source.table("json", Some("id INT"), &[]).await.unwrap_err();
    assert_eq!(error.message(), "option `badRecordsPath` has value ``, expected the path of a folder");
}
