//! Messages and their fields, from a set of file descriptors as `protoc --descriptor_set_out --include_imports` writes it.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::error::{Error, Result};
use crate::values::Value;

/// All messages and enums of a set.
#[derive(Debug, Default)]
pub(super) struct Pool {
    messages: Vec<Message>,
    enums: Vec<Enum>,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) full_name: String,
    /// In the order in which they are declared.
    pub(super) fields: Vec<Field>,
    pub(super) is_map_entry: bool,
}

#[derive(Debug)]
pub(super) struct Enum {
    pub(super) name: String,
    pub(super) values: Vec<(String, i32)>,
    /// Whether it has values that are not declared.
    pub(super) open: bool,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    pub(super) required: bool,
    /// Whether a value that is the default is told from none.
    pub(super) presence: bool,
    /// Whether items are written as one block of bytes.
    pub(super) packed: bool,
    /// Fields of which at most one has a value share a number.
    pub(super) one_of: Option<i32>,
    /// The declared default.
    pub(super) default: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    UInt32,
    UInt64,
    SInt32,
    SInt64,
    Fixed32,
    Fixed64,
    SFixed32,
    SFixed64,
    Bool,
    Text,
    Bytes,
    /// By its place among the enums.
    Enum(usize),
    /// By its place among the messages.
    Message(usize),
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::user(format!("the Protobuf descriptor cannot be read: {why}"))
        .with_condition("CANNOT_PARSE_PROTOBUF_DESCRIPTOR")
        .with_help("Make it by: protoc --include_imports --descriptor_set_out=FILE …")
}

impl Pool {
    /// Reads a set of file descriptors.
    ///
    /// # Errors
    /// `CANNOT_PARSE_PROTOBUF_DESCRIPTOR`; `PROTOBUF_DEPENDENCY_NOT_FOUND` if a type is not in the set.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let set = FileDescriptorSet::decode(bytes).map_err(invalid)?;
        let mut found = Found::default();
        for file in &set.file {
            let package = file.package.as_deref().unwrap_or_default();
            let prefix = if package.is_empty() { String::new() } else { format!(".{package}") };
            match file.syntax.as_deref().unwrap_or_default() {
                "" | "proto2" | "proto3" => found.file(file, &prefix),
                other => {
                    return Err(Error::unsupported(format!("Protobuf descriptors of the syntax `{other}`"))
                        .with_help("Declare the messages in proto2 or proto3."));
                }
            }
        }
        found.pool()
    }

    /// A message by its full name, or by its own name if that is declared at the top.
    ///
    /// # Errors
    /// `PROTOBUF_MESSAGE_NOT_FOUND`
    pub(super) fn find(&self, name: &str) -> Result<usize> {
        let full = |message: &Message| message.full_name == name;
        let own = |message: &Message| message.full_name.rsplit('.').next() == Some(name);
        let found = self.messages.iter().position(full).or_else(|| self.messages.iter().position(own));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.messages.iter().map(|message| message.full_name.as_str()).collect();
            Error::user(format!("the Protobuf descriptor has no message `{name}`"))
                .with_condition("PROTOBUF_MESSAGE_NOT_FOUND")
                .with_help(format!("It has: {}.", known.join(", ")))
        })
    }

    pub(super) fn message(&self, place: usize) -> Result<&Message> {
        self.messages.get(place).ok_or_else(|| Error::internal("a message is not in its set"))
    }

    pub(super) fn enumeration(&self, place: usize) -> Result<&Enum> {
        self.enums.get(place).ok_or_else(|| Error::internal("an enum is not in its set"))
    }
}

/// The declarations of all files, by their names with a point in front.
#[derive(Default)]
struct Found<'a> {
    messages: Vec<(String, &'a DescriptorProto, bool)>,
    enums: Vec<(String, &'a EnumDescriptorProto, bool)>,
}

impl<'a> Found<'a> {
    fn file(&mut self, file: &'a FileDescriptorProto, prefix: &str) {
        let proto3 = file.syntax.as_deref() == Some("proto3");
        self.enums(&file.enum_type, prefix, proto3);
        for message in &file.message_type {
            self.message(message, prefix, proto3);
        }
    }

    fn enums(&mut self, enums: &'a [EnumDescriptorProto], prefix: &str, proto3: bool) {
        for one in enums {
            self.enums.push((format!("{prefix}.{}", one.name()), one, proto3));
        }
    }

    fn message(&mut self, message: &'a DescriptorProto, prefix: &str, proto3: bool) {
        let name = format!("{prefix}.{}", message.name());
        self.messages.push((name.clone(), message, proto3));
        self.enums(&message.enum_type, &name, proto3);
        for nested in &message.nested_type {
            self.message(nested, &name, proto3);
        }
    }

    fn pool(self) -> Result<Pool> {
        let enumeration = |(_, one, open): &(String, &EnumDescriptorProto, bool)| Enum {
            name: one.name().to_owned(),
            values: one.value.iter().map(|value| (value.name().to_owned(), value.number())).collect(),
            open: *open,
        };
        let enums: Vec<Enum> = self.enums.iter().map(enumeration).collect();
        let places = Places {
            messages: self.messages.iter().enumerate().map(|(i, (name, ..))| (name.as_str(), i)).collect(),
            enums: self.enums.iter().enumerate().map(|(i, (name, ..))| (name.as_str(), i)).collect(),
        };
        let message = |(name, message, proto3): &(String, &DescriptorProto, bool)| {
            let fields = message.field.iter().map(|field| places.field(field, *proto3, &enums));
            Ok(Message {
                full_name: name.trim_start_matches('.').to_owned(),
                fields: fields.collect::<Result<_>>()?,
                is_map_entry: message.options.as_ref().is_some_and(|options| options.map_entry()),
            })
        };
        let messages = self.messages.iter().map(message).collect::<Result<_>>()?;
        Ok(Pool { messages, enums })
    }
}

/// Where the types of fields are.
struct Places<'a> {
    messages: HashMap<&'a str, usize>,
    enums: HashMap<&'a str, usize>,
}

