//! sqlparser's data types as Arrow types with Spark's meaning.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, StructField, TimezoneInfo};

use super::tokens::{MAP_KEY, MAP_VALUE};
use crate::error::{Error, Result};

/// The Arrow type of `data_type`.
///
/// # Errors
/// `UNSUPPORTED_DATATYPE` (`User`) if Spark has no such type.
pub(crate) fn arrow_type(data_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as T;
    Ok(match data_type {
        T::Boolean | T::Bool => DataType::Boolean,
        T::TinyInt(_) => DataType::Int8,
        T::SmallInt(_) => DataType::Int16,
        T::Int(_) | T::Integer(_) => DataType::Int32,
        T::BigInt(_) => DataType::Int64,
        T::Real | T::Float(_) => DataType::Float32,
        T::Double(_) | T::DoublePrecision => DataType::Float64,
        T::Decimal(info) | T::Numeric(info) | T::Dec(info) => decimal(info)?,
        T::String(_) | T::Varchar(_) | T::Char(_) | T::Character(_) | T::Text => DataType::Utf8,
        T::Binary(_) | T::Bytes(_) => DataType::Binary,
        T::Date => DataType::Date32,
        T::Timestamp(_, TimezoneInfo::None) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        T::Time(_, TimezoneInfo::None) => crate::types::time(),
        T::Interval { .. } => interval(data_type),
        T::Array(ArrayElemTypeDef::AngleBracket(inner)) => {
            DataType::List(Arc::new(Field::new_list_field(arrow_type(inner)?, true)))
        }
        T::Struct(fields, _) => structure(fields)?,
        T::Custom(name, modifiers) => custom(&name.to_string(), modifiers).ok_or_else(|| unknown(data_type))?,
        other => return Err(unknown(other)),
    })
}

fn unknown(data_type: &ast::DataType) -> Error {
    Error::user(format!("unknown data type `{data_type}`")).with_condition("UNSUPPORTED_DATATYPE")
}

fn custom(name: &str, modifiers: &[String]) -> Option<DataType> {
    Some(match (name.to_ascii_lowercase().as_str(), modifiers) {
        ("byte", []) => DataType::Int8,
        ("short", []) => DataType::Int16,
        ("long", []) => DataType::Int64,
        ("timestamp_ltz", []) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ("timestamp_ntz", []) => DataType::Timestamp(TimeUnit::Microsecond, None),
        ("void", []) => DataType::Null,
        ("variant", []) => crate::types::variant(),
        _ => return None,
    })
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale >= 0 && scale as u8 <= precision => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(Error::user(format!("decimal({precision},{scale}) is out of range, at most 38 digits are possible"))
            .with_condition("DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION")),
    }
}

fn interval(data_type: &ast::DataType) -> DataType {
    let text = data_type.to_string().to_ascii_uppercase();
    if text.contains("YEAR") || text.contains("MONTH") {
        DataType::Interval(IntervalUnit::YearMonth)
    } else if text == "INTERVAL" {
        DataType::Interval(IntervalUnit::MonthDayNano)
    } else {
        DataType::Duration(TimeUnit::Microsecond)
    }
}

fn structure(fields: &[StructField]) -> Result<DataType> {
    let named = |field: &StructField| -> Result<(String, DataType)> {
        let name = field.field_name.as_ref().map(|name| name.value.clone());
        let name = name.ok_or_else(|| {
            Error::user(format!("field of type `{}` has no name", field.field_type))
                .with_condition("PARSE_SYNTAX_ERROR")
        })?;
        Ok((name, arrow_type(&field.field_type)?))
    };
    let named = fields.iter().map(named).collect::<Result<Vec<_>>>()?;
    if let [(key, key_type), (value, value_type)] = named.as_slice()
        && key == MAP_KEY
        && value == MAP_VALUE
    {
        let entries = Fields::from(vec![
            Field::new("key", key_type.clone(), false),
            Field::new("value", value_type.clone(), true),
        ]);
        return Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false));
    }
    Ok(DataType::Struct(named.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()))
}

/// Makes DataFusion's planner use [`arrow_type`].
#[derive(Debug)]
pub(crate) struct SparkTypes;

impl TypePlanner for SparkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        Ok(Some(Arc::new(Field::new("", arrow_type(sql_type)?, true))))
    }
}
