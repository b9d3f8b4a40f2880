//! Bytes of a message to its fields.

use arrow::datatypes::{DataType, Fields};

use super::descriptor::{Field, Kind, Message, Pool};
use super::types::{Settings, Time, wrapped};
use crate::types::struct_fields;
use crate::values::Value;

/// Why bytes are no message of the type.
pub(super) type Malformed = String;
type Read<T> = Result<T, Malformed>;

/// Deeper nesting is malformed, as it is for Protobuf's own libraries.
const MAX_DEPTH: usize = 100;

/// The message at `place` as a structure.
pub(super) fn decode(pool: &Pool, place: usize, settings: &Settings, bytes: &[u8], to: &Fields) -> Read<Value> {
    let decoder = Decoder { pool, settings };
    decoder.message(decoder.descriptor(place)?, bytes, to, 0)
}

struct Decoder<'a> {
    pool: &'a Pool,
    settings: &'a Settings,
}

/// What a field has come to.
#[derive(Default)]
struct Found {
    items: Vec<Value>,
    /// Of a message that comes in parts, all of them: together they are one message.
    bytes: Option<Vec<u8>>,
}

struct Cursor<'a>(&'a [u8]);

/// A value as it was written.
enum Wire<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("the bytes end within a value")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.take(1)? else { break };
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has too many bytes".to_owned())
    }

    fn four(&mut self) -> Read<[u8; 4]> {
        self.take(4)?.try_into().map_err(|_| "a value of other than 4 bytes".to_owned())
    }

    fn eight(&mut self) -> Read<[u8; 8]> {
        self.take(8)?.try_into().map_err(|_| "a value of other than 8 bytes".to_owned())
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| "a length is too large")?;
        self.take(length)
    }

    fn tag(&mut self) -> Read<(u32, u8)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        Ok((number.ok_or("a field has no number")?, (tag & 7) as u8))
    }

    fn wire(&mut self, wire_type: u8) -> Read<Wire<'a>> {
        Ok(match wire_type {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Eight(self.eight()?),
            2 => Wire::Bytes(self.bytes()?),
            5 => Wire::Four(self.four()?),
            other => return Err(format!("a field has the unknown wire type {other}")),
        })
    }

    fn skip(&mut self, number: u32, wire_type: u8, depth: usize) -> Read<()> {
        if wire_type != 3 {
            self.wire(wire_type)?;
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        loop {
            match self.tag()? {
                (end, 4) if end == number => return Ok(()),
                (_, 4) => return Err("a group ends that did not begin".to_owned()),
                (inner, wire_type) => self.skip(inner, wire_type, depth + 1)?,
            }
        }
    }
}

