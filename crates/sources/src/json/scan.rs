//! Finds values in JSON text: a validating scanner that yields spans and builds nothing.

use std::borrow::Cow;

use deltaworks_spark::Result;

use crate::options::Options;

/// Deeper nesting is malformed.
const MAX_DEPTH: usize = 500;

/// Departures from the JSON standard that are accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    single_quotes: bool,
    unquoted_names: bool,
    comments: bool,
    leading_zeros: bool,
    non_numeric: bool,
    any_escape: bool,
    control_chars: bool,
}

impl Dialect {
    pub(super) fn parse(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            single_quotes: options.flag("allowSingleQuotes", true)?,
            unquoted_names: options.flag("allowUnquotedFieldNames", false)?,
            comments: options.flag("allowComments", false)?,
            leading_zeros: options.flag("allowNumericLeadingZeros", false)?,
            non_numeric: options.flag("allowNonNumericNumbers", true)?,
            any_escape: options.flag("allowBackslashEscapingAnyCharacter", false)?,
            control_chars: options.flag("allowUnquotedControlChars", false)?,
        })
    }
}

/// What kind of value a span holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    /// The span is without its quotes.
    String {
        escaped: bool,
    },
    Number {
        float: bool,
    },
    True,
    False,
    Null,
}

/// A value in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    fn moved_by(self, bytes: usize) -> Self {
        Self { start: self.start + bytes, end: self.end + bytes, ..self }
    }

    /// The text of the span.
    pub(super) fn of<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// The string the span stands for, if it is one.
    pub(super) fn string<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.kind {
            Kind::String { escaped: true } => Cow::Owned(unescaped(self.of(text))),
            _ => Cow::Borrowed(self.of(text)),
        }
    }
}

/// The names of an object's fields as they stood in the text, with quotes, blanks and colon. Lines of a file mostly have the same, which
/// one comparison finds out.
#[derive(Debug, Default)]
pub(super) struct Shape {
    heads: Vec<(Box<[u8]>, Span)>,
}

/// The name of a field, and where it was found.
pub(super) struct FieldName {
    pub(super) name: Span,
    /// Its place in the object.
    pub(super) nth: usize,
    /// Whether the field at that place of the last object had the same.
    pub(super) same: bool,
}

impl Shape {
    /// Forgets the last object.
    pub(super) fn clear(&mut self) {
        self.heads.clear();
    }

    /// The length of what stands before the value, and the name in it, if it is what stood there last.
    #[inline]
    fn at(&self, nth: usize, text: &[u8]) -> Option<(usize, Span)> {
        let (head, name) = self.heads.get(nth)?;
        text.starts_with(head).then_some((head.len(), *name))
    }

    fn set(&mut self, nth: usize, head: &[u8], name: Span, start: usize) {
        self.heads.truncate(nth);
        self.heads.push((head.into(), Span { start: name.start - start, end: name.end - start, ..name }));
    }
}

