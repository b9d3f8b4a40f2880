//! What the bytes of a file are: the text of its block, or rows and text in another form.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use arrow_avro::writer::AvroWriter;
use bytes::Bytes;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use deltaworks_spark::types;
use futures::{StreamExt as _, TryStreamExt as _, executor, stream};
use parquet::arrow::ArrowWriter;

use crate::document::attribute;

/// The content of a file, as its info string says: `format`, then `encoding`, `compression`, and `cut`.
pub fn encode(info: &str, text: &str) -> Vec<u8> {
    let bytes = match attribute(info, "format").as_deref() {
        None => encoded(attribute(info, "encoding").as_deref(), text),
        Some("hex") => hex(text),
        Some("parquet") => parquet(&rows(text)),
        Some("avro") => avro(&rows(text)),
        Some(other) => panic!("unknown format `{other}`"),
    };
    let mut bytes = match attribute(info, "compression") {
        Some(compression) => compressed(&compression, bytes),
        None => bytes,
    };
    if let Some(cut) = attribute(info, "cut") {
        let cut: usize = cut.parse().expect("a number of bytes to cut off the end");
        bytes.truncate(bytes.len() - cut);
    }
    bytes
}

fn encoded(encoding: Option<&str>, text: &str) -> Vec<u8> {
    match encoding {
        None => text.as_bytes().to_vec(),
        Some("utf-8-bom") => format!("\u{feff}{text}").into_bytes(),
        Some("utf-16le") => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Some("utf-16-bom") => format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Some("latin1") => text.chars().map(|c| u8::try_from(u32::from(c)).expect("a Latin-1 character")).collect(),
        Some(other) => panic!("unknown encoding `{other}`"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("a byte");
    digits.chunks(2).map(byte).collect()
}

fn compressed(compression: &str, bytes: Vec<u8>) -> Vec<u8> {
    let compression: FileCompressionType = compression.parse().expect("a compression");
    let input = stream::iter([Ok(Bytes::from(bytes))]).boxed();
    let chunks = compression.convert_to_compress_stream(input).expect("a supported compression");
    executor::block_on(chunks.try_collect::<Vec<Bytes>>()).expect("compressed bytes").concat()
}

/// JSON objects, one per line, after an optional line `schema: DDL`; without it, types are inferred.
fn rows(text: &str) -> RecordBatch {
    let first = text.lines().next().unwrap_or_default();
    let (schema, lines) = match first.strip_prefix("schema:") {
        Some(ddl) => (types::parse_schema(ddl).expect("a schema"), &text[first.len() + 1..]),
        None => (infer_json_schema(Cursor::new(text), None).expect("JSON lines").0, text),
    };
    let schema = Arc::new(schema);
    let reader = ReaderBuilder::new(Arc::clone(&schema)).build(Cursor::new(lines)).expect("a reader");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("JSON lines that fit")).collect();
    concat_batches(&schema, &batches).expect("one batch")
}

fn parquet(rows: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).expect("a writer");
    writer.write(rows).expect("written rows");
    writer.close().expect("a footer");
    bytes
}

fn avro(rows: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = AvroWriter::new(&mut bytes, rows.schema().as_ref().clone()).expect("a writer");
    writer.write(rows).expect("written rows");
    writer.finish().expect("an end");
    drop(writer);
    bytes
}
