//! Types and schemas in Spark's JSON form, as in Delta logs and `StructType.json()`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{Map, Value, json};

use super::{is_variant, map_of, parse_data_type, type_name};
use crate::error::{Error, Result};

/// A schema as Spark's JSON text.
pub fn schema_to_json(schema: &Schema) -> String {
    struct_to_json(schema.fields()).to_string()
}

/// A type as Spark's JSON value: a string for a plain type, an object for a nested one.
pub fn data_type_to_json(data_type: &DataType) -> Value {
    match data_type {
        _ if is_variant(data_type) => json!("variant"),
        DataType::Struct(fields) => struct_to_json(fields),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => json!({
            "type": "array",
            "elementType": data_type_to_json(f.data_type()),
            "containsNull": f.is_nullable(),
        }),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => json!({
                "type": "map",
                "keyType": data_type_to_json(kv[0].data_type()),
                "valueType": data_type_to_json(kv[1].data_type()),
                "valueContainsNull": kv[1].is_nullable(),
            }),
            _ => Value::Null,
        },
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        other => json!(type_name(other)),
    }
}

fn struct_to_json(fields: &Fields) -> Value {
    let fields: Vec<Value> = fields
        .iter()
        .map(|f| {
            let mut keys: Vec<_> = f.metadata().keys().collect();
            keys.sort();
            let metadata: Map<String, Value> =
                keys.into_iter().map(|key| (key.clone(), metadata_value(key, &f.metadata()[key]))).collect();
            json!({
                "name": f.name(),
                "type": data_type_to_json(f.data_type()),
                "nullable": f.is_nullable(),
                "metadata": metadata,
            })
        })
        .collect();
    json!({ "type": "struct", "fields": fields })
}

/// Identity columns have numbers and a truth value as metadata; all else we write is text.
fn metadata_value(key: &str, text: &str) -> Value {
    if key.starts_with("delta.identity.") {
        serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
    } else {
        Value::String(text.to_owned())
    }
}

/// Reads a schema from Spark's JSON text.
///
/// # Errors
/// `INVALID_JSON_SCHEMA` (`User`) if it is not one.
pub fn schema_from_json(text: &str) -> Result<Schema> {
    let value: Value = serde_json::from_str(text).map_err(|e| invalid(&e.to_string()))?;
    match data_type_from_json(&value)? {
        DataType::Struct(fields) => Ok(Schema::new(fields)),
        other => Err(invalid(&format!("expected a struct, found {}", type_name(&other)))),
    }
}

/// Reads a type from Spark's JSON value.
///
/// # Errors
/// `INVALID_JSON_SCHEMA` (`User`) if it is not one.
pub fn data_type_from_json(value: &Value) -> Result<DataType> {
    match value {
        Value::String(name) => parse_data_type(name),
        Value::Object(object) => match text(object, "type")? {
            "struct" => {
                let fields = member(object, "fields")?.as_array().ok_or_else(|| invalid("`fields` is not a list"))?;
                Ok(DataType::Struct(fields.iter().map(field_from_json).collect::<Result<_>>()?))
            }
            "array" => {
                let element = data_type_from_json(member(object, "elementType")?)?;
                let nullable = flag(object, "containsNull");
                Ok(DataType::List(Arc::new(Field::new_list_field(element, nullable))))
            }
            "map" => Ok(map_of(
                Field::new("key", data_type_from_json(member(object, "keyType")?)?, false),
                Field::new(
                    "value",
                    data_type_from_json(member(object, "valueType")?)?,
                    flag(object, "valueContainsNull"),
                ),
            )),
            "udt" => data_type_from_json(member(object, "sqlType")?),
            other => Err(invalid(&format!("unknown type `{other}`"))),
        },
        other => Err(invalid(&format!("expected a type, found {other}"))),
    }
}

fn field_from_json(value: &Value) -> Result<Arc<Field>> {
    let object = value.as_object().ok_or_else(|| invalid("a field is not an object"))?;
    let data_type = data_type_from_json(member(object, "type")?)?;
    let metadata: HashMap<String, String> = match object.get("metadata") {
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        _ => HashMap::new(),
    };
    Ok(Arc::new(Field::new(text(object, "name")?, data_type, flag(object, "nullable")).with_metadata(metadata)))
}

fn member<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value> {
    object.get(key).ok_or_else(|| invalid(&format!("`{key}` is missing")))
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    member(object, key)?.as_str().ok_or_else(|| invalid(&format!("`{key}` is not text")))
}

fn flag(object: &Map<String, Value>, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(true)
}

fn invalid(what: &str) -> Error {
    Error::user(format!("cannot read the JSON schema: {what}")).with_condition("INVALID_JSON_SCHEMA")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;

    #[test]
    fn schemas_survive_the_round_trip() {
        let schema = parse_schema(
            "a INT NOT NULL COMMENT 'x', b ARRAY<STRUCT<c: STRING>>, m MAP<STRING, DECIMAL(10,2)>, v VARIANT, \
             t TIMESTAMP, n TIMESTAMP_NTZ, i BIGINT GENERATED ALWAYS AS IDENTITY",
        )
        .unwrap();
        assert_eq!(schema_from_json(&schema_to_json(&schema)).unwrap(), schema);
    }

    #[test]
    fn plain_types_have_the_json_names() {
        assert_eq!(data_type_to_json(&DataType::Int64), json!("long"));
        assert_eq!(data_type_from_json(&json!("long")).unwrap(), DataType::Int64);
        assert_eq!(
            data_type_from_json(&json!({"type": "nothing"})).unwrap_err().condition(),
            Some("INVALID_JSON_SCHEMA")
        );
    }
}
