//! The shape of a variant, as `schema_of_variant` tells it.

use std::collections::BTreeMap;
use std::fmt;

use parquet_variant::Variant;
use serde::{Deserialize, Serialize};

use super::json::stripped;
use crate::types::quote;

/// The digits that hold every BIGINT.
const LONG_DIGITS: u8 = 20;
const MAX_DIGITS: u8 = 38;

/// What is known of values: the type of one, or the type that holds several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// No value, or only `null`.
    #[default]
    Void,
    Boolean,
    Long,
    Float,
    Double,
    Decimal(u8, u8),
    Text,
    Binary,
    Date,
    Timestamp,
    TimestampNtz,
    Time,
    Uuid,
    Array(Box<Shape>),
    Object(BTreeMap<String, Shape>),
    /// Values that no other type holds together.
    Variant,
}

impl Shape {
    /// The shape of one value.
    pub(crate) fn of(variant: &Variant<'_, '_>) -> Self {
        match variant {
            Variant::Null => Self::Void,
            Variant::BooleanTrue | Variant::BooleanFalse => Self::Boolean,
            Variant::Int8(_) | Variant::Int16(_) | Variant::Int32(_) | Variant::Int64(_) => Self::Long,
            Variant::Float(_) => Self::Float,
            Variant::Double(_) => Self::Double,
            Variant::Decimal4(value) => Self::decimal(value.integer().into(), value.scale()),
            Variant::Decimal8(value) => Self::decimal(value.integer().into(), value.scale()),
            Variant::Decimal16(value) => Self::decimal(value.integer(), value.scale()),
            Variant::Date(_) => Self::Date,
            Variant::TimestampMicros(_) | Variant::TimestampNanos(_) => Self::Timestamp,
            Variant::TimestampNtzMicros(_) | Variant::TimestampNtzNanos(_) => Self::TimestampNtz,
            Variant::Time(_) => Self::Time,
            Variant::Binary(_) => Self::Binary,
            Variant::String(_) | Variant::ShortString(_) => Self::Text,
            Variant::Uuid(_) => Self::Uuid,
            Variant::List(list) => {
                Self::Array(Box::new(list.iter().fold(Self::Void, |shape, value| shape.merge(Self::of(&value)))))
            }
            Variant::Object(object) => {
                Self::Object(object.iter().map(|(name, value)| (name.to_owned(), Self::of(&value))).collect())
            }
        }
    }

    fn decimal(unscaled: i128, scale: u8) -> Self {
        let (unscaled, scale) = stripped(unscaled, scale);
        let digits = unscaled.unsigned_abs().checked_ilog10().map_or(1, |log| log as u8 + 1);
        Self::Decimal(digits.max(scale), scale)
    }

    /// The shape of values of both.
    pub(crate) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Void, shape) | (shape, Self::Void) => shape,
            (Self::Long, Self::Decimal(p, s)) | (Self::Decimal(p, s), Self::Long) => wider((LONG_DIGITS, 0), (p, s)),
            (Self::Decimal(p, s), Self::Decimal(q, r)) => wider((p, s), (q, r)),
            (Self::Float, Self::Long) | (Self::Long, Self::Float) => Self::Float,
            (Self::Double, Self::Long | Self::Float | Self::Decimal(..))
            | (Self::Long | Self::Float | Self::Decimal(..), Self::Double)
            | (Self::Float, Self::Decimal(..))
            | (Self::Decimal(..), Self::Float) => Self::Double,
            (Self::Date | Self::TimestampNtz, Self::Timestamp) | (Self::Timestamp, Self::Date | Self::TimestampNtz) => {
                Self::Timestamp
            }
            (Self::Date, Self::TimestampNtz) | (Self::TimestampNtz, Self::Date) => Self::TimestampNtz,
            (Self::Array(a), Self::Array(b)) => Self::Array(Box::new(a.merge(*b))),
            (Self::Object(mut fields), Self::Object(other)) => {
                for (name, shape) in other {
                    let known = fields.remove(&name).unwrap_or_default();
                    fields.insert(name, known.merge(shape));
                }
                Self::Object(fields)
            }
            _ => Self::Variant,
        }
    }
}

fn wider((p, s): (u8, u8), (q, r): (u8, u8)) -> Shape {
    let scale = s.max(r);
    let whole = (p - s).max(q - r);
    if whole + scale > MAX_DIGITS { Shape::Double } else { Shape::Decimal(whole + scale, scale) }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("VOID"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Long => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(precision, scale) => write!(f, "DECIMAL({precision},{scale})"),
            Self::Text => f.write_str("STRING"),
            Self::Binary => f.write_str("BINARY"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::TimestampNtz => f.write_str("TIMESTAMP_NTZ"),
            Self::Time => f.write_str("TIME(6)"),
            Self::Uuid => f.write_str("UUID"),
            Self::Array(element) => write!(f, "ARRAY<{element}>"),
            Self::Object(fields) => {
                f.write_str("OBJECT<")?;
                for (at, (name, shape)) in fields.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {shape}", quote(name))?;
                }
                f.write_str(">")
            }
            Self::Variant => f.write_str("VARIANT"),
        }
    }
}
