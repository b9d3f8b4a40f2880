//! Settings text as a tree in which every value knows where it stands. JSON is YAML, so one reader does both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::error::{Error, Result};
use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver, Tag};

/// The file a value stands in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its name in messages.
    pub display: PathBuf,
    /// The folder its relative paths start from.
    pub folder: PathBuf,
}

/// A value and its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub line: u32,
    pub column: u32,
    pub origin: Arc<Origin>,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar {
        /// As written, without quotes.
        text: String,
        kind: ScalarKind,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// How a scalar reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Bool,
    Integer,
    Float,
    Text,
}

impl Node {
    /// Reads the one document of `text`; an empty text is an empty map.
    ///
    /// # Errors
    /// `User`, with line and column, if it is not YAML (or JSON), or a key stands twice.
    pub fn parse(text: &str, origin: &Arc<Origin>) -> Result<Self> {
        let mut builder = Builder::new(origin);
        Parser::new_from_str(text).load(&mut builder, true).map_err(|error| {
            Error::user(format!("settings file `{}` cannot be read: {}", origin.display.display(), error.info()))
                .at(SourceLocation::new(&origin.display, clamp(error.marker().line()), clamp(error.marker().col()) + 1))
        })?;
        if let Some(error) = builder.error {
            return Err(error);
        }
        let node = builder.documents.into_iter().next().unwrap_or_else(|| Self::empty(origin));
        Ok(if node.value == Value::Null { Self { value: Value::Map(Vec::new()), ..node } } else { node })
    }

    /// An empty map at the start of a file.
    pub fn empty(origin: &Arc<Origin>) -> Self {
        Self { value: Value::Map(Vec::new()), line: 1, column: 1, origin: Arc::clone(origin) }
    }

    /// A text at the position of `self`.
    pub fn with_text(&self, text: impl Into<String>) -> Self {
        Self { value: Value::Scalar { text: text.into(), kind: ScalarKind::Text }, ..self.clone() }
    }

    /// Where it stands.
    pub fn location(&self) -> SourceLocation {
        SourceLocation::new(&self.origin.display, self.line, self.column)
    }

    /// The folder relative paths in this value start from.
    pub fn folder(&self) -> &Path {
        &self.origin.folder
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A scalar as written.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A boolean, or a text that says true or false.
    pub fn boolean(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// What it is, in a user's words.
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Scalar { kind, .. } => match kind {
                ScalarKind::Bool => "a boolean",
                ScalarKind::Integer => "an integer",
                ScalarKind::Float => "a number",
                ScalarKind::Text => "a text",
            },
        }
    }

    /// Lays `over` on top: maps key by key, lists one after the other, anything else replaced.
    pub fn merge(&mut self, over: Node) {
        match (&mut self.value, over) {
            (Value::Map(entries), Node { value: Value::Map(added), .. }) => {
                for (key, value) in added {
                    match entries.iter_mut().find(|(k, _)| k.text() == key.text()) {
                        Some((_, existing)) => existing.merge(value),
                        None => entries.push((key, value)),
                    }
                }
            }
            (Value::List(items), Node { value: Value::List(added), .. }) => items.extend(added),
            (_, over) => *self = over,
        }
    }
}

/// Builds the tree from the parser's events.
struct Builder {
    origin: Arc<Origin>,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    error: Option<Error>,
}

/// A list or map whose end has not come yet.
struct Open {
    node: Node,
    key: Option<Node>,
    /// What `<<` names: it comes last, since the map's own entries win wherever they stand.
    merged: Vec<Node>,
    anchor: usize,
}

impl Builder {
    fn new(origin: &Arc<Origin>) -> Self {
        Self { origin: Arc::clone(origin), documents: Vec::new(), open: Vec::new(), anchors: Vec::new(), error: None }
    }

