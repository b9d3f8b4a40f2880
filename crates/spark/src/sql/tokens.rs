//! From text to sqlparser's tokens, and from its positions back to the user's file.
//!
//! Some of Spark's spellings are unknown to sqlparser's expression and table grammar. They are put into
//! equivalent token sequences here, so that its parser needs no changes: `STREAM t` becomes `STREAM(t)`,
//! a raw string becomes a plain one, `MAP<k, v>` a marked `STRUCT`, `t@v3` becomes `t VERSION AS OF 3`.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::dialect::SparkDialect;
use super::{pipes, spellings};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};

/// The field names that mark a `STRUCT` which the user wrote as `MAP<k, v>`.
pub(crate) const MAP_KEY: &str = "__map_key";
pub(crate) const MAP_VALUE: &str = "__map_value";
/// The arguments of `STREAM(...)` that stand for clauses after it.
pub(crate) const WATERMARK: &str = "__watermark";
pub(crate) const WATERMARK_DELAY: &str = "__watermark_delay";
pub(crate) const WATERMARK_NAME: &str = "__watermark_name";

static DIALECT: SparkDialect = SparkDialect;

/// Text with its place in the user's file.
#[derive(Debug, Clone)]
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) location: &'a SourceLocation,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str, location: &'a SourceLocation) -> Self {
        Self { text, location }
    }

    /// Where `at`, counted from the start of the text, is in the file.
    pub(crate) fn place(&self, at: Location) -> SourceLocation {
        place(self.location, at)
    }

    /// The byte at which `at` stands in the text.
    pub(crate) fn offset(&self, at: Location) -> usize {
        let line = (at.line as usize).saturating_sub(1);
        let start: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        let column = (at.column as usize).saturating_sub(1);
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.chars().take(column).map(char::len_utf8).sum::<usize>()
    }

    /// A parser over the text.
    pub(crate) fn parser(&self) -> Result<Parser<'static>> {
        let tokens = tokenize(self)?;
        Ok(Parser::new(&DIALECT).with_recursion_limit(200).with_tokens_with_locations(tokens))
    }

    /// A parser's complaint, with its position taken out of the message.
    pub(crate) fn error(&self, error: &ParserError) -> Error {
        let (message, at) = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => position(text),
            ParserError::RecursionLimitExceeded => ("statement is nested too deeply".to_owned(), None),
        };
        let at = at.map(|at| self.complained_about(&message, at).unwrap_or(at));
        let place = at.map_or_else(|| self.end(), |at| self.place(at));
        self.syntax_error(message, place)
    }

    /// The word that a complaint names as found. Where it was to be an expression, the parser gives the position of
    /// the word after it.
    fn complained_about(&self, message: &str, at: Location) -> Option<Location> {
        let found = message.strip_prefix("expected an expression, found `")?.strip_suffix('`')?;
        let tokens = tokenize(self).ok()?;
        let before = tokens.iter().rev().find(|token| token.span.start < at)?;
        (before.token.to_string() == found).then_some(before.span.start)
    }

    /// A syntax error that says `message`, at `place`.
    pub(crate) fn syntax_error(&self, message: impl Into<String>, place: SourceLocation) -> Error {
        let error = Error::user(message.into()).with_condition("PARSE_SYNTAX_ERROR").at(place);
        match self.text.contains("${") {
            true => error.with_help("A `${key}` was left in the text: set the key in the pipeline's configuration."),
            false => error,
        }
    }

    fn end(&self) -> SourceLocation {
        let line = self.text.lines().count().max(1) as u64;
        let column = self.text.lines().last().map_or(0, |line| line.chars().count()) as u64 + 1;
        self.place(Location { line, column })
    }
}

/// Where `at`, counted from `base`, is in the file of `base`.
pub(crate) fn place(base: &SourceLocation, at: Location) -> SourceLocation {
    if at.line == 0 || base.line == 0 {
        return base.clone();
    }
    let line = base.line + at.line as u32 - 1;
    let column = if at.line == 1 { base.column + at.column as u32 - 1 } else { at.column as u32 };
    SourceLocation::new(base.file.clone(), line, column)
}

