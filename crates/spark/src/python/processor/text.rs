//! Values of state as text: JSON whose strings are read by the declared type.
//!
//! Rows, lists and the entries of maps are arrays. What JSON has no exact form for is a string: floating-point numbers,
//! decimals, bytes (in base64).

use arrow::datatypes::{DataType, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::python::pickle::Pickled;

/// A row's values, as [`super::super::with_state::values::to_values`] gives them.
pub(super) fn of_row(values: &[Pickled]) -> String {
    Value::Array(values.iter().map(write).collect()).to_string()
}

/// The values of a row of `fields`.
///
/// # Errors
/// `Internal` if the text is no such row.
pub(super) fn to_row(text: &str, fields: &Fields) -> Result<Vec<Pickled>> {
    let value: Value = serde_json::from_str(text).map_err(|_| other_type())?;
    row(&value, fields)
}

fn write(value: &Pickled) -> Value {
    match value {
        Pickled::None => Value::Null,
        Pickled::Bool(value) => Value::Bool(*value),
        // Columns have no wider integers.
        Pickled::Int(value) => i64::try_from(*value).map_or(Value::Null, Value::from),
        Pickled::Float(value) => Value::String(format!("{value:?}")),
        Pickled::Text(value) | Pickled::Decimal(value) => Value::String(value.clone()),
        Pickled::Bytes(value) => Value::String(STANDARD.encode(value)),
        Pickled::List(items) | Pickled::Tuple(items) => Value::Array(items.iter().map(write).collect()),
        Pickled::Dict(entries) => {
            let pair = |(key, value): &(Pickled, Pickled)| Value::Array(vec![write(key), write(value)]);
            Value::Array(entries.iter().map(pair).collect())
        }
    }
}

fn row(value: &Value, fields: &Fields) -> Result<Vec<Pickled>> {
    let items = value.as_array().filter(|items| items.len() == fields.len()).ok_or_else(other_type)?;
    items.iter().zip(fields).map(|(item, field)| read(item, field.data_type())).collect()
}

fn read(value: &Value, data_type: &DataType) -> Result<Pickled> {
    let text = || value.as_str().ok_or_else(other_type);
    Ok(match data_type {
        _ if value.is_null() => Pickled::None,
        DataType::Boolean => Pickled::Bool(value.as_bool().ok_or_else(other_type)?),
        DataType::Float32 | DataType::Float64 => Pickled::Float(text()?.parse().map_err(|_| other_type())?),
        DataType::Decimal128(..) => Pickled::Decimal(text()?.to_owned()),
        DataType::Utf8 => Pickled::Text(text()?.to_owned()),
        DataType::Binary => Pickled::Bytes(STANDARD.decode(text()?).map_err(|_| other_type())?),
        DataType::List(item) => {
            let items = value.as_array().ok_or_else(other_type)?;
            Pickled::List(items.iter().map(|value| read(value, item.data_type())).collect::<Result<_>>()?)
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(other_type()) };
            let pair = |value: &Value| match <[_; 2]>::try_from(row(value, fields)?) {
                Ok([key, value]) => Ok((key, value)),
                Err(_) => Err(other_type()),
            };
            let entries = value.as_array().ok_or_else(other_type)?;
            Pickled::Dict(entries.iter().map(pair).collect::<Result<_>>()?)
        }
        DataType::Struct(fields) => Pickled::Tuple(row(value, fields)?),
        _ => Pickled::Int(value.as_i64().ok_or_else(other_type)?.into()),
    })
}

fn other_type() -> Error {
    Error::internal("a stored value of a processor's state is not of its declared type")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;

    #[test]
    fn values_of_all_types_come_back() {
        let schema = parse_schema(
            "b BOOLEAN, n BIGINT, d DATE, t TIMESTAMP, f FLOAT, x DOUBLE, p DECIMAL(10, 2), c STRING, r BINARY, \
             a ARRAY<STRING>, m MAP<STRING, INT>, z STRUCT<k: INT, v: ARRAY<INT>>",
        )
        .unwrap();
        let row = vec![
            Pickled::Bool(true),
            Pickled::Int(i64::MIN.into()),
            Pickled::Int(19_000),
            Pickled::Int(1_700_000_000_000_001),
            Pickled::Float(0.1_f32.into()),
            Pickled::Float(f64::INFINITY),
            Pickled::Decimal("-12.50".to_owned()),
            Pickled::Text("\"ä\n".to_owned()),
            Pickled::Bytes(vec![0, 255]),
            Pickled::List(vec![Pickled::Text("x".to_owned()), Pickled::None]),
            Pickled::Dict(vec![(Pickled::Text("k".to_owned()), Pickled::Int(1))]),
            Pickled::Tuple(vec![Pickled::Int(1), Pickled::List(Vec::new())]),
        ];
        assert_eq!(to_row(&of_row(&row), schema.fields()).unwrap(), row);
        let nulls = vec![Pickled::None; row.len()];
        assert_eq!(to_row(&of_row(&nulls), schema.fields()).unwrap(), nulls);
        assert!(to_row("[1]", schema.fields()).is_err());
    }
}