/// A position in a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(super) position: usize,
    dialect: Dialect,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { text, bytes: text.as_bytes(), position: 0, dialect, depth: 0 }
    }

    /// A scanner over a value found before.
    pub(super) fn at(text: &'a str, span: Span, dialect: Dialect) -> Self {
        Self { position: span.start, ..Self::new(text, dialect) }
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.position) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.position += 1,
                Some(b'/') if self.dialect.comments => self.comment()?,
                other => return other.copied(),
            }
        }
    }

    fn comment(&mut self) -> Option<()> {
        let rest = &self.bytes[self.position..];
        let length = match rest.get(1)? {
            b'/' => memchr::memchr(b'\n', rest).unwrap_or(rest.len()),
            b'*' => memchr::memmem::find(&rest[2..], b"*/")? + 4,
            _ => return None,
        };
        self.position += length;
        Some(())
    }

    /// Whether nothing but blanks is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.peek().is_none() && self.position >= self.bytes.len()
    }

    /// The next value. `None`: malformed.
    pub(super) fn value(&mut self) -> Option<Span> {
        let first = self.peek()?;
        let start = self.position;
        let kind = match first {
            b'"' => return self.string(b'"'),
            b'\'' if self.dialect.single_quotes => return self.string(b'\''),
            b'{' => {
                self.object(&mut |_, _| ())?;
                Kind::Object
            }
            b'[' => {
                self.array(&mut |_| ())?;
                Kind::Array
            }
            b't' => self.word("true", Kind::True)?,
            b'f' => self.word("false", Kind::False)?,
            b'n' => self.word("null", Kind::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            b'N' if self.dialect.non_numeric => self.word("NaN", Kind::Number { float: true })?,
            b'I' if self.dialect.non_numeric => self.infinity()?,
            b'+' if self.dialect.non_numeric => {
                self.position += 1;
                self.infinity()?
            }
            _ => return None,
        };
        Some(Span { kind, start, end: self.position })
    }

    fn word(&mut self, word: &str, kind: Kind) -> Option<Kind> {
        self.bytes[self.position..].starts_with(word.as_bytes()).then(|| {
            self.position += word.len();
            kind
        })
    }

    fn infinity(&mut self) -> Option<Kind> {
        self.word("Infinity", Kind::Number { float: true }).or_else(|| self.word("INF", Kind::Number { float: true }))
    }

    fn number(&mut self) -> Option<Kind> {
        if self.bytes[self.position] == b'-' {
            self.position += 1;
            if self.dialect.non_numeric && self.bytes.get(self.position) == Some(&b'I') {
                return self.infinity();
            }
        }
        let whole = self.position;
        let length = self.digits()?;
        if length > 1 && self.bytes[whole] == b'0' && !self.dialect.leading_zeros {
            return None;
        }
        let mut float = false;
        if self.bytes.get(self.position) == Some(&b'.') {
            float = true;
            self.position += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.position) {
            float = true;
            self.position += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.position) {
                self.position += 1;
            }
            self.digits()?;
        }
        match self.bytes.get(self.position) {
            Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => None,
            _ => Some(Kind::Number { float }),
        }
    }

    fn digits(&mut self) -> Option<usize> {
        let length = self.bytes[self.position..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.position += length;
        (length > 0).then_some(length)
    }

    fn string(&mut self, quote: u8) -> Option<Span> {
        self.position += 1;
        let start = self.position;
        let mut escaped = false;
        loop {
            self.position += plain_length(&self.bytes[self.position..], quote);
            let byte = *self.bytes.get(self.position)?;
            if byte == quote {
                let end = self.position;
                self.position += 1;
                return Some(Span { kind: Kind::String { escaped }, start, end });
            }
            if byte == b'\\' {
                escaped = true;
                self.escape(quote)?;
            } else if self.dialect.control_chars {
                self.position += 1;
            } else {
                return None;
            }
        }
    }

    fn escape(&mut self, quote: u8) -> Option<()> {
        let next = *self.bytes.get(self.position + 1)?;
        self.position += match next {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => {
                let hex = self.bytes.get(self.position + 2..self.position + 6)?;
                hex.iter().all(u8::is_ascii_hexdigit).then_some(6)?
            }
            _ if next == quote => 2,
            _ if self.dialect.any_escape => 1 + self.text.get(self.position + 1..)?.chars().next()?.len_utf8(),
            _ => return None,
        };
        Some(())
    }

    fn name(&mut self) -> Option<Span> {
        match self.peek()? {
            b'"' => self.string(b'"'),
            b'\'' if self.dialect.single_quotes => self.string(b'\''),
            _ if self.dialect.unquoted_names => {
                let start = self.position;
                let rest = &self.text[start..];
                let length = rest.find(|c: char| !(c.is_alphanumeric() || "_-$@#*".contains(c))).unwrap_or(rest.len());
                self.position += length;
                (length > 0).then_some(Span { kind: Kind::String { escaped: false }, start, end: self.position })
            }
            _ => None,
        }
    }

    /// Goes through an object. `None`: malformed.
    pub(super) fn object(&mut self, visit: &mut impl FnMut(Span, Span)) -> Option<()> {
        self.fields(None, &mut |field, value| visit(field.name, value))
    }

    /// Goes through an object that most likely has the names of the last one. `None`: malformed.
    pub(super) fn object_like(&mut self, last: &mut Shape, visit: &mut impl FnMut(FieldName, Span)) -> Option<()> {
        self.fields(Some(last), visit)
    }

    #[inline]
    fn fields(&mut self, mut shape: Option<&mut Shape>, visit: &mut impl FnMut(FieldName, Span)) -> Option<()> {
        self.enter()?;
        if self.peek()? == b'}' {
            return self.leave();
        }
        for nth in 0.. {
            let start = self.position;
            let known = shape.as_ref().and_then(|shape| shape.at(nth, &self.bytes[start..]));
            let (name, same) = match known {
                Some((length, name)) => {
                    self.position += length;
                    (name.moved_by(start), true)
                }
                None => {
                    let name = self.name()?;
                    (self.peek()? == b':').then_some(())?;
                    self.position += 1;
                    if let Some(shape) = &mut shape {
                        shape.set(nth, &self.bytes[start..self.position], name, start);
                    }
                    (name, false)
                }
            };
            let value = self.value()?;
            visit(FieldName { name, nth, same }, value);
            match self.peek()? {
                b',' => self.position += 1,
                b'}' => return self.leave(),
                _ => break,
            }
        }
        None
    }

    /// Goes through an array. `None`: malformed.
    pub(super) fn array(&mut self, visit: &mut impl FnMut(Span)) -> Option<()> {
        self.enter()?;
        if self.peek()? == b']' {
            return self.leave();
        }
        loop {
            let value = self.value()?;
            visit(value);
            match self.peek()? {
                b',' => self.position += 1,
                b']' => return self.leave(),
                _ => return None,
            }
        }
    }

    fn enter(&mut self) -> Option<()> {
        self.depth += 1;
        self.position += 1;
        (self.depth <= MAX_DEPTH).then_some(())
    }

    fn leave(&mut self) -> Option<()> {
        self.depth -= 1;
        self.position += 1;
        Some(())
    }
}