/// Splits sqlparser's "… at Line: 1, Column: 2" into message and position.
fn position(text: &str) -> (String, Option<Location>) {
    let Some(index) = text.rfind(" at Line: ") else { return (soften(text), None) };
    let mut numbers = text[index..].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
    let at = numbers.next().zip(numbers.next()).map(|(line, column)| Location { line, column });
    (soften(&text[..index]), at)
}

/// "Expected: x, found: y" in our words.
fn soften(text: &str) -> String {
    let text = text.trim().trim_start_matches("sql parser error: ");
    let text = text.replace("Expected an expression, found: ", "Expected: an expression, found: ");
    match text.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
        Some((expected, found)) => format!("expected {expected}, found `{found}`"),
        None => text,
    }
}

fn tokenize(source: &Source<'_>) -> Result<Vec<TokenWithSpan>> {
    let mut tokenizer = Tokenizer::new(&DIALECT, source.text).with_unescape(false);
    let raw = tokenizer.tokenize_with_location().map_err(|error| {
        let place = source.place(error.location);
        source.syntax_error(error.message, place)
    })?;
    let tokens = strings(raw);
    let tokens = pipes::unpiped(spellings::spelled(tokens)).map_err(|pipes::Unknown(token)| {
        Error::unsupported(format!("pipe operator `|> {}`", token.token)).at(source.place(token.span.start))
    })?;
    Ok(streams(map_types(versions(system_versions(tokens)))))
}

/// Drops white space, unescapes strings, turns double-quoted and raw strings into plain ones.
fn strings(raw: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(raw.len());
    for mut token in raw {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => continue,
            Token::Whitespace(_) => continue,
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
                let quote = if matches!(token.token, Token::SingleQuotedString(_)) { '\'' } else { '"' };
                let raw = out.last().is_some_and(|last| is_word(last, "r") && last.span.end == token.span.start);
                let text = if raw { text.clone() } else { unescape(text, quote) };
                if raw && let Some(prefix) = out.pop() {
                    token.span.start = prefix.span.start;
                }
                token.token = Token::SingleQuotedString(text);
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

/// The value of a string literal's text.
fn unescape(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut out),
            c if c == quote && chars.peek() == Some(&quote) => {
                chars.next();
                out.push(quote);
            }
            c => out.push(c),
        }
    }
    out
}

fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let rest: String = chars.clone().take(9).collect();
    let code =
        |digits: Option<&str>, radix| digits.and_then(|d| u32::from_str_radix(d, radix).ok()).and_then(char::from_u32);
    let coded = match rest.chars().next() {
        Some('u') => code(rest.get(1..5), 16).map(|c| (c, 5)),
        Some('U') => code(rest.get(1..9), 16).map(|c| (c, 9)),
        Some('0' | '1') => code(rest.get(..3), 8).map(|c| (c, 3)),
        _ => None,
    };
    if let Some((c, length)) = coded {
        out.push(c);
        chars.by_ref().take(length).for_each(drop);
        return;
    }
    match chars.next() {
        Some('n') => out.push('\n'),
        Some('t') => out.push('\t'),
        Some('r') => out.push('\r'),
        Some('b') => out.push('\u{8}'),
        Some('0') => out.push('\0'),
        Some('Z') => out.push('\u{1a}'),
        Some(kept @ ('%' | '_')) => {
            out.push('\\');
            out.push(kept);
        }
        Some(other) => out.push(other),
        None => out.push('\\'),
    }
}

/// Whether a token is the unquoted word `text`, in any case.
pub(crate) fn is_word(token: &TokenWithSpan, text: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

fn word(text: &str, span: Span) -> TokenWithSpan {
    TokenWithSpan { token: Token::make_word(text, None), span }
}

/// `FOR VERSION AS OF 3`, `SYSTEM_VERSION AS OF 3` as `VERSION AS OF 3`; times likewise.
fn system_versions(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |i: usize, text: &str| tokens.get(i).is_some_and(|token| is_word(token, text));
    let mut out = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        let kind = i + usize::from(is(i, "FOR"));
        let word_of_kind = match is(kind + 1, "AS") && is(kind + 2, "OF") {
            true if is(kind, "VERSION") || is(kind, "SYSTEM_VERSION") => Some("VERSION"),
            true if is(kind, "TIMESTAMP") || is(kind, "SYSTEM_TIME") => Some("TIMESTAMP"),
            _ => None,
        };
        match word_of_kind {
            Some(text) => {
                out.push(word(text, token.span));
                i = kind + 1;
            }
            None => {
                out.push(token.clone());
                i += 1;
            }
        }
    }
    out
}

