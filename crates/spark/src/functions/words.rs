//! Text as people read it: its sentences and words, and text with its characters masked.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use regex::Regex;

use super::udf::{Call, Function, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::types::array;

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["mask"], (1, 5), TEXT, mask),
    function(&["sentences"], (1, 3), Returns::Type(|| array(array(DataType::Utf8))), sentences),
];

/// `mask(text[, upper[, lower[, digit[, other]]]])`: a kind of character whose replacement is NULL stays.
fn mask(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.text(0)?;
    let replacements = (1..call.len()).map(|i| call.text(i)).collect::<Result<Vec<StringArray>>>()?;
    let replacement = |row: usize, i: usize| -> Result<Option<char>> {
        let Some(given) = replacements.get(i) else { return Ok([Some('X'), Some('x'), Some('n'), None][i]) };
        let mut chars = if given.is_valid(row) { given.value(row).chars() } else { return Ok(None) };
        match (chars.next(), chars.next()) {
            (Some(one), None) => Ok(Some(one)),
            _ => Err(Error::user("what `mask` puts in place of a character must be one character")
                .with_condition("DATATYPE_MISMATCH.INPUT_SIZE_NOT_ONE")),
        }
    };
    let mut builder = StringBuilder::new();
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            builder.append_null();
            continue;
        };
        let [upper, lower, digit, other] =
            [replacement(row, 0)?, replacement(row, 1)?, replacement(row, 2)?, replacement(row, 3)?];
        let masked = |c: char| match c {
            c if c.is_uppercase() => upper,
            c if c.is_lowercase() => lower,
            c if c.is_numeric() => digit,
            _ => other,
        };
        // A character outside of the basic plane is two to Java.
        let masked = |c: char| match masked(c) {
            Some(mask) => std::iter::repeat_n(mask, c.len_utf16()),
            None => std::iter::repeat_n(c, 1),
        };
        builder.append_value(text.chars().flat_map(masked).collect::<String>());
    }
    Ok(Arc::new(builder.finish()))
}

/// Letters and digits, with the marks that Unicode allows within a word or a number.
#[allow(clippy::expect_used, reason = "the pattern is a constant")]
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{M}\p{N}_]+(?:['’.:,][\p{L}\p{N}]+)*").expect("a valid pattern"));

/// The words of each sentence, whatever the language.
fn sentences(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for text in &call.text(0)? {
        for sentence in text.into_iter().flat_map(split) {
            let words: Vec<&str> = WORD.find_iter(sentence).map(|word| word.as_str()).collect();
            words.iter().flat_map(|word| parts(word)).for_each(|word| builder.values().values().append_value(word));
            builder.values().append(true);
        }
        builder.append(text.is_some());
    }
    Ok(Arc::new(builder.finish()))
}

/// Sentences end with a mark and a blank, unless a small letter follows.
fn split(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['.', '!', '?', '…']) {
        let after = rest[at..].trim_start_matches(['.', '!', '?', '…', '"', '\'', ')', ']']);
        let next = after.trim_start();
        if after.len() != next.len() && !next.starts_with(char::is_lowercase) {
            sentences.push(&text[start..text.len() - next.len()]);
            start = text.len() - next.len();
        }
        rest = after;
    }
    if !text[start..].trim().is_empty() {
        sentences.push(&text[start..]);
    }
    sentences
}

/// A comma is a mark within a number only.
fn parts(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in word.match_indices(',') {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_numeric());
        if !digit(word[..at].chars().last()) || !digit(word[at + 1..].chars().next()) {
            parts.push(&word[start..at]);
            start = at + 1;
        }
    }
    parts.push(&word[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("mask('AbCD123-@$#')", "XxXXnnn-@$#"),
            ("mask('AbCD123-@$#', 'Q', 'q', 'd', 'o')", "QqQQdddoooo"),
            ("mask('AbCD123-@$#', NULL, 'q', NULL)", "AqCD123-@$#"),
            ("mask('😀a', 'X', 'x', 'n', '*')", "**x"),
            ("mask(NULL)", "NULL"),
            ("sentences('Hi there! Good morning.')", "[[Hi, there], [Good, morning]]"),
            ("sentences('It isn''t 3.14, is it?', 'en', 'US')", "[[It, isn't, 3.14, is, it]]"),
            ("sentences('one,two 1,000')", "[[one, two, 1,000]]"),
            ("sentences(NULL)", "NULL"),
        ])
        .await;
        let long = Err("DATATYPE_MISMATCH.INPUT_SIZE_NOT_ONE");
        check("mask('a', 'XX')", long, long).await;
    }
}
