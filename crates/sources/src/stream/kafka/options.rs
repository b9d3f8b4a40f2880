//! Options of reads from Kafka, streaming and batch.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use regex::Regex;

use super::errors::OnDataLoss;
use super::offsets::{self, EARLIEST, LATEST, Offsets, TopicPartition};
use super::properties::ClientProperties;
use crate::errors::invalid_option;
use crate::options::Options;

/// How long a reader waits for the next record, unless an option says otherwise.
const POLL_TIMEOUT_MS: u64 = 120_000;

/// Which topics are read.
#[derive(Clone, Debug)]
pub(crate) enum Subscription {
    /// `subscribe`
    Topics(BTreeSet<String>),
    /// `subscribePattern`: topics whose whole name matches.
    Pattern(Regex),
    /// `assign`
    Partitions(BTreeSet<TopicPartition>),
}

impl Subscription {
    /// Whether a partition is one of those that are read, if it exists.
    pub(crate) fn covers(&self, at: &TopicPartition) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(at.topic.as_ref()),
            Self::Pattern(pattern) => pattern.is_match(&at.topic),
            Self::Partitions(partitions) => partitions.contains(at),
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |names: Vec<String>| names.join(", ");
        match self {
            Self::Topics(topics) => f.write_str(&join(topics.iter().cloned().collect())),
            Self::Pattern(pattern) => f.write_str(pattern.as_str()),
            Self::Partitions(partitions) => f.write_str(&join(partitions.iter().map(ToString::to_string).collect())),
        }
    }
}

/// Where reading begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Earliest,
    Latest,
    /// Offsets, some of which may be [`EARLIEST`] or [`LATEST`].
    Offsets(Offsets),
    /// The first record at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
    /// The same, with a time for each partition.
    Timestamps(Offsets),
}

/// What to do about partitions whose records are all before the starting timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMatch {
    Error,
    Latest,
}

/// A read from Kafka, as its options say.
#[derive(Clone, Debug)]
pub(crate) struct KafkaOptions {
    pub(crate) client: ClientProperties,
    /// `kafka.group.id`, or else a prefix of a unique name.
    pub(crate) group: Group,
    pub(crate) subscription: Subscription,
    pub(crate) start: Bound,
    pub(crate) end: Bound,
    pub(crate) no_match: NoMatch,
    pub(crate) on_data_loss: OnDataLoss,
    /// Offsets in a slice.
    pub(crate) max_offsets: Option<u64>,
    /// Pieces that a slice is at least cut into.
    pub(crate) min_partitions: Option<u64>,
    /// Offsets in a piece.
    pub(crate) max_records: Option<u64>,
    pub(crate) headers: bool,
    /// How long a reader waits for the next record.
    pub(crate) poll_timeout: Duration,
}

/// The consumer group that clients name. No offsets are committed to it; brokers may demand rights on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Named(String),
    Prefix(String),
}

impl KafkaOptions {
    /// Options of `spark.readStream.format("kafka")` and `STREAM read_kafka`.
    pub(crate) fn streaming(given: &ReadOptions) -> Result<Self> {
        let options = Options::new(given, false);
        let ending = ["endingOffsets", "endingOffsetsByTimestamp", "endingTimestamp"];
        if let Some(key) = ending.iter().find(|key| options.get(key).is_some()) {
            return Err(Error::user(format!("option `{key}` is not valid in streaming queries"))
                .with_help("Remove it: a stream has no end. Or read without STREAM (spark.read)."));
        }
        let start = start(&options)?.unwrap_or(Bound::Latest);
        Self::parse(given, start, Bound::Latest, "spark-kafka-source")
    }