/// `t@v3` as `t VERSION AS OF 3`, `t@20260131080000000` as `t TIMESTAMP AS OF '2026-01-31 08:00:00.000'`.
fn versions(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let version = match (&token.token, rest.peek().map(|next| &next.token)) {
            (Token::AtSign, Some(Token::Word(Word { value, quote_style: None, .. }))) => value
                .strip_prefix(['v', 'V'])
                .filter(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
                .map(str::to_owned),
            _ => None,
        };
        let timestamp = match (&token.token, rest.peek().map(|next| &next.token)) {
            (Token::AtSign, Some(Token::Number(digits, false))) => encoded_timestamp(digits),
            _ => None,
        };
        match version {
            _ if timestamp.is_some() => {
                let span = rest.next().map_or(token.span, |next| next.span);
                out.extend(["TIMESTAMP", "AS", "OF"].map(|text| word(text, span)));
                out.extend(timestamp.map(|text| TokenWithSpan { token: Token::SingleQuotedString(text), span }));
            }
            Some(version) => {
                let span = rest.next().map_or(token.span, |next| next.span);
                out.extend(["VERSION", "AS", "OF"].map(|text| word(text, span)));
                out.push(TokenWithSpan { token: Token::Number(version, false), span });
            }
            None => out.push(token),
        }
    }
    out
}

/// `yyyyMMddHHmmssSSS` as a timestamp.
fn encoded_timestamp(digits: &str) -> Option<String> {
    if digits.len() != 17 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    let (date, time) = ((part(0, 4), part(4, 6), part(6, 8)), (part(8, 10), part(10, 12), part(12, 14)));
    Some(format!("{}-{}-{} {}:{}:{}.{}", date.0, date.1, date.2, time.0, time.1, time.2, part(14, 17)))
}

/// `MAP<k, v>` as `STRUCT<__map_key k, __map_value v>`.
fn map_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // For every open `<` of a type: whether it is a map's whose value has not come yet; and open parentheses in it.
    let mut open: Vec<(bool, usize)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let opens_type = matches!(token.token, Token::Lt)
            && i > 0
            && ["map", "array", "struct"].iter().any(|name| is_word(&tokens[i - 1], name));
        match &token.token {
            Token::Lt if opens_type => {
                let map = is_word(&tokens[i - 1], "map");
                if map && let Some(last) = out.last_mut() {
                    *last = word("STRUCT", last.span);
                }
                out.push(token.clone());
                if map {
                    out.push(word(MAP_KEY, token.span));
                }
                open.push((map, 0));
                continue;
            }
            Token::Gt => drop(open.pop()),
            Token::ShiftRight => drop((open.pop(), open.pop())),
            Token::LParen => open.iter_mut().last().into_iter().for_each(|(_, depth)| *depth += 1),
            Token::RParen => match open.last_mut() {
                Some((_, depth)) if *depth > 0 => *depth -= 1,
                _ => open.clear(),
            },
            Token::Comma => {
                out.push(token.clone());
                if let Some((pending @ true, 0)) = open.last_mut() {
                    *pending = false;
                    out.push(word(MAP_VALUE, token.span));
                }
                continue;
            }
            _ => {}
        }
        out.push(token.clone());
    }
    out
}

