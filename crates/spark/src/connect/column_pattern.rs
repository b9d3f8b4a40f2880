//! `colRegex`: the columns whose names match a regular expression as Java has them.
//!
//! Java's know possessive quantifiers, which give nothing back of what they have taken: `(a|b)?+.+` is every name but
//! `a` and `b`. Rust's do not, so an expression is cut at those that stand at its top, and its pieces are matched one
//! after the other.

use regex::{Regex, RegexBuilder};

use crate::error::{Error, Result};

/// What a name must match as a whole.
#[derive(Debug)]
pub(super) struct ColumnPattern(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    /// Takes as much as lets the rest match.
    Plain(Regex),
    /// Takes as much as it can.
    Possessive(Regex),
}

impl ColumnPattern {
    /// # Errors
    /// `User` if it is no regular expression; `Unsupported` for possessive quantifiers within groups or alternatives.
    pub(super) fn new(text: &str, case_sensitive: bool) -> Result<Self> {
        let invalid = |error| Error::user(format!("`{text}` is not a valid regular expression")).with_source(error);
        let regex =
            |pattern: String| RegexBuilder::new(&pattern).case_insensitive(!case_sensitive).build().map_err(invalid);
        let atoms = atoms(text);
        if !atoms.iter().any(|atom| atom.possessive) {
            refuse_nested(text, text)?;
            return Ok(Self(vec![Piece::Plain(regex(format!("^(?:{text})$"))?)]));
        }
        if atoms.iter().any(|atom| atom.text == "|") {
            return Err(unsupported(text));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        for atom in atoms {
            refuse_nested(atom.text, text)?;
            if !atom.possessive {
                plain.push_str(atom.text);
                continue;
            }
            if !plain.is_empty() {
                pieces.push(Piece::Plain(regex(format!("^(?:{})$", std::mem::take(&mut plain)))?));
            }
            pieces.push(Piece::Possessive(regex(format!("^(?:{})", atom.text))?));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Plain(regex(format!("^(?:{plain})$"))?));
        }
        Ok(Self(pieces))
    }

    /// Whether the whole name matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }
}

fn matches(pieces: &[Piece], name: &str) -> bool {
    match pieces {
        [] => name.is_empty(),
        [Piece::Plain(only)] => only.is_match(name),
        [Piece::Plain(first), rest @ ..] => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.rev().any(|end| first.is_match(&name[..end]) && matches(rest, &name[end..]))
        }
        [Piece::Possessive(first), rest @ ..] => {
            first.find(name).is_some_and(|taken| matches(rest, &name[taken.end()..]))
        }
    }
}

/// An atom of an expression with its quantifier; without the `+` that makes it possessive.
struct Atom<'a> {
    text: &'a str,
    possessive: bool,
}

fn atoms(text: &str) -> Vec<Atom<'_>> {
    let mut atoms = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let atom = atom_length(rest);
        let quantifier = quantifier_length(&rest[atom..]);
        let (text, after) = rest.split_at(atom + quantifier);
        let possessive = quantifier > 0 && after.starts_with('+');
        atoms.push(Atom { text, possessive });
        rest = if possessive { &after[1..] } else { after };
    }
    atoms
}

/// The bytes of the first atom: a group, a class, an escape or a character.
fn atom_length(text: &str) -> usize {
    let mut chars = text.chars();
    match chars.next() {
        Some('(') => group_length(text),
        Some('[') => class_length(text),
        Some('\\') => {
            let escaped = chars.next();
            let length = 1 + escaped.map_or(0, char::len_utf8);
            // `\p{Lu}`, `\x{41}`
            match escaped {
                Some('p' | 'P' | 'x') if text[length..].starts_with('{') => up_to(text, '}'),
                _ => length,
            }
        }
        Some(other) => other.len_utf8(),
        None => 0,
    }
}

fn group_length(text: &str) -> usize {
    let mut at = 1;
    while at < text.len() && !text[at..].starts_with(')') {
        at += atom_length(&text[at..]);
    }
    (at + 1).min(text.len())
}

fn class_length(text: &str) -> usize {
    let mut at = if text.starts_with("[^") { 2 } else { 1 };
    // A bracket that comes first is a character.
    if text[at..].starts_with(']') {
        at += 1;
    }
    while at < text.len() && !text[at..].starts_with(']') {
        at += atom_length(&text[at..]);
    }
    (at + 1).min(text.len())
}

fn quantifier_length(text: &str) -> usize {
    match text.chars().next() {
        Some('?' | '*' | '+') => 1,
        Some('{') => up_to(text, '}'),
        _ => 0,
    }
}

/// The bytes up to and with a character, or all.
fn up_to(text: &str, end: char) -> usize {
    text.find(end).map_or(text.len(), |at| at + end.len_utf8())
}

/// A possessive quantifier in a group would be another one to Rust.
fn refuse_nested(text: &str, whole: &str) -> Result<()> {
    for atom in atoms(text) {
        if atom.text.starts_with('(') {
            let inner = &atom.text[1..group_length(atom.text) - 1];
            if atoms(inner).iter().any(|atom| atom.possessive) {
                return Err(unsupported(whole));
            }
            refuse_nested(inner, whole)?;
        }
    }
    Ok(())
}

fn unsupported(text: &str) -> Error {
    Error::unsupported(format!("a possessive quantifier within a group or an alternative, in `{text}`"))
        .with_help("Name the columns, or write the quantifier at the top of the expression: `(a|b)?+.+`.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["Col1", "Col2", "xCol1y", "ab"];

    fn check(pattern: &str, expected: &[&str]) {
        let pattern = ColumnPattern::new(pattern, false).unwrap();
        let found: Vec<_> = NAMES.into_iter().filter(|name| pattern.matches(name)).collect();
        assert_eq!(found, expected, "{pattern:?}");
    }

    /// The answers are Spark's.
    #[test]
    fn possessive_quantifiers_give_nothing_back() {
        check("(Col1)?+.+", &["Col2", "xCol1y", "ab"]);
        check("(Col1|ab)?+.+", &["Col2", "xCol1y"]);
        check("C.*+", &["Col1", "Col2"]);
        check(".*+1", &[]);
        check("x?+.+", &["Col1", "Col2", "xCol1y", "ab"]);
        check("(?:C|x)++.*", &["Col1", "Col2", "xCol1y"]);
        check("[Cx]{1}+.*", &["Col1", "Col2", "xCol1y"]);
    }

    #[test]
    fn other_expressions_are_as_they_are() {
        check("col[12]", &["Col1", "Col2"]);
        check("[?+]*ab", &["ab"]);
        check(r".*\d", &["Col1", "Col2"]);
        check(r"\p{Lu}+", &["ab"]);
    }

    #[test]
    fn nested_ones_are_refused() {
        for pattern in ["((Col1)?+)+.+", "a?+|b"] {
            assert_eq!(ColumnPattern::new(pattern, false).unwrap_err().kind(), crate::error::Kind::Unsupported);
        }
    }
}
