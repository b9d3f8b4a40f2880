//! Snapshots that a Python function gives one after the other, each with its version.

use std::cmp::Ordering;
use std::fmt;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Date32Type, Decimal128Type, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::scalar::ScalarValue;
use deltaworks_spark::connect::proto;
use deltaworks_spark::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::name::DatasetName;

/// The digits after the point of a version that is a `Decimal`: Spark's, for a Decimal of Python.
const DECIMAL_SCALE: i8 = 18;

/// The function that a flow takes its snapshots from, and what it has said.
#[derive(Debug, Clone)]
pub struct SnapshotFunction {
    /// The flow, by the name that the process which has the function knows.
    pub flow: String,
    /// What it gave when it was called last; `None` while it has to be called before the graph is known.
    pub answer: Option<SnapshotAnswer>,
    /// The dataset that it asked for, if it cannot be called before that is up to date.
    pub waits_for: Option<DatasetName>,
}

/// What a function of snapshots has given.
#[derive(Debug, Clone)]
pub struct SnapshotAnswer {
    /// The version it was called with: that of the last snapshot which is stored.
    pub after: Option<SnapshotVersion>,
    /// The snapshot after it, if there is one already.
    pub next: Option<VersionedSnapshot>,
}

/// A snapshot and its version.
#[derive(Debug, Clone)]
pub struct VersionedSnapshot {
    /// All rows there are at the version.
    pub relation: Box<proto::Relation>,
    /// What orders the snapshots.
    pub version: SnapshotVersion,
}

/// The version of a snapshot, as the Python process and checkpoints have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVersion {
    /// What it is in SQL.
    #[serde(rename = "type")]
    pub version_type: VersionType,
    /// As text: bytes in hexadecimal, a timestamp in microseconds since the epoch.
    pub value: String,
    /// A timestamp that Python has without a time zone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
}

/// The types that versions may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionType {
    /// `int`
    Bigint,
    /// `float`
    Double,
    /// `Decimal`
    Decimal,
    /// `str`
    String,
    /// `bytes`
    Binary,
    /// `date`
    Date,
    /// `datetime`
    Timestamp,
}

impl VersionType {
    /// The type of `__START_AT` and `__END_AT`.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Bigint => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Decimal => DataType::Decimal128(DECIMAL128_MAX_PRECISION, DECIMAL_SCALE),
            Self::String => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

impl SnapshotVersion {
    /// The version as a value of [`VersionType::data_type`].
    ///
    /// # Errors
    /// `Data` if the text is no such value.
    pub fn scalar(&self) -> Result<ScalarValue> {
        use arrow::compute::kernels::cast_utils::Parser as _;
        let text = self.value.as_str();
        let scalar = match self.version_type {
            VersionType::Bigint => text.parse().ok().map(|value| ScalarValue::Int64(Some(value))),
            VersionType::Double => text.parse().ok().map(|value| ScalarValue::Float64(Some(value))),
            VersionType::Decimal => {
                let value = arrow::compute::kernels::cast_utils::parse_decimal::<Decimal128Type>(
                    text,
                    DECIMAL128_MAX_PRECISION,
                    DECIMAL_SCALE,
                );
                let decimal = |value| ScalarValue::Decimal128(Some(value), DECIMAL128_MAX_PRECISION, DECIMAL_SCALE);
                value.ok().map(decimal)
            }
            VersionType::String => Some(ScalarValue::Utf8(Some(self.value.clone()))),
            VersionType::Binary => bytes(text).map(|value| ScalarValue::Binary(Some(value))),
            VersionType::Date => Date32Type::parse(text).map(|value| ScalarValue::Date32(Some(value))),
            VersionType::Timestamp => {
                text.parse().ok().map(|value| ScalarValue::TimestampMicrosecond(Some(value), Some("UTC".into())))
            }
        };
        scalar.ok_or_else(|| Error::data(format!("`{text}` is not a snapshot version of type {:?}", self.version_type)))
    }

    /// How this version stands to `other`; `None` if the two are of different types.
    ///
    /// # Errors
    /// As [`Self::scalar`].
    pub fn compare(&self, other: &Self) -> Result<Option<Ordering>> {
        Ok(self.scalar()?.partial_cmp(&other.scalar()?))
    }
}

impl fmt::Display for SnapshotVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.version_type {
            VersionType::Timestamp => self.scalar().ok().and_then(|scalar| scalar.to_array().ok()),
            _ => None,
        };
        match shown.and_then(|array| array_value_to_string(&array, 0).ok()) {
            Some(shown) => f.write_str(&shown),
            None => f.write_str(&self.value),
        }
    }
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn version(version_type: VersionType, value: &str) -> SnapshotVersion {
        SnapshotVersion { version_type, value: value.to_owned(), local: false }
    }

    #[test]
    fn versions_are_ordered_by_their_type() {
        use VersionType::{Bigint, Binary, Date, Decimal, Double, String, Timestamp};
        for (version_type, lower, higher) in [
            (Bigint, "9", "10"),
            (Double, "-1e3", "0.5"),
            (Decimal, "9.5", "10.25"),
            (String, "10", "9"),
            (Binary, "00ff", "01"),
            (Date, "2023-12-31", "2024-01-01"),
            (Timestamp, "-1", "1704067200000000"),
        ] {
            let (lower, higher) = (version(version_type, lower), version(version_type, higher));
            assert_eq!(lower.compare(&higher).unwrap(), Some(Ordering::Less), "{lower} {higher}");
            assert_eq!(higher.compare(&higher.clone()).unwrap(), Some(Ordering::Equal));
            assert_eq!(lower.scalar().unwrap().data_type(), version_type.data_type());
        }
        assert_eq!(version(Bigint, "1").compare(&version(String, "1")).unwrap(), None);
    }

    #[test]
    fn versions_read_back_as_written() {
        let local = SnapshotVersion { local: true, ..version(VersionType::Timestamp, "0") };
        let text = serde_json::to_string(&local).unwrap();
        assert_eq!(text, r#"{"type":"timestamp","value":"0","local":true}"#);
        assert_eq!(serde_json::from_str::<SnapshotVersion>(&text).unwrap(), local);
        assert_eq!(local.to_string(), "1970-01-01T00:00:00Z");
        assert!(version(VersionType::Bigint, "one").scalar().is_err());
        assert!(version(VersionType::Binary, "0g").scalar().is_err());
    }
}
