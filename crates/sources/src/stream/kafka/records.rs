//! Rows as records of Kafka.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use deltaworks_spark::{Error, Result, types};
use rdkafka::message::{Header, OwnedHeaders};

use super::decode::header_fields;

/// Where the parts of a record are in a row.
#[derive(Clone, Debug)]
pub(crate) struct RecordColumns {
    value: usize,
    key: Option<usize>,
    headers: Option<usize>,
    partition: Option<usize>,
    topic: Topic,
}

#[derive(Clone, Debug)]
enum Topic {
    /// For all records.
    Given(String),
    /// In a column.
    Column(usize),
}

/// One record.
pub(crate) struct Record<'a> {
    pub(crate) topic: &'a str,
    /// Kafka's client chooses one if there is none.
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl RecordColumns {
    /// The columns of rows that are records for `topic`, or for the topics that their column says.
    ///
    /// # Errors
    /// `User` for columns that are missing or of another type.
    pub(crate) fn of(schema: &Schema, topic: Option<&str>) -> Result<Self> {
        let find = |name: &str, wanted: &str, is_wanted: fn(&DataType) -> bool| -> Result<Option<usize>> {
            let Some(index) = schema.fields().iter().position(|field| field.name() == name) else { return Ok(None) };
            let found = schema.field(index).data_type();
            if is_wanted(found) || *found == DataType::Null {
                return Ok(Some(index));
            }
            Err(Error::user(format!(
                "column `{name}` of rows for Kafka must be {wanted}, not {}",
                types::sql_type_name(found)
            ))
            .with_help(format!("Convert it in the query: CAST({name} AS …), to_json(struct(*)) AS {name}.")))
        };
        let text_or_bytes = |kind: &DataType| is_text(kind) || is_bytes(kind);
        let value = find("value", "STRING or BINARY", text_or_bytes)?.ok_or_else(|| {
            Error::user("rows for Kafka need a column `value`")
                .with_help("Make one of the others: to_json(struct(*)) AS value.")
        })?;
        let in_column = find("topic", "STRING", is_text)?;
        let topic = match (topic, in_column) {
            (Some(topic), _) => Topic::Given(topic.to_owned()),
            (None, Some(index)) => Topic::Column(index),
            (None, None) => {
                return Err(Error::user("rows for Kafka need option `topic`, or a column `topic`")
                    .with_help("Set option `topic` of the sink."));
            }
        };
        Ok(Self {
            value,
            key: find("key", "STRING or BINARY", text_or_bytes)?,
            headers: find("headers", "ARRAY<STRUCT<key: STRING, value: BINARY>>", is_headers)?,
            partition: find("partition", "INT", |kind| *kind == DataType::Int32)?,
            topic,
        })
    }

    /// The rows of a batch.
    pub(crate) fn records(&self, batch: &RecordBatch) -> Result<Records> {
        let column = |index: usize, kind: &DataType| cast(batch.column(index), kind);
        let bytes = |index: usize| -> Result<BinaryArray> {
            // What views and large texts hold is text first.
            let column = match is_text(batch.column(index).data_type()) {
                true => column(index, &DataType::Utf8)?,
                false => Arc::clone(batch.column(index)),
            };
            Ok(cast(&column, &DataType::Binary)?.as_binary::<i32>().clone())
        };
        let headers = |index: usize| -> Result<ListArray> {
            let item = Field::new_list_field(DataType::Struct(header_fields()), true);
            Ok(column(index, &DataType::List(Arc::new(item)))?.as_list::<i32>().clone())
        };
        Ok(Records {
            value: bytes(self.value)?,
            key: self.key.map(bytes).transpose()?,
            headers: self.headers.map(headers).transpose()?,
            partition: match self.partition {
                Some(index) => Some(column(index, &DataType::Int32)?.as_primitive::<Int32Type>().clone()),
                None => None,
            },
            topic: match &self.topic {
                Topic::Given(topic) => TopicOf::Given(topic.clone()),
                Topic::Column(index) => TopicOf::Rows(column(*index, &DataType::Utf8)?.as_string::<i32>().clone()),
            },
            rows: batch.num_rows(),
        })
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_headers(kind: &DataType) -> bool {
    let DataType::List(item) = kind else { return false };
    let DataType::Struct(fields) = item.data_type() else { return false };
    match fields.as_ref() {
        [key, value] => {
            key.name() == "key" && is_text(key.data_type()) && value.name() == "value" && is_bytes(value.data_type())
        }
        _ => false,
    }
}

/// The records of a batch.
pub(crate) struct Records {
    value: BinaryArray,
    key: Option<BinaryArray>,
    headers: Option<ListArray>,
    partition: Option<Int32Array>,
    topic: TopicOf,
    rows: usize,
}

enum TopicOf {
    Given(String),
    Rows(StringArray),
}

impl Records {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The record of a row.
    ///
    /// # Errors
    /// `Data` if it has no topic, or a partition or header that cannot be.
    pub(crate) fn record(&self, row: usize) -> Result<Record<'_>> {
        let partition = self.partition.as_ref().filter(|partition| partition.is_valid(row)).map(|all| all.value(row));
        if let Some(partition @ ..0) = partition {
            return Err(Error::data(format!("a row for Kafka has partition {partition}"))
                .with_help("Partitions count from 0; a NULL leaves the choice to Kafka's client."));
        }
        Ok(Record {
            topic: match &self.topic {
                TopicOf::Given(topic) => topic,
                TopicOf::Rows(topics) if topics.is_valid(row) => topics.value(row),
                TopicOf::Rows(_) => {
                    return Err(Error::data("a row for Kafka has NULL in its column `topic`")
                        .with_help("Set option `topic` of the sink, or leave such rows out."));
                }
            },
            partition,
            key: self.key.as_ref().and_then(|keys| bytes_at(keys, row)),
            value: bytes_at(&self.value, row),
            headers: match self.headers.as_ref().filter(|headers| headers.is_valid(row)) {
                Some(headers) => Some(owned_headers(&headers.value(row))?),
                None => None,
            },
        })
    }
}

fn bytes_at(all: &BinaryArray, row: usize) -> Option<&[u8]> {
    all.is_valid(row).then(|| all.value(row))
}

fn owned_headers(items: &ArrayRef) -> Result<OwnedHeaders> {
    let items = items.as_struct();
    let (keys, values) = (items.column(0).as_string::<i32>(), items.column(1).as_binary::<i32>());
    let mut headers = OwnedHeaders::new_with_capacity(items.len());
    for index in 0..items.len() {
        if items.is_null(index) || keys.is_null(index) {
            return Err(Error::data("a row for Kafka has a header without a key"));
        }
        headers = headers.insert(Header { key: keys.value(index), value: bytes_at(values, index) });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Builder, LargeStringArray};
    use rdkafka::message::Headers;

    use super::*;

    fn records(columns: Vec<(&str, ArrayRef)>, topic: Option<&str>) -> Records {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        RecordColumns::of(&batch.schema(), topic).unwrap().records(&batch).unwrap()
    }

    #[test]
    fn rows_become_records_and_nulls_are_kept() {
        let text = |values: Vec<Option<&str>>| Arc::new(LargeStringArray::from(values)) as ArrayRef;
        let mut partitions = Int32Builder::new();
        partitions.append_null();
        partitions.append_value(2);
        partitions.append_value(-1);
        let records = records(
            vec![
                ("key", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"k"), None, None])) as ArrayRef),
                ("value", text(vec![Some("v"), None, Some("")])),
                ("topic", text(vec![Some("a"), Some("b"), None])),
                ("partition", Arc::new(partitions.finish()) as ArrayRef),
            ],
            None,
        );
        assert_eq!(records.len(), 3);
        let first = records.record(0).unwrap();
        assert_eq!(
            (first.topic, first.partition, first.key, first.value),
            ("a", None, Some(&b"k"[..]), Some(&b"v"[..]))
        );
        let second = records.record(1).unwrap();
        assert_eq!((second.topic, second.partition, second.key, second.value), ("b", Some(2), None, None));
        assert_eq!(records.record(2).err().unwrap().message(), "a row for Kafka has partition -1");
    }

    #[test]
    fn the_option_goes_before_the_column() {
        let topics = Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef;
        let columns =
            || vec![("value", Arc::new(StringArray::from(vec!["v"])) as ArrayRef), ("topic", Arc::clone(&topics))];
        assert_eq!(records(columns(), Some("given")).record(0).unwrap().topic, "given");
        let error = records(columns(), None).record(0).err().unwrap();
        assert_eq!(error.message(), "a row for Kafka has NULL in its column `topic`");
    }

    #[test]
    fn headers_keep_their_order_and_their_nulls() {
        let items = arrow::array::StructArray::new(
            header_fields(),
            vec![
                Arc::new(StringArray::from(vec!["a", "b"])),
                Arc::new(BinaryArray::from_opt_vec(vec![Some(b"1"), None])),
            ],
            None,
        );
        let headers = owned_headers(&(Arc::new(items) as ArrayRef)).unwrap();
        let found: Vec<_> =
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(found, [("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)]);
    }
}
