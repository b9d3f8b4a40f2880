//! Formats, compression, encodings and parse modes.

use std::fs::File;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use arrow_avro::writer::AvroWriter;
use datafusion::functions::core::expr_ext::FieldAccessor as _;
use datafusion::prelude::ident;
use parquet::arrow::ArrowWriter;

use super::*;

pub(super) fn columns(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, Arc::clone(array)))).unwrap()
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

pub(super) fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

pub(super) fn write_parquet(dir: &TempDir, name: &str, batch: &RecordBatch) {
    write(dir.path(), name, "");
    let mut writer = ArrowWriter::try_new(File::create(dir.path().join(name)).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn write_avro(dir: &TempDir, name: &str, batch: &RecordBatch) {
    write(dir.path(), name, "");
    let file = File::create(dir.path().join(name)).unwrap();
    let mut writer = AvroWriter::new(file, batch.schema().as_ref().clone()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

fn write_bytes(dir: &TempDir, name: &str, bytes: &[u8]) {
    write(dir.path(), name, "");
    fs::write(dir.path().join(name), bytes).unwrap();
}

#[tokio::test]
async fn parquet_merges_files_and_widens_types() {
    let dir = TempDir::new().unwrap();
    write_parquet(&dir, "in/a.parquet", &columns(&[("id", ints(&[1, 2])), ("name", texts(&["a", "b"]))]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![3_000_000_000]));
    write_parquet(&dir, "in/b.parquet", &columns(&[("id", wide), ("extra", texts(&["x"]))]));
    let options = [("mergeSchema", "true")];
    let got = batch("parquet", &dir, &options, &["id", "name", "extra"]).await.unwrap();
    assert_eq!(got, ["1,a,", "2,b,", "3000000000,,x"]);
}

#[tokio::test]
async fn parquet_values_of_another_type_are_rescued() {
    let dir = TempDir::new().unwrap();
    write_parquet(&dir, "in/a.parquet", &columns(&[("id", ints(&[1]))]));
    let options = [("cloudFiles.format", "parquet")];
    open(&dir, &options).await.unwrap();
    fs::remove_file(dir.path().join("in/a.parquet")).unwrap();
    write_parquet(&dir, "in/b.parquet", &columns(&[("id", texts(&["x"]))]));
    let source = open(&dir, &options).await.unwrap();
    let read = slices(&source, OpenContext::default()).await;
    let got = rows(Arc::clone(&read[0].input), &["id", "_rescued_data"]).await.unwrap();
    let url = Url::from_file_path(dir.path().join("in/b.parquet")).unwrap();
    assert_eq!(got, [format!(",{{\"id\":\"x\",\"_file_path\":\"{url}\"}}")]);
}

#[tokio::test]
async fn avro_is_read_with_its_own_schema() {
    let dir = TempDir::new().unwrap();
    write_avro(&dir, "in/a.avro", &columns(&[("id", ints(&[1, 2])), ("name", texts(&["a", "b"]))]));
    assert_eq!(batch("avro", &dir, &[], &["id", "name"]).await.unwrap(), ["1,a", "2,b"]);
    let source = open(&dir, &[("cloudFiles.format", "avro")]).await.unwrap();
    let read = slices(&source, OpenContext::default()).await;
    assert_eq!(rows(Arc::clone(&read[0].input), &["name", "id"]).await.unwrap(), ["a,1", "b,2"]);
}

#[tokio::test]
async fn text_is_lines_or_whole_files() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.txt", "one\r\ntwo\n\nfour");
    assert_eq!(batch("text", &dir, &[], &["value"]).await.unwrap(), ["", "four", "one", "two"]);
    write(dir.path(), "in/a.txt", "one;two");
    assert_eq!(batch("text", &dir, &[("lineSep", ";")], &["value"]).await.unwrap(), ["one", "two"]);
    write(dir.path(), "in/a.txt", "one two");
    assert_eq!(batch("text", &dir, &[("wholetext", "true")], &["value"]).await.unwrap(), ["one two"]);
}

#[tokio::test]
async fn binary_files_are_one_row_each() {
    let dir = TempDir::new().unwrap();
    write_bytes(&dir, "in/a.bin", &[0xff, 0x00]);
    write_bytes(&dir, "in/empty.png", &[]);
    let url = |name: &str| Url::from_file_path(dir.path().join("in").join(name)).unwrap();
    let got = batch("binaryFile", &dir, &[], &["path", "length", "content"]).await.unwrap();
    assert_eq!(got, [format!("{},2,ff00", url("a.bin")), format!("{},0,", url("empty.png"))]);
    let got = batch("binaryFile", &dir, &[("pathGlobFilter", "*.png")], &["length"]).await.unwrap();
    assert_eq!(got, ["0"]);
}

/// The lines `{"a":1}` and `{"a":2}`, packed.
const GZIP: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 84, 178, 50, 172, 229, 170, 6, 209, 70, 181, 92, 0, 102, 192, 90, 25,
    16, 0, 0, 0,
];
const ZSTD: &[u8] =
    &[40, 181, 47, 253, 0, 88, 129, 0, 0, 123, 34, 97, 34, 58, 49, 125, 10, 123, 34, 97, 34, 58, 50, 125, 10];

#[tokio::test]
async fn compressed_files_are_told_by_their_names_or_an_option() {
    let dir = TempDir::new().unwrap();
    write_bytes(&dir, "in/a.json.gz", GZIP);
    write_bytes(&dir, "in/b.json.zst", ZSTD);
    assert_eq!(batch("json", &dir, &[], &["a"]).await.unwrap(), ["1", "1", "2", "2"]);
    fs::remove_file(dir.path().join("in/b.json.zst")).unwrap();
    fs::rename(dir.path().join("in/a.json.gz"), dir.path().join("in/a.json")).unwrap();
    assert_eq!(batch("json", &dir, &[("compression", "gzip")], &["a"]).await.unwrap(), ["1", "2"]);
    write_bytes(&dir, "in/a.json", &GZIP[..20]);
    let error = batch("json", &dir, &[("compression", "gzip")], &["a"]).await.unwrap_err();
    assert_eq!(error.condition(), Some("FAILED_READ_FILE.NO_HINT"));
}

#[tokio::test]
async fn text_is_decoded_by_its_encoding() {
    let dir = TempDir::new().unwrap();
    write_bytes(&dir, "in/a.csv", b"name\ncaf\xe9\n");
    let options = [("header", "true"), ("encoding", "ISO-8859-1")];
    assert_eq!(batch("csv", &dir, &options, &["name"]).await.unwrap(), ["café"]);
    let utf16: Vec<u8> = "name\nü\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write_bytes(&dir, "in/a.csv", &utf16);
    let options = [("header", "true"), ("encoding", "UTF-16LE")];
    assert_eq!(batch("csv", &dir, &options, &["name"]).await.unwrap(), ["ü"]);
    let error = batch("csv", &dir, &[("encoding", "klingon")], &[]).await.unwrap_err();
    assert_eq!(error.condition(), Some("INVALID_PARAMETER_VALUE"));
}

#[tokio::test]
async fn records_over_several_lines_need_multi_line() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "[\n {\"a\": 1,\n  \"b\": \"x\"},\n {\"a\": 2}\n]");
    assert_eq!(batch("json", &dir, &[("multiLine", "true")], &["a", "b"]).await.unwrap(), ["1,x", "2,"]);
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.csv", "id,note\n1,\"two\nlines\"\n2,one\n");
    let options = [("header", "true"), ("multiLine", "true")];
    let source = batch("csv", &dir, &options, &["id"]).await.unwrap();
    assert_eq!(source, ["1", "2"]);
}

