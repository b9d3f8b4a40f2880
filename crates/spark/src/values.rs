//! Values of any type, one at a time: for formats whose rows are trees (XML, Avro, Protobuf).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array,
    ListArray, MapArray, NullArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Field, Fields, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};

use crate::error::{Error, Result};
use crate::types::sql_type_name;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    /// Integers; dates as days, times and their distances in microseconds.
    Integer(i64),
    /// FLOAT and DOUBLE.
    Double(f64),
    /// The digits of a DECIMAL.
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// One value per field.
    Struct(Vec<Value>),
}

impl Value {
    /// A structure whose fields are all NULL.
    pub(crate) fn empty_struct(fields: &Fields) -> Self {
        Self::Struct(vec![Self::Null; fields.len()])
    }

    /// The value in a row of an array, whose type is one of Spark's.
    ///
    /// # Errors
    /// `Unsupported` for types that are no value of such a format, as intervals of months.
    pub(crate) fn of(array: &ArrayRef, row: usize) -> Result<Self> {
        use DataType as T;
        if array.is_null(row) || array.data_type() == &T::Null {
            return Ok(Self::Null);
        }
        Ok(match array.data_type() {
            T::Boolean => Self::Boolean(array.as_boolean().value(row)),
            T::Int8 => Self::Integer(array.as_primitive::<Int8Type>().value(row).into()),
            T::Int16 => Self::Integer(array.as_primitive::<Int16Type>().value(row).into()),
            T::Int32 => Self::Integer(array.as_primitive::<Int32Type>().value(row).into()),
            T::Int64 => Self::Integer(array.as_primitive::<Int64Type>().value(row)),
            T::Date32 => Self::Integer(array.as_primitive::<Date32Type>().value(row).into()),
            T::Timestamp(..) => Self::Integer(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            T::Duration(_) => Self::Integer(array.as_primitive::<DurationMicrosecondType>().value(row)),
            T::Float32 => Self::Double(array.as_primitive::<Float32Type>().value(row).into()),
            T::Float64 => Self::Double(array.as_primitive::<Float64Type>().value(row)),
            T::Decimal128(..) => Self::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
            T::Utf8 => Self::Text(array.as_string::<i32>().value(row).to_owned()),
            T::Binary => Self::Bytes(array.as_binary::<i32>().value(row).to_vec()),
            T::Struct(_) => {
                let columns = array.as_struct().columns();
                Self::Struct(columns.iter().map(|column| Self::of(column, row)).collect::<Result<_>>()?)
            }
            T::List(_) => {
                let items = array.as_list::<i32>().value(row);
                Self::List((0..items.len()).map(|i| Self::of(&items, i)).collect::<Result<_>>()?)
            }
            T::Map(..) => {
                let pairs = array.as_map().value(row);
                let pair = |i: usize| Ok((Self::of(pairs.column(0), i)?, Self::of(pairs.column(1), i)?));
                Self::Map((0..pairs.len()).map(pair).collect::<Result<_>>()?)
            }
            other => return Err(Error::unsupported(format!("{} in such a format", sql_type_name(other)))),
        })
    }

    fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    fn double(&self) -> Option<f64> {
        if let Self::Double(value) = self { Some(*value) } else { None }
    }
}

/// The array of values of one type; a value of another kind is NULL.
///
/// # Errors
/// `Unsupported` for types that no value is of; if a value is NULL where the type allows none.
pub(crate) fn build(values: Vec<Value>, to: &DataType) -> Result<ArrayRef> {
    use DataType as T;
    Ok(match to {
        T::Null => Arc::new(NullArray::new(values.len())),
        T::Boolean => {
            let value = |value: &Value| if let Value::Boolean(value) = value { Some(*value) } else { None };
            Arc::new(values.iter().map(value).collect::<BooleanArray>())
        }
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Timestamp(..) | T::Duration(_) => {
            cast(&values.iter().map(Value::integer).collect::<Int64Array>(), to)?
        }
        T::Date32 => {
            let days = cast(&values.iter().map(Value::integer).collect::<Int64Array>(), &T::Int32)?;
            cast(&days, to)?
        }
        // Not by a cast, for which a number that is too large for a FLOAT is none.
        T::Float32 => {
            Arc::new(values.iter().map(|value| value.double().map(|value| value as f32)).collect::<Float32Array>())
        }
        T::Float64 => Arc::new(values.iter().map(Value::double).collect::<Float64Array>()),
        T::Decimal128(precision, scale) => {
            let value = |value: &Value| if let Value::Decimal(value) = value { Some(*value) } else { None };
            let digits: Decimal128Array = values.iter().map(value).collect();
            Arc::new(digits.with_precision_and_scale(*precision, *scale)?)
        }
        T::Utf8 => {
            let value = |value: Value| if let Value::Text(value) = value { Some(value) } else { None };
            Arc::new(values.into_iter().map(value).collect::<StringArray>())
        }
        T::Binary => {
            let value = |value: Value| if let Value::Bytes(value) = value { Some(value) } else { None };
            Arc::new(values.into_iter().map(value).collect::<BinaryArray>())
        }
        T::Struct(fields) => structs(values, fields)?,
        T::List(item) => lists(values, item)?,
        T::Map(entries, _) => maps(values, entries)?,
        other if values.iter().all(|value| *value == Value::Null) => new_null_array(other, values.len()),
        other => return Err(Error::unsupported(format!("{} in such a format", sql_type_name(other)))),
    })
}

fn structs(values: Vec<Value>, fields: &Fields) -> Result<ArrayRef> {
    let rows = values.len();
    let mut columns: Vec<Vec<Value>> = fields.iter().map(|_| Vec::with_capacity(rows)).collect();
    let mut valid = Vec::with_capacity(rows);
    for value in values {
        let mut parts = if let Value::Struct(parts) = value { Some(parts.into_iter()) } else { None };
        valid.push(parts.is_some());
        for column in &mut columns {
            column.push(parts.as_mut().and_then(Iterator::next).unwrap_or(Value::Null));
        }
    }
    let columns = columns.into_iter().zip(fields).map(|(column, field)| build(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), rows)?))
}

