//! `f(TABLE(t) PARTITION BY a ORDER BY b DESC)`: the table that a table function is given, as an argument that
//! sqlparser reads: a call of [`TABLE_ARGUMENT`] with a subquery, and calls for what is said of its rows.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::is_word;

/// The call that a table argument becomes.
pub(crate) const TABLE_ARGUMENT: &str = "__table_argument";
/// `PARTITION BY`, with the expressions as arguments.
pub(crate) const PARTITION_BY: &str = "__partition_by";
/// `WITH SINGLE PARTITION`
pub(crate) const SINGLE_PARTITION: &str = "__single_partition";
/// One item of `ORDER BY`: the expression, whether it descends, and whether NULLs come first (`first`, `last`, or empty).
pub(crate) const ORDER_BY: &str = "__order_by";

pub(super) fn table_arguments(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let argument = matches!(out.last().map(|last| &last.token), Some(Token::LParen | Token::Comma | Token::RArrow))
            && is_word(token, "table")
            && tokens.get(at + 1).is_some_and(|next| next.token == Token::LParen)
            // The event log of a table is a source of its own.
            && !matches!(out.as_slice(), [.., name, _] if is_word(name, "event_log") || is_word(name, "stream"));
        match argument.then(|| closing(&tokens, at + 1)).flatten() {
            Some(end) => at = argument_of(&tokens, at, end, &mut out),
            None => {
                out.push(token.clone());
                at += 1;
            }
        }
    }
    out
}

/// Writes the call for the table between `start` and the parenthesis at `end`; gives where the text goes on.
fn argument_of(tokens: &[TokenWithSpan], start: usize, end: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let span = tokens[start].span;
    let put = |token: Token| TokenWithSpan { token, span };
    let word = |text: &str| put(Token::make_word(text, None));
    out.extend([word(TABLE_ARGUMENT), put(Token::LParen), put(Token::LParen)]);
    let inner = table_arguments(tokens[start + 2..end].to_vec());
    let is_query = inner.first().is_some_and(|first| {
        ["select", "with", "values", "from", "table"].iter().any(|keyword| is_word(first, keyword))
            || first.token == Token::LParen
    });
    if !is_query {
        out.extend([word("SELECT"), put(Token::Mul), word("FROM")]);
    }
    out.extend(inner);
    out.push(put(Token::RParen));
    let mut at = end + 1;
    loop {
        let is = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|token| is_word(token, text));
        if is(0, "with") && is(1, "single") && is(2, "partition") {
            out.extend([put(Token::Comma), word(SINGLE_PARTITION), put(Token::LParen), put(Token::RParen)]);
            at += 3;
        } else if (is(0, "partition") || is(0, "distribute")) && is(1, "by") {
            let (items, next) = items(tokens, at + 2);
            out.extend([put(Token::Comma), word(PARTITION_BY), put(Token::LParen)]);
            for (i, item) in items.into_iter().enumerate() {
                out.extend((i > 0).then(|| put(Token::Comma)));
                out.extend(item.iter().cloned());
            }
            out.push(put(Token::RParen));
            at = next;
        } else if (is(0, "order") || is(0, "sort")) && is(1, "by") {
            let (items, next) = items(tokens, at + 2);
            for item in items {
                let (item, nulls) = match item {
                    [rest @ .., nulls, place] if is_word(nulls, "nulls") && is_word(place, "first") => (rest, "first"),
                    [rest @ .., nulls, place] if is_word(nulls, "nulls") && is_word(place, "last") => (rest, "last"),
                    all => (all, ""),
                };
                let (item, descends) = match item {
                    [rest @ .., way] if is_word(way, "desc") => (rest, "desc"),
                    [rest @ .., way] if is_word(way, "asc") => (rest, "asc"),
                    all => (all, "asc"),
                };
                out.extend([put(Token::Comma), word(ORDER_BY), put(Token::LParen)]);
                out.extend(item.iter().cloned());
                for text in [descends, nulls] {
                    out.extend([put(Token::Comma), put(Token::SingleQuotedString(text.to_owned()))]);
                }
                out.push(put(Token::RParen));
            }
            at = next;
        } else {
            break;
        }
    }
    out.push(put(Token::RParen));
    at
}

/// The items of a list in parentheses, or the one item that ends where the clause does; and where the text goes on.
fn items(tokens: &[TokenWithSpan], start: usize) -> (Vec<&[TokenWithSpan]>, usize) {
    let in_parentheses = tokens.get(start).is_some_and(|token| token.token == Token::LParen)
        && closing(tokens, start).is_some_and(|end| ends_clause(tokens, end + 1));
    let (from, until) = match in_parentheses {
        true => (start + 1, closing(tokens, start).unwrap_or(tokens.len())),
        false => {
            let mut end = start;
            while end < tokens.len() && (end == start || !ends_clause(tokens, end)) {
                end = match tokens[end].token {
                    Token::LParen => closing(tokens, end).unwrap_or(tokens.len() - 1) + 1,
                    _ => end + 1,
                };
            }
            (start, end)
        }
    };
    let (mut items, mut first, mut depth) = (Vec::new(), from, 0_usize);
    for at in from..until {
        match tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => {
                items.push(&tokens[first..at]);
                first = at + 1;
            }
            _ => {}
        }
    }
    items.push(&tokens[first..until]);
    (items, if in_parentheses { until + 1 } else { until })
}

fn ends_clause(tokens: &[TokenWithSpan], at: usize) -> bool {
    let Some(token) = tokens.get(at) else { return true };
    let by = tokens.get(at + 1).is_some_and(|next| is_word(next, "by") || is_word(next, "single"));
    matches!(token.token, Token::RParen | Token::Comma)
        || (by && ["order", "sort", "partition", "distribute", "with"].iter().any(|word| is_word(token, word)))
}

/// The parenthesis that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::diagnostic::SourceLocation;
    use crate::sql::parse_query;

    fn read(text: &str) -> String {
        parse_query(text, &SourceLocation::new("q.sql", 1, 1)).unwrap().query.to_string()
    }

    #[test]
    fn tables_are_arguments_with_what_is_said_of_their_rows() {
        assert_eq!(read("SELECT * FROM f(TABLE(t))"), "SELECT * FROM f(__table_argument((SELECT * FROM t)))");
        assert_eq!(
            read("SELECT * FROM f(1, x => TABLE(SELECT 1 AS a) PARTITION BY a ORDER BY b + 1 DESC NULLS LAST, 2)"),
            "SELECT * FROM f(1, x => __table_argument((SELECT 1 AS a), __partition_by(a), \
             __order_by(b + 1, 'desc', 'last')), 2)"
        );
        assert_eq!(
            read("SELECT * FROM f(TABLE(c.s.t) PARTITION BY (a, g(b, c)) ORDER BY (a, b DESC))"),
            "SELECT * FROM f(__table_argument((SELECT * FROM c.s.t), __partition_by(a, g(b, c)), \
             __order_by(a, 'asc', ''), __order_by(b, 'desc', '')))"
        );
        assert_eq!(
            read("SELECT * FROM f(TABLE(t) WITH SINGLE PARTITION ORDER BY (a))"),
            "SELECT * FROM f(__table_argument((SELECT * FROM t), __single_partition(), __order_by(a, 'asc', '')))"
        );
        assert_eq!(read("SELECT * FROM event_log(TABLE(t))"), "SELECT * FROM event_log(TABLE(t))");
    }
}
