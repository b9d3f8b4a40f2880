//! Topics of a broker: made, filled and emptied.

use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(&'static str, Option<&'static str>)>,
}

impl Record {
    /// A value in partition 0.
    pub fn value(value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    pub fn at(self, partition: i32) -> Self {
        Self { partition, ..self }
    }

    pub fn keyed(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    pub fn time(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }
}

/// Values in partition 0.
pub fn values<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<Record> {
    values.into_iter().map(|value| Record::value(value.to_string())).collect()
}

/// A topic of its own, named after the test.
pub struct Topic<'a> {
    pub broker: &'a Broker,
    pub name: String,
}

impl<'a> Topic<'a> {
    pub fn create(broker: &'a Broker, name: &str, partitions: i32) -> Self {
        Self::create_with(broker, name, partitions, &[])
    }

    pub fn create_with(broker: &'a Broker, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let made = block_on(admin(broker).create_topics([&topic], &options())).unwrap();
        made.into_iter().for_each(|made| drop(made.unwrap()));
        Self { broker, name: name.to_owned() }
    }

    pub fn add_partitions(&self, count: usize) {
        let partitions = NewPartitions::new(&self.name, count);
        let made = block_on(admin(self.broker).create_partitions([&partitions], &options())).unwrap();
        made.into_iter().for_each(|made| drop(made.unwrap()));
    }

    pub fn delete(&self) {
        let gone = block_on(admin(self.broker).delete_topics(&[&self.name], &options())).unwrap();
        gone.into_iter().for_each(|gone| drop(gone.unwrap()));
    }

    /// Deletes the records of a partition before `offset`.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        block_on(admin(self.broker).delete_records(&list, &options())).unwrap();
    }

    pub fn produce(&self, records: Vec<Record>) {
        self.produce_with(&[], records);
    }

    /// Produces with settings of the producer, `compression.type` for one.
    pub fn produce_with(&self, settings: &[(&str, &str)], records: Vec<Record>) {
        let producer = self.producer(settings);
        self.send(&producer, records);
    }

    /// Produces in a transaction that is committed or aborted.
    pub fn transaction(&self, records: Vec<Record>, commit: bool) {
        let producer = self.producer(&[("transactional.id", &self.name)]);
        producer.init_transactions(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        self.send(&producer, records);
        match commit {
            true => producer.commit_transaction(TIMEOUT).unwrap(),
            false => producer.abort_transaction(TIMEOUT).unwrap(),
        }
    }

    fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.servers()).set("linger.ms", "0").set("log_level", "0");
        settings.iter().fold(&mut config, |config, (key, value)| config.set(*key, *value)).create().unwrap()
    }

    fn send(&self, producer: &BaseProducer, records: Vec<Record>) {
        for record in &records {
            let mut message = BaseRecord::<str, str>::to(&self.name).partition(record.partition);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            message.timestamp = record.timestamp_ms;
            if !record.headers.is_empty() {
                let empty = OwnedHeaders::new();
                let headers = record.headers.iter();
                message.headers =
                    Some(headers.fold(empty, |headers, (key, value)| headers.insert(Header { key, value: *value })));
            }
            producer.send(message).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
    }
}

fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker.servers()).set("log_level", "0").create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}
