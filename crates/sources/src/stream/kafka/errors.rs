//! What Kafka sources report: loss of data, brokers that do not answer, logins that are refused.

use deltaworks_spark::{Error, Kind, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::offsets::TopicPartition;

/// What to do when records are gone before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDataLoss {
    /// `failOnDataLoss` is true.
    Fail,
    /// `failOnDataLoss` is false.
    Warn,
}

/// Records that are gone, under the names that Spark has for such cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataLoss {
    /// Partitions that were read before do not exist any more, or are not subscribed any more.
    PartitionsDeleted(Vec<TopicPartition>),
    /// The next record to read was deleted.
    StartReset { at: TopicPartition, wanted: i64, first: i64 },
    /// The partition ends before the next record to read.
    OffsetChanged { at: TopicPartition, wanted: i64, end: i64 },
    /// A new partition does not begin with its first record.
    AddedPartition { at: TopicPartition, first: i64 },
    /// The partition ends before the offset up to which it is to be read.
    EndMissing { at: TopicPartition, wanted: i64, end: i64 },
    /// Records vanished while they were read.
    Unreadable { at: TopicPartition, from: i64, to: i64 },
}

impl DataLoss {
    fn condition(&self) -> &'static str {
        match self {
            Self::PartitionsDeleted(_) => "KAFKA_DATA_LOSS.PARTITIONS_DELETED",
            Self::StartReset { .. } => "KAFKA_DATA_LOSS.START_OFFSET_RESET",
            Self::OffsetChanged { .. } => "KAFKA_DATA_LOSS.PARTITION_OFFSET_CHANGED",
            Self::AddedPartition { .. } => "KAFKA_DATA_LOSS.ADDED_PARTITION_DOES_NOT_START_FROM_OFFSET_ZERO",
            Self::EndMissing { .. } | Self::Unreadable { .. } => "KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::PartitionsDeleted(partitions) => format!(
                "partitions {} were deleted, or are not subscribed any more",
                partitions.iter().map(|at| format!("`{at}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::StartReset { at, wanted, first } => {
                format!("`{at}` is to be read from offset {wanted}, but begins at offset {first} now")
            }
            Self::OffsetChanged { at, wanted, end } => {
                format!("`{at}` is to be read from offset {wanted}, but ends at offset {end} now")
            }
            Self::AddedPartition { at, first } => {
                format!("the new partition `{at}` begins at offset {first}, not at 0")
            }
            Self::EndMissing { at, wanted, end } => {
                format!("`{at}` is to be read up to offset {wanted}, but ends at offset {end}")
            }
            Self::Unreadable { at, from, to } => {
                format!("offsets {from} to {to} of `{at}` vanished while they were read")
            }
        }
    }

    /// Fails or warns.
    ///
    /// # Errors
    /// `Data`, with Spark's condition.
    pub(crate) fn report(&self, policy: OnDataLoss) -> Result<()> {
        let message = format!("records of Kafka may have been lost: {}", self.message());
        match policy {
            OnDataLoss::Warn => {
                tracing::warn!(condition = self.condition(), "{message}");
                Ok(())
            }
            OnDataLoss::Fail => Err(Error::data(message).with_condition(self.condition()).with_help(
                "Set option `failOnDataLoss` to false to go on with what is there, or run a full refresh of the \
                 reading table.",
            )),
        }
    }
}

/// Whether trying again cannot help: credentials or rights are missing, or TLS does not work out.
pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SSL
    )
}

