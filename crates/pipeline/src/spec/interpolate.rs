//! `${…}` in a bundle: variables, the target, the user, and any other value of the bundle by its path.

use std::collections::BTreeMap;

use deltaworks_spark::diagnostic::Diagnostic;

use super::node::{Node, Value};

/// What references may name.
pub(super) struct Scope<'a> {
    /// The whole bundle, the target laid over.
    pub root: &'a Node,
    /// The variables; `None` for those without a value.
    pub variables: BTreeMap<String, Option<Node>>,
    /// What the bundle does not say itself: target, user, paths.
    pub fixed: BTreeMap<String, String>,
}

/// References within referenced values are followed this deep; deeper is a circle.
const DEPTH: usize = 16;

impl Scope<'_> {
    /// `node` with every reference filled in; those that lead nowhere are reported and stay.
    pub fn fill(&self, node: &Node, found: &mut Vec<Diagnostic>) -> Node {
        self.fill_within(node, DEPTH, found)
    }

    /// The text a reference stands for, if it leads to one.
    pub fn lookup_text(&self, reference: &str) -> Option<String> {
        let mut found = Vec::new();
        let text = self.lookup(reference, self.root, DEPTH, &mut found).ok()?.text().map(str::to_owned);
        text.filter(|_| found.is_empty())
    }

    fn fill_within(&self, node: &Node, depth: usize, found: &mut Vec<Diagnostic>) -> Node {
        let value = match &node.value {
            Value::List(items) => Value::List(items.iter().map(|item| self.fill_within(item, depth, found)).collect()),
            Value::Map(entries) => Value::Map(
                entries.iter().map(|(key, value)| (key.clone(), self.fill_within(value, depth, found))).collect(),
            ),
            Value::Scalar { text, .. } if text.contains("${") => return self.fill_text(node, text, depth, found),
            other => other.clone(),
        };
        Node { value, ..node.clone() }
    }

    fn fill_text(&self, node: &Node, text: &str, depth: usize, found: &mut Vec<Diagnostic>) -> Node {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { break };
            let reference = &rest[start + 2..start + length];
            let replacement = match self.lookup(reference.trim(), node, depth, found) {
                Ok(value) => value,
                Err(message) => {
                    found.push(Diagnostic::error(message).at(node.location()));
                    node.with_text(format!("${{{reference}}}"))
                }
            };
            // A text that is nothing but a reference may stand for a list or a map.
            if start == 0 && length + 1 == rest.len() && filled.is_empty() {
                return Node { value: replacement.value, ..node.clone() };
            }
            filled.push_str(&rest[..start]);
            match replacement.text() {
                Some(text) => filled.push_str(text),
                None => found.push(
                    Diagnostic::error(format!(
                        "`${{{reference}}}` is {}, which cannot stand within a text",
                        replacement.type_name()
                    ))
                    .at(node.location()),
                ),
            }
            rest = &rest[start + length + 1..];
        }
        filled.push_str(rest);
        node.with_text(filled)
    }

    fn lookup(&self, reference: &str, from: &Node, depth: usize, found: &mut Vec<Diagnostic>) -> Result<Node, String> {
        if depth == 0 {
            return Err(format!("reference `${{{reference}}}` goes in a circle"));
        }
        if let Some(text) = self.fixed.get(reference) {
            return Ok(self.fill_within(&from.with_text(text), depth - 1, found));
        }
        let (head, rest) = reference.split_once('.').unwrap_or((reference, ""));
        let value = match head {
            "var" | "variables" => {
                let (name, path) = rest.split_once('.').unwrap_or((rest, ""));
                let variable = self.variables.get(name).ok_or_else(|| format!("variable `{name}` is not declared"))?;
                let variable = variable
                    .as_ref()
                    .ok_or_else(|| format!("variable `{name}` has no value; give one with --var {name}=VALUE"))?;
                descend(variable, path)
            }
            _ => descend(self.root, reference),
        };
        let value = value.ok_or_else(|| format!("reference `${{{reference}}}` leads nowhere"))?;
        Ok(self.fill_within(value, depth - 1, found))
    }
}

fn descend<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(node, |node, part| node.get(part))
}