#[tokio::test]
async fn names_that_differ_in_case_only_are_numbered() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.csv", "id,ID,name,\n1,2,x,y\n");
    let got = batch("csv", &dir, &[("header", "true")], &["id0", "ID1", "name", "_c3"]).await.unwrap();
    assert_eq!(got, ["1,2,x,y"]);
}

#[tokio::test]
async fn parse_modes_keep_drop_or_fail() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "{\"a\": 1}\n{broken\n{\"a\": 2}\n");
    let got = batch("json", &dir, &[("mode", "DROPMALFORMED")], &["a"]).await.unwrap();
    assert_eq!(got, ["1", "2"]);
    let error = batch("json", &dir, &[("mode", "FAILFAST")], &["a"]).await.unwrap_err();
    assert!(error.condition().unwrap().starts_with("MALFORMED_RECORD_IN_PARSING"), "{error}");
    let error = batch("json", &dir, &[("mode", "whatever")], &["a"]).await.unwrap_err();
    assert_eq!(error.condition(), Some("INVALID_PARAMETER_VALUE"));
}

#[tokio::test]
async fn fields_of_null_structs_are_null() {
    let dir = TempDir::new().unwrap();
    // The file says that `a` is never NULL: below a NULL its reader gives the next value.
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, false)]);
    let points = StructArray::new(fields, vec![ints(&[5, 0, 6])], Some(vec![true, false, true].into()));
    let points: ArrayRef = Arc::new(points);
    write_parquet(&dir, "in/a.parquet", &columns(&[("id", ints(&[1, 2, 3])), ("s", points)]));
    let paths = [dir.path().join("in").display().to_string()];
    let table = batch_provider(Some("parquet"), &paths, None, &ReadOptions::default(), &context(&dir)).await.unwrap();
    let frame = SessionContext::new().read_table(table).unwrap();
    let frame = frame.select(vec![ident("id"), ident("s").field("a").alias("a")]).unwrap();
    let found = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    let found: Vec<_> = found.lines().skip(3).take(3).map(|line| line.replace(' ', "")).collect();
    assert_eq!(found, ["|1|5|", "|2||", "|3|6|"]);
}

/// As in Spark, whatever their names and times.
#[tokio::test]
async fn the_largest_file_comes_first() {
    let dir = TempDir::new().unwrap();
    for (name, text) in [("a", "ccc"), ("b", "b"), ("c", "aaaaa"), ("d", "dd")] {
        write(dir.path(), &format!("in/{name}.txt"), text);
    }
    let paths = [dir.path().join("in").display().to_string()];
    let table = batch_provider(Some("text"), &paths, None, &ReadOptions::new(), &context(&dir)).await.unwrap();
    let batches = SessionContext::new().read_table(table).unwrap().collect().await.unwrap();
    let texts: Vec<_> = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(texts, ["aaaaa", "ccc", "dd", "b"]);
}
