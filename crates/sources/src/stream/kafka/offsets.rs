//! Positions in Kafka topics, and their JSON: `{"orders":{"0":23,"1":0}}`, as Spark writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Stands for the first offset there is, in options.
pub(crate) const EARLIEST: i64 = -2;
/// Stands for the offset after the last record, in options.
pub(crate) const LATEST: i64 = -1;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        Self { topic: Arc::from(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The next offset to read of each partition; in options also timestamps, [`EARLIEST`] and [`LATEST`].
pub(crate) type Offsets = BTreeMap<TopicPartition, i64>;

/// Offsets as they are stored with a batch.
pub(crate) fn to_json(offsets: &Offsets) -> Value {
    let mut topics: Map<String, Value> = Map::new();
    for (at, offset) in offsets {
        let topic = topics.entry(at.topic.as_ref()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(partitions) = topic {
            partitions.insert(at.partition.to_string(), Value::from(*offset));
        }
    }
    Value::Object(topics)
}

/// Offsets from JSON; `None` if it has another shape.
pub(crate) fn from_json(json: &Value) -> Option<Offsets> {
    let topics: BTreeMap<String, BTreeMap<String, i64>> = serde_json::from_value(json.clone()).ok()?;
    let mut offsets = Offsets::new();
    for (topic, partitions) in topics {
        let topic: Arc<str> = Arc::from(topic);
        for (partition, offset) in partitions {
            let partition = partition.parse().ok()?;
            offsets.insert(TopicPartition { topic: Arc::clone(&topic), partition }, offset);
        }
    }
    Some(offsets)
}

/// Offsets from the text of an option; `None` if it is not JSON of that shape.
pub(crate) fn parse(text: &str) -> Option<Offsets> {
    from_json(&serde_json::from_str(text).ok()?)
}

/// Partitions from the text of option `assign`: `{"orders":[0,1]}`; `None` if it is anything else.
pub(crate) fn parse_partitions(text: &str) -> Option<BTreeSet<TopicPartition>> {
    let topics: BTreeMap<String, Vec<i32>> = serde_json::from_str(text).ok()?;
    let all = topics
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|partition| TopicPartition::new(topic, *partition)));
    Some(all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_spark_writes_them() {
        let offsets: Offsets =
            [(("b", 0), 7), (("a", 10), 3), (("a", 2), 23)].map(|((t, p), o)| (TopicPartition::new(t, p), o)).into();
        let json = to_json(&offsets);
        assert_eq!(json.to_string(), r#"{"a":{"2":23,"10":3},"b":{"0":7}}"#);
        assert_eq!(from_json(&json), Some(offsets));
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["", "23", "[]", r#"{"a":23}"#, r#"{"a":{"x":1}}"#, r#"{"a":{"0":"1"}}"#, r#"{"a":{"0":1.5}}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse_partitions(r#"{"a":{"0":1}}"#), None);
        assert_eq!(parse_partitions(r#"{"a":[1,0]}"#).unwrap().len(), 2);
    }
}
