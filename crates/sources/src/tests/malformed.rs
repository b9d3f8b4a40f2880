//! Inputs that are broken, empty or gone.

use super::*;

const BROKEN_PARQUET: &[u8] = b"PAR1 this is cut off";

#[tokio::test]
async fn truncated_parquet_fails_unless_corrupt_files_are_ignored() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.parquet", "");
    fs::write(dir.path().join("in/a.parquet"), BROKEN_PARQUET).unwrap();
    let error = batch("parquet", &dir, &[], &[]).await.unwrap_err();
    assert_eq!(error.condition(), Some("FAILED_READ_FILE.NO_HINT"));
    assert!(error.message().contains("in/a.parquet"), "{error}");
    let schema = deltaworks_spark::types::parse_schema("id INT").unwrap();
    let read = async |ignore: &str| {
        let options: ReadOptions = [("ignoreCorruptFiles", ignore)].into_iter().collect();
        let paths = [dir.path().join("in").display().to_string()];
        let schema = Some(Arc::new(schema.clone()));
        rows(batch_provider(Some("parquet"), &paths, schema, &options, &context(&dir)).await?, &["id"]).await
    };
    assert_eq!(read("true").await.unwrap(), [""; 0]);
    assert_eq!(read("false").await.unwrap_err().condition(), Some("FAILED_READ_FILE.NO_HINT"));
}

#[tokio::test]
async fn invalid_utf8_is_replaced() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.txt", "");
    fs::write(dir.path().join("in/a.txt"), b"a\xffb\nc\n").unwrap();
    assert_eq!(batch("text", &dir, &[], &["value"]).await.unwrap(), ["a\u{fffd}b", "c"]);
}

#[tokio::test]
async fn empty_files_have_no_rows() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "");
    write(dir.path(), "in/b.json", "{\"a\": 1}\n");
    assert_eq!(batch("json", &dir, &[], &["a"]).await.unwrap(), ["1"]);
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.csv", "");
    write(dir.path(), "in/b.csv", "a,b\n");
    write(dir.path(), "in/c.csv", "a,b\n1,2\n");
    assert_eq!(batch("read_files", &dir, &[("format", "csv")], &["a", "b"]).await.unwrap(), ["1,2"]);
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in/a.json", "");
    assert_eq!(batch("json", &dir, &[], &[]).await.unwrap_err().condition(), Some("UNABLE_TO_INFER_SCHEMA"));
}

#[tokio::test]
async fn vanished_file_fails_unless_missing_files_are_ignored() {
    for (format, ignore) in [("json", "false"), ("json", "true"), ("text", "false"), ("text", "true")] {
        let dir = TempDir::new().unwrap();
        write(dir.path(), "in/a", "{\"a\": 1}\n");
        write(dir.path(), "in/b", "{\"a\": 2}\n");
        let options = [("cloudFiles.format", format), ("ignoreMissingFiles", ignore)];
        let source = open(&dir, &options).await.unwrap();
        let read = slices(&source, OpenContext::default()).await;
        fs::remove_file(dir.path().join("in/a")).unwrap();
        let got = rows(Arc::clone(&read[0].input), &[]).await;
        match ignore {
            "true" => assert_eq!(got.unwrap().len(), 1, "{format}"),
            _ => assert_eq!(got.unwrap_err().condition(), Some("FAILED_READ_FILE.FILE_NOT_EXIST"), "{format}"),
        }
    }
}

#[tokio::test]
async fn file_that_grows_is_read_as_it_was_listed() {
    for format in ["json", "text"] {
        let dir = TempDir::new().unwrap();
        write(dir.path(), "in/a", "{\"a\": 1}\n");
        let source = open(&dir, &[("cloudFiles.format", format)]).await.unwrap();
        let read = slices(&source, OpenContext::default()).await;
        write(dir.path(), "in/a", "{\"a\": 1}\n{\"a\": 2}\n");
        assert_eq!(rows(Arc::clone(&read[0].input), &[]).await.unwrap().len(), 1, "{format}");
    }
}

#[tokio::test]
async fn avro_cut_off_within_a_block_is_an_error() {
    use arrow::array::Int32Array;
    use arrow_avro::writer::AvroWriter;

    let dir = TempDir::new().unwrap();
    let batch_of_ints = arrow::array::RecordBatch::try_from_iter([(
        "id",
        Arc::new(Int32Array::from_iter_values(0..100)) as arrow::array::ArrayRef,
    )])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = AvroWriter::new(&mut bytes, batch_of_ints.schema().as_ref().clone()).unwrap();
    writer.write(&batch_of_ints).unwrap();
    writer.finish().unwrap();
    drop(writer);
    write(dir.path(), "in/a.avro", "");
    let path = dir.path().join("in/a.avro");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(batch("avro", &dir, &[], &["id"]).await.unwrap().len(), 100);
    // After the header, there is no place to cut that leaves a whole file, but the one before the block.
    let mut whole = 0;
    for length in 20..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        match batch("avro", &dir, &[], &["id"]).await {
            Ok(read) => {
                assert!(read.is_empty(), "{length} of {} bytes", bytes.len());
                whole += 1;
            }
            Err(error) => assert_eq!(error.condition(), Some("FAILED_READ_FILE.NO_HINT"), "{error}"),
        }
    }
    assert_eq!(whole, 1);
}