impl Decoder<'_> {
    fn descriptor(&self, place: usize) -> Read<&Message> {
        self.pool.message(place).map_err(|error| error.to_string())
    }

    fn message(&self, message: &Message, bytes: &[u8], to: &Fields, depth: usize) -> Read<Value> {
        let found = self.found(message, bytes, depth)?;
        let place = |name: &str| message.fields.iter().position(|field| field.name == name);
        let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
        let value = |field: &std::sync::Arc<arrow::datatypes::Field>| {
            let Some(at) = place(field.name()) else { return Ok(Value::Null) };
            let taken = found.get_mut(at).and_then(Option::take).unwrap_or_default();
            self.value(&message.fields[at], taken, field.data_type(), depth)
        };
        Ok(Value::Struct(to.iter().map(value).collect::<Read<_>>()?))
    }

    /// What each field of a message has, in the order of its fields.
    fn found(&self, message: &Message, bytes: &[u8], depth: usize) -> Read<Vec<Found>> {
        if depth >= MAX_DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let mut all: Vec<Found> = message.fields.iter().map(|_| Found::default()).collect();
        let mut cursor = Cursor(bytes);
        let mut next = 0;
        while !cursor.0.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            // Fields mostly come in order.
            let same = |at: &usize| message.fields.get(*at).is_some_and(|field| field.number == number);
            let at = Some(next).filter(same).or_else(|| (0..message.fields.len()).find(same));
            let Some(at) = at else {
                cursor.skip(number, wire_type, depth)?;
                continue;
            };
            next = at;
            let field = &message.fields[at];
            if let Some(one_of) = field.one_of {
                for (other, found) in message.fields.iter().zip(&mut all) {
                    if other.one_of == Some(one_of) && other.number != number {
                        *found = Found::default();
                    }
                }
            }
            let wire = cursor.wire(wire_type)?;
            self.take(field, wire, &mut all[at])?;
            next += usize::from(!field.repeated);
        }
        Ok(all)
    }

    /// Adds what was written to what a field has.
    fn take(&self, field: &Field, wire: Wire<'_>, found: &mut Found) -> Read<()> {
        match (field.kind, wire) {
            (Kind::Message(_), Wire::Bytes(bytes)) if field.repeated => {
                found.items.push(Value::Bytes(bytes.to_vec()));
            }
            (Kind::Message(_), Wire::Bytes(bytes)) => {
                found.bytes.get_or_insert_default().extend_from_slice(bytes);
            }
            (Kind::Text, Wire::Bytes(bytes)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("`{}` is no UTF-8", field.name))?;
                put(field, found, Value::Text(text.to_owned()));
            }
            (Kind::Bytes, Wire::Bytes(bytes)) => put(field, found, Value::Bytes(bytes.to_vec())),
            // Items of a field that is written as one block, whether it is declared so or not.
            (kind, Wire::Bytes(bytes)) if field.repeated => {
                let mut cursor = Cursor(bytes);
                while !cursor.0.is_empty() {
                    let wire = cursor.wire(wire_type(kind))?;
                    found.items.push(self.scalar(field, wire)?);
                }
            }
            (_, wire) => {
                let value = self.scalar(field, wire)?;
                put(field, found, value);
            }
        }
        Ok(())
    }

    /// A number as it is meant: unsigned ones by their bits.
    fn scalar(&self, field: &Field, wire: Wire<'_>) -> Read<Value> {
        Ok(match (field.kind, wire) {
            (Kind::Int32, Wire::Varint(bits)) => Value::Integer((bits as i32).into()),
            (Kind::Int64, Wire::Varint(bits)) => Value::Integer(bits as i64),
            (Kind::UInt32, Wire::Varint(bits)) => Value::Integer((bits as u32).into()),
            (Kind::UInt64, Wire::Varint(bits)) => Value::Integer(bits as i64),
            (Kind::SInt32, Wire::Varint(bits)) => {
                let bits = bits as u32;
                Value::Integer(((bits >> 1) as i32 ^ -((bits & 1) as i32)).into())
            }
            (Kind::SInt64, Wire::Varint(bits)) => Value::Integer((bits >> 1) as i64 ^ -((bits & 1) as i64)),
            (Kind::Bool, Wire::Varint(bits)) => Value::Boolean(bits != 0),
            (Kind::Enum(place), Wire::Varint(bits)) => {
                let number = bits as i32;
                let known = self.pool.enumeration(place).map_err(|error| error.to_string())?;
                if !known.open && !known.values.iter().any(|(_, value)| *value == number) {
                    return Err(format!("`{}` has the value {number}, which `{}` has not", field.name, known.name));
                }
                Value::Integer(number.into())
            }
            (Kind::Fixed32, Wire::Four(bytes)) => Value::Integer(u32::from_le_bytes(bytes).into()),
            (Kind::SFixed32, Wire::Four(bytes)) => Value::Integer(i32::from_le_bytes(bytes).into()),
            (Kind::Float, Wire::Four(bytes)) => Value::Double(f32::from_le_bytes(bytes).into()),
            (Kind::Fixed64 | Kind::SFixed64, Wire::Eight(bytes)) => Value::Integer(i64::from_le_bytes(bytes)),
            (Kind::Double, Wire::Eight(bytes)) => Value::Double(f64::from_le_bytes(bytes)),
            _ => return Err(format!("`{}` was written as another type", field.name)),
        })
    }

    /// The value of a field.
    fn value(&self, field: &Field, found: Found, to: &DataType, depth: usize) -> Read<Value> {
        match to {
            DataType::Map(entries, _) => return self.map(field, found, entries, depth),
            DataType::List(item) if field.repeated => {
                let items =
                    found.items.into_iter().map(|item_value| self.one(field, item_value, item.data_type(), depth));
                return Ok(Value::List(items.collect::<Read<_>>()?));
            }
            _ => {}
        }
        let value = match found.bytes {
            Some(bytes) => Some(Value::Bytes(bytes)),
            None => found.items.into_iter().next_back(),
        };
        // Where none is not told from the default, the default is none.
        let value = value.filter(|value| field.presence || !is_zero(value));
        match (value, &field.default) {
            (Some(value), _) => self.one(field, value, to, depth),
            (None, Some(default)) => self.one(field, default.clone(), to, depth),
            (None, None) if !field.presence && self.settings.emit_defaults => {
                self.one(field, self.zero(field), to, depth)
            }
            (None, None) if field.required => Err(format!("the required field `{}` is not there", field.name)),
            (None, None) => Ok(Value::Null),
        }
    }

    /// A value that was written as one of the type asked for.
    fn one(&self, field: &Field, value: Value, to: &DataType, depth: usize) -> Read<Value> {
        Ok(match (field.kind, value) {
            (Kind::Message(place), Value::Bytes(bytes)) => {
                let message = self.descriptor(place)?;
                match (to, wrapped(message)) {
                    (to, _) if Time::of(message).is_some_and(|time| time.data_type() == *to) => {
                        self.time(message, &bytes, depth + 1)?
                    }
                    (to, Some(wrapped)) if struct_fields(to).is_none() => {
                        let found = self.found(message, &bytes, depth + 1)?.into_iter().next().unwrap_or_default();
                        self.value(wrapped, found, to, depth + 1)?
                    }
                    (to, _) => match struct_fields(to) {
                        Some(fields) => self.message(message, &bytes, fields, depth + 1)?,
                        None => return Err(format!("`{}` is a message", field.name)),
                    },
                }
            }
            (Kind::Enum(place), Value::Integer(number)) if to == &DataType::Utf8 => {
                let known = self.pool.enumeration(place).map_err(|error| error.to_string())?;
                let name = known.values.iter().find(|(_, value)| i64::from(*value) == number);
                Value::Text(match name {
                    Some((name, _)) => name.clone(),
                    None => format!("UNKNOWN_ENUM_VALUE_{}_{number}", known.name),
                })
            }
            (Kind::UInt64, Value::Integer(bits)) if matches!(to, DataType::Decimal128(..)) => {
                Value::Decimal((bits as u64).into())
            }
            (Kind::UInt32 | Kind::Fixed32, Value::Integer(bits)) if to == &DataType::Int32 => {
                Value::Integer((bits as u32 as i32).into())
            }
            (_, value) => value,
        })
    }

    /// Entries of a map; of a key that comes twice the last value counts.
    fn map(&self, field: &Field, found: Found, entries: &arrow::datatypes::Field, depth: usize) -> Read<Value> {
        let (Kind::Message(place), Some(to)) = (field.kind, struct_fields(entries.data_type())) else {
            return Err(format!("`{}` is no map", field.name));
        };
        let entry = self.descriptor(place)?;
        let [key, value] = entry.fields.as_slice() else { return Err(format!("`{}` is no map", field.name)) };
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        for item in found.items {
            let Value::Bytes(bytes) = item else { continue };
            let mut found = self.found(entry, &bytes, depth + 1)?.into_iter();
            let (of_key, of_value) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
            let key = self.always(key, of_key, to[0].data_type(), depth + 1)?;
            let value = self.always(value, of_value, to[1].data_type(), depth + 1)?;
            match pairs.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value,
                None => pairs.push((key, value)),
            }
        }
        Ok(Value::Map(pairs))
    }

    /// A value that is its default if it was not written.
    fn always(&self, field: &Field, found: Found, to: &DataType, depth: usize) -> Read<Value> {
        let written = match found.bytes {
            Some(bytes) => Some(Value::Bytes(bytes)),
            None => found.items.into_iter().next_back(),
        };
        self.one(field, written.unwrap_or_else(|| self.zero(field)), to, depth)
    }

    /// What a field is if nothing was written.
    fn zero(&self, field: &Field) -> Value {
        match field.kind {
            Kind::Double | Kind::Float => Value::Double(0.0),
            Kind::Bool => Value::Boolean(false),
            Kind::Text => Value::Text(String::new()),
            Kind::Bytes | Kind::Message(_) => Value::Bytes(Vec::new()),
            Kind::Enum(place) => {
                let first = self.pool.enumeration(place).ok().and_then(|known| known.values.first());
                Value::Integer(first.map_or(0, |(_, number)| (*number).into()))
            }
            _ => Value::Integer(0),
        }
    }

    fn time(&self, message: &Message, bytes: &[u8], depth: usize) -> Read<Value> {
        let mut parts = self.found(message, bytes, depth)?.into_iter().map(|found| match found.items.last() {
            Some(Value::Integer(value)) => *value,
            _ => 0,
        });
        let (seconds, nanos) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos.div_euclid(1000)));
        micros.map(Value::Integer).ok_or_else(|| "a time is too large".to_owned())
    }
}

fn put(field: &Field, found: &mut Found, value: Value) {
    if !field.repeated {
        found.items.clear();
    }
    found.items.push(value);
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Integer(value) => *value == 0,
        // Minus zero is another value.
        Value::Double(value) => value.to_bits() == 0,
        Value::Boolean(value) => !value,
        Value::Text(value) => value.is_empty(),
        Value::Bytes(value) => value.is_empty(),
        _ => false,
    }
}

/// How scalars of a kind are written.
pub(super) fn wire_type(kind: Kind) -> u8 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::SFixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::SFixed32 => 5,
        Kind::Text | Kind::Bytes | Kind::Message(_) => 2,
        _ => 0,
    }
}
