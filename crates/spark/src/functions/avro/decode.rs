//! Bytes of one value to that value, written by one schema and read by another.

use arrow::datatypes::DataType;
use serde_json::Value as Json;

use super::schema::{Field, Kind, Logical, Node, Schema};
use super::types::{Shape, meeting, pair, values};
use crate::cast::parse::fits;
use crate::values::Value;

/// Why bytes are no value of the schema.
pub(super) type Malformed = String;
type Read<T> = Result<T, Malformed>;

/// Deeper nesting is malformed.
const MAX_DEPTH: usize = 500;
/// So many items that take no bytes are malformed.
const MAX_EMPTY_ITEMS: u64 = 1_000_000;

/// What values are read by.
pub(super) struct Decoder<'a> {
    pub(super) writer: &'a Schema,
    pub(super) reader: &'a Schema,
    pub(super) shape: &'a Shape,
}

impl Decoder<'_> {
    /// The value of a type in some bytes; what follows it is not looked at.
    pub(super) fn decode(&self, bytes: &[u8], to: &DataType) -> Read<Value> {
        let mut cursor = Cursor { decoder: self, rest: bytes, depth: 0 };
        cursor.value(&self.writer.root, &self.reader.root, to)
    }
}

struct Cursor<'a> {
    decoder: &'a Decoder<'a>,
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("the bytes end within a value")?;
        self.rest = rest;
        Ok(taken)
    }

    /// An integer of variable length, small ones of either sign in few bytes.
    fn long(&mut self) -> Read<i64> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { break };
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err("a number has too many bytes".to_owned())
    }

    fn length(&mut self) -> Read<usize> {
        usize::try_from(self.long()?).map_err(|_| "a length is negative".to_owned())
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn float(&mut self) -> Read<f64> {
        let bytes = self.take(4)?.try_into().map_err(|_| "a float of other than 4 bytes")?;
        Ok(f32::from_le_bytes(bytes).into())
    }

    fn double(&mut self) -> Read<f64> {
        let bytes = self.take(8)?.try_into().map_err(|_| "a double of other than 8 bytes")?;
        Ok(f64::from_le_bytes(bytes))
    }

    fn branch<'s>(&mut self, branches: &'s [Node]) -> Read<&'s Node> {
        let branch = self.long()?;
        let found = usize::try_from(branch).ok().and_then(|i| branches.get(i));
        found.ok_or_else(|| format!("a union has no branch {branch}"))
    }

    fn value(&mut self, writer: &Node, reader: &Node, to: &DataType) -> Read<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let (writer, reader) = (self.decoder.writer.resolve(writer), self.decoder.reader.resolve(reader));
        let value = match (&writer.kind, &reader.kind) {
            (Kind::Union(branches), _) => {
                let branch = self.branch(branches)?;
                self.value(branch, reader, to)
            }
            (_, Kind::Union(branches)) => self.union(writer, branches, to),
            (Kind::Record(fields), Kind::Record(wanted)) => self.record(fields, wanted, to),
            (Kind::Array(writer), Kind::Array(reader)) => {
                let DataType::List(item) = to else { return Err(unlike(to)) };
                let mut items = Vec::new();
                self.blocks(|cursor| {
                    items.push(cursor.value(writer, reader, item.data_type())?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            (Kind::Map(writer), Kind::Map(reader)) => {
                let DataType::Map(entries, _) = to else { return Err(unlike(to)) };
                let (_, item) = pair(entries).map_err(|error| error.to_string())?;
                let mut pairs: Vec<(Value, Value)> = Vec::new();
                self.blocks(|cursor| {
                    let key = text(cursor.bytes()?);
                    let value = cursor.value(writer, reader, item.data_type())?;
                    match pairs.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => *known = value,
                        None => pairs.push((key, value)),
                    }
                    Ok(())
                })?;
                Ok(Value::Map(pairs))
            }
            (Kind::Enum(symbols, _), Kind::Enum(known, otherwise)) => {
                let i = self.long()?;
                let symbol = usize::try_from(i).ok().and_then(|i| symbols.get(i));
                let symbol = symbol.ok_or_else(|| format!("an enum has no symbol {i}"))?;
                let symbol = if known.contains(symbol) { Some(symbol) } else { otherwise.as_ref() };
                symbol.map(|symbol| Value::Text(symbol.clone())).ok_or_else(|| "a symbol is not known".to_owned())
            }
            _ => self.plain(writer, reader),
        };
        self.depth -= 1;
        value
    }

    /// A value that holds no others.
    fn plain(&mut self, writer: &Node, reader: &Node) -> Read<Value> {
        Ok(match (&writer.kind, &reader.kind) {
            (Kind::Null, Kind::Null) => Value::Null,
            (Kind::Boolean, Kind::Boolean) => Value::Boolean(self.take(1)? == [1]),
            (Kind::Int, Kind::Int) => {
                let value = i32::try_from(self.long()?).map_err(|_| "an int is too large")?;
                Value::Integer(value.into())
            }
            (Kind::Int | Kind::Long, Kind::Long) => {
                let value = self.long()?;
                Value::Integer(match reader.logical {
                    Some(Logical::TimestampMillis | Logical::LocalTimestampMillis) => {
                        value.checked_mul(1000).ok_or("a time is too large")?
                    }
                    _ => value,
                })
            }
            (Kind::Int | Kind::Long, Kind::Float) => Value::Double((self.long()? as f32).into()),
            (Kind::Int | Kind::Long, Kind::Double) => Value::Double(self.long()? as f64),
            (Kind::Float, Kind::Float | Kind::Double) => Value::Double(self.float()?),
            (Kind::Double, Kind::Double) => Value::Double(self.double()?),
            (Kind::Bytes | Kind::Text, Kind::Text) => text(self.bytes()?),
            (Kind::Bytes | Kind::Text, Kind::Bytes) => bytes(self.bytes()?, reader.logical)?,
            (Kind::Fixed(size), Kind::Fixed(wanted)) if size == wanted => bytes(self.take(*size)?, reader.logical)?,
            _ => return Err(format!("{} is read as {}", writer.type_name(), reader.type_name())),
        })
    }

    /// Calls `item` for each item of an array or a map.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The bytes of the block, for those who skip it.
                self.length()?;
            }
            let before = self.rest.len();
            for i in 0..count.unsigned_abs() {
                item(self)?;
                if i > MAX_EMPTY_ITEMS && self.rest.len() == before {
                    return Err("too many items take no bytes".to_owned());
                }
            }
        }
    }

    fn record(&mut self, fields: &[Field], wanted: &[Field], to: &DataType) -> Read<Value> {
        let DataType::Struct(places) = to else { return Err(unlike(to)) };
        let mut values: Vec<Option<Value>> = vec![None; places.len()];
        for (i, field) in fields.iter().enumerate() {
            let same = |other: &&Field| other.name == field.name || other.aliases.contains(&field.name);
            let reader = wanted.get(i).filter(same).or_else(|| wanted.iter().find(same));
            let place = reader.and_then(|reader| {
                let at = places.iter().position(|place| *place.name() == reader.name);
                at.map(|at| (at, reader))
            });
            match place {
                Some((at, reader)) => {
                    values[at] = Some(self.value(&field.node, &reader.node, places[at].data_type())?);
                }
                None => self.skip(&field.node)?,
            }
        }
        let mut row = Vec::with_capacity(values.len());
        for (value, place) in values.into_iter().zip(places) {
            row.push(match value {
                Some(value) => value,
                None => {
                    let field = wanted.iter().find(|field| field.name == *place.name());
                    let default = field.and_then(|field| Some((&field.node, field.default.as_ref()?)));
                    let (node, default) =
                        default.ok_or_else(|| format!("the field `{}` was not written", place.name()))?;
                    self.default(node, default, place.data_type())?
                }
            });
        }
        Ok(Value::Struct(row))
    }

    /// A value that is no union as a branch of one.
    fn union(&mut self, writer: &Node, branches: &[Node], to: &DataType) -> Read<Value> {
        let reader = self.decoder.reader;
        let exact = branches.iter().find(|branch| alike(writer, reader.resolve(branch), true));
        let branch = exact.or_else(|| branches.iter().find(|branch| alike(writer, reader.resolve(branch), false)));
        let branch = branch.ok_or_else(|| format!("no branch of a union is for {}", writer.type_name()))?;
        let Some(member) = self.member(branches, branch, to)? else { return self.value(writer, branch, to) };
        match member {
            Member::Number => {
                let wide = Node::plain(wide(to));
                self.value(writer, &wide, to)
            }
            Member::Dropped(count) => {
                self.skip(writer)?;
                Ok(Value::Struct(vec![Value::Null; count]))
            }
            Member::Field(at, count, of) => {
                let mut row = vec![Value::Null; count];
                row[at] = self.value(writer, branch, &of)?;
                Ok(Value::Struct(row))
            }
        }
    }

    /// Where the value of a branch goes; `None` if it is the value of the union.
    fn member(&self, branches: &[Node], branch: &Node, to: &DataType) -> Read<Option<Member>> {
        let members = values(branches);
        if members.len() < 2 || matches!(branch.kind, Kind::Null) {
            return Ok(None);
        }
        if meeting(&members).is_some() {
            return Ok(Some(Member::Number));
        }
        let DataType::Struct(fields) = to else { return Err(unlike(to)) };
        let i = members.iter().position(|member| std::ptr::eq(*member, branch)).ok_or("a branch is of no union")?;
        let name = self.decoder.shape.member_name(i, branch);
        Ok(Some(match fields.find(&name) {
            Some((at, field)) => Member::Field(at, fields.len(), field.data_type().clone()),
            None => Member::Dropped(fields.len()),
        }))
    }

    fn skip(&mut self, writer: &Node) -> Read<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let writer = self.decoder.writer.resolve(writer);
        match &writer.kind {
            Kind::Null | Kind::Named(_) => {}
            Kind::Boolean => drop(self.take(1)?),
            Kind::Int | Kind::Long | Kind::Enum(..) => drop(self.long()?),
            Kind::Float => drop(self.take(4)?),
            Kind::Double => drop(self.take(8)?),
            Kind::Bytes | Kind::Text => drop(self.bytes()?),
            Kind::Fixed(size) => drop(self.take(*size)?),
            Kind::Record(fields) => fields.iter().try_for_each(|field| self.skip(&field.node))?,
            Kind::Array(item) => self.blocks(|cursor| cursor.skip(item))?,
            Kind::Map(value) => self.blocks(|cursor| {
                cursor.bytes()?;
                cursor.skip(value)
            })?,
            Kind::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip(branch)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// What a field is that was not written: of a union, a value of its first branch.
    fn default(&self, node: &Node, default: &Json, to: &DataType) -> Read<Value> {
        let node = self.decoder.reader.resolve(node);
        let unfit = || format!("the default {default} is none of {}", node.type_name());
        Ok(match (&node.kind, default) {
            (Kind::Union(branches), _) => {
                let branch = branches.first().ok_or_else(unfit)?;
                match self.member(branches, branch, to)? {
                    None | Some(Member::Number) => self.default(branch, default, to)?,
                    Some(Member::Dropped(count)) => Value::Struct(vec![Value::Null; count]),
                    Some(Member::Field(at, count, of)) => {
                        let mut row = vec![Value::Null; count];
                        row[at] = self.default(branch, default, &of)?;
                        Value::Struct(row)
                    }
                }
            }
            (Kind::Null, Json::Null) => Value::Null,
            (Kind::Boolean, Json::Bool(value)) => Value::Boolean(*value),
            (Kind::Int | Kind::Long, Json::Number(value)) => {
                let value = value.as_i64().ok_or_else(unfit)?;
                Value::Integer(match node.logical {
                    Some(Logical::TimestampMillis | Logical::LocalTimestampMillis) => value.saturating_mul(1000),
                    _ => value,
                })
            }
            (Kind::Float | Kind::Double, Json::Number(value)) => Value::Double(value.as_f64().ok_or_else(unfit)?),
            (Kind::Text | Kind::Enum(..), Json::String(value)) => Value::Text(value.clone()),
            // Each character is a byte.
            (Kind::Bytes | Kind::Fixed(_), Json::String(value)) => {
                let of_text: Vec<u8> = value.chars().map(|c| c as u8).collect();
                bytes(&of_text, node.logical)?
            }
            (Kind::Array(item), Json::Array(items)) => {
                let DataType::List(of) = to else { return Err(unfit()) };
                let items = items.iter().map(|default| self.default(item, default, of.data_type()));
                Value::List(items.collect::<Read<_>>()?)
            }
            (Kind::Map(value), Json::Object(items)) => {
                let DataType::Map(entries, _) = to else { return Err(unfit()) };
                let (_, of) = pair(entries).map_err(|error| error.to_string())?;
                let item = |(key, default): (&String, &Json)| {
                    Ok((Value::Text(key.clone()), self.default(value, default, of.data_type())?))
                };
                Value::Map(items.iter().map(item).collect::<Read<_>>()?)
            }
            (Kind::Record(fields), Json::Object(items)) => {
                let DataType::Struct(places) = to else { return Err(unfit()) };
                let item = |place: &std::sync::Arc<arrow::datatypes::Field>| {
                    let field = fields.iter().find(|field| field.name == *place.name()).ok_or_else(unfit)?;
                    let default = items.get(&field.name).or(field.default.as_ref()).ok_or_else(unfit)?;
                    self.default(&field.node, default, place.data_type())
                };
                Value::Struct(places.iter().map(item).collect::<Read<_>>()?)
            }
            _ => return Err(unfit()),
        })
    }
}

