//! Questions to a Kafka cluster: which partitions there are, and which offsets they have.
//!
//! The client library blocks; here it runs on threads for that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use uuid::Uuid;

use super::errors::{describe, failed, is_refusal, is_unknown, no_client, no_topic};
use super::offsets::{EARLIEST, LATEST, Offsets, TopicPartition};
use super::options::{Group, KafkaOptions, Subscription};
use super::progress::{Available, Extent};
use super::properties::ClientProperties;

/// A question is asked again after this time, so that refusals show soon.
const STEP: Duration = Duration::from_secs(1);

/// Memory for records that were fetched ahead, in each client.
const FETCHED_AHEAD_KIB: u32 = 16 << 10;

/// How long brokers wait for records where there are none, in milliseconds: slices end where records do.
const FETCH_WAIT_MS: u32 = 10;

/// Nobody polls a client while its rows are written, or while it is idle; that is no fault.
const POLL_INTERVAL_MS: u32 = 86_400_000;

/// Topics that belong to Kafka itself; no pattern matches them.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// A client that reads. It is member of no group and commits nothing.
pub(crate) type Client = BaseConsumer<Listener>;

/// A Kafka cluster.
pub(crate) struct Cluster {
    properties: ClientProperties,
    group: String,
    /// Clients that asked something and may ask again.
    idle: Mutex<Vec<Client>>,
    /// Threads that wait until clients have closed, which takes a tenth of a second.
    closing: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for thread in self.closing.get_mut().drain(..) {
            // A panic there concerns nobody any more.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("servers", &self.properties.servers).finish_non_exhaustive()
    }
}

/// Hears what a client has to say about its connections.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// The last complaint.
    complaint: Mutex<Option<(Code, String)>>,
}

impl Listener {
    /// The last complaint about the connections.
    pub(crate) fn complaint(&self) -> Option<(Code, String)> {
        self.complaint.lock().clone()
    }

