//! JSON as people write it, made strict: quotes of either kind, names without quotes, comments, leading zeros.

use std::borrow::Cow;

/// What a text may have that strict JSON has not; Spark allows single quotes unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relaxed {
    /// `allowSingleQuotes`
    pub single_quotes: bool,
    /// `allowUnquotedFieldNames`
    pub unquoted_names: bool,
    /// `allowComments`: of Java and C++.
    pub comments: bool,
    /// `allowNumericLeadingZeros`
    pub leading_zeros: bool,
    /// `allowBackslashEscapingAnyCharacter`
    pub any_escape: bool,
    /// `allowNonNumericNumbers`: `NaN` and `Infinity`, which become texts.
    pub non_numeric: bool,
}

impl Default for Relaxed {
    fn default() -> Self {
        Self {
            single_quotes: true,
            unquoted_names: false,
            comments: false,
            leading_zeros: false,
            any_escape: false,
            non_numeric: true,
        }
    }
}

impl Relaxed {
    /// The text as strict JSON means it; what is neither is left as it is, for the reader to refuse.
    pub fn strict<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let names_or_zeros = self.unquoted_names || self.leading_zeros;
        let may_differ = |byte: u8| match byte {
            b'\'' => self.single_quotes,
            b'/' => self.comments,
            b'\\' => self.any_escape,
            _ => false,
        };
        let non_numeric = self.non_numeric && (text.contains("NaN") || text.contains("Infinity"));
        if !names_or_zeros && !non_numeric && !text.bytes().any(may_differ) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 8);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '"' => self.quoted(rest, '"', &mut out),
                '\'' if self.single_quotes => self.quoted(rest, '\'', &mut out),
                '/' if self.comments && rest.starts_with("//") => rest.split_once('\n').map_or("", |(_, after)| after),
                '/' if self.comments && rest.starts_with("/*") => rest.split_once("*/").map_or("", |(_, after)| after),
                '-' if self.non_numeric && rest.starts_with("-Infinity") => {
                    out.push_str("\"-Infinity\"");
                    &rest["-Infinity".len()..]
                }
                c if starts_name(c) => self.word(rest, &mut out),
                c if c.is_ascii_digit() => self.number(rest, &mut out),
                c => {
                    out.push(c);
                    &rest[c.len_utf8()..]
                }
            };
        }
        Cow::Owned(out)
    }

    /// A text in quotes; gives what follows it.
    fn quoted<'t>(&self, text: &'t str, quote: char, out: &mut String) -> &'t str {
        out.push('"');
        let mut chars = text[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    out.push('"');
                    return &text[1 + at + 1..];
                }
                '"' => out.push_str("\\\""),
                '\\' => match chars.next() {
                    Some((_, '\'')) if self.single_quotes || self.any_escape => out.push('\''),
                    Some((_, known @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u'))) => {
                        out.extend(['\\', known])
                    }
                    Some((_, other)) if self.any_escape => out.push(other),
                    Some((_, other)) => out.extend(['\\', other]),
                    None => out.push('\\'),
                },
                c => out.push(c),
            }
        }
        ""
    }

    /// A name before a colon, or a word such as `true`.
    fn word<'t>(&self, text: &'t str, out: &mut String) -> &'t str {
        let end = text.find(|c| !(starts_name(c) || char::is_ascii_digit(&c))).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if self.unquoted_names && rest.trim_start().starts_with(':') {
            out.extend(['"', '"']);
            out.insert_str(out.len() - 1, word);
        } else if self.non_numeric && matches!(word, "NaN" | "Infinity") {
            out.extend(["\"", word, "\""]);
        } else {
            out.push_str(word);
        }
        rest
    }

    fn number<'t>(&self, text: &'t str, out: &mut String) -> &'t str {
        let of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        let (number, rest) = text.split_at(text.find(|c| !of_number(c)).unwrap_or(text.len()));
        let significant = number.trim_start_matches('0');
        let zero = if significant.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
        if self.leading_zeros {
            out.push_str(zero);
            out.push_str(significant);
        } else {
            out.push_str(number);
        }
        rest
    }
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Relaxed = Relaxed {
        single_quotes: true,
        unquoted_names: true,
        comments: true,
        leading_zeros: true,
        any_escape: true,
        non_numeric: true,
    };

    #[test]
    fn texts_become_strict() {
        for (relaxed, text, expected) in [
            (Relaxed::default(), r#"{"a": "it's"}"#, r#"{"a": "it's"}"#),
            (Relaxed::default(), r#"{'a': 'x"y'}"#, r#"{"a": "x\"y"}"#),
            (Relaxed::default(), r"{'a': 'it\'s'}", r#"{"a": "it's"}"#),
            (Relaxed::default(), "{a: 1}", "{a: 1}"),
            (Relaxed::default(), r#"[NaN, -Infinity, "NaN", NaNa]"#, r#"["NaN", "-Infinity", "NaN", NaNa]"#),
            (ALL, "{a: 1, $b_2 : true}", r#"{"a": 1, "$b_2" : true}"#),
            (ALL, "{a: 007, b: 0.5, c: 00}", r#"{"a": 7, "b": 0.5, "c": 0}"#),
            (ALL, "{/* x */ a: 1 // y\n}", "{ \"a\": 1 }"),
            (ALL, r#"{"a": "\q\n"}"#, r#"{"a": "q\n"}"#),
            (ALL, "{'a", r#"{"a"#),
        ] {
            assert_eq!(relaxed.strict(text), expected, "{text}");
        }
    }
}
