//! Avro schemas: from their JSON text to a tree whose named types stand in a table, so that they may hold themselves.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// A schema with all that it names.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) root: Node,
    named: Vec<Node>,
}

/// One type within a schema.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The full name of a record, an enum or a fixed type.
    pub(super) name: Option<String>,
    pub(super) logical: Option<Logical>,
    /// The type that Spark wrote it from.
    pub(super) of_spark: Option<String>,
    /// Whether it is a time of day.
    pub(super) is_time: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Record(Vec<Field>),
    /// Symbols, and which of them stands for one that is not known.
    Enum(Vec<String>, Option<String>),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    Fixed(usize),
    /// A type of the table, by its place.
    Named(usize),
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) node: Node,
    pub(super) default: Option<Json>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Logical {
    Date,
    Decimal(u8, i8),
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMillis,
    LocalTimestampMicros,
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::user(format!("the Avro schema is invalid: {why}"))
        .with_help("Give it as JSON, as the Avro specification says.")
}

impl Schema {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// `User`, if it is no schema.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let plain = text.trim();
        // A name alone is no JSON, but the name of a type.
        let json: Json = if plain.starts_with(['{', '[', '"']) {
            serde_json::from_str(plain).map_err(invalid)?
        } else {
            Json::String(plain.to_owned())
        };
        let mut parser = Parser { named: Vec::new(), places: HashMap::new() };
        let root = parser.node(&json, "")?;
        Ok(Self { root, named: parser.named })
    }

    /// The definition of a type.
    pub(super) fn resolve<'a>(&'a self, node: &'a Node) -> &'a Node {
        match node.kind {
            Kind::Named(place) => self.named.get(place).unwrap_or(node),
            _ => node,
        }
    }
}

struct Parser {
    named: Vec<Node>,
    places: HashMap<String, usize>,
}

