//! Topics of Kafka as a sink: each row is a record, as Spark's Kafka sink writes it.
//!
//! Records are sent at least once: an idempotent producer writes none twice by itself, but whoever fails to note that rows
//! were sent sends them again. A [`KafkaWriter`] is a thread, since the client library blocks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinHandle;

use super::producer::{Producing, send_all};
use super::properties::ClientProperties;
use super::records::RecordColumns;

/// Batches that wait for the producer.
const WAITING_BATCHES: usize = 2;

/// The option that is no property of the client.
const TOPIC: &str = "topic";

/// Topics that rows are written to.
#[derive(Clone)]
pub struct KafkaSink {
    client: ClientProperties,
    /// All records go here; unless it is given, each goes where its column `topic` says.
    topic: Option<String>,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink").field("servers", &self.client.servers).field("topic", &self.topic).finish()
    }
}

impl KafkaSink {
    /// The sink that `options` describe. Nothing is asked of the brokers.
    ///
    /// # Errors
    /// Wrong options (`User`), options that would have no effect and what needs a JVM (`Unsupported`).
    pub fn new(options: &ReadOptions) -> Result<Self> {
        let is_client_s = |key: &str| key.to_ascii_lowercase().starts_with("kafka.");
        if let Some((key, _)) = options.iter().find(|(key, _)| !is_client_s(key) && !key.eq_ignore_ascii_case(TOPIC)) {
            return Err(Error::unsupported(format!("option `{key}` of a Kafka sink"))
                .with_help("A Kafka sink takes `topic`, and options `kafka.*` for the client."));
        }
        let topic = options.get(TOPIC).map(str::trim).map(str::to_owned);
        if topic.as_deref() == Some("") {
            return Err(Error::user("option `topic` of a Kafka sink is empty"));
        }
        Ok(Self { client: ClientProperties::for_producer(options)?, topic })
    }

    /// Whether rows of these columns are records: `value` is STRING or BINARY; so is `key`, if there is one; `topic` is a
    /// STRING, `partition` an INT, `headers` an `ARRAY<STRUCT<key: STRING, value: BINARY>>`. Other columns are left out.
    ///
    /// # Errors
    /// `User` for columns that are missing or of another type.
    ///
    /// # Source
    /// Spark's Kafka sink.
    pub fn check_columns(&self, schema: &Schema) -> Result<()> {
        RecordColumns::of(schema, self.topic.as_deref()).map(drop)
    }

    /// Begins to write rows of `schema`.
    ///
    /// # Errors
    /// Those of [`Self::check_columns`].
    pub fn writer(&self, schema: &SchemaRef) -> Result<KafkaWriter> {
        let columns = RecordColumns::of(schema, self.topic.as_deref())?;
        let (rows, batches) = mpsc::channel(WAITING_BATCHES);
        let abandoned = Abandoned(Arc::default());
        let producing = Producing {
            properties: self.client.clone(),
            topic: self.topic.clone(),
            columns,
            abandoned: Arc::clone(&abandoned.0),
        };
        let thread = tokio::task::spawn_blocking(move || send_all(producing, batches));
        Ok(KafkaWriter { rows, thread, abandoned })
    }
}

/// Tells the thread that nobody waits for it any more.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rows on their way to Kafka. What has not been sent when this is dropped is not sent.
pub struct KafkaWriter {
    rows: Sender<RecordBatch>,
    thread: JoinHandle<Result<(u64, u64)>>,
    abandoned: Abandoned,
}

impl KafkaWriter {
    /// Takes the rows. It is closed as soon as rows cannot be written; [`Self::finish`] says why.
    pub fn rows(&self) -> Sender<RecordBatch> {
        self.rows.clone()
    }

    /// Waits until Kafka has acknowledged every row; all senders must be gone. Gives rows and bytes.
    ///
    /// # Errors
    /// `Unavailable` if Kafka does not answer in time; `User` if it refuses the login, or a topic does not exist; `Data` for
    /// rows that cannot be records.
    pub async fn finish(self) -> Result<(u64, u64)> {
        let Self { rows, thread, abandoned } = self;
        drop(rows);
        let sent = thread.await.map_err(|error| Error::internal("rows were not sent to the end").with_source(error))?;
        drop(abandoned);
        sent
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use deltaworks_spark::types;

    use super::*;

    fn sink(given: &[(&str, &str)]) -> Result<KafkaSink> {
        KafkaSink::new(&[("kafka.bootstrap.servers", "h:9092")].iter().chain(given).copied().collect())
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        let message = |given: &[(&str, &str)]| sink(given).unwrap_err().to_string();
        assert!(message(&[("checkpointLocation", "/x")]).starts_with("option `checkpointLocation` of a Kafka sink"));
        assert!(message(&[("topic", " ")]).starts_with("option `topic` of a Kafka sink is empty"));
        assert!(message(&[("kafka.transactional.id", "x")]).contains("`transactional.id` is not supported"));
        assert!(message(&[("kafka.partitioner.class", "x.Y")]).contains("a Java class, is not supported yet"));
        let none = KafkaSink::new(&ReadOptions::new()).unwrap_err();
        assert_eq!(none.message(), "option `kafka.bootstrap.servers` is required to write to Kafka");
    }

    #[test]
    fn debug_output_has_no_secrets() {
        let shown = format!("{:?}", sink(&[("topic", "t"), ("kafka.sasl.password", "hunter2")]).unwrap());
        assert_eq!(shown, r#"KafkaSink { servers: "h:9092", topic: Some("t") }"#);
    }

    #[test]
    fn columns_are_sparks() {
        let check = |options: &[(&str, &str)], fields: Vec<(&str, DataType)>| -> String {
            let schema: Schema =
                Schema::new(fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>());
            match sink(options).unwrap().check_columns(&schema) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.message().to_owned(),
            }
        };
        let topic = [("topic", "t")];
        assert_eq!(check(&topic, vec![("value", DataType::Utf8), ("other", DataType::Int64)]), "ok");
        assert_eq!(check(&topic, vec![("key", DataType::Utf8)]), "rows for Kafka need a column `value`");
        assert_eq!(
            check(&topic, vec![("value", DataType::Int32)]),
            "column `value` of rows for Kafka must be STRING or BINARY, not INT"
        );
        assert_eq!(
            check(&[], vec![("value", DataType::Utf8)]),
            "rows for Kafka need option `topic`, or a column `topic`"
        );
        assert_eq!(check(&[], vec![("value", DataType::Binary), ("topic", DataType::Utf8)]), "ok");
        assert_eq!(
            check(&[], vec![("value", DataType::Binary), ("topic", DataType::Binary)]),
            "column `topic` of rows for Kafka must be STRING, not BINARY"
        );
        assert_eq!(
            check(&topic, vec![("value", DataType::Binary), ("partition", DataType::Int64)]),
            "column `partition` of rows for Kafka must be INT, not BIGINT"
        );
        assert_eq!(
            check(&topic, vec![("value", DataType::Binary), ("headers", types::array(DataType::Utf8))]),
            "column `headers` of rows for Kafka must be ARRAY<STRUCT<key: STRING, value: BINARY>>, not ARRAY<STRING>"
        );
    }
}
