//! Numbers as text by a pattern such as `$99,999.00`: `to_number`, `to_char`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::conditional::exactly;
use super::form::{Env, Form, form};
use super::udf::{Call, Function, Returns, TEXT, function};
use crate::error::{Error, Result};

pub(super) const FORMS: &[Form] = &[form(&["to_char", "to_varchar"], (2, 2), to_char)];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["to_number"], (2, 2), Returns::Values(number_type), |c| to_number(c, true)),
    function(&["try_to_number"], (2, 2), Returns::Values(number_type), |c| to_number(c, false)),
];

/// A date by a date-time pattern, bytes in a notation, a number by a pattern of digits.
fn to_char(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let [value, pattern] = exactly(args)?;
    let decimal = match env.type_of(&value)? {
        DataType::Date32 | DataType::Timestamp(..) => {
            return super::time::by_name("date_format", vec![value, pattern]);
        }
        DataType::Binary => return Ok(super::binary::TO_TEXT.call(vec![value, pattern])),
        decimal @ DataType::Decimal128(..) => decimal,
        DataType::Int8 => DataType::Decimal128(3, 0),
        DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::Int64 => DataType::Decimal128(20, 0),
        DataType::Float32 => DataType::Decimal128(14, 7),
        _ => DataType::Decimal128(30, 15),
    };
    Ok(TO_CHAR.call(vec![env.cast(value, &decimal)?, pattern]))
}

const TO_CHAR: Function = function(&["to_char"], (2, 2), TEXT, |c| {
    let Some(pattern) = pattern(c)? else { return Ok(arrow::array::new_null_array(&DataType::Utf8, c.rows())) };
    let numbers = c.array(0)?;
    let DataType::Decimal128(_, scale) = *numbers.data_type() else {
        return Err(Error::internal("`to_char` of what is no decimal"));
    };
    let write = |number: Option<i128>| number.map(|number| pattern.format(number, scale));
    Ok(Arc::new(numbers.as_primitive::<Decimal128Type>().iter().map(write).collect::<StringArray>()))
});

