//! Patterns of `LIKE` with an escape character of their own.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

use super::udf::{Function, TEXT, function};
use crate::error::{Error, Result};

/// The pattern with backslashes in place of `escape` (a backslash, if none is given), which is what DataFusion's `LIKE`
/// reads.
pub(crate) fn like_pattern(pattern: Expr, escape: Option<char>) -> Result<Expr> {
    let escape = escape.unwrap_or('\\');
    match &pattern {
        Expr::Literal(ScalarValue::Utf8(Some(text)), metadata) => {
            Ok(Expr::Literal(ScalarValue::Utf8(Some(backslashed(text, escape)?)), metadata.clone()))
        }
        _ if matches!(&pattern, Expr::Literal(..)) => Ok(pattern),
        _ => Ok(PATTERN.call(vec![pattern, lit(escape.to_string())])),
    }
}

const PATTERN: Function = function(&["like_pattern"], (2, 2), TEXT, |call| {
    let (patterns, escapes) = (call.text(0)?, call.text(1)?);
    let rewritten =
        |(pattern, escape): (Option<&str>, Option<&str>)| match (pattern, escape.and_then(|e| e.chars().next())) {
            (Some(pattern), Some(escape)) => backslashed(pattern, escape).map(Some),
            _ => Ok(None),
        };
    Ok(Arc::new(patterns.iter().zip(&escapes).map(rewritten).collect::<Result<StringArray>>()?) as ArrayRef)
});

fn backslashed(text: &str, escape: char) -> Result<String> {
    let mut rewritten = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == escape => match chars.next() {
                Some(next @ ('%' | '_')) => rewritten.extend(['\\', next]),
                Some('\\') if escape == '\\' => rewritten.push_str("\\\\"),
                Some(next) if next == escape => rewritten.push(next),
                next => {
                    let condition = if next.is_some() { "ESC_IN_THE_MIDDLE" } else { "ESC_AT_THE_END" };
                    return Err(Error::user(format!("the escape character in `{text}` stands before no wildcard"))
                        .with_condition(format!("INVALID_FORMAT.{condition}")));
                }
            },
            '\\' => rewritten.push_str("\\\\"),
            c => rewritten.push(c),
        }
    }
    Ok(rewritten)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_backslashes() {
        assert_eq!(backslashed("a/%b%", '/').unwrap(), r"a\%b%");
        assert_eq!(backslashed("a//b\\", '/').unwrap(), r"a/b\\");
        assert_eq!(backslashed(r"a\_b\\", '\\').unwrap(), r"a\_b\\");
        assert_eq!(backslashed("%", '%').unwrap_err().condition(), Some("INVALID_FORMAT.ESC_AT_THE_END"));
        assert_eq!(backslashed("a/b", '/').unwrap_err().condition(), Some("INVALID_FORMAT.ESC_IN_THE_MIDDLE"));
    }
}
