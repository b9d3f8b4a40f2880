//! Text: regular expressions, positions, casts by name.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use regex::Regex;

use super::udf::{BINARY, BOOLEAN, Call, DOUBLE, Function, INT, LONG, Returns, TEXT, function, map_text};
use crate::error::{Error, Result};
use crate::types::array;

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["upper", "ucase"], (1, 1), TEXT, |c| map_text(c, |s| Some(Cow::Owned(s.to_uppercase())))),
    function(&["lower", "lcase"], (1, 1), TEXT, |c| map_text(c, |s| Some(Cow::Owned(s.to_lowercase())))),
    function(&["initcap"], (1, 1), TEXT, |c| map_text(c, |s| Some(Cow::Owned(initcap(s))))),
    function(&["regexp_replace"], (3, 4), TEXT, regexp_replace).compiles(1),
    function(&["regexp_extract"], (2, 3), TEXT, regexp_extract).compiles(1),
    function(&["rlike", "regexp", "regexp_like"], (2, 2), BOOLEAN, rlike).compiles(1),
    function(&["split"], (2, 3), Returns::Type(|| array(DataType::Utf8)), split).compiles(1),
    function(&["instr"], (2, 2), INT, |c| positions(&c.text(0)?, &c.text(1)?)),
    function(&["string"], (1, 1), TEXT, by_name),
    function(&["int"], (1, 1), INT, by_name),
    function(&["bigint"], (1, 1), LONG, by_name),
    function(&["smallint"], (1, 1), Returns::Type(|| DataType::Int16), by_name),
    function(&["tinyint"], (1, 1), Returns::Type(|| DataType::Int8), by_name),
    function(&["float"], (1, 1), Returns::Type(|| DataType::Float32), by_name),
    function(&["double"], (1, 1), DOUBLE, by_name),
    function(&["boolean"], (1, 1), BOOLEAN, by_name),
    function(&["binary"], (1, 1), BINARY, by_name),
];

fn by_name(call: &Call<'_>) -> Result<ArrayRef> {
    call.cast(0, call.result())
}

fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            // Of a letter that becomes several only the first is a capital.
            let mut capitals = c.to_uppercase();
            out.extend(capitals.next());
            out.extend(capitals.flat_map(char::to_lowercase));
        } else {
            out.extend(c.to_lowercase())
        }
        start = c == ' ';
    }
    out
}

/// The pattern of argument 1; `None` if it is NULL.
pub(super) fn regex(call: &Call<'_>) -> Result<Option<Regex>> {
    match call.constant_text(1) {
        Some(None) => Ok(None),
        Some(Some(pattern)) => java_regex(&pattern).map(Some),
        None => Err(Error::internal("a regular expression that is not a constant")),
    }
}

/// A regular expression that is written as in Java.
pub(super) fn java_regex(pattern: &str) -> Result<Regex> {
    Regex::new(&java_pattern(pattern)).map_err(|error| {
        Error::user(format!("the regular expression `{pattern}` cannot be used: {error}"))
            .with_condition("INVALID_PARAMETER_VALUE.PATTERN")
            .with_help("Look-around and back-references are not available.")
    })
}

/// A regular expression of Java as the regex crate writes it: `\w`, `\d` and `\s` are ASCII only, `\Q…\E` is literal.
pub(crate) fn java_pattern(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut classes = 0_usize;
    while let Some(c) = rest.chars().next() {
        let (taken, written) = match c {
            '\\' => {
                let escaped = rest[1..].chars().next();
                if escaped == Some('Q') {
                    let (literal, after) = rest[2..].split_once("\\E").unwrap_or((&rest[2..], ""));
                    out.push_str(&regex::escape(literal));
                    rest = after;
                    continue;
                }
                let taken = 1 + escaped.map_or(0, char::len_utf8);
                (taken, escaped.and_then(|kind| ascii_class(kind, classes > 0)))
            }
            '[' => {
                classes += 1;
                // A bracket that closes at once is meant literally.
                let open = if rest[1..].starts_with('^') { 2 } else { 1 };
                (open + usize::from(rest[open..].starts_with(']')), None)
            }
            ']' => {
                classes = classes.saturating_sub(1);
                (1, None)
            }
            c => (c.len_utf8(), None),
        };
        out.push_str(written.unwrap_or(&rest[..taken]));
        rest = &rest[taken..];
    }
    out
}

/// The ASCII characters of `\w` and its kin, alone or within brackets.
fn ascii_class(kind: char, within: bool) -> Option<&'static str> {
    Some(match (kind, within) {
        ('w', true) => "0-9A-Za-z_",
        ('w', false) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('d', true) => "0-9",
        ('d', false) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('s', true) => r"\t\n\x0B\f\r\x20",
        ('s', false) => r"[\t\n\x0B\f\r\x20]",
        ('S', _) => r"[^\t\n\x0B\f\r\x20]",
        _ => return None,
    })
}

/// Java's `$1` as the regex crate writes it, so that `$1x` is group 1 and not a group named `1x`.
fn java_replacement(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                out.extend(chars.next());
                out.push('}');
            }
            other => out.push(other),
        }
    }
    out
}