fn pattern(call: &Call<'_>) -> Result<Option<NumberPattern>> {
    match call.constant_text(1) {
        Some(Some(text)) => NumberPattern::new(&text).map(Some),
        Some(None) => Ok(None),
        None if call.rows() == 0 => Ok(None),
        None => Err(Error::user("the pattern of a number must be a constant")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")),
    }
}

/// A decimal with the digits of the pattern.
fn number_type(_: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    match values.get(1).copied().flatten() {
        Some(value) => match value.try_as_str().flatten() {
            Some(text) => NumberPattern::new(text)?.decimal_type(),
            None => Ok(DataType::Decimal128(38, 0)),
        },
        None => Err(Error::user("the pattern of a number must be a constant")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")),
    }
}

fn to_number(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let Some(pattern) = pattern(call)? else {
        return Ok(arrow::array::new_null_array(call.result(), call.rows()));
    };
    let read = |text: Option<&str>| -> Result<Option<i128>> {
        let Some(text) = text else { return Ok(None) };
        match pattern.parse(text) {
            None if strict => Err(Error::data(format!("'{text}' does not fit the pattern `{}`", pattern.text))
                .with_condition("INVALID_FORMAT.MISMATCH_INPUT")
                .with_help("Use `try_to_number` to get NULL instead.")),
            number => Ok(number),
        }
    };
    let numbers: PrimitiveArray<Decimal128Type> = call.text(0)?.iter().map(read).collect::<Result<_>>()?;
    Ok(Arc::new(numbers.with_data_type(call.result().clone())))
}

/// A run of digits between separators.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    length: usize,
    /// Written with a leading `0`, before the point: just so many digits.
    exact: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Runs with a separator between each two.
    Digits(Vec<Run>),
    Point,
    Dollar,
    /// `S`: `+`, `-` or nothing.
    Sign,
    /// `MI`: `-` or nothing.
    Minus,
    /// `PR`: `<` and `>` around a negative number.
    Open,
    Close,
}

/// `[MI|S] [$] [0|9|G|,]… [.|D] [0|9]… [$] [PR|MI|S]`
#[derive(Debug)]
struct NumberPattern {
    text: String,
    tokens: Vec<Token>,
    /// Digits before and after the point.
    whole: usize,
    fraction: usize,
}

impl NumberPattern {
    fn new(text: &str) -> Result<Self> {
        let invalid = |why: &str, condition: &'static str| {
            Error::user(format!("`{text}` is no pattern of a number: {why}"))
                .with_condition(condition)
                .with_help("Write it as [MI|S][$](0|9|,)…[.(0|9)…][$][PR|MI|S].")
        };
        let tokens = tokens(&text.to_ascii_uppercase()).ok_or_else(|| {
            invalid("it has unknown characters or misplaced separators", "INVALID_FORMAT.UNEXPECTED_TOKEN")
        })?;
        let digits = |tokens: &[Token]| -> usize {
            tokens
                .iter()
                .map(|t| if let Token::Digits(runs) = t { runs.iter().map(|r| r.length).sum() } else { 0 })
                .sum()
        };
        let point = tokens.iter().position(|token| *token == Token::Point).unwrap_or(tokens.len());
        let (whole, fraction) = (digits(&tokens[..point]), digits(&tokens[point..]));
        if whole + fraction == 0 {
            return Err(invalid("it has no digits", "INVALID_FORMAT.WRONG_NUM_DIGIT"));
        }
        let order: [fn(&Token) -> bool; 8] = [
            |t| *t == Token::Open,
            |t| matches!(t, Token::Minus | Token::Sign),
            |t| *t == Token::Dollar,
            |t| matches!(t, Token::Digits(_)),
            |t| *t == Token::Point,
            |t| matches!(t, Token::Digits(runs) if runs.len() == 1),
            |t| *t == Token::Dollar,
            |t| matches!(t, Token::Minus | Token::Sign | Token::Close),
        ];
        let mut at = 0;
        for allowed in order {
            at += usize::from(tokens.get(at).is_some_and(allowed));
        }
        let twice = |token: &Token| tokens.iter().filter(|other| *other == token).count() > 1;
        if at < tokens.len() || [Token::Sign, Token::Minus, Token::Dollar].iter().any(twice) {
            return Err(invalid("its parts are not in order", "INVALID_FORMAT.UNEXPECTED_TOKEN"));
        }
        let text = text.to_owned();
        Ok(Self { text, tokens, whole, fraction })
    }

    fn decimal_type(&self) -> Result<DataType> {
        match u8::try_from(self.whole + self.fraction) {
            Ok(precision @ 1..=38) => Ok(DataType::Decimal128(precision, self.fraction as i8)),
            _ => Err(Error::user(format!("the pattern `{}` has more than 38 digits", self.text))
                .with_condition("DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION")),
        }
    }

    /// The number without its point, with the pattern's decimals.
    fn parse(&self, text: &str) -> Option<i128> {
        let mut rest = text;
        let (mut digits, mut decimals) = (String::new(), String::new());
        let (mut negative, mut open, mut closed, mut after_point) = (false, false, false, false);
        for token in &self.tokens {
            let take = |rest: &mut &str, wanted: char| match rest.strip_prefix(wanted) {
                Some(after) => {
                    *rest = after;
                    true
                }
                None => false,
            };
            match token {
                Token::Digits(runs) => {
                    let into = if after_point { &mut decimals } else { &mut digits };
                    rest = parse_runs(runs, rest, into)?;
                }
                Token::Point => after_point |= take(&mut rest, '.'),
                Token::Dollar if !take(&mut rest, '$') && !rest.is_empty() => return None,
                Token::Dollar => {}
                Token::Sign => negative ^= !take(&mut rest, '+') && take(&mut rest, '-'),
                Token::Minus => negative ^= take(&mut rest, '-'),
                Token::Open => open = take(&mut rest, '<'),
                Token::Close if take(&mut rest, '>') => {
                    closed = true;
                    negative ^= true;
                }
                Token::Close => {}
            }
        }
        if !rest.is_empty() || open != closed || (digits.is_empty() && decimals.is_empty()) {
            return None;
        }
        let size: i128 = format!("0{digits}{decimals:0<width$}", width = self.fraction).parse().ok()?;
        Some(if negative { -size } else { size })
    }

    /// The number with blanks for digits it lacks; `#` in place of its digits if it has more than the pattern.
    fn format(&self, number: i128, scale: i8) -> String {
        let negative = number < 0;
        let scale = usize::try_from(scale).unwrap_or(0);
        let plain = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = plain.split_at(plain.len() - scale);
        let (mut whole, mut fraction) =
            (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        if whole.len() > self.whole || fraction.len() > self.fraction {
            whole = "#".repeat(self.whole);
            fraction = "#".repeat(self.fraction);
        }
        let whole: Vec<char> = format!("{whole:>width$}", width = self.whole).chars().collect();
        let fraction: Vec<char> = format!("{fraction:0<width$}", width = self.fraction).chars().collect();
        let (mut whole, mut fraction) = (whole.into_iter(), fraction.into_iter());
        let (mut out, mut after_point) = (Vec::new(), false);
        for token in &self.tokens {
            match token {
                Token::Digits(runs) if after_point => {
                    fraction.by_ref().take(runs.iter().map(|run| run.length).sum()).for_each(|digit| out.push(digit));
                }
                Token::Digits(runs) => {
                    for (i, run) in runs.iter().enumerate() {
                        match out.last() {
                            _ if i == 0 => {}
                            Some(last) if last.is_ascii_digit() => out.push(','),
                            _ => push_blank(&mut out),
                        }
                        for digit in whole.by_ref().take(run.length) {
                            match digit {
                                ' ' if run.exact => out.push('0'),
                                ' ' => push_blank(&mut out),
                                digit => out.push(digit),
                            }
                        }
                    }
                }
                Token::Point => {
                    if let Some(last) = out.last_mut().filter(|last| **last == ' ') {
                        *last = '0';
                    }
                    out.push('.');
                    after_point = true;
                }
                Token::Dollar => out.push('$'),
                Token::Sign => {
                    strip_lone_point(&mut out);
                    push_before_blanks(&mut out, if negative { '-' } else { '+' });
                }
                Token::Minus if negative => {
                    strip_lone_point(&mut out);
                    push_before_blanks(&mut out, '-');
                }
                Token::Minus => out.push(' '),
                Token::Open => out.extend(negative.then_some('<')),
                Token::Close => {
                    strip_lone_point(&mut out);
                    if negative { push_before_blanks(&mut out, '>') } else { out.extend([' ', ' ']) }
                }
            }
        }
        strip_lone_point(&mut out);
        match out.as_slice() {
            [] | ['+' | '-'] => "0".to_owned(),
            _ => out.into_iter().collect(),
        }
    }
}

/// What is left of `text` after the digits of the runs, which are compared from the right; `None` if they do not fit.
fn parse_runs<'t>(runs: &[Run], text: &'t str, digits: &mut String) -> Option<&'t str> {
    let of_number = |c: char| c.is_whitespace() || c.is_ascii_digit() || c == ',';
    let (taken, rest) = text.split_at(text.find(|c| !of_number(c)).unwrap_or(text.len()));
    let lengths: Vec<usize> =
        taken.rsplit(',').map(|group| group.chars().filter(char::is_ascii_digit).count()).collect();
    digits.extend(taken.chars().filter(char::is_ascii_digit));
    let fits = |(i, run): (usize, &Run)| {
        let length = lengths.get(i).copied().unwrap_or(0);
        if run.exact { length == run.length } else { length <= run.length }
    };
    (lengths.len() <= runs.len() && runs.iter().rev().enumerate().all(fits)).then_some(rest)
}

