//! Values to bytes of a schema.

use arrow::datatypes::DataType;

use super::schema::{Kind, Logical, Node, Schema};
use super::types::{meeting, pair, place_of, values};
use crate::error::{Error, Result};
use crate::types::{sql_type_name, timestamp, timestamp_ntz};
use crate::values::Value;

/// Appends a value of a type.
///
/// # Errors
/// If the type is not the schema's, or the value is NULL where the schema has none.
pub(super) fn write(schema: &Schema, value: &Value, from: &DataType, out: &mut Vec<u8>) -> Result<()> {
    Encoder { schema, out }.value(&schema.root, value, from, "value")
}

/// What is written for a type, before there are any values.
///
/// # Errors
/// If the type is not the schema's.
pub(super) fn check(schema: &Schema, from: &DataType) -> Result<()> {
    checked(schema, &schema.root, from, "value")
}

struct Encoder<'a> {
    schema: &'a Schema,
    out: &'a mut Vec<u8>,
}

fn unfit(path: &str, from: &DataType, node: &Node) -> Error {
    Error::user(format!("`{path}` of type {} cannot be written as Avro `{}`", sql_type_name(from), node.type_name()))
        .with_help("Cast the column, or change the schema.")
}

fn null(path: &str, node: &Node) -> Error {
    Error::data(format!("`{path}` is NULL, but the Avro type `{}` has no NULL", node.type_name()))
        .with_condition("AVRO_CANNOT_WRITE_NULL_FIELD")
        .with_help("Make it a union with \"null\" in the schema.")
}

/// Whether scalars of a type are written as another one.
fn is_scalar_of(from: &DataType, node: &Node) -> bool {
    use DataType as T;
    match (from, &node.kind) {
        (T::Boolean, Kind::Boolean)
        | (T::Int8 | T::Int16 | T::Int32 | T::Date32, Kind::Int)
        | (T::Int64 | T::Duration(_), Kind::Long)
        | (T::Float32, Kind::Float)
        | (T::Float64, Kind::Double)
        | (T::Utf8, Kind::Text | Kind::Enum(..))
        | (T::Binary, Kind::Bytes | Kind::Fixed(_)) => true,
        (T::Decimal128(precision, scale), Kind::Bytes | Kind::Fixed(_)) => {
            node.logical == Some(Logical::Decimal(*precision, *scale))
        }
        (zoned, Kind::Long) if *zoned == timestamp() => {
            matches!(node.logical, None | Some(Logical::TimestampMillis | Logical::TimestampMicros))
        }
        (local, Kind::Long) if *local == timestamp_ntz() => {
            matches!(node.logical, None | Some(Logical::LocalTimestampMillis | Logical::LocalTimestampMicros))
        }
        _ => false,
    }
}

