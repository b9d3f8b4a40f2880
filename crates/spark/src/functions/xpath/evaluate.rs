//! The value of an expression in a document.

use super::super::xml::{Document, Kind, NodeId};
use super::expression::{Axis, Expression, Step, Test, invalid};
use crate::cast::format::java_double;
use crate::error::Result;

/// What an expression gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// In document order, each once.
    Nodes(Vec<NodeId>),
    Text(String),
    Number(f64),
    Boolean(bool),
}

impl Value {
    /// Whether there are nodes, characters, or a number that is not 0.
    pub(super) fn boolean(&self) -> bool {
        match self {
            Self::Nodes(nodes) => !nodes.is_empty(),
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Boolean(value) => *value,
        }
    }

    /// The text of the first node, or of the value.
    pub(super) fn text(&self, document: &Document) -> String {
        match self {
            Self::Nodes(nodes) => nodes.first().map(|node| document.text_of(*node)).unwrap_or_default(),
            Self::Text(text) => text.clone(),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
            Self::Number(number) => {
                let mut text = String::new();
                // Writing into a string cannot fail.
                let _ = java_double(&mut text, *number);
                text
            }
            Self::Boolean(value) => value.to_string(),
        }
    }

    /// The text as a number; NaN if it is none.
    pub(super) fn number(&self, document: &Document) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Boolean(value) => f64::from(u8::from(*value)),
            other => number_of(&other.text(document)),
        }
    }
}

