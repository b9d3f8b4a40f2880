//! Literals of the protocol as scalar values.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano};
use datafusion::common::ScalarValue;

use super::proto::expression::{Literal, literal};
use super::types;
use crate::error::{Error, Result};

/// The value of a literal.
///
/// # Errors
/// `User` if a decimal is not a number; `Unsupported` for nanosecond timestamps.
pub fn scalar(value: &Literal) -> Result<ScalarValue> {
    use literal::LiteralType as L;
    let Some(kind) = &value.literal_type else { return Ok(ScalarValue::Null) };
    let declared = value.data_type.as_ref().map(types::to_arrow).transpose()?;
    Ok(match kind {
        L::Null(data_type) => null_of(declared.map_or_else(|| types::to_arrow(data_type), Ok)?)?,
        L::Binary(bytes) => ScalarValue::Binary(Some(bytes.to_vec())),
        L::Boolean(value) => ScalarValue::Boolean(Some(*value)),
        L::Byte(value) => ScalarValue::Int8(Some(*value as i8)),
        L::Short(value) => ScalarValue::Int16(Some(*value as i16)),
        L::Integer(value) => ScalarValue::Int32(Some(*value)),
        L::Long(value) => ScalarValue::Int64(Some(*value)),
        L::Float(value) => ScalarValue::Float32(Some(*value)),
        L::Double(value) => ScalarValue::Float64(Some(*value)),
        L::Decimal(value) => decimal(value)?,
        L::String(value) => ScalarValue::Utf8(Some(value.clone())),
        L::Date(days) => ScalarValue::Date32(Some(*days)),
        L::Timestamp(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), Some("UTC".into())),
        L::TimestampNtz(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), None),
        L::CalendarInterval(interval) => ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(
            interval.months,
            interval.days,
            interval.microseconds.saturating_mul(1_000),
        ))),
        L::YearMonthInterval(months) => ScalarValue::IntervalYearMonth(Some(*months)),
        L::DayTimeInterval(micros) => ScalarValue::DurationMicrosecond(Some(*micros)),
        L::Time(time) => ScalarValue::Time64Nanosecond(Some(time.nano)),
        L::Array(array) => list(array, declared)?,
        L::SpecializedArray(array) => specialized(array)?,
        L::Map(map) => map_value(map, declared)?,
        L::Struct(value) => struct_value(value, declared)?,
        L::TimestampNtzNanos(_) | L::TimestampLtzNanos(_) => {
            return Err(Error::unsupported("timestamps with nanosecond precision"));
        }
    })
}

/// The literal of a value.
///
/// # Errors
/// `Unsupported` for values of types that are sent as rows only.
pub fn message(value: &ScalarValue) -> Result<Literal> {
    use literal::LiteralType as L;
    let kind = match value {
        _ if value.is_null() => L::Null(types::from_arrow(&value.data_type())?),
        ScalarValue::Boolean(Some(value)) => L::Boolean(*value),
        ScalarValue::Int8(Some(value)) => L::Byte(i32::from(*value)),
        ScalarValue::Int16(Some(value)) => L::Short(i32::from(*value)),
        ScalarValue::Int32(Some(value)) => L::Integer(*value),
        ScalarValue::Int64(Some(value)) => L::Long(*value),
        ScalarValue::Float32(Some(value)) => L::Float(*value),
        ScalarValue::Float64(Some(value)) => L::Double(*value),
        ScalarValue::Utf8(Some(value)) | ScalarValue::LargeUtf8(Some(value)) | ScalarValue::Utf8View(Some(value)) => {
            L::String(value.clone())
        }
        ScalarValue::Binary(Some(value)) => L::Binary(value.clone().into()),
        ScalarValue::Date32(Some(days)) => L::Date(*days),
        ScalarValue::TimestampMicrosecond(Some(micros), Some(_)) => L::Timestamp(*micros),
        ScalarValue::TimestampMicrosecond(Some(micros), None) => L::TimestampNtz(*micros),
        ScalarValue::Decimal128(Some(_), precision, scale) => L::Decimal(literal::Decimal {
            value: arrow::util::display::array_value_to_string(&value.to_array()?, 0)?,
            precision: Some(i32::from(*precision)),
            scale: Some(i32::from(*scale)),
        }),
        other => return Err(Error::unsupported(format!("an observed value of type `{}`", other.data_type()))),
    };
    Ok(Literal { literal_type: Some(kind), ..Literal::default() })
}

fn null_of(data_type: DataType) -> Result<ScalarValue> {
    Ok(ScalarValue::try_from(&data_type)?)
}

/// A decimal of the precision and scale declared, or of more where its digits need it: clients declare `DECIMAL(10, 0)`
/// for every value of Python.
fn decimal(value: &literal::Decimal) -> Result<ScalarValue> {
    let text = value.value.trim();
    let length = |part: &str| i32::try_from(part.len()).unwrap_or(i32::MAX);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let written_scale = length(fraction);
    let digits: String = whole.chars().chain(fraction.chars()).filter(char::is_ascii_digit).collect();
    let scale = written_scale.max(value.scale.unwrap_or(0));
    let precision = length(digits.trim_start_matches('0')).max(value.precision.unwrap_or(1)).max(scale);
    let data_type = types::decimal_type(precision, scale)?;
    ScalarValue::try_from_string(text.to_owned(), &data_type)
        .map_err(|error| Error::user(format!("`{text}` is not a value of type `{data_type}`")).with_source(error))
}

