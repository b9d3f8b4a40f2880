//! One event: who, when, what, in the form of Databricks' event log.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::details::Details;
use super::error_details::ErrorDetails;
use super::origin::Origin;
use super::text_enum::text_enum;

text_enum! {
    /// How important an event is, and to whom.
    #[derive(Default)]
    pub enum Level {
        /// Numbers, for machines.
        Metrics = "METRICS",
        /// The normal course of things.
        #[default]
        Info = "INFO",
        /// Something unexpected that did not stop the update.
        Warn = "WARN",
        /// A flow or the update failed.
        Error = "ERROR",
    }
}

text_enum! {
    /// How far the form of an event's details can be relied upon.
    pub enum MaturityLevel {
        /// The form will not change.
        Stable = "STABLE",
        /// The form may change.
        Evolving = "EVOLVING",
        /// The form will go away.
        Deprecated = "DEPRECATED",
    }
}

/// The order of an event among those of the same source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The number given by a control plane, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_seq_no: Option<u64>,
    /// The number given by the process that ran the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane_id: Option<DataPlaneId>,
}

impl Sequence {
    /// The event `seq_no` of the process `instance`.
    pub fn data_plane(instance: impl Into<String>, seq_no: u64) -> Self {
        Self { control_plane_seq_no: None, data_plane_id: Some(DataPlaneId { instance: instance.into(), seq_no }) }
    }
}

/// A process and the number it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPlaneId {
    /// The process.
    pub instance: String,
    /// Ascending within the process, from 1.
    pub seq_no: u64,
}

/// One thing that happened.
///
/// Serialises to the form of the REST API: `sequence` and `details` as objects, `event_type` beside them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// A UUID.
    pub id: String,
    /// Order within the source.
    pub sequence: Sequence,
    /// Pipeline, update, flow, dataset.
    #[serde(default)]
    pub origin: Origin,
    /// When, to the microsecond.
    pub timestamp: DateTime<Utc>,
    /// What happened, for people.
    pub message: String,
    /// How important it is.
    pub level: Level,
    /// How far the form of `details` can be relied upon.
    #[serde(default)]
    pub maturity_level: Option<MaturityLevel>,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<ErrorDetails>,
    /// What happened, for machines.
    pub details: Details,
}

impl Event {
    /// The kind of event: the only key of `details`.
    pub fn event_type(&self) -> &str {
        self.details.event_type()
    }

    /// The event as one line of JSON, without the line's end.
    ///
    /// # Errors
    /// `Internal` if the event cannot be written as JSON, which would be a defect of its type.
    pub fn to_json(&self) -> deltaworks_spark::Result<String> {
        serde_json::to_string(self).map_err(|error| {
            deltaworks_spark::Error::internal(format!("event `{}` cannot be written as JSON", self.id))
                .with_source(error)
        })
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            id: &'a str,
            sequence: &'a Sequence,
            origin: &'a Origin,
            timestamp: String,
            message: &'a str,
            level: Level,
            #[serde(skip_serializing_if = "Option::is_none")]
            maturity_level: Option<MaturityLevel>,
            event_type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a ErrorDetails>,
            details: &'a Details,
        }
        Written {
            id: &self.id,
            sequence: &self.sequence,
            origin: &self.origin,
            timestamp: self.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true),
            message: &self.message,
            level: self.level,
            maturity_level: self.maturity_level,
            event_type: self.event_type(),
            error: self.error.as_ref(),
            details: &self.details,
        }
        .serialize(serializer)
    }
}
