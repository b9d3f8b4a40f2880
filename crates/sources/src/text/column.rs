//! Builders of scalar columns from text.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, NullArray, PrimitiveBuilder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
};
use deltaworks_spark::{Error, Result};

use super::{TextParser, decimal, integer};

/// A column under construction.
pub(crate) enum TextColumn {
    Void(usize),
    String(StringBuilder),
    Boolean(BooleanBuilder),
    Byte(PrimitiveBuilder<Int8Type>),
    Short(PrimitiveBuilder<Int16Type>),
    Int(PrimitiveBuilder<Int32Type>),
    Long(PrimitiveBuilder<Int64Type>),
    Float(PrimitiveBuilder<Float32Type>),
    Double(PrimitiveBuilder<Float64Type>),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampNtz(TimestampMicrosecondBuilder),
    Binary(BinaryBuilder),
}

/// Whether text can be read as this scalar type.
pub(crate) fn supports(data_type: &DataType) -> bool {
    TextColumn::new(data_type).is_ok()
}

impl TextColumn {
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Null => Self::Void(0),
            DataType::Utf8 => Self::String(StringBuilder::new()),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Byte(PrimitiveBuilder::new()),
            DataType::Int16 => Self::Short(PrimitiveBuilder::new()),
            DataType::Int32 => Self::Int(PrimitiveBuilder::new()),
            DataType::Int64 => Self::Long(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Double(PrimitiveBuilder::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal(
                Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?,
                *precision,
                *scale,
            ),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone(Arc::clone(zone)))
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::TimestampNtz(TimestampMicrosecondBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            other => return Err(Error::unsupported(format!("reading type `{other}` from text"))),
        })
    }

    /// Appends the value `text` stands for; if it stands for none, appends NULL and returns false.
    pub(crate) fn append(&mut self, text: &str, parser: &TextParser) -> bool {
        match self {
            Self::Void(length) => {
                *length += 1;
                false
            }
            Self::String(builder) => {
                builder.append_value(text);
                true
            }
            Self::Boolean(builder) => {
                let value = if text.eq_ignore_ascii_case("true") {
                    Some(true)
                } else if text.eq_ignore_ascii_case("false") {
                    Some(false)
                } else {
                    None
                };
                builder.append_option(value);
                value.is_some()
            }
            Self::Byte(builder) => push(builder, integer(text).and_then(|value| value.try_into().ok())),
            Self::Short(builder) => push(builder, integer(text).and_then(|value| value.try_into().ok())),
            Self::Int(builder) => push(builder, integer(text).and_then(|value| value.try_into().ok())),
            Self::Long(builder) => push(builder, integer(text)),
            Self::Float(builder) => push(builder, parser.double(text).map(|value| value as f32)),
            Self::Double(builder) => push(builder, parser.double(text)),
            Self::Decimal(builder, precision, scale) => push(builder, decimal(text, *precision, *scale)),
            Self::Date(builder) => push(builder, parser.date(text)),
            Self::Timestamp(builder) => push(builder, parser.timestamp(text)),
            Self::TimestampNtz(builder) => push(builder, parser.timestamp_ntz(text)),
            Self::Binary(builder) => {
                builder.append_value(text.as_bytes());
                true
            }
        }
    }

    pub(crate) fn append_null(&mut self) {
        match self {
            Self::Void(length) => *length += 1,
            Self::String(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Byte(builder) => builder.append_null(),
            Self::Short(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Long(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) | Self::TimestampNtz(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
        }
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Void(length) => Arc::new(NullArray::new(std::mem::take(length))),
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Byte(builder) => Arc::new(builder.finish()),
            Self::Short(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Long(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) | Self::TimestampNtz(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
        }
    }
}

fn push<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: Option<T::Native>) -> bool {
    builder.append_option(value);
    value.is_some()
}