    /// Forgets complaints: the connection works.
    pub(crate) fn clear(&self) {
        *self.complaint.lock() = None;
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, "{message}");
            }
            _ => tracing::debug!(facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        tracing::debug!(?code, "{reason}");
        let mut complaint = self.complaint.lock();
        // That all brokers are down says less than why, and a refusal more than what follows from it.
        let says_less = code == Code::AllBrokersDown || complaint.as_ref().is_some_and(|(code, _)| is_refusal(*code));
        if complaint.is_none() || !says_less {
            *complaint = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Listener {}

impl Cluster {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        let group = match &options.group {
            Group::Named(name) => name.clone(),
            Group::Prefix(prefix) => format!("{prefix}-{}", Uuid::new_v4()),
        };
        Self::of(options.client.clone(), group)
    }

    /// The cluster of a client that names `group` when it reads.
    pub(super) fn of(properties: ClientProperties, group: String) -> Self {
        Self { properties, group, idle: Mutex::default(), closing: Mutex::default() }
    }

    /// Asks for a topic, or for all of them; it need not exist.
    ///
    /// # Errors
    /// `Unavailable` if Kafka does not answer; `User` if it refuses the login.
    pub(super) fn answers(&self, topic: Option<&str>) -> Result<()> {
        match topic {
            Some(topic) => self.partitions_of(topic).map(drop),
            None => self.ask(|client, timeout| client.fetch_metadata(None, timeout)).map(drop),
        }
    }

    /// `kafka.bootstrap.servers`
    pub(crate) fn servers(&self) -> &str {
        &self.properties.servers
    }

    /// How long Kafka may take to answer a question.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.properties.answer_timeout
    }

    /// A new client that can read.
    ///
    /// # Errors
    /// `User` if a property does not exist or has a value that it cannot have. The value is not shown.
    pub(crate) fn client(&self) -> Result<Client> {
        self.client_of(Some(&self.group))
    }

    /// Closes a client that has read, while others go on.
    pub(crate) fn close(&self, client: Arc<Client>) {
        let mut closing = self.closing.lock();
        closing.retain(|thread| !thread.is_finished());
        match std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client)) {
            Ok(thread) => closing.push(thread),
            Err(error) => tracing::debug!(%error, "the client was closed without a thread"),
        }
    }

    /// A client that can read if it has a group to name.
    fn client_of(&self, group: Option<&str>) -> Result<Client> {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", FETCHED_AHEAD_KIB.to_string())
            .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string());
        for (key, value) in &self.properties.properties {
            config.set(key, value);
        }
        if let Some(group) = group {
            config.set("group.id", group);
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("max.poll.interval.ms", POLL_INTERVAL_MS.to_string())
            .set("allow.auto.create.topics", "false");
        config.create_with_context(Listener::default()).map_err(|error| no_client(self.servers(), &error))
    }

    /// The partitions of a subscription with what they have now.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` (`User`) if a topic that is named does not exist, unless `known` has partitions of
    /// it: it was deleted then; `Unavailable` if Kafka does not answer; `User` if it refuses the login.
    pub(crate) async fn available(
        self: &Arc<Self>,
        subscription: &Subscription,
        known: Option<&Offsets>,
    ) -> Result<Available> {
        let (subscription, known) = (subscription.clone(), known.cloned().unwrap_or_default());
        self.blocking(move |cluster| {
            let partitions = cluster.partitions(&subscription, &known)?;
            let firsts = cluster.offsets(partitions.iter().map(|at| (at.clone(), EARLIEST)).collect())?;
            let ends = cluster.offsets(partitions.iter().map(|at| (at.clone(), LATEST)).collect())?;
            let extent = |at: &TopicPartition| Some(Extent { first: *firsts.get(at)?, end: *ends.get(at)? });
            Ok(partitions.into_iter().filter_map(|at| extent(&at).map(|extent| (at, extent))).collect())
        })
        .await
    }

    /// The offsets of the first records at or after the given times, in milliseconds since the epoch; [`LATEST`] where
    /// all records are older.
    ///
    /// # Errors
    /// Those of [`Cluster::available`].
    pub(crate) async fn at_times(self: &Arc<Self>, times: Offsets) -> Result<Offsets> {
        self.blocking(move |cluster| cluster.offsets(times)).await
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cluster = Arc::clone(self);
        tokio::task::spawn_blocking(move || question(&cluster))
            .await
            .map_err(|error| Error::internal("a question to Kafka was not finished").with_source(error))?
    }

    fn partitions(&self, subscription: &Subscription, known: &Offsets) -> Result<Vec<TopicPartition>> {
        match subscription {
            Subscription::Topics(topics) => {
                let mut all = Vec::new();
                for topic in topics {
                    match self.partitions_of(topic)? {
                        Some(partitions) => all.extend(partitions),
                        None if known.keys().any(|at| at.topic.as_ref() == topic) => {}
                        None => return Err(no_topic(topic, self.servers())),
                    }
                }
                Ok(all)
            }
            Subscription::Pattern(pattern) => {
                let metadata = self.ask(|client, timeout| client.fetch_metadata(None, timeout))?;
                let topics = metadata.topics().iter();
                let matching = topics
                    .filter(|topic| pattern.is_match(topic.name()) && !INTERNAL_TOPICS.contains(&topic.name()))
                    .flat_map(|topic| {
                        topic.partitions().iter().map(|partition| TopicPartition::new(topic.name(), partition.id()))
                    });
                Ok(matching.collect())
            }
            Subscription::Partitions(partitions) => {
                let mut of_topics: BTreeMap<&str, Option<Vec<TopicPartition>>> = BTreeMap::new();
                for at in partitions {
                    if !of_topics.contains_key(at.topic.as_ref()) {
                        of_topics.insert(&at.topic, self.partitions_of(&at.topic)?);
                    }
                }
                let exists = |at: &TopicPartition| {
                    of_topics.get(at.topic.as_ref()).into_iter().flatten().any(|all| all.contains(at))
                };
                match partitions.iter().find(|at| !exists(at) && !known.contains_key(at)) {
                    Some(missing) => Err(no_topic(&missing.to_string(), self.servers())),
                    None => Ok(partitions.iter().filter(|at| exists(at)).cloned().collect()),
                }
            }
        }
    }

    /// The partitions of a topic; `None` if it does not exist.
    fn partitions_of(&self, topic: &str) -> Result<Option<Vec<TopicPartition>>> {
        self.ask(|client, timeout| {
            let metadata = client.fetch_metadata(Some(topic), timeout)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            match found.error().map(Code::from) {
                Some(code) if is_unknown(code) => Ok(None),
                Some(code) => Err(KafkaError::MetadataFetch(code)),
                None => {
                    let partitions = found.partitions().iter();
                    Ok(Some(partitions.map(|partition| TopicPartition::new(topic, partition.id())).collect()))
                }
            }
        })
    }

    /// What Kafka answers about positions: times, [`EARLIEST`] and [`LATEST`] become offsets.
    pub(super) fn offsets(&self, wanted: Offsets) -> Result<Offsets> {
        if wanted.is_empty() {
            return Ok(wanted);
        }
        self.ask(|client, timeout| {
            let mut list = TopicPartitionList::with_capacity(wanted.len());
            for (at, position) in &wanted {
                list.add_partition_offset(&at.topic, at.partition, Offset::from_raw(*position))?;
            }
            let answer = client.offsets_for_times(list, timeout)?;
            answer
                .elements()
                .iter()
                .map(|element| {
                    element.error()?;
                    let offset = element.offset().to_raw().ok_or(KafkaError::OffsetFetch(Code::Unknown))?;
                    Ok((TopicPartition::new(element.topic(), element.partition()), offset))
                })
                .collect()
        })
    }

    /// Asks until there is an answer, or the time for it is over, or it is clear that there will be none.
    fn ask<T>(&self, question: impl Fn(&Client, Duration) -> KafkaResult<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let client = idle.map_or_else(|| self.client_of(None), Ok)?;
        let deadline = Instant::now() + self.answer_timeout();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match question(&client, left.min(STEP)) {
                Ok(answer) => {
                    client.context().clear();
                    self.idle.lock().push(client);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // Complaints are heard while polling.
            let _ = client.poll(Duration::from_millis(10));
            let refusal = client.context().complaint().filter(|(code, _)| is_refusal(*code));
            let refused = error.rdkafka_error_code().is_some_and(is_refusal);
            if refused || refusal.is_some() || Instant::now() >= deadline {
                let code = error.rdkafka_error_code();
                return Err(match client.context().complaint() {
                    Some((code, reason)) if !refused => failed(self.servers(), Some(code), &reason),
                    _ => failed(self.servers(), code, &describe(&error)),
                });
            }
        }
    }
}
