//! Small spellings of Spark's that sqlparser reads as something else: each becomes tokens that it reads rightly.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::is_word;

/// `struct` where its fields are those of a `*`: sqlparser's own syntax takes no star.
pub(crate) const STRUCT_OF_STAR: &str = "__struct_of_star";

/// All of them.
pub(super) fn spelled(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    intervals(literals(except_lists(words(exponents(tokens)))))
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