    fn node(&self, value: Value, span: Span) -> Node {
        let (line, column) = (clamp(span.start.line()), clamp(span.start.col()) + 1);
        Node { value, line, column, origin: Arc::clone(&self.origin) }
    }

    fn open(&mut self, value: Value, span: Span, anchor: usize) {
        let node = self.node(value, span);
        self.open.push(Open { node, key: None, merged: Vec::new(), anchor });
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        match &mut parent.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match parent.key.take() {
                None => parent.key = Some(node),
                Some(key) if key.text() == Some("<<") => parent.merged.push(node),
                Some(key) => match entries.iter().find(|(k, _)| k.text() == key.text()) {
                    Some((first, _)) if first.text().is_some() => {
                        let message = format!(
                            "key `{}` stands twice, first in line {}",
                            key.text().unwrap_or_default(),
                            first.line
                        );
                        self.error.get_or_insert_with(|| Error::user(message).at(key.location()));
                    }
                    _ => entries.push((key, node)),
                },
            },
            Value::Null | Value::Scalar { .. } => {}
        }
    }
}

/// `<<: *anchor`: the anchor's entries, where the map has none of its own.
fn add_merged(entries: &mut Vec<(Node, Node)>, node: &Node) {
    let sources = if node.items().is_empty() { std::slice::from_ref(node) } else { node.items() };
    for (key, value) in sources.iter().flat_map(|source| source.entries()) {
        if !entries.iter().any(|(k, _)| k.text() == key.text()) {
            entries.push((key.clone(), value.clone()));
        }
    }
}

impl<'input> SpannedEventReceiver<'input> for Builder {
    fn on_event(&mut self, event: Event<'input>, span: Span) {
        match event {
            Event::SequenceStart(anchor, _) => self.open(Value::List(Vec::new()), span, anchor),
            Event::MappingStart(anchor, _) => self.open(Value::Map(Vec::new()), span, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut done) = self.open.pop() {
                    if let Value::Map(entries) = &mut done.node.value {
                        done.merged.iter().for_each(|node| add_merged(entries, node));
                    }
                    self.add(done.node, done.anchor);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                let node = self.node(value, span);
                self.add(node, anchor);
            }
            Event::Alias(id) => {
                let node = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id).map(|(_, node)| node.clone());
                let node = node.unwrap_or_else(|| self.node(Value::Null, span));
                self.add(node, 0);
            }
            _ => {}
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tag = tag.map(std::borrow::Cow::Borrowed);
    let kind = match Scalar::parse_from_cow_and_metadata(text.into(), style, tag.as_ref()) {
        Some(Scalar::Null) => return Value::Null,
        Some(Scalar::Boolean(_)) => ScalarKind::Bool,
        Some(Scalar::Integer(_)) => ScalarKind::Integer,
        Some(Scalar::FloatingPoint(_)) => ScalarKind::Float,
        Some(Scalar::String(_)) | None => ScalarKind::Text,
    };
    Value::Scalar { text: text.to_owned(), kind }
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Node {
        let origin = Arc::new(Origin { display: "f.yml".into(), folder: "/f".into() });
        Node::parse(text, &origin).unwrap()
    }

    #[test]
    fn own_entries_win_over_merged_ones_wherever_they_stand() {
        let node = parse("base: &base {a: 1, b: 2}\none:\n  <<: *base\n  b: 3\n");
        let one = node.get("one").unwrap();
        let value = |key: &str| one.get(key).and_then(Node::text).map(str::to_owned);
        assert_eq!((value("a").as_deref(), value("b").as_deref(), one.entries().len()), (Some("1"), Some("3"), 2));
    }

    #[test]
    fn scalars_keep_their_text_and_place() {
        let node = parse("{\"version\": 1.10,\n \"none\": null}");
        let version = node.get("version").unwrap();
        assert_eq!((version.text(), version.line, version.column), (Some("1.10"), 1, 13));
        assert_eq!(node.get("none").unwrap().value, Value::Null);
    }
}