/// `STREAM t`, `STREAM f(...)`, and the clauses after them, as one call `STREAM(t, option => value)`.
fn streams(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        let in_from = out.last().is_some_and(|last| {
            ["from", "join"].iter().any(|name| is_word(last, name))
                || matches!(last.token, Token::Comma | Token::LParen)
        });
        let next = tokens.get(i + 1).map(|next| &next.token);
        let is_call = match next {
            Some(Token::LParen) => true,
            Some(Token::Word(word)) => {
                word.quote_style.is_some()
                    || !matches!(word.keyword, Keyword::AS | Keyword::ON | Keyword::JOIN | Keyword::WHERE)
            }
            _ => false,
        };
        if is_word(&tokens[i], "stream") && in_from && is_call {
            i = stream(&tokens, i, &mut out);
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

/// Copies one streaming read from `i` on; gives the index after it.
fn stream(tokens: &[TokenWithSpan], i: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let span = tokens[i].span;
    out.push(tokens[i].clone());
    out.push(TokenWithSpan { token: Token::LParen, span });
    let (from, to, mut next) = if tokens[i + 1].token == Token::LParen {
        let end = closing(tokens, i + 1);
        (i + 2, end, end + 1)
    } else {
        let mut end = i + 2;
        while tokens.get(end).is_some_and(|t| t.token == Token::Period) {
            end += 2;
        }
        if tokens.get(end).is_some_and(|t| t.token == Token::LParen) {
            end = closing(tokens, end) + 1;
        }
        (i + 1, end, end)
    };
    out.extend(tokens.get(from..to.min(tokens.len())).unwrap_or_default().iter().cloned());
    if tokens.get(next).is_some_and(|t| is_word(t, "with"))
        && tokens.get(next + 1).is_some_and(|t| t.token == Token::LParen)
    {
        let end = closing(tokens, next + 1);
        reader_options(tokens.get(next + 2..end).unwrap_or_default(), span, out);
        next = end + 1;
    }
    if tokens.get(next).is_some_and(|t| is_word(t, "watermark")) {
        next = watermark(tokens, next, out);
    }
    out.push(TokenWithSpan { token: Token::RParen, span: tokens.get(next.saturating_sub(1)).map_or(span, |t| t.span) });
    next.min(tokens.len())
}

/// `a = 1, b` as `, a => 1, b => TRUE`.
fn reader_options(tokens: &[TokenWithSpan], span: Span, out: &mut Vec<TokenWithSpan>) {
    for option in tokens.split(|t| t.token == Token::Comma) {
        out.push(TokenWithSpan { token: Token::Comma, span });
        match option {
            [key, eq, value @ ..] if eq.token == Token::Eq => {
                out.push(key.clone());
                out.push(TokenWithSpan { token: Token::RArrow, span: eq.span });
                out.extend(value.iter().cloned());
            }
            [key] => {
                out.push(key.clone());
                out.push(TokenWithSpan { token: Token::RArrow, span: key.span });
                out.push(word("TRUE", key.span));
            }
            other => out.extend(other.iter().cloned()),
        }
    }
}

/// `WATERMARK ts DELAY OF INTERVAL 3 MINUTES` as two arguments; `WATERMARK f(ts) AS at DELAY OF …` as three.
fn watermark(tokens: &[TokenWithSpan], at: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let span = tokens[at].span;
    let mut argument = |name: &str, value: &[TokenWithSpan]| {
        out.push(TokenWithSpan { token: Token::Comma, span });
        out.push(word(name, span));
        out.push(TokenWithSpan { token: Token::RArrow, span });
        out.extend(value.iter().cloned());
    };
    let delay = (at + 1..tokens.len()).find(|&i| is_word(&tokens[i], "delay")).unwrap_or(tokens.len());
    match &tokens[at + 1..delay] {
        [time @ .., name_as, name] if is_word(name_as, "as") && matches!(name.token, Token::Word(_)) => {
            argument(WATERMARK, time);
            argument(WATERMARK_NAME, std::slice::from_ref(name));
        }
        time => argument(WATERMARK, time),
    }
    let start = (delay + 2).min(tokens.len());
    let end = interval_end(tokens, start + 1);
    argument(WATERMARK_DELAY, &tokens[start..end]);
    end
}

/// The end of an interval whose first amount is at `amount`: `3 MINUTES`, `'1 hour'`, `1 HOUR 30 MINUTES`, `'0 10' DAY TO HOUR`.
fn interval_end(tokens: &[TokenWithSpan], amount: usize) -> usize {
    const UNITS: [&str; 10] =
        ["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"];
    let is_unit = |at: usize| {
        let named = |unit: &&str| is_word(&tokens[at], unit) || is_word(&tokens[at], &format!("{unit}s"));
        at < tokens.len() && UNITS.iter().any(named)
    };
    let sign = |at: usize| tokens.get(at).is_some_and(|t| matches!(t.token, Token::Minus | Token::Plus));
    let mut end = amount;
    loop {
        // What comes before a unit is an amount; so is the first token, which may name its unit itself.
        let number = end + usize::from(sign(end));
        if !is_unit(number + 1) {
            return if end == amount { (number + 1).min(tokens.len()) } else { end };
        }
        end = number + 2;
        if tokens.get(end).is_some_and(|token| is_word(token, "to")) && is_unit(end + 1) {
            end += 2;
        }
    }
}

/// The index of the parenthesis that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rewritten(text: &str) -> String {
        let location = SourceLocation::new("a.sql", 1, 1);
        let tokens = tokenize(&Source::new(text, &location)).unwrap();
        tokens.iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn streams_become_calls() {
        assert_eq!(rewritten("FROM STREAM a.b x"), "FROM STREAM ( a . b ) x");
        assert_eq!(rewritten("FROM STREAM(LIVE.a)"), "FROM STREAM ( LIVE . a )");
        assert_eq!(
            rewritten("FROM STREAM read_files('/x', format => 'csv')"),
            "FROM STREAM ( read_files ( '/x' , format => 'csv' ) )"
        );
        assert_eq!(
            rewritten("FROM STREAM t WITH (SKIPCHANGECOMMITS, startingVersion=5) w"),
            "FROM STREAM ( t , SKIPCHANGECOMMITS => TRUE , startingVersion => 5 ) w"
        );
        assert_eq!(
            rewritten("FROM STREAM(t) WATERMARK ts DELAY OF INTERVAL 3 MINUTES AS w"),
            "FROM STREAM ( t , __watermark => ts , __watermark_delay => INTERVAL 3 MINUTES ) AS w"
        );
        for (delay, rest) in [
            ("INTERVAL '10 minutes'", "w"),
            ("INTERVAL '0 00:10:00' DAY TO SECOND", "w"),
            ("INTERVAL '1 HOUR 30 MINUTES'", "JOIN u"),
            ("INTERVAL - 5 SECONDS", ""),
        ] {
            let time = "to_timestamp ( CAST ( ts AS STRING ) )";
            let expected =
                format!("( t , __watermark => {time} , __watermark_name => at , __watermark_delay => {delay} ) {rest}");
            let written = format!("FROM STREAM(t) WATERMARK {time} AS at DELAY OF {delay} {rest}");
            assert_eq!(rewritten(&written), format!("FROM STREAM {expected}").trim_end());
        }
    }

    #[test]
    fn versions_and_times_behind_an_at_sign_are_spelled_out() {
        assert_eq!(rewritten("FROM t@v3 x"), "FROM t VERSION AS OF 3 x");
        assert_eq!(rewritten("FROM t@20260131080910250"), "FROM t TIMESTAMP AS OF '2026-01-31 08:09:10.250'");
    }

    #[test]
    fn system_versions_and_times_are_versions_and_times() {
        assert_eq!(rewritten("FROM t FOR VERSION AS OF 3 x"), "FROM t VERSION AS OF 3 x");
        assert_eq!(rewritten("FROM t FOR SYSTEM_VERSION AS OF 3"), "FROM t VERSION AS OF 3");
        assert_eq!(rewritten("FROM t SYSTEM_TIME AS OF '2026-01-31'"), "FROM t TIMESTAMP AS OF '2026-01-31'");
        assert_eq!(rewritten("FROM t FOR TIMESTAMP AS OF ts"), "FROM t TIMESTAMP AS OF ts");
    }

    #[test]
    fn strings_lose_their_escapes() {
        assert_eq!(unescape(r"a\'b\\c\nd\u0041\101\%", '\''), "a'b\\c\ndAA\\%");
        assert_eq!(rewritten(r#"SELECT r'a\d', "x""y""#), r#"SELECT 'a\d' , 'x"y'"#);
    }

    #[test]
    fn maps_become_marked_structs() {
        assert_eq!(
            rewritten("a MAP<STRING, ARRAY<MAP<INT, DECIMAL(1, 2)>>>"),
            "a STRUCT < __map_key STRING , __map_value ARRAY < STRUCT < __map_key INT , __map_value DECIMAL ( 1 , 2 ) >> >"
        );
    }
}