/// The tokens of a pattern in capitals.
fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = pattern;
    let mut separated = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '0' | '9' => {
                let length = rest.find(|c| c != '0' && c != '9').unwrap_or(rest.len());
                let run = Run { length, exact: first == '0' && !tokens.contains(&Token::Point) };
                match tokens.last_mut() {
                    Some(Token::Digits(runs)) if separated => runs.push(run),
                    _ if separated => return None,
                    _ => tokens.push(Token::Digits(vec![run])),
                }
                separated = false;
                length
            }
            ',' | 'G' if !separated && matches!(tokens.last(), Some(Token::Digits(_))) => {
                separated = true;
                1
            }
            _ if separated => return None,
            '.' | 'D' => {
                tokens.push(Token::Point);
                1
            }
            '$' => {
                tokens.push(Token::Dollar);
                1
            }
            'S' => {
                tokens.push(Token::Sign);
                1
            }
            'M' if rest.starts_with("MI") => {
                tokens.push(Token::Minus);
                2
            }
            'P' if rest.starts_with("PR") => {
                tokens.insert(0, Token::Open);
                tokens.push(Token::Close);
                2
            }
            _ => return None,
        };
        rest = &rest[length..];
    }
    (!separated).then_some(tokens)
}

/// A character, moved to the left of the blanks before it.
fn push_before_blanks(out: &mut Vec<char>, c: char) {
    let at = out.iter().rposition(|other| *other != ' ').map_or(0, |last| last + 1);
    out.insert(at, c);
}