fn number_of(text: &str) -> f64 {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    if plain { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// The value of an expression at the root.
///
/// # Errors
/// `INVALID_XPATH` (`User`) if an unknown function is called, or values do not fit.
pub(super) fn evaluate(document: &Document, expression: &Expression) -> Result<Value> {
    Place { document, node: 0, position: 1, size: 1 }.value(expression)
}

/// Where an expression is evaluated: at a node, the so-manieth of so many.
#[derive(Clone, Copy)]
struct Place<'a> {
    document: &'a Document,
    node: NodeId,
    position: usize,
    size: usize,
}

impl Place<'_> {
    fn value(self, expression: &Expression) -> Result<Value> {
        Ok(match expression {
            Expression::Number(number) => Value::Number(*number),
            Expression::Text(text) => Value::Text(text.clone()),
            Expression::Negative(inner) => Value::Number(-self.value(inner)?.number(self.document)),
            Expression::Path { absolute, base, steps } => {
                let start = match base {
                    Some(base) => self.nodes(base)?,
                    None => vec![if *absolute { 0 } else { self.node }],
                };
                Value::Nodes(steps.iter().try_fold(start, |nodes, step| self.step(nodes, step))?)
            }
            Expression::Filter(base, predicates) => Value::Nodes(self.filtered(self.nodes(base)?, predicates)?),
            Expression::Call(name, arguments) => self.call(name, arguments)?,
            Expression::Binary(left, operator, right) => self.binary(left, operator, right)?,
        })
    }

    fn nodes(self, expression: &Expression) -> Result<Vec<NodeId>> {
        match self.value(expression)? {
            Value::Nodes(nodes) => Ok(nodes),
            other => Err(invalid(&other.text(self.document), "it is a value, not nodes")),
        }
    }

    fn step(self, nodes: Vec<NodeId>, step: &Step) -> Result<Vec<NodeId>> {
        let mut found = Vec::new();
        for node in nodes {
            let on_axis = self.axis(node, step.axis).into_iter().filter(|node| self.passes(*node, step)).collect();
            found.extend(self.filtered(on_axis, &step.predicates)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The nodes of an axis, the nearest first.
    fn axis(self, node: NodeId, axis: Axis) -> Vec<NodeId> {
        let document = self.document;
        let siblings = || document.parent(node).map_or(&[][..], |parent| document.children(parent));
        match axis {
            Axis::Child => document.children(node).to_vec(),
            Axis::Attribute => document.attributes(node).to_vec(),
            Axis::Itself => vec![node],
            Axis::Parent => document.parent(node).into_iter().collect(),
            Axis::DescendantOrSelf => {
                let mut found = Vec::new();
                document.descendants(node, &mut found);
                found
            }
            Axis::Descendant => {
                let mut found = Vec::new();
                document.descendants(node, &mut found);
                found.remove(0);
                found
            }
            Axis::Ancestor => std::iter::successors(document.parent(node), |node| document.parent(*node)).collect(),
            Axis::FollowingSibling => siblings().iter().copied().filter(|other| *other > node).collect(),
            Axis::PrecedingSibling => siblings().iter().copied().filter(|other| *other < node).rev().collect(),
        }
    }

    fn passes(self, node: NodeId, step: &Step) -> bool {
        let kind = self.document.kind(node);
        match &step.test {
            Test::Node => true,
            Test::Text => matches!(kind, Kind::Text(_)),
            Test::Any | Test::Name(_) if matches!(kind, Kind::Root | Kind::Text(_)) => false,
            Test::Any => true,
            Test::Name(name) => self.document.name(node) == name,
        }
    }

    /// The nodes for which each predicate in turn holds; a number asks for a position.
    fn filtered(self, mut nodes: Vec<NodeId>, predicates: &[Expression]) -> Result<Vec<NodeId>> {
        for predicate in predicates {
            let size = nodes.len();
            let mut kept = Vec::with_capacity(size);
            for (i, node) in nodes.into_iter().enumerate() {
                let place = Place { node, position: i + 1, size, ..self };
                let holds = match place.value(predicate)? {
                    Value::Number(position) => position == (i + 1) as f64,
                    other => other.boolean(),
                };
                if holds {
                    kept.push(node);
                }
            }
            nodes = kept;
        }
        Ok(nodes)
    }

    fn binary(self, left: &Expression, operator: &str, right: &Expression) -> Result<Value> {
        match operator {
            "or" => return Ok(Value::Boolean(self.value(left)?.boolean() || self.value(right)?.boolean())),
            "and" => return Ok(Value::Boolean(self.value(left)?.boolean() && self.value(right)?.boolean())),
            "|" => {
                let mut nodes = self.nodes(left)?;
                nodes.extend(self.nodes(right)?);
                nodes.sort_unstable();
                nodes.dedup();
                return Ok(Value::Nodes(nodes));
            }
            _ => {}
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        let (a, b) = (left.number(self.document), right.number(self.document));
        Ok(match operator {
            "+" => Value::Number(a + b),
            "-" => Value::Number(a - b),
            "*" => Value::Number(a * b),
            "div" => Value::Number(a / b),
            "mod" => Value::Number(a % b),
            comparison => Value::Boolean(self.compare(&left, comparison, &right)),
        })
    }

    /// Nodes compare as any of them does.
    fn compare(self, left: &Value, operator: &str, right: &Value) -> bool {
        match (left, right) {
            (Value::Nodes(nodes), other) if !matches!(other, Value::Boolean(_)) => {
                nodes.iter().any(|node| self.compare(&Value::Text(self.document.text_of(*node)), operator, other))
            }
            (other, Value::Nodes(nodes)) if !matches!(other, Value::Boolean(_)) => {
                nodes.iter().any(|node| self.compare(other, operator, &Value::Text(self.document.text_of(*node))))
            }
            _ => {
                let (a, b) = (left.number(self.document), right.number(self.document));
                let equal = match (left, right) {
                    (Value::Boolean(_), _) | (_, Value::Boolean(_)) => left.boolean() == right.boolean(),
                    (Value::Number(_), _) | (_, Value::Number(_)) => a == b,
                    _ => left.text(self.document) == right.text(self.document),
                };
                match operator {
                    "=" => equal,
                    "!=" => !equal,
                    "<" => a < b,
                    "<=" => a <= b,
                    ">" => a > b,
                    _ => a >= b,
                }
            }
        }
    }

    fn call(self, name: &str, arguments: &[Expression]) -> Result<Value> {
        let document = self.document;
        let here = Value::Nodes(vec![self.node]);
        let value = |i: usize| arguments.get(i).map_or_else(|| Ok(here.clone()), |argument| self.value(argument));
        let text = |i: usize| Ok::<_, crate::error::Error>(value(i)?.text(document));
        let number = |i: usize| Ok::<_, crate::error::Error>(value(i)?.number(document));
        let nodes = |i: usize| match arguments.get(i) {
            Some(argument) => self.nodes(argument),
            None => Ok(vec![self.node]),
        };
        let arity = match name {
            "last" | "position" | "true" | "false" => 0..=0,
            "name" | "local-name" | "string" | "string-length" | "normalize-space" | "number" => 0..=1,
            "count" | "sum" | "boolean" | "not" | "floor" | "ceiling" | "round" => 1..=1,
            "starts-with" | "contains" | "substring-before" | "substring-after" => 2..=2,
            "substring" => 2..=3,
            "translate" => 3..=3,
            "concat" => 2..=usize::MAX,
            _ => return Err(invalid(name, "there is no such function")),
        };
        if !arity.contains(&arguments.len()) {
            return Err(invalid(name, format!("the function does not take {} arguments", arguments.len())));
        }
        Ok(match name {
            "last" => Value::Number(self.size as f64),
            "position" => Value::Number(self.position as f64),
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "count" => Value::Number(nodes(0)?.len() as f64),
            "sum" => Value::Number(nodes(0)?.iter().map(|node| number_of(&document.text_of(*node))).sum()),
            "name" => Value::Text(nodes(0)?.first().map(|node| document.name(*node).to_owned()).unwrap_or_default()),
            "local-name" => {
                let name = nodes(0)?.first().map(|node| document.name(*node).to_owned()).unwrap_or_default();
                Value::Text(name.rsplit(':').next().unwrap_or_default().to_owned())
            }
            "string" => Value::Text(text(0)?),
            "string-length" => Value::Number(text(0)?.chars().count() as f64),
            "normalize-space" => Value::Text(text(0)?.split_whitespace().collect::<Vec<_>>().join(" ")),
            "number" => Value::Number(number(0)?),
            "boolean" => Value::Boolean(value(0)?.boolean()),
            "not" => Value::Boolean(!value(0)?.boolean()),
            "floor" => Value::Number(number(0)?.floor()),
            "ceiling" => Value::Number(number(0)?.ceil()),
            // Halves are rounded up, also below 0.
            "round" => Value::Number((number(0)? + 0.5).floor()),
            "starts-with" => Value::Boolean(text(0)?.starts_with(&text(1)?)),
            "contains" => Value::Boolean(text(0)?.contains(&text(1)?)),
            "substring-before" => {
                Value::Text(text(0)?.split_once(&text(1)?).map(|(before, _)| before.to_owned()).unwrap_or_default())
            }
            "substring-after" => {
                Value::Text(text(0)?.split_once(&text(1)?).map(|(_, after)| after.to_owned()).unwrap_or_default())
            }
            "substring" => {
                let first = (number(1)? + 0.5).floor();
                let end = if arguments.len() > 2 { first + (number(2)? + 0.5).floor() } else { f64::INFINITY };
                let within = |(i, _): &(usize, char)| (*i + 1) as f64 >= first && ((*i + 1) as f64) < end;
                Value::Text(text(0)?.chars().enumerate().filter(within).map(|(_, c)| c).collect())
            }
            "translate" => {
                let (from, to): (Vec<char>, Vec<char>) = (text(1)?.chars().collect(), text(2)?.chars().collect());
                let other = |c: char| match from.iter().position(|known| *known == c) {
                    Some(at) => to.get(at).copied(),
                    None => Some(c),
                };
                Value::Text(text(0)?.chars().filter_map(other).collect())
            }
            _ => {
                let parts = (0..arguments.len()).map(text).collect::<Result<Vec<_>>>()?;
                Value::Text(parts.concat())
            }
        })
    }
}
