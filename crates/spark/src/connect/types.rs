//! Spark Connect's data types and Arrow's, both ways, and Spark's JSON form of a schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit};
use serde_json::Value;

use super::faces;
use super::proto::{self, data_type::Kind};
use crate::error::{Error, Result};
use crate::types::{CHAR_TYPE_KEY, INTERVAL_KEY, IntervalUnits, is_variant, variant};

/// The metadata key of a column that `*` does not include, such as a scan's `_metadata`.
pub const HIDDEN: &str = "deltaworks.hidden";

/// Whether a column is left out of `*` and of `df.columns`.
pub fn is_hidden(field: &Field) -> bool {
    field.metadata().get(HIDDEN).is_some_and(|value| value == "true")
}

/// Spark's `TIMESTAMP`: an instant, microseconds since the epoch.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of a Connect type.
///
/// # Errors
/// `Unsupported` for types without an Arrow counterpart here (geometry, user-defined).
pub fn to_arrow(data_type: &proto::DataType) -> Result<DataType> {
    let Some(kind) = &data_type.kind else { return Ok(DataType::Null) };
    Ok(match kind {
        Kind::Null(_) => DataType::Null,
        Kind::Binary(_) => DataType::Binary,
        Kind::Boolean(_) => DataType::Boolean,
        Kind::Byte(_) => DataType::Int8,
        Kind::Short(_) => DataType::Int16,
        Kind::Integer(_) => DataType::Int32,
        Kind::Long(_) => DataType::Int64,
        Kind::Float(_) => DataType::Float32,
        Kind::Double(_) => DataType::Float64,
        Kind::Decimal(decimal) => decimal_type(decimal.precision.unwrap_or(10), decimal.scale.unwrap_or(0))?,
        Kind::String(_) | Kind::Char(_) | Kind::VarChar(_) => DataType::Utf8,
        Kind::Date(_) => DataType::Date32,
        Kind::Timestamp(_) => timestamp_type(),
        Kind::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::CalendarInterval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        Kind::YearMonthInterval(_) => DataType::Interval(IntervalUnit::YearMonth),
        Kind::DayTimeInterval(_) => DataType::Duration(TimeUnit::Microsecond),
        Kind::Time(_) => DataType::Time64(TimeUnit::Nanosecond),
        Kind::Array(array) => {
            DataType::List(Arc::new(Field::new("item", required(array.element_type.as_deref())?, array.contains_null)))
        }
        Kind::Struct(fields) => DataType::Struct(struct_fields(fields)?),
        Kind::Map(map) => {
            map_type(required(map.key_type.as_deref())?, required(map.value_type.as_deref())?, map.value_contains_null)
        }
        Kind::Unparsed(text) => faces::parse_type(&text.data_type_string)?,
        Kind::Udt(udt) => match udt.sql_type.as_deref() {
            Some(sql_type) => to_arrow(sql_type)?,
            None => return Err(Error::unsupported(format!("the user-defined type `{}`", udt.r#type))),
        },
        Kind::Variant(_) => variant(),
        Kind::Geometry(_) | Kind::Geography(_) => return Err(Error::unsupported("types `GEOMETRY` and `GEOGRAPHY`")),
        Kind::TimestampNtzNanos(_) | Kind::TimestampLtzNanos(_) => {
            return Err(Error::unsupported("timestamps with nanosecond precision"));
        }
    })
}

fn required(data_type: Option<&proto::DataType>) -> Result<DataType> {
    to_arrow(data_type.ok_or_else(|| Error::internal("a nested type is missing in the message"))?)
}

/// The type of a decimal, checked as Spark does.
pub(super) fn decimal_type(precision: i32, scale: i32) -> Result<DataType> {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(Error::user(format!("decimal precision {precision} exceeds max precision 38"))
            .with_condition("DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION")),
    }
}

/// The Arrow type of `MAP<key, value>`.
pub(super) fn map_type(key: DataType, value: DataType, value_nullable: bool) -> DataType {
    let entries =
        DataType::Struct(Fields::from(vec![Field::new("key", key, false), Field::new("value", value, value_nullable)]));
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

fn struct_fields(fields: &proto::data_type::Struct) -> Result<Fields> {
    fields
        .fields
        .iter()
        .map(|field| {
            let data_type = required(field.data_type.as_ref())?;
            let metadata = field.metadata.as_deref().map(metadata_from_json).unwrap_or_default();
            Ok(Arc::new(Field::new(&field.name, data_type, field.nullable).with_metadata(metadata)))
        })
        .collect::<Result<Vec<FieldRef>>>()
        .map(Fields::from)
}

/// The Arrow schema of a Connect struct type.
///
/// # Errors
/// `User` if the type is no struct; as [`to_arrow`] otherwise.
pub fn to_arrow_schema(data_type: &proto::DataType) -> Result<Schema> {
    match to_arrow(data_type)? {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        other => Err(Error::user(format!("expected a struct type, got `{other}`"))),
    }
}

/// The Connect type of a whole schema, hidden columns left out.
///
/// # Errors
/// `Unsupported` for Arrow types that Spark has not.
pub fn from_arrow_schema(schema: &Schema) -> Result<proto::DataType> {
    let visible: Vec<_> = schema.fields().iter().filter(|field| !is_hidden(field)).cloned().collect();
    from_arrow(&DataType::Struct(Fields::from(visible)))
}

/// As [`from_arrow_schema`], with the types as they were declared: `char(5)` and `varchar(5)` too, which rows have as
/// plain text.
///
/// # Errors
/// As [`from_arrow_schema`].
pub fn declared_schema(schema: &Schema) -> Result<proto::DataType> {
    use proto::data_type as t;
    let mut declared = from_arrow_schema(schema)?;
    if let Some(Kind::Struct(fields)) = &mut declared.kind {
        for (field, known) in fields.fields.iter_mut().zip(schema.fields()) {
            let Some(text) = known.metadata().get(CHAR_TYPE_KEY) else { continue };
            let length =
                |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.trim().parse().ok();
            let kind = match (length("varchar"), length("char")) {
                (Some(length), _) => Kind::VarChar(t::VarChar { length, ..Default::default() }),
                (_, Some(length)) => Kind::Char(t::Char { length, ..Default::default() }),
                _ => continue,
            };
            let mut metadata = known.metadata().clone();
            metadata.remove(CHAR_TYPE_KEY);
            field.metadata = metadata_to_json(&metadata);
            field.data_type = Some(proto::DataType { kind: Some(kind) });
        }
    }
    Ok(declared)
}

/// The Connect type of an Arrow type.
///
/// # Errors
/// `Unsupported` for Arrow types that Spark has not.
pub fn from_arrow(data_type: &DataType) -> Result<proto::DataType> {
    use proto::data_type as t;
    let kind = match data_type {
        DataType::Null => Kind::Null(t::Null::default()),
        DataType::Boolean => Kind::Boolean(t::Boolean::default()),
        DataType::Int8 => Kind::Byte(t::Byte::default()),
        DataType::Int16 | DataType::UInt8 => Kind::Short(t::Short::default()),
        DataType::Int32 | DataType::UInt16 => Kind::Integer(t::Integer::default()),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Kind::Long(t::Long::default()),
        DataType::Float16 | DataType::Float32 => Kind::Float(t::Float::default()),
        DataType::Float64 => Kind::Double(t::Double::default()),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Kind::Decimal(t::Decimal {
            precision: Some(i32::from(*p)),
            scale: Some(i32::from(*s)),
            type_variation_reference: 0,
        }),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Kind::String(t::String { collation: "UTF8_BINARY".to_owned(), ..Default::default() })
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Kind::Binary(t::Binary::default())
        }
        DataType::Date32 | DataType::Date64 => Kind::Date(t::Date::default()),
        DataType::Timestamp(_, Some(_)) => Kind::Timestamp(t::Timestamp::default()),
        DataType::Timestamp(_, None) => Kind::TimestampNtz(t::TimestampNtz::default()),
        DataType::Time32(_) | DataType::Time64(_) => Kind::Time(t::Time::default()),
        DataType::Duration(_) => Kind::DayTimeInterval(t::DayTimeInterval {
            start_field: Some(0),
            end_field: Some(3),
            type_variation_reference: 0,
        }),
        DataType::Interval(IntervalUnit::YearMonth) => Kind::YearMonthInterval(t::YearMonthInterval {
            start_field: Some(0),
            end_field: Some(1),
            type_variation_reference: 0,
        }),
        DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => {
            Kind::CalendarInterval(t::CalendarInterval::default())
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => Kind::Array(Box::new(t::Array {
            element_type: Some(Box::new(from_arrow(item.data_type())?)),
            contains_null: item.is_nullable(),
            type_variation_reference: 0,
        })),
        _ if is_variant(data_type) => Kind::Variant(t::Variant::default()),
        DataType::Struct(fields) => Kind::Struct(t::Struct {
            fields: fields.iter().map(|field| struct_field(field)).collect::<Result<_>>()?,
            type_variation_reference: 0,
        }),
        DataType::Map(entries, _) => map_kind(entries)?,
        DataType::Dictionary(_, value) => return from_arrow(value),
        other => return Err(Error::unsupported(format!("the Arrow type `{other}` in Spark"))),
    };
    Ok(proto::DataType { kind: Some(kind) })
}

fn map_kind(entries: &Field) -> Result<Kind> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok(Kind::Map(Box::new(proto::data_type::Map {
            key_type: Some(Box::new(from_arrow(fields[0].data_type())?)),
            value_type: Some(Box::new(from_arrow(fields[1].data_type())?)),
            value_contains_null: fields[1].is_nullable(),
            type_variation_reference: 0,
        }))),
        _ => Err(Error::internal("the entries of a map are not pairs")),
    }
}

fn struct_field(field: &Field) -> Result<proto::data_type::StructField> {
    Ok(proto::data_type::StructField {
        name: field.name().clone(),
        data_type: Some(of_field(field)?),
        nullable: field.is_nullable(),
        metadata: metadata_to_json(field.metadata()),
    })
}

/// The Connect type of a field: of an interval with the units it counts.
fn of_field(field: &Field) -> Result<proto::DataType> {
    use proto::data_type as t;
    let Some(units) = IntervalUnits::of_field(field) else { return from_arrow(field.data_type()) };
    let (start_field, end_field) = (Some(i32::from(units.first)), Some(i32::from(units.last)));
    let kind = match field.data_type() {
        DataType::Duration(_) => {
            Kind::DayTimeInterval(t::DayTimeInterval { start_field, end_field, type_variation_reference: 0 })
        }
        _ => Kind::YearMonthInterval(t::YearMonthInterval { start_field, end_field, type_variation_reference: 0 }),
    };
    Ok(proto::DataType { kind: Some(kind) })
}

/// Spark's column metadata, out of the Arrow metadata (Arrow's own keys stay behind).
fn metadata_to_json(metadata: &HashMap<String, String>) -> Option<String> {
    let mut map = serde_json::Map::new();
    for (key, value) in metadata {
        if !key.starts_with("ARROW:") && !key.starts_with("PARQUET:") && key != HIDDEN && key != INTERVAL_KEY {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            map.insert(key.clone(), value);
        }
    }
    (!map.is_empty()).then(|| Value::Object(map).to_string())
}

/// Arrow metadata of Spark's column metadata: strings as they are, other values as JSON.
pub(super) fn metadata_from_json(json: &str) -> HashMap<String, String> {
    let Ok(Value::Object(map)) = serde_json::from_str(json) else { return HashMap::new() };
    metadata_from_object(&map)
}

fn metadata_from_object(map: &serde_json::Map<String, Value>) -> HashMap<String, String> {
    map.iter()
        .map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        })
        .collect()
}