/// Where the value of a branch goes.
enum Member {
    /// It is one of two kinds of numbers.
    Number,
    /// To a field that is too deep within itself, of a structure of so many.
    Dropped(usize),
    /// To a field of a structure of so many, which is of this type.
    Field(usize, usize, DataType),
}

fn wide(to: &DataType) -> Kind {
    if to == &DataType::Int64 { Kind::Long } else { Kind::Double }
}

fn unlike(to: &DataType) -> Malformed {
    format!("a value is no {}", crate::types::sql_type_name(to))
}

/// Whether what was written by a type can be read by another; exactly, without a conversion.
fn alike(writer: &Node, reader: &Node, exact: bool) -> bool {
    match (&writer.kind, &reader.kind) {
        (Kind::Null, Kind::Null)
        | (Kind::Boolean, Kind::Boolean)
        | (Kind::Int, Kind::Int)
        | (Kind::Long, Kind::Long)
        | (Kind::Float, Kind::Float)
        | (Kind::Double, Kind::Double)
        | (Kind::Bytes, Kind::Bytes)
        | (Kind::Text, Kind::Text)
        | (Kind::Array(_), Kind::Array(_))
        | (Kind::Map(_), Kind::Map(_)) => true,
        (Kind::Record(_), Kind::Record(_)) | (Kind::Enum(..), Kind::Enum(..)) => !exact || writer.name == reader.name,
        (Kind::Fixed(a), Kind::Fixed(b)) => a == b && (!exact || writer.name == reader.name),
        (Kind::Int, Kind::Long | Kind::Float | Kind::Double)
        | (Kind::Long, Kind::Float | Kind::Double)
        | (Kind::Float, Kind::Double)
        | (Kind::Bytes, Kind::Text)
        | (Kind::Text, Kind::Bytes) => !exact,
        _ => false,
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// Bytes, or the decimal that they are: a number with its sign, the greatest digits first.
fn bytes(bytes: &[u8], logical: Option<Logical>) -> Read<Value> {
    let Some(Logical::Decimal(precision, _)) = logical else { return Ok(Value::Bytes(bytes.to_vec())) };
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let at = bytes.iter().position(|byte| *byte != fill).unwrap_or(bytes.len());
    // The first byte that is kept has the sign.
    let kept = &bytes[at..];
    let mut digits = [fill; 16];
    let start = digits.len().checked_sub(kept.len()).ok_or("a decimal is too large")?;
    digits[start..].copy_from_slice(kept);
    let value = i128::from_be_bytes(digits);
    if (value < 0) != negative || !fits(value, precision) {
        return Err("a decimal is too large".to_owned());
    }
    Ok(Value::Decimal(value))
}
