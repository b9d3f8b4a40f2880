//! Avro types as Spark's, and Spark's as Avro's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::{Value as Json, json};

use super::schema::{Kind, Logical, Node, Schema, bytes_for};
use crate::error::{Error, Result};
use crate::types::{self, map_of, parse_data_type, sql_type_name, timestamp, timestamp_ntz};

/// Levels of a type within itself that can be asked for.
const MOST_LEVELS: i64 = 15;

/// How types are made of a schema.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// What the members of unions are named by, if by their types.
    pub(super) stable_prefix: Option<String>,
    /// How often a record may be within itself; deeper fields are left out.
    pub(super) levels: Option<i64>,
    /// Whether everything may be NULL.
    pub(super) nullable: bool,
}

impl Shape {
    /// The type of a schema's values.
    ///
    /// # Errors
    /// If it has a record within itself, and no number of levels was given.
    pub(super) fn data_type(&self, schema: &Schema) -> Result<DataType> {
        let found = self.of(schema, &schema.root, &HashMap::new())?;
        found.map(|(data_type, _)| data_type).ok_or_else(|| Error::internal("an Avro schema without a type"))
    }

    /// The type, and whether it may be NULL; `None` if it is too deep within itself.
    fn of(&self, schema: &Schema, node: &Node, within: &HashMap<&str, i64>) -> Result<Option<(DataType, bool)>> {
        if node.is_time {
            return Err(Error::unsupported("the Avro types `time-millis` and `time-micros`")
                .with_condition("UNSUPPORTED_TIME_TYPE")
                .with_help("Leave the logical type out of the schema: the numbers are milliseconds or microseconds."));
        }
        if let (Kind::Int | Kind::Long, Some(spark)) = (&node.kind, &node.of_spark)
            && node.logical.is_none()
        {
            return Ok(Some((parse_data_type(spark)?, false)));
        }
        let definition = schema.resolve(node);
        let plain = match (&definition.kind, definition.logical) {
            (_, Some(Logical::Date)) => DataType::Date32,
            (_, Some(Logical::TimestampMillis | Logical::TimestampMicros)) => timestamp(),
            (_, Some(Logical::LocalTimestampMillis | Logical::LocalTimestampMicros)) => timestamp_ntz(),
            (_, Some(Logical::Decimal(precision, scale))) => DataType::Decimal128(precision, scale),
            (Kind::Null | Kind::Named(_), _) => return Ok(Some((DataType::Null, true))),
            (Kind::Boolean, _) => DataType::Boolean,
            (Kind::Int, _) => DataType::Int32,
            (Kind::Long, _) => DataType::Int64,
            (Kind::Float, _) => DataType::Float32,
            (Kind::Double, _) => DataType::Float64,
            (Kind::Bytes | Kind::Fixed(_), _) => DataType::Binary,
            (Kind::Text | Kind::Enum(..), _) => DataType::Utf8,
            (Kind::Array(item), _) => {
                let Some((item, nullable)) = self.of(schema, item, within)? else { return Ok(None) };
                DataType::List(Arc::new(Field::new_list_field(item, nullable || self.nullable)))
            }
            (Kind::Map(value), _) => {
                let Some((value, nullable)) = self.of(schema, value, within)? else { return Ok(None) };
                let value = Field::new("value", value, nullable || self.nullable);
                map_of(Field::new("key", DataType::Utf8, false), value)
            }
            (Kind::Record(fields), _) => {
                let name = definition.name.as_deref().unwrap_or_default();
                let level = within.get(name).copied().unwrap_or(0);
                if level > 0 && !self.levels.is_some_and(|levels| (1..=MOST_LEVELS).contains(&levels)) {
                    return Err(Error::user(format!("the Avro record `{name}` is within itself")).with_help(format!(
                        "Set the option `recursiveFieldMaxDepth` to 1 to {MOST_LEVELS}: deeper fields are left out."
                    )));
                }
                if level > 0 && self.levels.is_some_and(|levels| level >= levels) {
                    return Ok(None);
                }
                let mut within = within.clone();
                within.insert(name, level + 1);
                let mut found = Vec::new();
                for field in fields {
                    if let Some((data_type, nullable)) = self.of(schema, &field.node, &within)? {
                        found.push(Field::new(&field.name, data_type, nullable || self.nullable));
                    }
                }
                DataType::Struct(found.into())
            }
            (Kind::Union(branches), _) => return self.of_union(schema, branches, within),
        };
        Ok(Some((plain, false)))
    }