/// The number of bytes before the first that ends a string or needs a closer look: a quote, a backslash, a
/// control character. Strings are most of what there is in JSON, so eight bytes are looked at in one go.
fn plain_length(bytes: &[u8], quote: u8) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    // The high bit of the lowest byte that is below `limit` is set; bits above that one may be wrong.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH_BITS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = below(word ^ (ONES * u64::from(quote)), 1);
        let backslashes = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quotes | backslashes | below(word, 0x20);
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &u8| *byte != quote && *byte != b'\\' && *byte >= 0x20;
    words.len() * 8 + rest.iter().take_while(|byte| plain(byte)).count()
}

fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { break };
        rest = chars.as_str();
        match c {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => rest = unicode(rest, &mut text),
            other => text.push(other),
        }
    }
    text.push_str(rest);
    text
}

/// Reads four hex digits, and the second half of a surrogate pair.
fn unicode<'a>(rest: &'a str, text: &mut String) -> &'a str {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let Some(high) = unit(rest) else { return rest };
    let after = &rest[4..];
    if let (0xD800..=0xDBFF, Some(low)) = (high, after.strip_prefix("\\u").and_then(unit))
        && (0xDC00..=0xDFFF).contains(&low)
    {
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        return &after[6..];
    }
    text.push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
    after
}

/// A value as JSON text without blanks between its parts, strings in standard form.
pub(super) fn compact(text: &str, span: Span, dialect: Dialect, out: &mut String) {
    match span.kind {
        Kind::String { .. } => write_string(&span.string(text), out),
        Kind::Object => {
            out.push('{');
            let mut first = true;
            Scanner::at(text, span, dialect).object(&mut |name, value| {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                write_string(&name.string(text), out);
                out.push(':');
                compact(text, value, dialect, out);
            });
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            let mut first = true;
            Scanner::at(text, span, dialect).array(&mut |value| {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                compact(text, value, dialect, out);
            });
            out.push(']');
        }
        _ => out.push_str(span.of(text)),
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Dialect, Kind, Scanner, Shape, Span, plain_length};

    const DIALECT: Dialect = Dialect {
        single_quotes: true,
        unquoted_names: true,
        comments: false,
        leading_zeros: false,
        non_numeric: true,
        any_escape: false,
        control_chars: false,
    };

    /// The names and values of an object, which is told by what a reader does that looks names up once per shape.
    fn with_shape(text: &str, shape: &mut Shape, names: &mut Vec<String>) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let end = Scanner::new(text, DIALECT).object_like(shape, &mut |field, value: Span| {
            if !field.same {
                names.truncate(field.nth);
                names.push(field.name.string(text).into_owned());
            }
            assert_eq!(names[field.nth], field.name.string(text));
            found.push((names[field.nth].clone(), value.of(text).to_owned()));
        });
        if end.is_none() {
            shape.clear();
        }
        end.map(|()| found)
    }

    fn without_shape(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut visit = |name: Span, value: Span| {
            assert!(matches!(name.kind, Kind::String { .. }));
            found.push((name.string(text).into_owned(), value.of(text).to_owned()));
        };
        Scanner::new(text, DIALECT).object(&mut visit).map(|()| found)
    }

    /// A field as somebody may write it: names that begin alike, of several spellings, with blanks anywhere; some are broken.
    fn field() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["\"a\"", "\"ab\"", "'a'", "a", "\"a:\"", "\"\\u0061\"", "\"\"", "\"a"]);
        let value = prop::sample::select(vec!["1", "\"x, y\"", "{\"a\":2}", "[1, 2]", "null", "-0.5e3", "", "t"]);
        let blank = || prop::sample::select(vec!["", "", " "]);
        (blank(), name, blank(), blank(), value, blank())
            .prop_map(|(a, name, b, c, value, d)| format!("{a}{name}{b}:{c}{value}{d}"))
    }

    proptest! {
        #[test]
        fn objects_are_the_same_whatever_came_before(
            lines in prop::collection::vec(prop::collection::vec(field(), 0..4), 1..12),
            repeats in 1..3_usize,
        ) {
            let (mut shape, mut names) = (Shape::default(), Vec::new());
            for fields in lines.iter().flat_map(|fields| std::iter::repeat_n(fields, repeats)) {
                let text = format!("{{{}}}", fields.join(","));
                prop_assert_eq!(with_shape(&text, &mut shape, &mut names), without_shape(&text), "{}", text);
            }
        }

        #[test]
        fn plain_length_is_that_of_a_plain_loop(bytes in proptest::collection::vec(any::<u8>(), 0..40), plain in 0..40usize) {
            let mut bytes: Vec<u8> = bytes;
            // Long stretches without a special byte are rare among random ones.
            bytes.iter_mut().take(plain).for_each(|byte| *byte |= 0x80);
            let expected = bytes.iter().take_while(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\')).count();
            prop_assert_eq!(plain_length(&bytes, b'"'), expected);
        }
    }
}