/// A blank, moved to the left of the signs before it.
fn push_blank(out: &mut Vec<char>) {
    let at = out.iter().rposition(|other| !matches!(other, '+' | '-' | '<')).map_or(0, |last| last + 1);
    out.insert(at, ' ');
}

/// A point that nothing follows becomes a blank.
fn strip_lone_point(out: &mut [char]) {
    if let Some(at) = out.iter().position(|c| *c == '.')
        && out.get(at + 1).is_none_or(|next| *next == ' ')
    {
        out[at] = ' ';
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn numbers_are_read() {
        check_all(&[
            ("to_number('454', '999')", "454"),
            ("to_number('454.00', '000.00')", "454.00"),
            ("to_number('12,454', '99,999')", "12454"),
            ("to_number('$78.12', '$99.99')", "78.12"),
            ("to_number('12,454.8-', '99,999.9S')", "-12454.8"),
            ("to_number('<45>', '99PR')", "-45"),
            ("to_number('-7', 'MI99')", "-7"),
            ("typeof(to_number('1', '999.99'))", "decimal(5,2)"),
            ("try_to_number('x', '999')", "NULL"),
            ("try_to_number('12', '000')", "NULL"),
            ("try_to_number('1,234', '9999')", "NULL"),
            ("to_number(NULL, '999')", "NULL"),
        ])
        .await;
        let mismatch = Err("INVALID_FORMAT.MISMATCH_INPUT");
        check("to_number('abc', '999')", mismatch, mismatch).await;
        let invalid = Err("INVALID_FORMAT.UNEXPECTED_TOKEN");
        check("to_number('1', '9x9')", invalid, invalid).await;
        check("to_number('1', '9$9')", invalid, invalid).await;
    }

    #[tokio::test]
    async fn numbers_are_written() {
        check_all(&[
            ("to_char(454, '999')", "454"),
            ("to_char(454, '000D00')", "454.00"),
            ("to_char(12454, '99G999')", "12,454"),
            ("to_char(78.12, '$99.99')", "$78.12"),
            ("to_char(-12454.8, '99G999D9S')", "12,454.8-"),
            ("to_char(12, '999')", " 12"),
            ("to_char(12, '000')", "012"),
            ("to_char(-12, 'S999')", " -12"),
            ("to_char(1234, '999')", "###"),
            ("to_char(0.5, '99.99')", " 0.50"),
            ("to_char(-45, '99PR')", "<45>"),
            ("to_varchar(454, '999')", "454"),
            ("to_char(CAST(NULL AS INT), '999')", "NULL"),
            ("to_char(DATE '2016-04-08', 'y')", "2016"),
            ("to_char(encode('abc', 'utf-8'), 'base64')", "YWJj"),
            ("to_char(encode('abc', 'utf-8'), 'hex')", "616263"),
            ("to_char(encode('abc', 'utf-8'), 'utf-8')", "abc"),
        ])
        .await;
    }
}
