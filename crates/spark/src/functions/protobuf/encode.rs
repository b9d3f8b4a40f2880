//! Structures to bytes of a message.

use arrow::datatypes::{DataType, Fields};

use super::decode::wire_type;
use super::descriptor::{Field, Kind, Message, Pool};
use super::types::{Time, wrapped};
use crate::error::{Error, Result};
use crate::types::{sql_type_name, struct_fields};
use crate::values::Value;

/// The bytes of a structure as the message at `place`.
///
/// # Errors
/// If a value does not fit the field of its name.
pub(super) fn encode(pool: &Pool, place: usize, parts: &[Value], from: &Fields) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    Encoder { pool }.message(pool.message(place)?, parts, from, &mut out)?;
    Ok(out)
}

/// What is written for a type, before there are any values.
///
/// # Errors
/// If a field has no message to go to, or the message one that must come from somewhere.
pub(super) fn check(pool: &Pool, place: usize, from: &Fields) -> Result<()> {
    checked(pool, pool.message(place)?, from)
}

fn field_of<'m>(message: &'m Message, name: &str) -> Option<&'m Field> {
    let exact = message.fields.iter().find(|field| field.name == name);
    exact.or_else(|| message.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)))
}

fn checked(pool: &Pool, message: &Message, from: &Fields) -> Result<()> {
    for column in from {
        let Some(field) = field_of(message, column.name()) else {
            return Err(Error::user(format!(
                "the Protobuf message `{}` has no field `{}`",
                message.full_name,
                column.name()
            ))
            .with_condition("UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE")
            .with_help("Leave the field out, or name it as in the message."));
        };
        checked_field(pool, field, column.data_type())?;
    }
    let missing = message
        .fields
        .iter()
        .find(|field| field.required && !from.iter().any(|column| column.name().eq_ignore_ascii_case(&field.name)));
    match missing {
        Some(field) => {
            Err(Error::user(format!("the Protobuf message `{}` needs a field `{}`", message.full_name, field.name))
                .with_condition("UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE"))
        }
        None => Ok(()),
    }
}

fn unfit(field: &Field, from: &DataType) -> Error {
    Error::user(format!("the Protobuf field `{}` cannot be written from {}", field.name, sql_type_name(from)))
        .with_condition("UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE")
        .with_help("Cast the column to the type that `from_protobuf` gives for the field.")
}

fn checked_field(pool: &Pool, field: &Field, from: &DataType) -> Result<()> {
    use DataType as T;
    if let (true, T::List(item)) = (field.repeated, from) {
        return checked_value(pool, field, item.data_type());
    }
    if let (true, Kind::Message(place), T::Map(entries, _)) = (field.repeated, field.kind, from) {
        let entry = pool.message(place)?;
        return match (entry.fields.as_slice(), struct_fields(entries.data_type())) {
            ([key, value], Some(of)) if entry.is_map_entry && of.len() == 2 => {
                checked_value(pool, key, of[0].data_type())?;
                checked_value(pool, value, of[1].data_type())
            }
            _ => Err(unfit(field, from)),
        };
    }
    if field.repeated && from != &T::Null {
        return Err(unfit(field, from));
    }
    checked_value(pool, field, from)
}

fn checked_value(pool: &Pool, field: &Field, from: &DataType) -> Result<()> {
    use DataType as T;
    let fits = match (field.kind, from) {
        (_, T::Null)
        | (Kind::Bool, T::Boolean)
        | (Kind::Float, T::Float32)
        | (Kind::Double, T::Float64)
        | (Kind::Text, T::Utf8)
        | (Kind::Bytes, T::Binary)
        | (Kind::Enum(_), T::Utf8 | T::Int32)
        | (Kind::UInt32, T::Int64)
        | (Kind::UInt64, T::Decimal128(20, 0)) => true,
        (
            Kind::Int32 | Kind::SInt32 | Kind::UInt32 | Kind::Fixed32 | Kind::SFixed32,
            T::Int8 | T::Int16 | T::Int32 | T::Date32,
        ) => true,
        (Kind::Int64 | Kind::SInt64 | Kind::UInt64 | Kind::Fixed64 | Kind::SFixed64, T::Int64) => true,
        (Kind::Message(place), from) => {
            let message = pool.message(place)?;
            match (struct_fields(from), wrapped(message), Time::of(message)) {
                (Some(fields), ..) => return checked(pool, message, fields),
                (None, _, Some(time)) => time.data_type() == *from,
                (None, Some(wrapped), _) => return checked_value(pool, wrapped, from),
                _ => false,
            }
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(unfit(field, from)) }
}

struct Encoder<'a> {
    pool: &'a Pool,
}