fn regexp_replace(call: &Call<'_>) -> Result<ArrayRef> {
    let Some(regex) = regex(call)? else {
        return Ok(arrow::array::new_null_array(&DataType::Utf8, call.rows()));
    };
    let (text, replacement) = (call.text(0)?, call.text(2)?);
    let constant = call.constant_text(2).flatten().map(|text| java_replacement(&text));
    let starts = match call.len() {
        4 => call.cast(3, &DataType::Int32)?.as_primitive::<Int32Type>().clone(),
        _ => Int32Array::from_value(1, call.rows()),
    };
    let replaced = |((text, with), start): ((Option<&str>, Option<&str>), Option<i32>)| -> Result<Option<String>> {
        let (Some(text), Some(with), Some(start)) = (text, with, start) else { return Ok(None) };
        let Ok(start @ 1..) = usize::try_from(start) else {
            return Err(Error::user(format!("`regexp_replace` was given the position {start}, but they count from 1"))
                .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE"));
        };
        let with = constant.clone().unwrap_or_else(|| java_replacement(with));
        let from = text.char_indices().nth(start - 1).map_or(text.len(), |(at, _)| at);
        let (before, after) = text.split_at(from);
        Ok(Some(before.to_owned() + &regex.replace_all(after, with.as_str())))
    };
    let rows = text.iter().zip(&replacement).zip(&starts);
    Ok(Arc::new(rows.map(replaced).collect::<Result<StringArray>>()?))
}

fn regexp_extract(call: &Call<'_>) -> Result<ArrayRef> {
    let Some(regex) = regex(call)? else {
        return Ok(arrow::array::new_null_array(&DataType::Utf8, call.rows()));
    };
    let text = call.text(0)?;
    let groups = match call.len() {
        3 => call.cast(2, &DataType::Int32)?.as_primitive::<Int32Type>().clone(),
        _ => Int32Array::from_value(1, call.rows()),
    };
    let extract = |(text, group): (Option<&str>, Option<i32>)| -> Result<Option<String>> {
        let (Some(text), Some(group)) = (text, group) else { return Ok(None) };
        let group = usize::try_from(group).ok().filter(|group| *group < regex.captures_len()).ok_or_else(|| {
            Error::user(format!("the regular expression `{regex}` has no group {group}"))
                .with_condition("INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX")
        })?;
        let found = regex.captures(text).and_then(|found| found.get(group)).map_or("", |found| found.as_str());
        Ok(Some(found.to_owned()))
    };
    Ok(Arc::new(text.iter().zip(&groups).map(extract).collect::<Result<StringArray>>()?))
}

fn rlike(call: &Call<'_>) -> Result<ArrayRef> {
    let Some(regex) = regex(call)? else {
        return Ok(arrow::array::new_null_array(&DataType::Boolean, call.rows()));
    };
    let text = call.text(0)?;
    Ok(Arc::new(text.iter().map(|text| text.map(|text| regex.is_match(text))).collect::<arrow::array::BooleanArray>()))
}

fn split(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let Some(regex) = regex(call)? else {
        return Ok(arrow::array::new_null_array(call.result(), call.rows()));
    };
    let limits = match call.len() {
        3 => call.cast(2, &DataType::Int32)?.as_primitive::<Int32Type>().clone(),
        _ => Int32Array::from_value(-1, call.rows()),
    };
    let mut builder = ListBuilder::new(StringBuilder::new());
    for (text, limit) in text.iter().zip(&limits) {
        let (Some(text), Some(limit)) = (text, limit) else {
            builder.append_null();
            continue;
        };
        if regex.as_str().is_empty() && !text.is_empty() {
            characters(text, usize::try_from(limit).unwrap_or_default())
                .for_each(|part| builder.values().append_value(part));
            builder.append(true);
            continue;
        }
        match usize::try_from(limit) {
            _ if text.is_empty() && regex.as_str().is_empty() => builder.values().append_value(text),
            Ok(limit) if limit > 0 => regex.splitn(text, limit).for_each(|part| builder.values().append_value(part)),
            _ => regex.split(text).for_each(|part| builder.values().append_value(part)),
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

/// The characters of `text`, the last of at most `limit` parts being the rest; any number if that is 0.
fn characters(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let parts = if limit == 0 { starts.len() } else { limit.min(starts.len()) };
    (0..parts).map(move |part| match starts.get(part + 1) {
        Some(end) if part + 1 < parts => &text[starts[part]..*end],
        _ => &text[starts[part]..],
    })
}

pub(super) fn positions(text: &StringArray, wanted: &StringArray) -> Result<ArrayRef> {
    let at = |(text, wanted): (Option<&str>, Option<&str>)| {
        let (text, wanted) = (text?, wanted?);
        Some(text.find(wanted).map_or(0, |at| text[..at].chars().count() as i32 + 1))
    };
    Ok(Arc::new(text.iter().zip(wanted).map(at).collect::<Int32Array>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("split('abc', '')", "[a, b, c]"),
            ("split('abc', '', 2)", "[a, bc]"),
            ("split('', '')", "[]"),
            ("regexp_replace('a1b22', '[0-9]+', '#')", "a#b#"),
            ("regexp_replace('ab', '(a)(b)', '$2$1x')", "bax"),
            ("regexp_extract('100-200', '(\\d+)-(\\d+)', 2)", "200"),
            ("regexp_extract('x', '(\\d+)')", ""),
            ("split('a,b,c', ',')", "[a, b, c]"),
            ("split('a,b,c', ',', 2)", "[a, b,c]"),
            ("instr('SparkSQL', 'SQL')", "6"),
            ("initcap('hELLO wORLD')", "Hello World"),
            ("initcap('ßa')", "Ssa"),
            ("regexp_replace('aaa', 'a', 'b', 2)", "abb"),
            ("regexp_extract('äb1', '(\\w)', 1)", "b"),
            ("regexp_replace('a.b[c]٣3', '[\\d\\s]|\\Q.b[\\E', '#')", "a#c]٣#"),
            ("upper(NULL)", "NULL"),
            ("int('12')", "12"),
            ("string(1.0)", "1.0"),
        ])
        .await;
    }
}
