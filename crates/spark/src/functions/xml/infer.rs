//! The schema of a sample of XML.

use arrow::datatypes::{DataType, Field, Fields};

use super::document::{Document, Kind as Node, NodeId};
use super::options::Options;
use super::read::{attributes, date, time};
use crate::types::{array, timestamp};

/// The type of an element, in the making.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// No value so far.
    Nothing,
    Boolean,
    Long,
    Double,
    Date,
    Timestamp,
    Text,
    List(Box<Kind>),
    /// Fields in the order in which they were met.
    Object(Vec<(String, Kind)>),
}

/// The type of the first element.
pub(super) fn schema(document: &Document, options: &Options) -> DataType {
    let inference = Inference { document, options };
    let root = document.root().map(|root| inference.object(root, true));
    let fields = root.and_then(canonical).and_then(|found| match found {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    });
    DataType::Struct(fields.unwrap_or_else(Fields::empty))
}

struct Inference<'a> {
    document: &'a Document,
    options: &'a Options,
}

impl Inference<'_> {
    /// The fields of an element: its elements, its text, and its attributes if they are wanted.
    fn object(&self, element: NodeId, with_attributes: bool) -> Kind {
        let mut fields = Vec::new();
        if with_attributes {
            for (name, value) in attributes(self.document, element, self.options) {
                self.add(&mut fields, &name, self.scalar(value));
            }
        }
        for child in self.document.children(element) {
            match self.document.kind(*child) {
                Node::Element(name) => {
                    let kind = self.element(*child);
                    self.add(&mut fields, self.options.field_name(name), kind);
                }
                Node::Text(text) if !text.trim().is_empty() => {
                    self.add(&mut fields, &self.options.value_tag, self.scalar(text));
                }
                _ => {}
            }
        }
        Kind::Object(fields)
    }

    /// An element of nothing but text is that text, unless it has attributes.
    fn element(&self, element: NodeId) -> Kind {
        let starts_with_text =
            self.document.children(element).first().is_some_and(|child| self.document.value(*child).is_some());
        let content = match self.object(element, false) {
            Kind::Object(fields) if self.document.children(element).is_empty() && fields.is_empty() => Kind::Nothing,
            Kind::Object(fields) if starts_with_text => match fields.as_slice() {
                [] => Kind::Nothing,
                [(name, kind)] if *name == self.options.value_tag && kind.is_plain() => kind.clone(),
                _ => Kind::Object(fields),
            },
            other => other,
        };
        let found = attributes(self.document, element, self.options);
        if found.is_empty() {
            return content;
        }
        let mut fields = match content {
            Kind::Object(fields) => fields,
            Kind::Nothing => Vec::new(),
            plain => vec![(self.options.value_tag.clone(), plain)],
        };
        fields.extend(found.into_iter().map(|(name, value)| (name, self.scalar(value))));
        Kind::Object(fields)
    }

    /// A field that comes again is an array.
    fn add(&self, fields: &mut Vec<(String, Kind)>, name: &str, kind: Kind) {
        let Some((_, known)) = fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            fields.push((name.to_owned(), kind));
            return;
        };
        *known = Kind::List(Box::new(match std::mem::replace(known, Kind::Nothing) {
            Kind::List(item) => self.merged(*item, kind),
            other => self.merged(other, kind),
        }));
    }

    /// The type that holds both.
    fn merged(&self, a: Kind, b: Kind) -> Kind {
        match (a, b) {
            (a, b) if a == b => a,
            (Kind::Nothing, other) | (other, Kind::Nothing) => other,
            (Kind::Long, Kind::Double) | (Kind::Double, Kind::Long) => Kind::Double,
            (Kind::Date, Kind::Timestamp) | (Kind::Timestamp, Kind::Date) => Kind::Timestamp,
            (Kind::Object(mut fields), Kind::Object(others)) => {
                for (name, kind) in others {
                    self.merge_field(&mut fields, name, kind);
                }
                Kind::Object(fields)
            }
            (Kind::List(a), Kind::List(b)) => Kind::List(Box::new(self.merged(*a, *b))),
            (Kind::List(item), other) | (other, Kind::List(item)) => Kind::List(Box::new(self.merged(*item, other))),
            // A structure with text takes in plain text.
            (Kind::Object(mut fields), plain) | (plain, Kind::Object(mut fields))
                if fields.iter().any(|(name, _)| *name == self.options.value_tag) =>
            {
                self.merge_field(&mut fields, self.options.value_tag.clone(), plain);
                Kind::Object(fields)
            }
            _ => Kind::Text,
        }
    }

    fn merge_field(&self, fields: &mut Vec<(String, Kind)>, name: String, kind: Kind) {
        match fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, known)) => *known = self.merged(std::mem::replace(known, Kind::Nothing), kind),
            None => fields.push((name, kind)),
        }
    }

    fn scalar(&self, text: &str) -> Kind {
        let text = self.options.trimmed(text);
        if !self.options.infer_types {
            return Kind::Text;
        }
        if text.is_empty() || self.options.null_value.as_deref() == Some(text) {
            return Kind::Nothing;
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned.starts_with(|c: char| c.is_ascii_digit()) && unsigned.parse::<i64>().is_ok() {
            return Kind::Long;
        }
        let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if number && !unsigned.ends_with(['d', 'D', 'f', 'F']) && unsigned.parse::<f64>().is_ok() {
            return Kind::Double;
        }
        if self.options.prefer_date && date(text, self.options).is_some() {
            return Kind::Date;
        }
        if time(text, true, self.options).is_some() {
            return Kind::Timestamp;
        }
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            return Kind::Boolean;
        }
        Kind::Text
    }
}

impl Kind {
    fn is_plain(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Object(_))
    }
}

/// The type, with its fields in order of their names; what never has a value is text, a structure without fields nothing.
fn canonical(kind: Kind) -> Option<DataType> {
    Some(match kind {
        Kind::Nothing | Kind::Text => DataType::Utf8,
        Kind::Boolean => DataType::Boolean,
        Kind::Long => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Date => DataType::Date32,
        Kind::Timestamp => timestamp(),
        Kind::List(item) => array(canonical(*item)?),
        Kind::Object(mut fields) => {
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            let field = |(name, kind): (String, Kind)| Some(Field::new(name, canonical(kind)?, true));
            let fields: Fields = fields.into_iter().filter_map(field).collect();
            if fields.is_empty() {
                return None;
            }
            DataType::Struct(fields)
        }
    })
}