fn varint(mut bits: u64, out: &mut Vec<u8>) {
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

fn tag(field: &Field, wire_type: u8, out: &mut Vec<u8>) {
    varint(u64::from(field.number) << 3 | u64::from(wire_type), out);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

impl Encoder<'_> {
    fn message(&self, message: &Message, parts: &[Value], from: &Fields, out: &mut Vec<u8>) -> Result<()> {
        let mut values: Vec<(&Field, &Value, &DataType)> = Vec::with_capacity(parts.len());
        for (part, column) in parts.iter().zip(from) {
            if let Some(field) = field_of(message, column.name()) {
                values.push((field, part, column.data_type()));
            }
        }
        values.sort_by_key(|(field, ..)| field.number);
        for (field, value, from) in values {
            self.field(field, value, from, out)?;
        }
        Ok(())
    }

    fn field(&self, field: &Field, value: &Value, from: &DataType, out: &mut Vec<u8>) -> Result<()> {
        match (value, from) {
            // What must be there is its default.
            (Value::Null, _) if field.required => match &field.default {
                Some(default) => self.tagged(field, default, &DataType::Null, out),
                None => self.tagged(field, &zero(field), &DataType::Null, out),
            },
            (Value::Null, _) => Ok(()),
            (Value::List(items), DataType::List(item)) if field.packed => {
                let mut packed = Vec::new();
                for value in items {
                    self.value(field, value, item.data_type(), &mut packed)?;
                }
                if !packed.is_empty() {
                    tag(field, 2, out);
                    sized(&packed, out);
                }
                Ok(())
            }
            (Value::List(items), DataType::List(item)) => {
                items.iter().try_for_each(|value| self.tagged(field, value, item.data_type(), out))
            }
            (Value::Map(pairs), DataType::Map(entries, _)) => {
                let (Kind::Message(place), Some(of)) = (field.kind, struct_fields(entries.data_type())) else {
                    return Err(unfit(field, from));
                };
                let entry = self.pool.message(place)?;
                let [key, value] = entry.fields.as_slice() else { return Err(unfit(field, from)) };
                for (of_key, of_value) in pairs {
                    let mut bytes = Vec::new();
                    self.tagged(key, of_key, of[0].data_type(), &mut bytes)?;
                    // A value that is NULL is the default.
                    if *of_value != Value::Null {
                        self.tagged(value, of_value, of[1].data_type(), &mut bytes)?;
                    }
                    tag(field, 2, out);
                    sized(&bytes, out);
                }
                Ok(())
            }
            _ if !field.presence && self.is_default(field, value)? => Ok(()),
            _ => self.tagged(field, value, from, out),
        }
    }

    /// Whether a value is not written where none is not told from it.
    fn is_default(&self, field: &Field, value: &Value) -> Result<bool> {
        Ok(match (field.kind, value) {
            (Kind::Message(_), _) => false,
            (Kind::Enum(place), value) => self.number(field, place, value)? == 0,
            (_, Value::Double(value)) => value.to_bits() == 0,
            (_, Value::Decimal(value)) => *value == 0,
            (_, value) => *value == zero(field),
        })
    }

    fn tagged(&self, field: &Field, value: &Value, from: &DataType, out: &mut Vec<u8>) -> Result<()> {
        tag(field, wire_type(field.kind), out);
        self.value(field, value, from, out)
    }

    fn value(&self, field: &Field, value: &Value, from: &DataType, out: &mut Vec<u8>) -> Result<()> {
        match (field.kind, value) {
            (Kind::Bool, Value::Boolean(value)) => out.push(u8::from(*value)),
            (Kind::Int32 | Kind::Int64 | Kind::UInt64, Value::Integer(value)) => varint(*value as u64, out),
            (Kind::UInt32, Value::Integer(value)) => varint((*value as u32).into(), out),
            (Kind::UInt64, Value::Decimal(value)) => match u64::try_from(*value) {
                Ok(bits) => varint(bits, out),
                Err(_) => {
                    return Err(Error::data(format!("the Protobuf field `{}` cannot be {value}", field.name)));
                }
            },
            (Kind::SInt32 | Kind::SInt64, Value::Integer(value)) => {
                varint(((value << 1) ^ (value >> 63)) as u64, out);
            }
            (Kind::Fixed32 | Kind::SFixed32, Value::Integer(value)) => {
                out.extend_from_slice(&(*value as u32).to_le_bytes());
            }
            (Kind::Fixed64 | Kind::SFixed64, Value::Integer(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Kind::Float, Value::Double(value)) => out.extend_from_slice(&(*value as f32).to_le_bytes()),
            (Kind::Double, Value::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Kind::Text, Value::Text(value)) => sized(value.as_bytes(), out),
            (Kind::Bytes, Value::Bytes(value)) => sized(value, out),
            (Kind::Enum(place), value) => varint(self.number(field, place, value)? as u64, out),
            (Kind::Message(place), value) => {
                let message = self.pool.message(place)?;
                let mut bytes = Vec::new();
                match (value, struct_fields(from), message.fields.as_slice()) {
                    (Value::Struct(parts), Some(fields), _) => self.message(message, parts, fields, &mut bytes)?,
                    (Value::Integer(micros), _, [seconds, nanos]) if Time::of(message).is_some() => {
                        let of = &DataType::Int64;
                        self.field(seconds, &Value::Integer(micros.div_euclid(1_000_000)), of, &mut bytes)?;
                        self.field(nanos, &Value::Integer(micros.rem_euclid(1_000_000) * 1000), of, &mut bytes)?;
                    }
                    (Value::Null, ..) => return Err(null(field)),
                    (value, ..) => match wrapped(message) {
                        Some(wrapped) => self.field(wrapped, value, from, &mut bytes)?,
                        None => return Err(unfit(field, from)),
                    },
                }
                sized(&bytes, out);
            }
            (_, Value::Null) => return Err(null(field)),
            _ => return Err(unfit(field, from)),
        }
        Ok(())
    }

    /// The number of an enum's value that is given by its name or by its number.
    fn number(&self, field: &Field, place: usize, value: &Value) -> Result<i64> {
        let known = self.pool.enumeration(place)?;
        let (shown, found) = match value {
            Value::Text(name) => (name.clone(), known.values.iter().find(|(known, _)| known == name)),
            Value::Integer(number) => {
                (number.to_string(), known.values.iter().find(|(_, known)| i64::from(*known) == *number))
            }
            _ => return Err(null(field)),
        };
        found.map(|(_, number)| (*number).into()).ok_or_else(|| {
            let names: Vec<&str> = known.values.iter().map(|(name, _)| name.as_str()).collect();
            Error::data(format!("the Protobuf enum `{}` has no value `{shown}`", known.name))
                .with_condition("CANNOT_CONVERT_SQL_VALUE_TO_PROTOBUF_ENUM_TYPE")
                .with_help(format!("It has: {}.", names.join(", ")))
        })
    }
}

fn null(field: &Field) -> Error {
    Error::data(format!("an item of the Protobuf field `{}` is NULL, which it cannot be", field.name))
}

fn zero(field: &Field) -> Value {
    match field.kind {
        Kind::Double | Kind::Float => Value::Double(0.0),
        Kind::Bool => Value::Boolean(false),
        Kind::Text => Value::Text(String::new()),
        Kind::Bytes => Value::Bytes(Vec::new()),
        _ => Value::Integer(0),
    }
}