fn checked(schema: &Schema, node: &Node, from: &DataType, path: &str) -> Result<()> {
    let node = schema.resolve(node);
    match (from, &node.kind) {
        (DataType::Null, Kind::Null) => Ok(()),
        (DataType::Null, Kind::Union(branches)) if branches.iter().any(|b| matches!(b.kind, Kind::Null)) => Ok(()),
        (_, Kind::Union(branches)) => match (values(branches).as_slice(), from) {
            ([only], _) => checked(schema, only, from, path),
            (several, _) if meeting(several).as_ref() == Some(from) => Ok(()),
            (several, DataType::Struct(fields)) if fields.len() == several.len() => {
                for (i, (field, member)) in fields.iter().zip(several).enumerate() {
                    if *field.name() != format!("member{i}") {
                        return Err(unfit(path, from, node));
                    }
                    checked(schema, member, field.data_type(), &format!("{path}.{}", field.name()))?;
                }
                Ok(())
            }
            _ => Err(unfit(path, from, node)),
        },
        (DataType::List(item), Kind::Array(node)) => {
            checked(schema, node, item.data_type(), &format!("{path}.element"))
        }
        (DataType::Map(entries, _), Kind::Map(node)) => {
            let (key, value) = pair(entries)?;
            if key.data_type() != &DataType::Utf8 {
                return Err(unfit(path, from, node));
            }
            checked(schema, node, value.data_type(), &format!("{path}.value"))
        }
        (DataType::Struct(fields), Kind::Record(wanted)) => {
            for field in wanted {
                let inner = format!("{path}.{}", field.name);
                match place_of(fields, &field.name) {
                    Some(at) => checked(schema, &field.node, fields[at].data_type(), &inner)?,
                    None if has_null(schema, &field.node) => {}
                    None => {
                        return Err(Error::user(format!(
                            "the Avro schema has a field `{inner}`, but the value has none"
                        ))
                        .with_help("Add the field, or make it a union with \"null\" in the schema."));
                    }
                }
            }
            match fields.iter().find(|field| !wanted.iter().any(|known| known.name.eq_ignore_ascii_case(field.name())))
            {
                Some(extra) => Err(Error::user(format!(
                    "the value has a field `{path}.{}`, but the Avro schema has none",
                    extra.name()
                ))
                .with_help("Add it to the schema, or leave it out of the value.")),
                None => Ok(()),
            }
        }
        _ if is_scalar_of(from, node) => Ok(()),
        _ => Err(unfit(path, from, node)),
    }
}

fn has_null(schema: &Schema, node: &Node) -> bool {
    match &schema.resolve(node).kind {
        Kind::Null => true,
        Kind::Union(branches) => branches.iter().any(|branch| matches!(branch.kind, Kind::Null)),
        _ => false,
    }
}

