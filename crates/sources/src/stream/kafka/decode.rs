//! Records of Kafka as rows.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, RecordBatch, RecordBatchOptions,
    StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use deltaworks_spark::{Result, types};
use rdkafka::Timestamp;
use rdkafka::message::{Headers, Message};

/// The columns of a read from Kafka: `key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT,
/// timestamp TIMESTAMP, timestampType INT`, and `headers ARRAY<STRUCT<key STRING, value BINARY>>` if they are wanted.
///
/// # Source
/// Spark's Kafka source; `timestampType` is 0 for times of the producer, 1 for times of the broker, −1 for none.
pub(crate) fn kafka_schema(headers: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", types::timestamp(), true),
        Field::new("timestampType", DataType::Int32, true),
    ];
    if headers {
        fields.push(Field::new("headers", types::array(DataType::Struct(header_fields())), true));
    }
    Arc::new(Schema::new(fields))
}

pub(super) fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)])
}

/// Builds batches of the columns of a projection, row by row.
pub(crate) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Bytes of keys, values and headers.
    bytes: usize,
}

enum Column {
    Key(BinaryBuilder),
    Value(BinaryBuilder),
    Topic(StringBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampType(Int32Builder),
    Headers(Box<ListBuilder<StructBuilder>>),
}

impl Column {
    /// The column at `index` of [`kafka_schema`].
    fn at(index: usize) -> Self {
        match index {
            0 => Self::Key(BinaryBuilder::new()),
            1 => Self::Value(BinaryBuilder::new()),
            2 => Self::Topic(StringBuilder::new()),
            3 => Self::Partition(Int32Builder::new()),
            4 => Self::Offset(Int64Builder::new()),
            5 => Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(types::timestamp())),
            6 => Self::TimestampType(Int32Builder::new()),
            _ => Self::Headers(Box::new(ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)))),
        }
    }

    /// Adds the record's value; returns its bytes, where that is not a matter of a few.
    fn append(&mut self, record: &impl Message) -> usize {
        match self {
            Self::Key(builder) => append_bytes(builder, record.key()),
            Self::Value(builder) => append_bytes(builder, record.payload()),
            Self::Topic(builder) => {
                builder.append_value(record.topic());
                0
            }
            Self::Partition(builder) => {
                builder.append_value(record.partition());
                0
            }
            Self::Offset(builder) => {
                builder.append_value(record.offset());
                0
            }
            Self::Timestamp(builder) => {
                // As for Java's client, no time is -1 ms.
                builder.append_value(record.timestamp().to_millis().unwrap_or(-1).saturating_mul(1000));
                0
            }
            Self::TimestampType(builder) => {
                builder.append_value(match record.timestamp() {
                    Timestamp::NotAvailable => -1,
                    Timestamp::CreateTime(_) => 0,
                    Timestamp::LogAppendTime(_) => 1,
                });
                0
            }
            Self::Headers(builder) => append_headers(builder, record.headers()),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Key(builder) | Self::Value(builder) => ArrayBuilder::finish(builder),
            Self::Topic(builder) => ArrayBuilder::finish(builder),
            Self::Partition(builder) | Self::TimestampType(builder) => ArrayBuilder::finish(builder),
            Self::Offset(builder) => ArrayBuilder::finish(builder),
            Self::Timestamp(builder) => ArrayBuilder::finish(builder),
            Self::Headers(builder) => ArrayBuilder::finish(builder.as_mut()),
        }
    }
}

fn append_bytes(builder: &mut BinaryBuilder, bytes: Option<&[u8]>) -> usize {
    builder.append_option(bytes);
    bytes.map_or(0, <[u8]>::len)
}

/// A record without headers has NULL.
fn append_headers(builder: &mut ListBuilder<StructBuilder>, headers: Option<&impl Headers>) -> usize {
    let Some(headers) = headers.filter(|headers| headers.count() > 0) else {
        builder.append(false);
        return 0;
    };
    let mut bytes = 0;
    for header in headers.iter() {
        let entry = builder.values();
        if let Some(key) = entry.field_builder::<StringBuilder>(0) {
            key.append_value(header.key);
        }
        if let Some(value) = entry.field_builder::<BinaryBuilder>(1) {
            value.append_option(header.value);
        }
        entry.append(true);
        bytes += header.key.len() + header.value.map_or(0, <[u8]>::len);
    }
    builder.append(true);
    bytes
}

impl Rows {
    /// Rows of the columns `projection` of [`kafka_schema`], which are `schema`.
    pub(crate) fn new(schema: SchemaRef, projection: &[usize]) -> Self {
        Self { schema, columns: projection.iter().map(|index| Column::at(*index)).collect(), rows: 0, bytes: 0 }
    }

    pub(crate) fn append(&mut self, record: &impl Message) {
        self.rows += 1;
        self.bytes += self.columns.iter_mut().map(|column| column.append(record)).sum::<usize>();
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Bytes of keys, values and headers since the last batch.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows since the last batch.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn batch(projection: &[usize], records: &[OwnedMessage]) -> String {
        let schema = Arc::new(kafka_schema(true).project(projection).unwrap());
        let mut rows = Rows::new(schema, projection);
        records.iter().for_each(|record| rows.append(record));
        let batch = rows.finish().unwrap();
        assert_eq!((batch.num_rows(), rows.len(), rows.bytes()), (records.len(), 0, 0));
        pretty_format_batches(&[batch]).unwrap().to_string()
    }

    #[test]
    fn records_become_rows() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("x") })
            .insert(Header { key: "b", value: None::<&str> });
        let full = OwnedMessage::new(
            Some(b"v".to_vec()),
            Some(b"k".to_vec()),
            "t".to_owned(),
            Timestamp::CreateTime(1_700_000_000_123),
            3,
            42,
            Some(headers),
        );
        let empty =
            OwnedMessage::new(None, None, "t".to_owned(), Timestamp::NotAvailable, 0, 0, Some(OwnedHeaders::new()));
        let appended =
            OwnedMessage::new(Some(Vec::new()), None, "t".to_owned(), Timestamp::LogAppendTime(0), 0, 1, None);
        let all: Vec<usize> = (0..8).collect();
        let expected = "\
+-----+-------+-------+-----------+--------+--------------------------+---------------+--------------------------------------+
| key | value | topic | partition | offset | timestamp                | timestampType | headers                              |
+-----+-------+-------+-----------+--------+--------------------------+---------------+--------------------------------------+
| 6b  | 76    | t     | 3         | 42     | 2023-11-14T22:13:20.123Z | 0             | [{key: a, value: 78}, {key: b, value: }] |
|     |       | t     | 0         | 0      | 1969-12-31T23:59:59.999Z | -1            |                                      |
|     |       | t     | 0         | 1      | 1970-01-01T00:00:00Z     | 1             |                                      |
+-----+-------+-------+-----------+--------+--------------------------+---------------+--------------------------------------+";
        let words =
            |text: &str| text.split_whitespace().filter(|word| !word.contains("--")).collect::<Vec<_>>().join(" ");
        assert_eq!(words(&batch(&all, &[full.clone(), empty, appended])), words(expected));
        assert!(batch(&[4], std::slice::from_ref(&full)).contains("42"));
        assert!(batch(&[], &[full]).contains("++"));
    }
}
