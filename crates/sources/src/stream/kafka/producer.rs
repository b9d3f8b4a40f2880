//! Sends records and waits until brokers have acknowledged them, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use deltaworks_spark::{Error, Kind, Result};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use tokio::sync::mpsc::Receiver;

use super::cluster::{Cluster, Listener};
use super::errors::{failed, is_refusal, is_unknown, no_client, no_topic};
use super::properties::ClientProperties;
use super::records::{Record, RecordColumns};

/// How long the client is left to itself: it does not come back before, whatever happens meanwhile.
const STEP: Duration = Duration::from_millis(10);

/// How long a topic may be unknown that brokers make on demand, in milliseconds.
const TOPIC_APPEARS_MS: u32 = 10_000;

/// What a thread needs to send records.
pub(crate) struct Producing {
    pub(crate) properties: ClientProperties,
    pub(crate) topic: Option<String>,
    pub(crate) columns: RecordColumns,
    /// Whether nobody waits for the thread any more.
    pub(crate) abandoned: Arc<AtomicBool>,
}

/// Hears what becomes of records.
#[derive(Default)]
struct Deliveries {
    listener: Listener,
    /// Why the first record was not delivered that was not; its topic, and its partition or −1.
    failure: Mutex<Option<(Code, String, i32)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        match delivery {
            Ok(_) => self.listener.clear(),
            Err((error, record)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                self.failure.lock().get_or_insert_with(|| (code, record.topic().to_owned(), record.partition()));
            }
        }
    }
}

/// Sends the rows of all batches; gives how many rows and bytes of keys and values have been acknowledged.
///
/// # Errors
/// `Unavailable` if Kafka does not answer in time; `User` if it refuses the login, or a topic does not exist; `Data` for
/// rows that cannot be records. Records before may have been written.
pub(crate) fn send_all(producing: Producing, mut batches: Receiver<RecordBatch>) -> Result<(u64, u64)> {
    let (mut rows, mut bytes) = (0, 0);
    let mut sending: Option<Sending> = None;
    while let Some(batch) = batches.blocking_recv() {
        let records = producing.columns.records(&batch)?;
        let sending = match &sending {
            Some(sending) => sending,
            // A batch without rows needs no brokers.
            None => sending.insert(Sending::start(&producing)?),
        };
        for row in 0..records.len() {
            let record = records.record(row)?;
            bytes += record.key.map_or(0, <[u8]>::len) as u64 + record.value.map_or(0, <[u8]>::len) as u64;
            sending.send(record)?;
        }
        rows += records.len() as u64;
        sending.producer.poll(Duration::ZERO);
        sending.check()?;
    }
    if let Some(sending) = sending {
        sending.finish()?;
    }
    Ok((rows, bytes))
}

/// A producer at work.
struct Sending<'a> {
    producing: &'a Producing,
    producer: BaseProducer<Deliveries>,
}

impl<'a> Sending<'a> {
    /// A producer for brokers that answer, and let the user in.
    fn start(producing: &'a Producing) -> Result<Self> {
        let properties = &producing.properties;
        // The producer itself would say no more than that records were not acknowledged in time.
        Cluster::of(properties.clone(), String::new()).answers(producing.topic.as_deref())?;
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("topic.metadata.propagation.max.ms", TOPIC_APPEARS_MS.to_string());
        for (key, value) in &properties.properties {
            config.set(key, value);
        }
        let producer = config.create_with_context(Deliveries::default());
        let producer = producer.map_err(|error| no_client(&properties.servers, &error))?;
        Ok(Self { producing, producer })
    }

    fn send(&self, record: Record<'_>) -> Result<()> {
        let mut waiting = BaseRecord::<[u8], [u8]>::to(record.topic);
        waiting.partition = record.partition;
        waiting.key = record.key;
        waiting.payload = record.value;
        waiting.headers = record.headers;
        loop {
            let (error, returned) = match self.producer.send(waiting) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => waiting = returned,
                Some(code) => return Err(self.not_delivered(code, record.topic, record.partition.unwrap_or(-1))),
                None => return Err(Error::data(format!("`{}` cannot be a topic of Kafka", record.topic))),
            }
            self.producer.poll(STEP);
            self.check()?;
        }
    }

    /// Waits until all records have been acknowledged.
    fn finish(self) -> Result<()> {
        while self.producer.in_flight_count() > 0 {
            // It says no more than that there was not enough time; what became of records is heard below.
            let _ = self.producer.flush(STEP);
            self.check()?;
        }
        self.check()
    }

    /// Whether it is of use to go on.
    fn check(&self) -> Result<()> {
        if self.producing.abandoned.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Cancelled, "nobody waits for the records any more"));
        }
        let context = self.producer.context();
        if let Some((code, topic, partition)) = context.failure.lock().clone() {
            return Err(self.not_delivered(code, &topic, partition));
        }
        match context.listener.complaint().filter(|(code, _)| is_refusal(*code)) {
            Some((code, reason)) => Err(self.failed(Some(code), &reason)),
            None => Ok(()),
        }
    }

    fn not_delivered(&self, code: Code, topic: &str, partition: i32) -> Error {
        let servers = &self.producing.properties.servers;
        match code {
            Code::UnknownPartition if partition >= 0 => {
                Error::data(format!("topic `{topic}` has no partition {partition} on Kafka at `{servers}`"))
                    .with_help("Correct column `partition`; a NULL leaves the choice to Kafka's client.")
            }
            code if is_unknown(code) => {
                no_topic(topic, servers).with_help("Create the topic, or correct option or column `topic`.")
            }
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => Error::data(format!(
                "a record for topic `{topic}` is too large: {code}"
            ))
            .with_help(
                "Raise `kafka.max.request.size` of the sink and `max.message.bytes` of the topic, or make it smaller.",
            ),
            Code::MessageTimedOut => {
                let complaint = self.producer.context().listener.complaint();
                let reason = format!("records for topic `{topic}` were not acknowledged in time");
                match complaint {
                    Some((code, why)) => self.failed(Some(code), &format!("{reason} ({why})")),
                    None => self.failed(None, &reason),
                }
            }
            code => self.failed(Some(code), &format!("a record for topic `{topic}` was not taken: {code}")),
        }
    }

    fn failed(&self, code: Option<Code>, reason: &str) -> Error {
        let servers = &self.producing.properties.servers;
        match code {
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                Error::user(format!("Kafka at `{servers}` does not allow this user to write: {reason}"))
                    .with_help("Grant WRITE on the topic.")
            }
            code => failed(servers, code, reason),
        }
    }
}