impl Encoder<'_> {
    fn long(&mut self, value: i64) {
        let mut bits = ((value << 1) ^ (value >> 63)) as u64;
        while bits >= 0x80 {
            self.out.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        self.out.push(bits as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    fn value(&mut self, node: &Node, value: &Value, from: &DataType, path: &str) -> Result<()> {
        let schema = self.schema;
        let node = schema.resolve(node);
        match (&node.kind, value) {
            (Kind::Union(branches), _) => return self.union(branches, node, value, from, path),
            (Kind::Null, Value::Null) => {}
            (_, Value::Null) => return Err(null(path, node)),
            (Kind::Array(node), Value::List(items)) => {
                let DataType::List(item) = from else { return Err(unfit(path, from, node)) };
                if !items.is_empty() {
                    self.long(items.len() as i64);
                }
                for value in items {
                    self.value(node, value, item.data_type(), path)?;
                }
                self.long(0);
            }
            (Kind::Map(node), Value::Map(pairs)) => {
                let DataType::Map(entries, _) = from else { return Err(unfit(path, from, node)) };
                let (_, of) = pair(entries)?;
                if !pairs.is_empty() {
                    self.long(pairs.len() as i64);
                }
                for (key, value) in pairs {
                    if let Value::Text(key) = key {
                        self.bytes(key.as_bytes());
                    }
                    self.value(node, value, of.data_type(), path)?;
                }
                self.long(0);
            }
            (Kind::Record(wanted), Value::Struct(parts)) => {
                let DataType::Struct(fields) = from else { return Err(unfit(path, from, node)) };
                for field in wanted {
                    let found = place_of(fields, &field.name).and_then(|at| Some((parts.get(at)?, fields.get(at)?)));
                    match found {
                        Some((value, of)) => self.value(&field.node, value, of.data_type(), &field.name)?,
                        None => self.value(&field.node, &Value::Null, &DataType::Null, &field.name)?,
                    }
                }
            }
            _ => return self.plain(node, value, from, path),
        }
        Ok(())
    }

    /// A value that holds no others.
    fn plain(&mut self, node: &Node, value: &Value, from: &DataType, path: &str) -> Result<()> {
        match (&node.kind, value) {
            (Kind::Boolean, Value::Boolean(value)) => self.out.push(u8::from(*value)),
            (Kind::Int, Value::Integer(value)) => self.long(*value),
            (Kind::Long, Value::Integer(value)) => {
                // A time without a unit is in milliseconds.
                let millis = matches!(from, DataType::Timestamp(..))
                    && matches!(node.logical, None | Some(Logical::TimestampMillis | Logical::LocalTimestampMillis));
                self.long(if millis { value.div_euclid(1000) } else { *value });
            }
            (Kind::Float, Value::Double(value)) => self.out.extend_from_slice(&(*value as f32).to_le_bytes()),
            (Kind::Double, Value::Double(value)) => self.out.extend_from_slice(&value.to_le_bytes()),
            (Kind::Text, Value::Text(value)) => self.bytes(value.as_bytes()),
            (Kind::Enum(symbols, _), Value::Text(value)) => {
                let known = symbols.iter().position(|symbol| symbol == value);
                let symbol = known.ok_or_else(|| {
                    let symbols = symbols.join(", ");
                    Error::data(format!(
                        "`{path}` is \"{value}\", which is none of the symbols of the Avro enum: {symbols}"
                    ))
                })?;
                self.long(symbol as i64);
            }
            (Kind::Bytes, Value::Bytes(value)) => self.bytes(value),
            (Kind::Fixed(size), Value::Bytes(value)) if value.len() == *size => self.out.extend_from_slice(value),
            (Kind::Fixed(size), Value::Bytes(value)) => {
                return Err(Error::data(format!(
                    "`{path}` has {} bytes, but the Avro type `{}` has {size}",
                    value.len(),
                    node.type_name()
                )));
            }
            (Kind::Bytes, Value::Decimal(value)) => {
                let digits = value.to_be_bytes();
                // The first byte that is kept has the sign.
                let redundant = |pair: &&[u8]| pair[0] == fill(*value) && (pair[1] & 0x80 != 0) == (*value < 0);
                let start = digits.windows(2).take_while(redundant).count();
                self.bytes(&digits[start..]);
            }
            (Kind::Fixed(size), Value::Decimal(value)) => {
                let digits = value.to_be_bytes();
                let more = size.saturating_sub(digits.len());
                self.out.extend(std::iter::repeat_n(fill(*value), more));
                self.out.extend_from_slice(&digits[digits.len().saturating_sub(*size)..]);
            }
            _ => return Err(unfit(path, from, node)),
        }
        Ok(())
    }

    fn union(&mut self, branches: &[Node], node: &Node, value: &Value, from: &DataType, path: &str) -> Result<()> {
        let at = |wanted: &Node| branches.iter().position(|branch| std::ptr::eq(branch, wanted)).unwrap_or(0) as i64;
        let members = values(branches);
        let nothing = branches.iter().find(|branch| matches!(branch.kind, Kind::Null));
        // A structure of members none of which has a value is no value.
        let member = match (value, members.as_slice()) {
            (Value::Null, _) => None,
            (value, [only]) => Some((*only, value, from.clone())),
            (value, several) if meeting(several).as_ref() == Some(from) => {
                let wide = several.iter().find(|member| matches!(member.kind, Kind::Long | Kind::Double));
                wide.map(|wide| (*wide, value, from.clone()))
            }
            (Value::Struct(parts), several) => {
                let DataType::Struct(fields) = from else { return Err(unfit(path, from, node)) };
                let mut members = parts.iter().zip(fields).zip(several);
                let found = members.find(|((part, _), _)| **part != Value::Null);
                found.map(|((part, field), member)| (*member, part, field.data_type().clone()))
            }
            _ => return Err(unfit(path, from, node)),
        };
        match (member, nothing) {
            (Some((member, value, from)), _) => {
                self.long(at(member));
                self.value(member, value, &from, path)
            }
            (None, Some(nothing)) => {
                self.long(at(nothing));
                Ok(())
            }
            (None, None) => Err(null(path, node)),
        }
    }
}

/// What stands before the digits of a number of fewer bytes.
fn fill(value: i128) -> u8 {
    if value < 0 { 0xff } else { 0 }
}