impl Places<'_> {
    fn field(&self, field: &FieldDescriptorProto, proto3: bool, enums: &[Enum]) -> Result<Field> {
        let kind = self.kind(field)?;
        let repeated = field.label() == Label::Repeated;
        let is_message = matches!(kind, Kind::Message(_));
        let packable = repeated && !is_message && !matches!(kind, Kind::Text | Kind::Bytes);
        let declared = field.options.as_ref().and_then(|options| options.packed);
        Ok(Field {
            name: field.name().to_owned(),
            number: u32::try_from(field.number()).map_err(invalid)?,
            kind,
            repeated,
            required: field.label() == Label::Required,
            presence: !repeated && (!proto3 || is_message || field.oneof_index.is_some()),
            packed: packable && declared.unwrap_or(proto3),
            one_of: field.oneof_index.filter(|_| !field.proto3_optional()),
            default: field.default_value.as_deref().and_then(|text| default(text, kind, enums)),
        })
    }

    fn kind(&self, field: &FieldDescriptorProto) -> Result<Kind> {
        let of = |places: &HashMap<&str, usize>| {
            places.get(field.type_name()).copied().ok_or_else(|| {
                Error::user(format!("the Protobuf descriptor lacks the type `{}`", field.type_name()))
                    .with_condition("PROTOBUF_DEPENDENCY_NOT_FOUND")
                    .with_help("Make the descriptor with --include_imports.")
            })
        };
        Ok(match field.r#type() {
            Type::Double => Kind::Double,
            Type::Float => Kind::Float,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            Type::Uint32 => Kind::UInt32,
            Type::Uint64 => Kind::UInt64,
            Type::Sint32 => Kind::SInt32,
            Type::Sint64 => Kind::SInt64,
            Type::Fixed32 => Kind::Fixed32,
            Type::Fixed64 => Kind::Fixed64,
            Type::Sfixed32 => Kind::SFixed32,
            Type::Sfixed64 => Kind::SFixed64,
            Type::Bool => Kind::Bool,
            Type::String => Kind::Text,
            Type::Bytes => Kind::Bytes,
            Type::Enum => Kind::Enum(of(&self.enums)?),
            Type::Message => Kind::Message(of(&self.messages)?),
            Type::Group => {
                return Err(Error::unsupported(format!("the Protobuf group `{}`", field.name()))
                    .with_condition("PROTOBUF_TYPE_NOT_SUPPORT"));
            }
        })
    }
}

/// A default as it is written in a descriptor; integers of an enum are its numbers.
fn default(text: &str, kind: Kind, enums: &[Enum]) -> Option<Value> {
    Some(match kind {
        Kind::Double | Kind::Float => Value::Double(text.parse().ok()?),
        Kind::Bool => Value::Boolean(text == "true"),
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Bytes => Value::Bytes(unescaped(text)),
        Kind::Enum(place) => {
            let (_, number) = enums.get(place)?.values.iter().find(|(name, _)| name == text)?;
            Value::Integer((*number).into())
        }
        Kind::UInt64 | Kind::Fixed64 => Value::Integer(text.parse::<u64>().ok()? as i64),
        Kind::Message(_) => return None,
        _ => Value::Integer(text.parse().ok()?),
    })
}

/// Bytes as they are written in C.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b't') => bytes.push(b'\t'),
            Some(digit @ b'0'..=b'7') => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    match rest.next_if(|byte| (b'0'..=b'7').contains(byte)) {
                        Some(digit) => value = value * 8 + u32::from(digit - b'0'),
                        None => break,
                    }
                }
                bytes.push(value as u8);
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    bytes
}