/// A schema as a client sends it: Spark's JSON form, or a DDL string.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) if it is neither.
pub fn parse_schema(text: &str) -> Result<Schema> {
    let text = text.trim();
    if !text.starts_with(['{', '"']) {
        return faces::parse_schema(text);
    }
    let json: Value = serde_json::from_str(text)
        .map_err(|error| Error::user(format!("the schema is not valid JSON: {error}")).with_source(error))?;
    match crate::types::data_type_from_json(&json)? {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        single => Ok(Schema::new(vec![Field::new("value", single, true)])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn types_survive_the_round_trip() {
        let types = [
            DataType::Int8,
            DataType::Int64,
            DataType::Decimal128(12, 2),
            DataType::Utf8,
            timestamp_type(),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::List(Arc::new(Field::new("item", DataType::Int32, true))),
            map_type(DataType::Utf8, DataType::Float64, true),
            variant(),
            DataType::Struct(vec![Field::new("a", DataType::Date32, false)].into()),
        ];
        for data_type in types {
            assert_eq!(to_arrow(&from_arrow(&data_type).unwrap()).unwrap(), data_type);
        }
    }

    #[test]
    fn json_schema_is_read() {
        let text = r#"{"type":"struct","fields":[
            {"name":"id","type":"long","nullable":false,"metadata":{}},
            {"name":"tags","type":{"type":"array","elementType":"string","containsNull":true},"nullable":true,"metadata":{}}]}"#;
        let schema = parse_schema(text).unwrap();
        assert_eq!(schema.field(0), &Field::new("id", DataType::Int64, false));
        assert_eq!(schema.field(1).data_type(), &DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))));
    }

    #[test]
    fn hidden_columns_are_not_reported() {
        let hidden = Field::new("_metadata", DataType::Utf8, true)
            .with_metadata([(HIDDEN.to_owned(), "true".to_owned())].into());
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, true), hidden]);
        let Some(Kind::Struct(fields)) = from_arrow_schema(&schema).unwrap().kind else { unreachable!() };
        assert_eq!(fields.fields.len(), 1);
    }
}