/// Whether the topic or partition does not exist.
pub(crate) fn is_unknown(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// Whether records were skipped because they cannot be read. The client goes on behind them; a reader must not.
pub(crate) fn is_unreadable(code: Code) -> bool {
    matches!(
        code,
        Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::MessageSizeTooLarge
            | Code::Underflow
    )
}

/// Records of a partition at or after `offset` cannot be read.
pub(crate) fn unreadable(at: &TopicPartition, offset: i64, code: Code) -> Error {
    match code {
        Code::NotImplemented => {
            Error::unsupported(format!("the compression of the records of `{at}` at or after offset {offset}"))
                .with_help("Compress with gzip, snappy or lz4; builds with the feature `vendored`, such as wheels, read zstd.")
        }
        _ => Error::data(format!("the records of `{at}` at or after offset {offset} cannot be read: {code}")).with_help(
            "They may be damaged, or larger than `kafka.receive.message.max.bytes`. Records before a later offset are \
             passed over by a new checkpoint with `startingOffsets`.",
        ),
    }
}

/// Kafka did not do what was asked of it; `reason` is what the client says about its connections.
pub(crate) fn failed(servers: &str, code: Option<Code>, reason: &str) -> Error {
    match code {
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Error::user(format!("Kafka at `{servers}` does not allow this user to read: {reason}")).with_help(
                "Grant READ on the topic and on the consumer group, whose name option `kafka.group.id` sets.",
            )
        }
        Some(Code::SSL) => Error::user(format!("no TLS connection to Kafka at `{servers}`: {reason}")).with_help(
            "Give the certificate authority by `kafka.ssl.ca.location` (a PEM file), and check that the listener \
             speaks TLS.",
        ),
        Some(code) if is_refusal(code) => Error::user(format!("Kafka at `{servers}` refuses the login: {reason}"))
            .with_help(
                "Check `kafka.security.protocol`, `kafka.sasl.mechanism` and the user and password of \
                 `kafka.sasl.jaas.config`.",
            ),
        _ => Error::new(Kind::Unavailable, format!("Kafka at `{servers}` does not answer: {reason}")).with_help(
            "Check that the brokers run, that `kafka.bootstrap.servers` names them, and that `kafka.security.protocol` \
             is what that port speaks.",
        ),
    }
}

/// What a client error says, without the values of its configuration.
pub(crate) fn describe(error: &KafkaError) -> String {
    match error {
        // Its own text has the value, which may be a password.
        KafkaError::ClientConfig(_, _, key, _) => format!("property `{key}` is not valid"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => match other.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => "the client failed".to_owned(),
        },
    }
}

/// There is no client with such properties. The value of the one that is wrong is not shown.
pub(crate) fn no_client(servers: &str, error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, key, value) => {
            let why = if value.is_empty() { description.clone() } else { description.replace(value, "...") };
            Error::user(format!("Kafka option `{key}` cannot be used: {why}"))
                .with_help("Options `kafka.*` are those of librdkafka; see its CONFIGURATION.md.")
        }
        other => Error::user(format!("no client for Kafka at `{servers}`: {}", describe(other))),
    }
}

/// A topic does not exist.
pub(crate) fn no_topic(topic: &str, servers: &str) -> Error {
    Error::user(format!("topic `{topic}` does not exist on Kafka at `{servers}`"))
        .with_condition("UNKNOWN_TOPIC_OR_PARTITION")
        .with_help("Create the topic, or correct option `subscribe`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_of_data_fails_or_warns() {
        let loss = DataLoss::StartReset { at: TopicPartition::new("orders", 1), wanted: 3, first: 10 };
        assert!(loss.report(OnDataLoss::Warn).is_ok());
        let error = loss.report(OnDataLoss::Fail).unwrap_err();
        assert_eq!(error.condition(), Some("KAFKA_DATA_LOSS.START_OFFSET_RESET"));
        assert_eq!(
            error.message(),
            "records of Kafka may have been lost: `orders-1` is to be read from offset 3, but begins at offset 10 now"
        );
    }

    #[test]
    fn refusals_are_not_tried_again() {
        assert_eq!(failed("h:1", Some(Code::SaslAuthenticationFailed), "no").kind(), Kind::User);
        assert_eq!(failed("h:1", Some(Code::TopicAuthorizationFailed), "no").kind(), Kind::User);
        assert_eq!(failed("h:1", Some(Code::AllBrokersDown), "no").kind(), Kind::Unavailable);
        assert_eq!(failed("h:1", None, "no").kind(), Kind::Unavailable);
    }
}
