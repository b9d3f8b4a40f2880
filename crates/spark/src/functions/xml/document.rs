//! XML text as a tree.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{Error, Result};
use crate::json::MAX_DEPTH;

/// The place of a node in its document; document order is ascending.
pub(in crate::functions) type NodeId = usize;

/// What a node is.
#[derive(Debug)]
pub(in crate::functions) enum Kind {
    /// The parent of the outermost element.
    Root,
    Element(String),
    Attribute(String, String),
    Text(String),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    parent: Option<NodeId>,
    attributes: Vec<NodeId>,
    children: Vec<NodeId>,
}

/// A parsed text; node 0 is the root.
#[derive(Debug)]
pub(in crate::functions) struct Document(Vec<Node>);

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::data(format!("the text is not XML: {why}")).with_condition("INVALID_XML")
}

impl Document {
    /// Reads a text; names keep their prefixes.
    ///
    /// # Errors
    /// `INVALID_XML` (`Data`) if it is not well-formed, or nested deeper than files of JSON may be.
    pub(in crate::functions) fn parse(text: &str) -> Result<Self> {
        Self::read(text, false)
    }

    /// Reads a text up to the end of its first element.
    ///
    /// # Errors
    /// As for [`Document::parse`], for what was read.
    pub(in crate::functions) fn parse_first(text: &str) -> Result<Self> {
        Self::read(text, true)
    }

    fn read(text: &str, first: bool) -> Result<Self> {
        let mut document =
            Self(vec![Node { kind: Kind::Root, parent: None, attributes: Vec::new(), children: Vec::new() }]);
        let mut reader = Reader::from_str(text);
        let (mut at, mut depth) = (0, 0);
        loop {
            match reader.read_event().map_err(malformed)? {
                Event::Start(_) if depth == MAX_DEPTH => return Err(malformed("it is nested too deep")),
                Event::Start(start) => {
                    depth += 1;
                    at = document.element(at, &start)?;
                }
                Event::Empty(start) => {
                    document.element(at, &start)?;
                }
                Event::End(_) => {
                    depth -= 1;
                    at = document.0[at].parent.unwrap_or(0);
                }
                Event::Text(text) => document.text(at, &text.decode().map_err(malformed)?),
                Event::CData(text) => document.text(at, &text.decode().map_err(malformed)?),
                Event::GeneralRef(reference) => {
                    let name = reference.decode().map_err(malformed)?;
                    let character = reference.resolve_char_ref().map_err(malformed)?;
                    let text = match character {
                        Some(character) => character.to_string(),
                        None => quick_xml::escape::resolve_xml_entity(&name)
                            .ok_or_else(|| malformed(format!("the entity `{name}` is unknown")))?
                            .to_owned(),
                    };
                    document.text(at, &text);
                }
                Event::Eof if at != 0 => return Err(malformed("an element does not end")),
                Event::Eof if document.0[0].children.is_empty() => return Err(malformed("it has no element")),
                Event::Eof => return Ok(document),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
            if first && at == 0 && !document.0[0].children.is_empty() {
                return Ok(document);
            }
        }
    }

    fn add(&mut self, parent: NodeId, kind: Kind) -> NodeId {
        self.0.push(Node { kind, parent: Some(parent), attributes: Vec::new(), children: Vec::new() });
        self.0.len() - 1
    }

    fn element(&mut self, parent: NodeId, start: &BytesStart<'_>) -> Result<NodeId> {
        let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
        let element = self.add(parent, Kind::Element(name));
        self.0[parent].children.push(element);
        for attribute in start.attributes() {
            let attribute = attribute.map_err(malformed)?;
            let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            let raw = String::from_utf8_lossy(&attribute.value).into_owned();
            let value = quick_xml::escape::unescape(&raw).map_err(malformed)?.into_owned();
            let node = self.add(element, Kind::Attribute(name, value));
            self.0[element].attributes.push(node);
        }
        Ok(element)
    }

    /// Text goes on where text was.
    fn text(&mut self, parent: NodeId, text: &str) {
        // Outside of all elements there are only blanks.
        if parent == 0 {
            return;
        }
        let last = self.0[parent].children.last().copied();
        if let Some(Kind::Text(before)) = last.map(|last| &mut self.0[last].kind) {
            before.push_str(text);
            return;
        }
        let node = self.add(parent, Kind::Text(text.to_owned()));
        self.0[parent].children.push(node);
    }

    /// The first element, which the others of a well-formed text are in.
    pub(in crate::functions) fn root(&self) -> Option<NodeId> {
        self.0.first()?.children.first().copied()
    }

    /// What a node is.
    pub(in crate::functions) fn kind(&self, node: NodeId) -> &Kind {
        &self.0[node].kind
    }

    /// The element a node is in.
    pub(in crate::functions) fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.0[node].parent
    }

    /// The attributes of an element.
    pub(in crate::functions) fn attributes(&self, node: NodeId) -> &[NodeId] {
        &self.0[node].attributes
    }

    /// Elements and texts of an element.
    pub(in crate::functions) fn children(&self, node: NodeId) -> &[NodeId] {
        &self.0[node].children
    }

    /// The node and all below it, in document order.
    pub(in crate::functions) fn descendants(&self, node: NodeId, found: &mut Vec<NodeId>) {
        found.push(node);
        for child in self.children(node) {
            self.descendants(*child, found);
        }
    }

    /// The name of an element or attribute.
    pub(in crate::functions) fn name(&self, node: NodeId) -> &str {
        match self.kind(node) {
            Kind::Element(name) | Kind::Attribute(name, _) => name,
            Kind::Root | Kind::Text(_) => "",
        }
    }

    /// The value that a node itself has.
    pub(in crate::functions) fn value(&self, node: NodeId) -> Option<&str> {
        match self.kind(node) {
            Kind::Attribute(_, value) | Kind::Text(value) => Some(value),
            Kind::Root | Kind::Element(_) => None,
        }
    }

    /// The text of a node: of an element, all texts in it.
    pub(in crate::functions) fn text_of(&self, node: NodeId) -> String {
        let mut nodes = Vec::new();
        self.descendants(node, &mut nodes);
        nodes.into_iter().filter_map(|node| self.value(node)).collect()
    }
}