    fn of_union(
        &self,
        schema: &Schema,
        branches: &[Node],
        within: &HashMap<&str, i64>,
    ) -> Result<Option<(DataType, bool)>> {
        let members = values(branches);
        let nullable = members.len() < branches.len();
        let data_type = match members.as_slice() {
            [] => DataType::Null,
            [only] => match self.of(schema, only, within)? {
                Some((data_type, _)) => data_type,
                None => return Ok(None),
            },
            several => match meeting(several) {
                Some(number) => number,
                None => {
                    let mut fields = Vec::new();
                    for (i, member) in several.iter().enumerate() {
                        let name = self.member_name(i, member);
                        if fields.iter().any(|field: &Field| field.name().eq_ignore_ascii_case(&name)) {
                            return Err(Error::user(format!("two members of an Avro union are named `{name}`")));
                        }
                        if let Some((data_type, _)) = self.of(schema, member, within)? {
                            fields.push(Field::new(name, data_type, true));
                        }
                    }
                    DataType::Struct(fields.into())
                }
            },
        };
        Ok(Some((data_type, nullable)))
    }

    /// The field for a member of a union that has several.
    pub(super) fn member_name(&self, i: usize, member: &Node) -> String {
        match &self.stable_prefix {
            Some(prefix) => format!("{prefix}{}", member.type_name()),
            None => format!("member{i}"),
        }
    }
}

/// The branches of a union that have values.
pub(super) fn values(branches: &[Node]) -> Vec<&Node> {
    branches.iter().filter(|branch| !matches!(branch.kind, Kind::Null)).collect()
}

/// The number that two kinds of numbers are.
pub(super) fn meeting(members: &[&Node]) -> Option<DataType> {
    match members {
        [a, b] => match (&a.kind, &b.kind) {
            (Kind::Int, Kind::Long) | (Kind::Long, Kind::Int) => Some(DataType::Int64),
            (Kind::Float, Kind::Double) | (Kind::Double, Kind::Float) => Some(DataType::Float64),
            _ => None,
        },
        _ => None,
    }
}

/// The schema that values of a type are written by, as JSON.
///
/// # Errors
/// `Unsupported` for types that Avro has no form for.
pub(super) fn schema_of(data_type: &DataType, nullable: bool) -> Result<Json> {
    written(data_type, nullable, "topLevelRecord", "")
}

fn written(data_type: &DataType, nullable: bool, name: &str, namespace: &str) -> Result<Json> {
    use DataType as T;
    let inner = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
    let plain = match data_type {
        T::Null => return Ok(json!("null")),
        T::Boolean => json!("boolean"),
        T::Int8 | T::Int16 | T::Int32 => json!("int"),
        T::Int64 => json!("long"),
        T::Float32 => json!("float"),
        T::Float64 => json!("double"),
        T::Utf8 => json!("string"),
        T::Binary => json!("bytes"),
        T::Date32 => json!({"type": "int", "logicalType": "date"}),
        T::Timestamp(_, Some(_)) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        T::Timestamp(_, None) => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        T::Duration(_) => json!({"type": "long", "spark.sql.catalyst.type": "interval day to second"}),
        T::Decimal128(precision, scale) => json!({
            "type": "fixed", "name": "fixed", "namespace": inner, "size": bytes_for(*precision),
            "logicalType": "decimal", "precision": precision, "scale": scale,
        }),
        _ if types::is_variant(data_type) => return Err(Error::unsupported("VARIANT as Avro")),
        T::List(item) => {
            json!({"type": "array", "items": written(item.data_type(), item.is_nullable(), name, namespace)?})
        }
        T::Map(entries, _) => {
            let (key, value) = pair(entries)?;
            if key.data_type() != &T::Utf8 {
                return Err(Error::unsupported("a MAP whose keys are not STRING as Avro"));
            }
            json!({"type": "map", "values": written(value.data_type(), value.is_nullable(), name, namespace)?})
        }
        T::Struct(fields) => {
            let field = |field: &Arc<Field>| {
                let written = written(field.data_type(), field.is_nullable(), field.name(), &inner)?;
                Ok(json!({"name": field.name(), "type": written}))
            };
            let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
            let mut record = json!({"type": "record", "name": name, "fields": fields});
            if !namespace.is_empty() {
                record["namespace"] = json!(namespace);
            }
            record
        }
        other => return Err(Error::unsupported(format!("{} as Avro", sql_type_name(other)))),
    };
    Ok(if nullable { json!([plain, "null"]) } else { plain })
}

/// The key and the value of a map.
pub(super) fn pair(entries: &Field) -> Result<(&Field, &Field)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        _ => Err(Error::internal("the entries of a map are not pairs")),
    }
}

/// The place of a name in any case; the exact one first.
pub(super) fn place_of(fields: &Fields, name: &str) -> Option<usize> {
    let exact = fields.iter().position(|field| field.name() == name);
    exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)))
}