    /// Options of `spark.read.format("kafka")` and `read_kafka`.
    pub(crate) fn batch(given: &ReadOptions) -> Result<Self> {
        let options = Options::new(given, false);
        let start = start(&options)?.unwrap_or(Bound::Earliest);
        let end = bound(&options, ["endingTimestamp", "endingOffsetsByTimestamp", "endingOffsets"])?;
        let end = end.unwrap_or(Bound::Latest);
        let has = |bound: &Bound, special: i64| match bound {
            Bound::Offsets(offsets) => offsets.values().any(|offset| *offset == special),
            Bound::Earliest => special == EARLIEST,
            Bound::Latest => special == LATEST,
            _ => false,
        };
        if has(&start, LATEST) {
            return Err(Error::user("`startingOffsets` cannot be latest (-1) in batch queries")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Start at `earliest`, at offsets or at a timestamp."));
        }
        if has(&end, EARLIEST) {
            return Err(Error::user("`endingOffsets` cannot be earliest (-2)")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("End at `latest`, at offsets or at a timestamp."));
        }
        check_order(&start, &end)?;
        Self::parse(given, start, end, "spark-kafka-relation")
    }

    fn parse(given: &ReadOptions, start: Bound, end: Bound, prefix: &str) -> Result<Self> {
        let options = Options::new(given, false);
        options.refuse(&["databricks.serviceCredential", "databricks.serviceCredential.scope", "serviceCredential"])?;
        // They wait for more records to come, which a triggered update does not.
        let min_offsets = options.count("minOffsetsPerTrigger")?;
        let max_offsets = options.positive("maxOffsetsPerTrigger")?;
        if let (Some(min), Some(max)) = (min_offsets, max_offsets)
            && min > max
        {
            return Err(Error::user(format!(
                "`minOffsetsPerTrigger` ({min}) is higher than `maxOffsetsPerTrigger` ({max})"
            ))
            .with_condition("INVALID_PARAMETER_VALUE"));
        }
        let group = match options.any(&["kafka.group.id", "kafka_group_id"]) {
            Some(name) => Group::Named(name.to_owned()),
            None => Group::Prefix(options.get("groupIdPrefix").unwrap_or(prefix).to_owned()),
        };
        Ok(Self {
            subscription: subscription(&options)?,
            client: ClientProperties::parse(given)?,
            group,
            start,
            end,
            no_match: no_match(&options)?,
            on_data_loss: if options.flag("failOnDataLoss", true)? { OnDataLoss::Fail } else { OnDataLoss::Warn },
            max_offsets,
            min_partitions: options.positive("minPartitions")?,
            max_records: options.positive("maxRecordsPerPartition")?,
            headers: options.flag("includeHeaders", false)?,
            poll_timeout: Duration::from_millis(
                options.positive("kafkaConsumer.pollTimeoutMs")?.unwrap_or(POLL_TIMEOUT_MS),
            ),
        })
    }
}

const STRATEGIES: [&str; 3] = ["subscribe", "subscribePattern", "assign"];

fn subscription(options: &Options<'_>) -> Result<Subscription> {
    let given: Vec<(&str, &str)> =
        STRATEGIES.into_iter().filter_map(|key| Some((key, options.get(key)?.trim()))).collect();
    let [(key, value)] = given.as_slice() else {
        let many = if given.is_empty() { "one" } else { "only one" };
        return Err(Error::user(format!(
            "{many} of `subscribe`, `subscribePattern` and `assign` must be given for Kafka"
        ))
        .with_help("Name the topics by `subscribe`: \"orders,payments\"."));
    };
    match *key {
        "subscribe" => {
            let topics: BTreeSet<String> =
                value.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(str::to_owned).collect();
            if topics.is_empty() {
                return Err(invalid_option(key, value, "topics: \"orders,payments\""));
            }
            Ok(Subscription::Topics(topics))
        }
        "subscribePattern" => {
            let invalid = || invalid_option(key, value, "a regular expression without look-around");
            if value.is_empty() {
                return Err(invalid());
            }
            let pattern = Regex::new(&format!("^(?:{value})$"));
            pattern.map(Subscription::Pattern).map_err(|error| invalid().with_source(error))
        }
        _ => match offsets::parse_partitions(value) {
            Some(partitions) if !partitions.is_empty() => Ok(Subscription::Partitions(partitions)),
            _ => Err(invalid_option(key, value, "partitions: {\"orders\":[0,1]}")),
        },
    }
}

fn start(options: &Options<'_>) -> Result<Option<Bound>> {
    bound(options, ["startingTimestamp", "startingOffsetsByTimestamp", "startingOffsets"])
}

/// The first of the three that is given.
fn bound(options: &Options<'_>, [timestamp, timestamps, offsets]: [&str; 3]) -> Result<Option<Bound>> {
    if let Some(at_ms) = options.count(timestamp)? {
        let at_ms = i64::try_from(at_ms);
        return at_ms.map(|at_ms| Some(Bound::Timestamp(at_ms))).map_err(|_| {
            invalid_option(timestamp, options.get(timestamp).unwrap_or_default(), "milliseconds since the epoch")
        });
    }
    if let Some(text) = options.get(timestamps) {
        let parsed = offsets::parse(text).filter(|times| times.values().all(|time| *time >= 0));
        let invalid = || invalid_option(timestamps, text, "milliseconds by partition: {\"orders\":{\"0\":1000}}");
        return parsed.map(|times| Some(Bound::Timestamps(times))).ok_or_else(invalid);
    }
    let Some(text) = options.get(offsets) else { return Ok(None) };
    match text.trim().to_ascii_lowercase().as_str() {
        "earliest" => Ok(Some(Bound::Earliest)),
        "latest" => Ok(Some(Bound::Latest)),
        _ => {
            let parsed = offsets::parse(text).filter(|offsets| offsets.values().all(|offset| *offset >= EARLIEST));
            let invalid = || {
                invalid_option(
                    offsets,
                    text,
                    "earliest, latest, or offsets by partition: {\"orders\":{\"0\":23,\"1\":-2}}",
                )
            };
            parsed.map(|offsets| Some(Bound::Offsets(offsets))).ok_or_else(invalid)
        }
    }
}

fn no_match(options: &Options<'_>) -> Result<NoMatch> {
    let key = "startingOffsetsByTimestampStrategy";
    match options.get(key).map(str::to_ascii_lowercase).as_deref() {
        None | Some("error") => Ok(NoMatch::Error),
        Some("latest") => Ok(NoMatch::Latest),
        Some(other) => Err(invalid_option(key, other, "error or latest")),
    }
}

/// Offsets that are given for both ends must be in order.
fn check_order(start: &Bound, end: &Bound) -> Result<()> {
    let (Bound::Offsets(start), Bound::Offsets(end)) = (start, end) else { return Ok(()) };
    if start.keys().ne(end.keys()) {
        return Err(Error::user("`startingOffsets` and `endingOffsets` name different partitions")
            .with_condition("MISMATCHED_TOPIC_PARTITIONS_BETWEEN_START_OFFSET_AND_END_OFFSET")
            .with_help("Name the same partitions in both."));
    }
    let wrong = start.iter().find_map(|(at, from)| {
        let to = *end.get(at)?;
        (to != LATEST && *from > to).then_some((at, from, to))
    });
    match wrong {
        None => Ok(()),
        Some((at, from, to)) => {
            Err(Error::user(format!("the starting offset {from} of `{at}` is after its ending offset {to}"))
                .with_condition("UNRESOLVED_START_OFFSET_GREATER_THAN_END_OFFSET"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> ReadOptions {
        [("kafka.bootstrap.servers", "h:9092")].iter().chain(given).copied().collect()
    }

    fn streaming(given: &[(&str, &str)]) -> Result<KafkaOptions> {
        KafkaOptions::streaming(&options(given))
    }

    fn batch(given: &[(&str, &str)]) -> Result<KafkaOptions> {
        KafkaOptions::batch(&options(given))
    }

    #[test]
    fn defaults_are_sparks() {
        let stream = streaming(&[("subscribe", " a, b ,")]).unwrap();
        assert_eq!(stream.start, Bound::Latest);
        assert_eq!(stream.on_data_loss, OnDataLoss::Fail);
        assert_eq!((stream.max_offsets, stream.headers), (None, false));
        assert_eq!(stream.group, Group::Prefix("spark-kafka-source".to_owned()));
        assert_eq!(stream.subscription.to_string(), "a, b");
        let batch = batch(&[("subscribe", "a")]).unwrap();
        assert_eq!((batch.start, batch.end), (Bound::Earliest, Bound::Latest));
        assert_eq!(batch.group, Group::Prefix("spark-kafka-relation".to_owned()));
    }

    #[test]
    fn timestamps_go_before_offsets() {
        let mut given = vec![("subscribe", "a"), ("startingOffsets", r#"{"a":{"0":5,"1":-2}}"#)];
        let check = |given: &[(&str, &str)], expected: Bound| assert_eq!(streaming(given).unwrap().start, expected);
        let at = |a, b| Offsets::from([(TopicPartition::new("a", 0), a), (TopicPartition::new("a", 1), b)]);
        check(&given, Bound::Offsets(at(5, -2)));
        given.push(("startingOffsetsByTimestamp", r#"{"a":{"0":1000,"1":2000}}"#));
        check(&given, Bound::Timestamps(at(1000, 2000)));
        given.push(("startingTimestamp", "3000"));
        check(&given, Bound::Timestamp(3000));
    }

    #[test]
    fn patterns_match_whole_names() {
        let pattern = streaming(&[("subscribePattern", "ord.*|pay")]).unwrap().subscription;
        let covers = |topic: &str| pattern.covers(&TopicPartition::new(topic, 0));
        assert_eq!(
            [covers("orders"), covers("pay"), covers("payments"), covers("my-orders")],
            [true, true, false, false]
        );
    }

    #[test]
    fn wrong_options_are_named() {
        let check = |error: Result<KafkaOptions>, message: &str| assert_eq!(error.unwrap_err().message(), message);
        check(streaming(&[]), "one of `subscribe`, `subscribePattern` and `assign` must be given for Kafka");
        check(
            streaming(&[("subscribe", "a"), ("assign", r#"{"a":[0]}"#)]),
            "only one of `subscribe`, `subscribePattern` and `assign` must be given for Kafka",
        );
        check(
            streaming(&[("subscribe", " , ")]),
            "option `subscribe` has value `,`, expected topics: \"orders,payments\"",
        );
        check(
            streaming(&[("subscribePattern", "(?!x)a")]),
            "option `subscribePattern` has value `(?!x)a`, expected a regular expression without look-around",
        );
        check(
            streaming(&[("subscribe", "a"), ("endingOffsets", "latest")]),
            "option `endingOffsets` is not valid in streaming queries",
        );
        check(
            streaming(&[("subscribe", "a"), ("startingOffsets", "first")]),
            "option `startingOffsets` has value `first`, expected earliest, latest, or offsets by partition: \
             {\"orders\":{\"0\":23,\"1\":-2}}",
        );
        check(
            streaming(&[("subscribe", "a"), ("minOffsetsPerTrigger", "5"), ("maxOffsetsPerTrigger", "4")]),
            "`minOffsetsPerTrigger` (5) is higher than `maxOffsetsPerTrigger` (4)",
        );
        check(
            batch(&[("subscribe", "a"), ("startingOffsets", "latest")]),
            "`startingOffsets` cannot be latest (-1) in batch queries",
        );
        check(
            batch(&[("subscribe", "a"), ("startingOffsets", r#"{"a":{"0":-1}}"#)]),
            "`startingOffsets` cannot be latest (-1) in batch queries",
        );
        check(
            batch(&[("subscribe", "a"), ("endingOffsets", r#"{"a":{"0":-2}}"#)]),
            "`endingOffsets` cannot be earliest (-2)",
        );
        check(
            batch(&[
                ("subscribe", "a"),
                ("startingOffsets", r#"{"a":{"0":9}}"#),
                ("endingOffsets", r#"{"a":{"0":8}}"#),
            ]),
            "the starting offset 9 of `a-0` is after its ending offset 8",
        );
    }
}
