//! Protobuf messages as Spark's types.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, TimeUnit};

use super::descriptor::{Field, Kind, Message, Pool};
use crate::error::{Error, Result};
use crate::functions::options::{Options, is_on};
use crate::types::{map_of, timestamp};

/// Levels of a message within itself that can be asked for.
const MOST_LEVELS: i64 = 10;
/// The field that a message without fields has, if it is not left out.
const NOTHING: &str = "__dummy_field_in_empty_struct";

/// How values are read.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) fail_fast: bool,
    levels: i64,
    pub(super) emit_defaults: bool,
    enums_as_integers: bool,
    upcast_unsigned: bool,
    unwrap: bool,
    retain_empty: bool,
}

impl Settings {
    /// # Errors
    /// `PARSE_MODE_UNSUPPORTED`; `Unsupported` for `Any` as JSON.
    pub(super) fn new(function: &str, given: &Options) -> Result<Self> {
        if is_on(given, "convert.any.fields.to.json", false) {
            return Err(Error::unsupported(format!("the option `convert.any.fields.to.json` of `{function}`"))
                .with_help("Read the bytes in the field `value` by another `from_protobuf`."));
        }
        if let Some(name) = given.keys().find(|name| name.contains("schema.registry")) {
            return Err(Error::unsupported(format!("the option `{name}` of `{function}`: a registry of schemas"))
                .with_help("Give a descriptor."));
        }
        let mode = given.get("mode").map_or("FAILFAST", String::as_str);
        if mode.eq_ignore_ascii_case("DROPMALFORMED") {
            return Err(Error::user(format!("`{function}` has no mode `{mode}`"))
                .with_condition("PARSE_MODE_UNSUPPORTED")
                .with_help("Use PERMISSIVE or FAILFAST."));
        }
        let levels = given.get("recursive.fields.max.depth").map_or("-1", String::as_str);
        Ok(Self {
            fail_fast: mode.eq_ignore_ascii_case("FAILFAST"),
            levels: levels.parse().map_err(|_| {
                Error::user(format!("the option `recursive.fields.max.depth` is a number, not `{levels}`"))
            })?,
            emit_defaults: is_on(given, "emit.default.values", false),
            enums_as_integers: is_on(given, "enums.as.ints", false),
            upcast_unsigned: is_on(given, "upcast.unsigned.ints", false),
            unwrap: is_on(given, "unwrap.primitive.wrapper.types", false),
            retain_empty: is_on(given, "retain.empty.message.types", false),
        })
    }

    /// The type of a message.
    ///
    /// # Errors
    /// `RECURSIVE_PROTOBUF_SCHEMA` if it is within itself, and no number of levels was given.
    pub(super) fn data_type(&self, pool: &Pool, place: usize) -> Result<DataType> {
        let message = pool.message(place)?;
        let within = HashMap::from([(place, 1)]);
        let fields = self.fields(pool, message, &within)?;
        Ok(DataType::Struct(fields.into()))
    }

    fn fields(&self, pool: &Pool, message: &Message, within: &HashMap<usize, i64>) -> Result<Vec<ArrowField>> {
        let mut fields = Vec::new();
        for field in &message.fields {
            let Some(data_type) = self.of(pool, field, within)? else { continue };
            fields.push(match data_type {
                map @ DataType::Map(..) => ArrowField::new(&field.name, map, true),
                item if field.repeated => {
                    let item = ArrowField::new_list_field(item, !self.fail_fast);
                    ArrowField::new(&field.name, DataType::List(Arc::new(item)), true)
                }
                // A message that cannot be read is one without values.
                plain => ArrowField::new(&field.name, plain, !(field.required && self.fail_fast)),
            });
        }
        if fields.is_empty() && self.retain_empty {
            fields.push(ArrowField::new(NOTHING, DataType::Utf8, true));
        }
        Ok(fields)
    }

    /// The type of one value of a field; `None` if it is too deep within itself, or has no fields.
    fn of(&self, pool: &Pool, field: &Field, within: &HashMap<usize, i64>) -> Result<Option<DataType>> {
        Ok(Some(match field.kind {
            Kind::Double => DataType::Float64,
            Kind::Float => DataType::Float32,
            Kind::UInt32 if self.upcast_unsigned => DataType::Int64,
            Kind::UInt64 if self.upcast_unsigned => DataType::Decimal128(20, 0),
            Kind::Int32 | Kind::UInt32 | Kind::SInt32 | Kind::Fixed32 | Kind::SFixed32 => DataType::Int32,
            Kind::Int64 | Kind::UInt64 | Kind::SInt64 | Kind::Fixed64 | Kind::SFixed64 => DataType::Int64,
            Kind::Bool => DataType::Boolean,
            Kind::Text => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Enum(_) if self.enums_as_integers => DataType::Int32,
            Kind::Enum(_) => DataType::Utf8,
            Kind::Message(place) => {
                let message = pool.message(place)?;
                if let Some(time) = Time::of(message) {
                    return Ok(Some(time.data_type()));
                }
                if let (true, Some(wrapped)) = (self.unwrap, wrapped(message)) {
                    return self.of(pool, wrapped, within);
                }
                if message.is_map_entry {
                    let [key, value] = message.fields.as_slice() else { return Ok(None) };
                    let types = (self.of(pool, key, within)?, self.of(pool, value, within)?);
                    let (Some(key), Some(value)) = types else { return Ok(None) };
                    let value = ArrowField::new("value", value, !self.fail_fast);
                    return Ok(Some(map_of(ArrowField::new("key", key, false), value)));
                }
                let level = within.get(&place).copied().unwrap_or(0);
                if level > 0 && !(1..=MOST_LEVELS).contains(&self.levels) {
                    return Err(Error::user(format!("the Protobuf message `{}` is within itself", message.full_name))
                        .with_condition("RECURSIVE_PROTOBUF_SCHEMA")
                        .with_help(format!(
                            "Set the option `recursive.fields.max.depth` to 1 to {MOST_LEVELS}: deeper fields are left out."
                        )));
                }
                if level > 0 && level >= self.levels {
                    return Ok(None);
                }
                let mut within = within.clone();
                within.insert(place, level + 1);
                let fields = self.fields(pool, message, &within)?;
                if fields.is_empty() {
                    return Ok(None);
                }
                DataType::Struct(fields.into())
            }
        }))
    }
}

/// Messages that are times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Time {
    Instant,
    Distance,
}

impl Time {
    /// What a message stands for, whichever package it is in.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let [seconds, nanos] = message.fields.as_slice() else { return None };
        if seconds.name != "seconds" || nanos.name != "nanos" {
            return None;
        }
        match message.full_name.rsplit('.').next() {
            Some("Timestamp") => Some(Self::Instant),
            Some("Duration") => Some(Self::Distance),
            _ => None,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Instant => timestamp(),
            Self::Distance => DataType::Duration(TimeUnit::Microsecond),
        }
    }
}

/// The field of a message that is there to tell a scalar from none.
pub(super) fn wrapped(message: &Message) -> Option<&Field> {
    let name = message.full_name.strip_prefix("google.protobuf.")?.strip_suffix("Value")?;
    let known = ["Bool", "Int32", "UInt32", "Int64", "UInt64", "String", "Bytes", "Float", "Double"].contains(&name);
    message.fields.first().filter(|_| known)
}
