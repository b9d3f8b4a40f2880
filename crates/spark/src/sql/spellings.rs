//! Small spellings of Spark's that sqlparser reads as something else: each becomes tokens that it reads rightly.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::table_arguments::table_arguments;
use super::tokens::is_word;

/// `struct` where its fields are those of a `*`: sqlparser's own syntax takes no star.
pub(crate) const STRUCT_OF_STAR: &str = "__struct_of_star";

/// The name that stands for `*` among the fields of `struct(…)`.
pub(crate) const STAR: &str = "\u{2}star";

/// All of them.
pub(super) fn spelled(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let tokens = pivoted_values(struct_stars(exponents(tokens)));
    samples(recursion_levels(tables(table_arguments(intervals(literals(except_lists(words(tokens))))))))
}

/// The end of the parentheses that open at `start`: the place of the closing one.
fn closing(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth <= 1 => return (depth == 1).then_some(at),
            Token::RParen => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// `struct(a, t.*)` with a name for the star, which the parser does not take among the fields of a structure. `struct(*)`
/// with `EXCEPT` is left.
fn struct_stars(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for i in 0..tokens.len() {
        if !is_word(&tokens[i], "struct") {
            continue;
        }
        let Some(end) = closing(&tokens, i + 1) else { continue };
        let (mut depth, mut stars) = (0_usize, Vec::new());
        for at in i + 1..end {
            match tokens[at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Mul if depth == 1 => {
                    let before = matches!(tokens[at - 1].token, Token::LParen | Token::Comma | Token::Period);
                    let is_end = matches!(tokens[at + 1].token, Token::RParen | Token::Comma);
                    if before && is_end {
                        stars.push(at);
                    }
                }
                _ => {}
            }
        }
        for at in stars {
            tokens[at].token = Token::make_word(STAR, Some('`'));
        }
    }
    tokens
}

/// `VALUES (…), (…) AS t PIVOT …` with the values as a subquery: only after that the parser takes `PIVOT` and `UNPIVOT`.
fn pivoted_values(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut i = 0;
    while i < tokens.len() {
        if let Some(end) = values_before_pivot(&tokens, i) {
            let paren = |kind: Token, span| TokenWithSpan { token: kind, span };
            tokens.insert(end + 1, paren(Token::RParen, tokens[end].span));
            tokens.insert(i, paren(Token::LParen, tokens[i].span));
            i += 1;
        }
        i += 1;
    }
    tokens
}

/// Where the rows of `VALUES` at `start` end, if what they make is pivoted.
fn values_before_pivot(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    if start == 0 || !is_word(&tokens[start], "values") || tokens[start - 1].token == Token::LParen {
        return None;
    }
    let mut end = closing(tokens, start + 1)?;
    while tokens.get(end + 1).is_some_and(|token| token.token == Token::Comma) {
        end = closing(tokens, end + 2)?;
    }
    let mut at = end + 1;
    let is_pivot = |at: usize| tokens.get(at).is_some_and(|token| is_word(token, "pivot") || is_word(token, "unpivot"));
    if !is_pivot(at) {
        at += usize::from(tokens.get(at).is_some_and(|token| is_word(token, "as")));
        at += 1;
        at = closing(tokens, at).map_or(at, |end| end + 1);
    }
    is_pivot(at).then_some(end)
}

/// Begins the name of an item that takes the place of the column named behind it.
pub(crate) const REPLACES: &str = "\u{2}set ";

/// Begins the name of a column that is none, but what `MAX RECURSION LEVEL` says.
pub(crate) const LEVELS: &str = "\u{2}levels ";

/// `r(n) MAX RECURSION LEVEL 5 AS (…)` with the level as one more column of the list.
fn recursion_levels(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let said = match out.as_slice() {
            [.., max, recursion, level]
                if is_word(max, "max") && is_word(recursion, "recursion") && is_word(level, "level") =>
            {
                match &token.token {
                    Token::Number(digits, _) => Some(digits.clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(digits) = said else {
            out.push(token);
            continue;
        };
        out.truncate(out.len() - 3);
        let as_is = |kind: Token| TokenWithSpan { token: kind, span: token.span };
        let first = match out.last() {
            Some(last) if last.token == Token::RParen => {
                out.pop();
                Token::Comma
            }
            _ => Token::LParen,
        };
        let level = Token::make_word(&format!("{LEVELS}{digits}"), Some('`'));
        out.extend([first, level, Token::RParen].map(as_is));
    }
    out
}

/// `TABLE t`, a query of its own, as `SELECT * FROM t`.
fn tables(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_query = match out.as_slice() {
            [] => true,
            [.., last] if matches!(last.token, Token::LParen | Token::RParen) => true,
            [.., operator, all] if is_word(all, "all") || is_word(all, "distinct") => is_set_operator(operator),
            [.., last] => is_set_operator(last),
        };
        let is_named = matches!(tokens.peek().map(|next| &next.token), Some(Token::Word(_)));
        if !(is_query && is_named && is_word(&token, "table")) {
            out.push(token);
            continue;
        }
        let word = |text: &str| TokenWithSpan { token: Token::make_word(text, None), span: token.span };
        let star = TokenWithSpan { token: Token::Mul, span: token.span };
        out.extend([word("SELECT"), star, word("FROM")]);
    }
    out
}

/// `(SELECT …) TABLESAMPLE (…) AS t` with the name first, where the parser takes it.
fn samples(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let group_end = |tokens: &[TokenWithSpan], start: usize| {
        let opens = tokens.get(start).is_some_and(|token| token.token == Token::LParen);
        let mut closing = tokens.iter().enumerate().skip(start);
        closing.find(|(_, token)| opens && token.token == Token::RParen).map(|(at, _)| at + 1)
    };
    for i in 1..tokens.len() {
        if tokens[i - 1].token != Token::RParen || !is_word(&tokens[i], "tablesample") {
            continue;
        }
        let Some(mut end) = group_end(&tokens, i + 1) else { continue };
        if tokens.get(end).is_some_and(|token| is_word(token, "repeatable")) {
            end = group_end(&tokens, end + 1).unwrap_or(end);
        }
        let has_as = tokens.get(end).is_some_and(|token| is_word(token, "as"));
        let name = tokens.get(end + usize::from(has_as)).is_some_and(|token| match &token.token {
            Token::Word(word) => has_as || word.keyword == Keyword::NoKeyword,
            _ => false,
        });
        if name {
            tokens[i..=end + usize::from(has_as)].rotate_right(1 + usize::from(has_as));
        }
    }
    tokens
}

fn is_set_operator(token: &TokenWithSpan) -> bool {
    ["union", "except", "minus", "intersect"].iter().any(|name| is_word(token, name))
}

/// `1e-6D`, which is read as a number and a name, as one word like `1D`.
fn exponents(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        if let Some(TokenWithSpan { token: last @ Token::Number(..), span }) = out.last_mut()
            && span.end == token.span.start
            && ["d", "f"].iter().any(|suffix| is_word(&token, suffix))
            && let (Token::Number(digits, false), Token::Word(suffix)) = (&*last, &token.token)
        {
            *last = Token::make_word(&format!("{digits}{}", suffix.value), None);
            span.end = token.span.end;
            continue;
        }
        out.push(token);
    }
    out
}

/// Stands between the parts of a qualified name in `* EXCEPT (t.a)`, where the parser takes simple names.
pub(crate) const PART: char = '\u{2}';

/// The qualified names of `* EXCEPT (t.a, b)` as one word each, their parts joined by [`PART`].
fn except_lists(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut inside = false;
    for token in tokens {
        match out.as_slice() {
            [.., star, except] if token.token == Token::LParen => {
                inside = star.token == Token::Mul && is_word(except, "except");
            }
            _ if token.token == Token::RParen => inside = false,
            _ => {}
        }
        let dotted = inside && out.last().is_some_and(|last| last.token == Token::Period);
        match (&token.token, dotted) {
            (Token::Word(part), true) if out.len() > 1 => {
                let part = part.value.clone();
                out.pop();
                if let Some(TokenWithSpan { token: Token::Word(word), .. }) = out.last_mut() {
                    word.value = format!("{}{PART}{part}", word.value);
                    word.quote_style = Some('`');
                    word.keyword = Keyword::NoKeyword;
                }
            }
            _ => out.push(token),
        }
    }
    out
}

/// `ceil(x, -1)` is a plain call, where the parser knows a syntax that takes no expression for the decimals;
/// `struct(*)` one too; `MINUS` is `EXCEPT`.
fn words(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for i in 0..tokens.len() {
        let (next, after) = (tokens.get(i + 1).map(|next| &next.token), tokens.get(i + 2));
        let star = match after.map(|after| &after.token) {
            Some(Token::Mul) => true,
            Some(Token::Word(_)) => {
                let dotted = |i: usize| tokens.get(i).is_some_and(|token| token.token == Token::Period);
                dotted(i + 3) && tokens.get(i + 4).is_some_and(|token| token.token == Token::Mul)
            }
            _ => false,
        };
        let call = next == Some(&Token::LParen);
        let query = |token: Option<&TokenWithSpan>| {
            token.is_some_and(|token| ["select", "values", "table"].iter().any(|name| is_word(token, name)))
        };
        let before_query = query(tokens.get(i + 1))
            || (call && query(after))
            || tokens.get(i + 1).is_some_and(|next| is_word(next, "all") || is_word(next, "distinct"));
        let after_like = i > 0 && (is_word(&tokens[i - 1], "like") || is_word(&tokens[i - 1], "ilike"));
        let Token::Word(word) = &mut tokens[i].token else { continue };
        if word.quote_style.is_some() {
            continue;
        }
        match word.keyword {
            Keyword::CEIL | Keyword::FLOOR if call => word.keyword = Keyword::NoKeyword,
            Keyword::STRUCT if call && star => {
                word.keyword = Keyword::NoKeyword;
                word.value = STRUCT_OF_STAR.to_owned();
            }
            Keyword::SOME if after_like => {
                word.keyword = Keyword::ANY;
                word.value = "ANY".to_owned();
            }
            // A name, where the parser knows a clause that Spark has not.
            Keyword::SAMPLE => word.keyword = Keyword::NoKeyword,
            Keyword::MINUS if i > 0 && before_query => {
                word.keyword = Keyword::EXCEPT;
                word.value = "EXCEPT".to_owned();
            }
            _ => {}
        }
    }
    tokens
}

/// Text literals side by side are one, but for keys and values of properties.
fn literals(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut properties = Vec::new();
    for token in tokens {
        match &token.token {
            Token::LParen => {
                let names = ["tblproperties", "dbproperties", "options"];
                properties.push(out.last().is_some_and(|last| names.iter().any(|name| is_word(last, name))));
            }
            Token::RParen => drop(properties.pop()),
            Token::SingleQuotedString(next) if properties.last() != Some(&true) => {
                if let Some(TokenWithSpan { token: Token::SingleQuotedString(text), span }) = out.last_mut() {
                    text.push_str(next);
                    span.end = token.span.end;
                    continue;
                }
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

const UNITS: [&str; 9] = ["year", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"];

fn unit(token: Option<&TokenWithSpan>) -> Option<&str> {
    let Token::Word(word) = &token?.token else { return None };
    let name = word.value.to_ascii_lowercase();
    let known = UNITS.contains(&name.strip_suffix('s').unwrap_or(&name));
    (word.quote_style.is_none() && known).then_some(word.value.as_str())
}

/// A number, its unit, and how many tokens they are.
fn quantity(tokens: &[TokenWithSpan]) -> Option<(String, usize)> {
    let (sign, at) = match &tokens.first()?.token {
        Token::Minus => ("-", 1),
        Token::Plus => ("", 1),
        _ => ("", 0),
    };
    let number = match &tokens.get(at)?.token {
        Token::Number(digits, false) => digits,
        Token::SingleQuotedString(digits) if digits.trim().parse::<f64>().is_ok() => digits,
        _ => return None,
    };
    let unit = unit(tokens.get(at + 1))?;
    Some((format!("{sign}{} {unit}", number.trim()), at + 2))
}

/// `INTERVAL 1 DAY 2 HOURS` as `INTERVAL '1 DAY 2 HOURS'`.
fn intervals(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        out.push(tokens[i].clone());
        i += 1;
        if !is_word(&tokens[i - 1], "interval") {
            continue;
        }
        let (mut parts, mut end) = (Vec::new(), i);
        while let Some((part, count)) = quantity(&tokens[end..]) {
            parts.push(part);
            end += count;
        }
        if parts.len() > 1 {
            out.push(TokenWithSpan { token: Token::SingleQuotedString(parts.join(" ")), span: tokens[i].span });
            i = end;
        }
    }
    out
}