impl Parser {
    fn node(&mut self, json: &Json, namespace: &str) -> Result<Node> {
        match json {
            Json::String(name) => self.reference(name, namespace),
            Json::Array(branches) => {
                let branches =
                    branches.iter().map(|branch| self.node(branch, namespace)).collect::<Result<Vec<_>>>()?;
                if branches.is_empty() {
                    return Err(invalid("a union has no branch"));
                }
                Ok(Node::plain(Kind::Union(branches)))
            }
            Json::Object(object) => self.object(object, namespace),
            other => Err(invalid(format!("`{other}` is no type"))),
        }
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<Node> {
        if let Some(kind) = primitive(name) {
            return Ok(Node::plain(kind));
        }
        let place = self.places.get(&full_name(name, namespace)).or_else(|| self.places.get(name));
        match place {
            Some(place) => {
                let known = self.named.get(*place).and_then(|node| node.name.clone());
                Ok(Node { name: known, ..Node::plain(Kind::Named(*place)) })
            }
            None => Err(invalid(format!("the type `{name}` is not defined"))),
        }
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Node> {
        let of = |key: &str| object.get(key).ok_or_else(|| invalid(format!("a type has no `{key}`")));
        let Json::String(kind) = of("type")? else { return self.node(of("type")?, namespace) };
        match kind.as_str() {
            "record" | "error" | "enum" | "fixed" => {
                let Json::String(name) = of("name")? else { return Err(invalid("a name is no text")) };
                let own = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
                let full = full_name(name, own);
                let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                let place = self.named.len();
                // There before its fields, which may be of it.
                self.named.push(Node { name: Some(full.clone()), ..Node::plain(Kind::Null) });
                if self.places.insert(full.clone(), place).is_some() {
                    return Err(invalid(format!("the type `{full}` is defined twice")));
                }
                let definition = match kind.as_str() {
                    "enum" => {
                        let symbols = texts(of("symbols")?);
                        Kind::Enum(symbols, object.get("default").and_then(Json::as_str).map(str::to_owned))
                    }
                    "fixed" => {
                        let size = of("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                        Kind::Fixed(size.ok_or_else(|| invalid(format!("`{full}` has no size")))?)
                    }
                    _ => Kind::Record(self.fields(of("fields")?, &namespace)?),
                };
                let logical = logical(&definition, object);
                self.named[place] = Node { name: Some(full.clone()), logical, ..Node::plain(definition) };
                Ok(Node { name: Some(full), ..Node::plain(Kind::Named(place)) })
            }
            "array" => Ok(Node::plain(Kind::Array(Box::new(self.node(of("items")?, namespace)?)))),
            "map" => Ok(Node::plain(Kind::Map(Box::new(self.node(of("values")?, namespace)?)))),
            other => {
                let node = self.reference(other, namespace)?;
                let logical = logical(&node.kind, object);
                let of_spark = object.get("spark.sql.catalyst.type").and_then(Json::as_str).map(str::to_owned);
                let named = object.get("logicalType").and_then(Json::as_str);
                let is_time =
                    matches!((&node.kind, named), (Kind::Int, Some("time-millis")) | (Kind::Long, Some("time-micros")));
                Ok(Node { logical, of_spark, is_time, ..node })
            }
        }
    }

    fn fields(&mut self, json: &Json, namespace: &str) -> Result<Vec<Field>> {
        let fields = json.as_array().ok_or_else(|| invalid("the fields of a record are no array"))?;
        let field = |field: &Json| {
            let name = field.get("name").and_then(Json::as_str).ok_or_else(|| invalid("a field has no name"))?;
            let of = field.get("type").ok_or_else(|| invalid(format!("the field `{name}` has no type")))?;
            Ok(Field {
                name: name.to_owned(),
                aliases: field.get("aliases").map(texts).unwrap_or_default(),
                node: self.node(of, namespace)?,
                default: field.get("default").cloned(),
            })
        };
        fields.iter().map(field).collect()
    }
}

impl Node {
    pub(super) fn plain(kind: Kind) -> Self {
        Self { kind, name: None, logical: None, of_spark: None, is_time: false }
    }

    /// What the type is called: its own name, or that of its kind.
    pub(super) fn type_name(&self) -> &str {
        match &self.kind {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::Text => "string",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
            Kind::Record(_) | Kind::Enum(..) | Kind::Fixed(_) | Kind::Named(_) => {
                let name = self.name.as_deref().unwrap_or_default();
                name.rsplit('.').next().unwrap_or(name)
            }
        }
    }
}

fn texts(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::Text,
        _ => return None,
    })
}

/// A logical type that its type does not carry is none.
fn logical(kind: &Kind, object: &Map<String, Json>) -> Option<Logical> {
    let name = object.get("logicalType")?.as_str()?;
    match (kind, name) {
        (Kind::Int, "date") => Some(Logical::Date),
        (Kind::Long, "timestamp-millis") => Some(Logical::TimestampMillis),
        (Kind::Long, "timestamp-micros") => Some(Logical::TimestampMicros),
        (Kind::Long, "local-timestamp-millis") => Some(Logical::LocalTimestampMillis),
        (Kind::Long, "local-timestamp-micros") => Some(Logical::LocalTimestampMicros),
        (Kind::Bytes | Kind::Fixed(_), "decimal") => {
            let number = |key: &str| object.get(key).map_or(Some(0), Json::as_i64);
            let precision = u8::try_from(number("precision")?).ok().filter(|precision| (1..=38).contains(precision))?;
            let scale = i8::try_from(number("scale")?).ok().filter(|scale| (0..=precision as i8).contains(scale))?;
            let fits = match kind {
                Kind::Fixed(size) => *size >= bytes_for(precision),
                _ => true,
            };
            fits.then_some(Logical::Decimal(precision, scale))
        }
        _ => None,
    }
}

/// How many bytes hold every number of so many digits.
pub(super) fn bytes_for(precision: u8) -> usize {
    let most = 10_i128.pow(u32::from(precision));
    (1..16).find(|bytes| (1_i128 << (8 * bytes - 1)) >= most).unwrap_or(16)
}