fn list(array: &literal::Array, declared: Option<DataType>) -> Result<ScalarValue> {
    let values = array.elements.iter().map(scalar).collect::<Result<Vec<_>>>()?;
    #[allow(deprecated, reason = "older clients and pyspark 4.2 send the element type here")]
    let old_type = array.element_type.as_ref().map(types::to_arrow).transpose()?;
    let item = match (declared, old_type, values.first()) {
        (Some(DataType::List(item)), ..) => item.data_type().clone(),
        (_, Some(item), _) => item,
        (_, None, Some(first)) => first.data_type(),
        (_, None, None) => DataType::Null,
    };
    let values = values.iter().map(|value| Ok(value.cast_to(&item)?)).collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &item)))
}

fn specialized(array: &literal::SpecializedArray) -> Result<ScalarValue> {
    use literal::specialized_array::ValueType as V;
    let (values, item): (Vec<ScalarValue>, _) = match &array.value_type {
        None => (Vec::new(), DataType::Null),
        Some(V::Bools(v)) => (v.values.iter().map(|v| ScalarValue::from(*v)).collect(), DataType::Boolean),
        Some(V::Ints(v)) => (v.values.iter().map(|v| ScalarValue::from(*v)).collect(), DataType::Int32),
        Some(V::Longs(v)) => (v.values.iter().map(|v| ScalarValue::from(*v)).collect(), DataType::Int64),
        Some(V::Floats(v)) => (v.values.iter().map(|v| ScalarValue::from(*v)).collect(), DataType::Float32),
        Some(V::Doubles(v)) => (v.values.iter().map(|v| ScalarValue::from(*v)).collect(), DataType::Float64),
        Some(V::Strings(v)) => (v.values.iter().map(|v| ScalarValue::from(v.as_str())).collect(), DataType::Utf8),
    };
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &item)))
}

fn column(values: &[Literal], data_type: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    let values = values.iter().map(|value| Ok(scalar(value)?.cast_to(data_type)?)).collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::iter_to_array(values)?)
}

fn map_value(map: &literal::Map, declared: Option<DataType>) -> Result<ScalarValue> {
    #[allow(deprecated, reason = "clients before 4.1 send the types here")]
    let old = (map.key_type.as_ref(), map.value_type.as_ref());
    let (key, value) = match (declared, old) {
        (Some(DataType::Map(entries, _)), _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                (fields[0].data_type().clone(), fields[1].data_type().clone())
            }
            _ => return Err(Error::internal("the entries of a map are not pairs")),
        },
        (_, (Some(key), Some(value))) => (types::to_arrow(key)?, types::to_arrow(value)?),
        _ => (first_type(&map.keys)?, first_type(&map.values)?),
    };
    let DataType::Map(entries, _) = types::map_type(key.clone(), value.clone(), true) else {
        return Err(Error::internal("a map type is not a map"));
    };
    let DataType::Struct(fields) = entries.data_type().clone() else {
        return Err(Error::internal("the entries of a map are not pairs"));
    };
    let pairs = StructArray::try_new(fields, vec![column(&map.keys, &key)?, column(&map.values, &value)?], None)?;
    let offsets = OffsetBuffer::from_lengths([map.keys.len()]);
    Ok(ScalarValue::Map(Arc::new(MapArray::try_new(entries, offsets, pairs, None, false)?)))
}

fn first_type(values: &[Literal]) -> Result<DataType> {
    values.first().map_or(Ok(DataType::Null), |value| Ok(scalar(value)?.data_type()))
}

fn struct_value(value: &literal::Struct, declared: Option<DataType>) -> Result<ScalarValue> {
    #[allow(deprecated, reason = "clients before 4.1 send the type here")]
    let old = value.struct_type.as_ref().map(types::to_arrow).transpose()?;
    let fields = match declared.or(old) {
        Some(DataType::Struct(fields)) => fields,
        _ => {
            let fields = value
                .elements
                .iter()
                .enumerate()
                .map(|(i, element)| Ok(Field::new(format!("col{}", i + 1), scalar(element)?.data_type(), true)));
            Fields::from(fields.collect::<Result<Vec<_>>>()?)
        }
    };
    let columns = fields
        .iter()
        .zip(&value.elements)
        .map(|(field, element)| column(std::slice::from_ref(element), field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields, columns, None)?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn literal(kind: literal::LiteralType) -> Literal {
        Literal { data_type: None, literal_type: Some(kind) }
    }

    #[test]
    fn decimal_keeps_its_written_scale() {
        let value = literal::Decimal { value: "12.50".to_owned(), precision: None, scale: None };
        assert_eq!(
            scalar(&literal(literal::LiteralType::Decimal(value))).unwrap(),
            ScalarValue::Decimal128(Some(1250), 4, 2)
        );
        // What PySpark declares for every `Decimal`.
        let value = literal::Decimal { value: "0.19".to_owned(), precision: Some(10), scale: Some(0) };
        assert_eq!(
            scalar(&literal(literal::LiteralType::Decimal(value))).unwrap(),
            ScalarValue::Decimal128(Some(19), 10, 2)
        );
    }

    #[test]
    fn map_is_built_from_keys_and_values() {
        let map = literal::Map {
            keys: vec![literal(literal::LiteralType::String("a".to_owned()))],
            values: vec![literal(literal::LiteralType::Integer(1))],
            ..Default::default()
        };
        let ScalarValue::Map(array) = scalar(&literal(literal::LiteralType::Map(map))).unwrap() else { unreachable!() };
        assert_eq!(array.value_length(0), 1);
    }
}