fn lists(values: Vec<Value>, item: &Arc<Field>) -> Result<ArrayRef> {
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let of_row = if let Value::List(of_row) = value { Some(of_row) } else { None };
        valid.push(of_row.is_some());
        lengths.push(of_row.as_ref().map_or(0, Vec::len));
        items.extend(of_row.into_iter().flatten());
    }
    let items = build(items, item.data_type())?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, Some(NullBuffer::from(valid)))?))
}

fn maps(values: Vec<Value>, entries: &Arc<Field>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("the entries of a map are not a struct"));
    };
    let [key, value] = fields.as_ref() else { return Err(Error::internal("the entries of a map are not pairs")) };
    let (mut keys, mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let pairs = if let Value::Map(pairs) = value { Some(pairs) } else { None };
        valid.push(pairs.is_some());
        lengths.push(pairs.as_ref().map_or(0, Vec::len));
        for (key, item) in pairs.into_iter().flatten() {
            keys.push(key);
            items.push(item);
        }
    }
    let columns = vec![build(keys, key.data_type())?, build(items, value.data_type())?];
    let pairs = StructArray::try_new(fields.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(NullBuffer::from(valid)), false)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;

    #[test]
    fn values_come_back() {
        let schema = parse_schema(
            "a INT, b STRING, c ARRAY<DOUBLE>, d MAP<STRING, BIGINT>, e STRUCT<x: DATE, y: DECIMAL(5, 2)>, \
             f TIMESTAMP, g BINARY, h BOOLEAN, i FLOAT",
        );
        let to = DataType::Struct(schema.unwrap().fields().clone());
        let text = |text: &str| Value::Text(text.to_owned());
        let whole = Value::Struct(vec![
            Value::Integer(1),
            text("x"),
            Value::List(vec![Value::Double(1.5), Value::Null]),
            Value::Map(vec![(text("k"), Value::Integer(7))]),
            Value::Struct(vec![Value::Integer(19_000), Value::Decimal(125)]),
            Value::Integer(1_700_000_000_000_000),
            Value::Bytes(vec![1, 2]),
            Value::Boolean(true),
            Value::Double(0.5),
        ]);
        let DataType::Struct(fields) = &to else { unreachable!() };
        let values = vec![whole, Value::Null, Value::empty_struct(fields)];
        let array = build(values.clone(), &to).unwrap();
        let back: Vec<Value> = (0..3).map(|row| Value::of(&array, row).unwrap()).collect();
        assert_eq!(back, values);
    }
}
