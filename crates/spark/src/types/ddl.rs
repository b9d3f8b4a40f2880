//! Reads types and schemas written as DDL text.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};

use super::{
    CHAR_TYPE_KEY, COMMENT_KEY, DEFAULT_KEY, GENERATION_EXPRESSION_KEY, IDENTITY_EXPLICIT_KEY, IDENTITY_START_KEY,
    IDENTITY_STEP_KEY, array, map_of, timestamp, timestamp_ntz,
};
use crate::error::{Error, Result};

/// Reads one type: `int`, `DECIMAL(10, 2)`, `map<string, array<struct<a: int>>>`.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` or `UNSUPPORTED_DATATYPE` (`User`).
pub fn parse_data_type(text: &str) -> Result<DataType> {
    let mut parser = Parser::new(text)?;
    let data_type = parser.data_type()?;
    parser.end()?;
    Ok(data_type)
}

/// Reads a list of columns, or a `struct<…>` type: `a INT NOT NULL COMMENT 'x', b STRUCT<c: STRING>`.
///
/// Comments, defaults and generation expressions are kept in the fields' metadata.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` or `UNSUPPORTED_DATATYPE` (`User`).
pub fn parse_schema(text: &str) -> Result<Schema> {
    let mut parser = Parser::new(text)?;
    let is_struct = parser.peek_word("struct") && matches!(parser.tokens.get(1), Some(Token::Symbol('<')));
    let fields = match is_struct {
        true => match parser.data_type()? {
            DataType::Struct(fields) => fields,
            other => return Err(parser.error(&format!("expected columns, found type {other}"))),
        },
        false => parser.columns()?,
    };
    parser.end()?;
    Ok(Schema::new(fields))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Text(String),
    Symbol(char),
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    /// Byte ranges of the tokens in the source.
    spans: Vec<(usize, usize)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Result<Self> {
        let mut parser = Self { source, tokens: Vec::new(), spans: Vec::new(), at: 0 };
        let mut chars = source.char_indices().peekable();
        while let Some((start, c)) = chars.next() {
            let token = match c {
                _ if c.is_whitespace() => continue,
                '`' | '\'' | '"' => {
                    let mut text = String::new();
                    loop {
                        match chars.next() {
                            None => return Err(parser.error("quotation that does not end")),
                            Some((_, '\\')) if c != '`' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                            Some((_, q)) if q == c && chars.peek().is_some_and(|(_, next)| *next == c) => {
                                chars.next();
                                text.push(c);
                            }
                            Some((_, q)) if q == c => break,
                            Some((_, other)) => text.push(other),
                        }
                    }
                    if c == '`' { Token::Quoted(text) } else { Token::Text(text) }
                }
                _ if c.is_alphanumeric() || c == '_' => {
                    let mut word = c.to_string();
                    while let Some((_, next)) = chars.peek().filter(|(_, n)| n.is_alphanumeric() || *n == '_') {
                        word.push(*next);
                        chars.next();
                    }
                    Token::Word(word)
                }
                other => Token::Symbol(other),
            };
            let end = chars.peek().map_or(source.len(), |(at, _)| *at);
            parser.tokens.push(token);
            parser.spans.push((start, end));
        }
        Ok(parser)
    }

    fn error(&self, what: &str) -> Error {
        Error::user(format!("cannot read the type or schema `{}`: {what}", self.source))
            .with_condition("PARSE_SYNTAX_ERROR")
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = self.spans.get(self.at).map_or("the end", |(start, end)| self.source[*start..*end].trim());
        self.error(&format!("expected {expected}, found {found}"))
    }

    fn end(&self) -> Result<()> {
        if self.at < self.tokens.len() { Err(self.unexpected("the end")) } else { Ok(()) }
    }

    fn peek_word(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(word);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: char) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&word.to_ascii_uppercase())) }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T> {
        let negative = self.take_symbol('-');
        let value = match self.tokens.get(self.at) {
            Some(Token::Word(w)) => format!("{}{w}", if negative { "-" } else { "" }).parse().ok(),
            _ => None,
        };
        self.at += usize::from(value.is_some());
        value.ok_or_else(|| self.unexpected("a number"))
    }

    fn text(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => Err(self.unexpected("a string")),
        }
    }

    fn columns(&mut self) -> Result<Fields> {
        let mut fields = Vec::new();
        if self.tokens.is_empty() {
            return Ok(Fields::empty());
        }
        loop {
            fields.push(Arc::new(self.column()?));
            if !self.take_symbol(',') {
                return Ok(fields.into());
            }
        }
    }

    fn column(&mut self) -> Result<Field> {
        let name = match self.tokens.get(self.at) {
            Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
            _ => return Err(self.unexpected("a column name")),
        };
        self.at += 1;
        self.take_symbol(':');
        let start = self.at;
        let data_type = self.data_type()?;
        let length = self.char_type(start);
        let (nullable, mut metadata) = self.column_options()?;
        metadata.extend(length.map(|text| (CHAR_TYPE_KEY.to_owned(), text)));
        Ok(Field::new(name, data_type, nullable).with_metadata(metadata))
    }

    /// The type read from the token `start` on as text, if it is one of limited length.
    fn char_type(&self, start: usize) -> Option<String> {
        let Token::Word(word) = self.tokens.get(start)? else { return None };
        let name = match word.to_ascii_lowercase().as_str() {
            "varchar" => "varchar",
            "char" | "character" => "char",
            _ => return None,
        };
        let length = self.source.get(self.spans.get(start + 2)?.0..self.spans.get(start + 2)?.1)?;
        Some(format!("{name}({length})"))
    }

    fn column_options(&mut self) -> Result<(bool, HashMap<String, String>)> {
        let mut nullable = true;
        let mut metadata = HashMap::new();
        loop {
            if self.take_word("not") {
                self.word("null")?;
                nullable = false;
            } else if self.take_word("null") {
                nullable = true;
            } else if self.take_word("comment") {
                metadata.insert(COMMENT_KEY.to_owned(), self.text()?);
            } else if self.take_word("default") {
                metadata.insert(DEFAULT_KEY.to_owned(), self.until_option());
            } else if self.take_word("collate") {
                self.at += 1;
            } else if self.take_word("generated") {
                self.generated(&mut metadata)?;
            } else {
                return Ok((nullable, metadata));
            }
        }
    }

    fn generated(&mut self, metadata: &mut HashMap<String, String>) -> Result<()> {
        let always = self.take_word("always");
        if !always {
            self.word("by")?;
            self.word("default")?;
        }
        self.word("as")?;
        if self.take_word("identity") {
            let (mut start, mut step) = (1_i64, 1_i64);
            if self.take_symbol('(') {
                while !self.take_symbol(')') {
                    if self.take_word("start") {
                        self.word("with")?;
                        start = self.number()?;
                    } else if self.take_word("increment") {
                        self.word("by")?;
                        step = self.number()?;
                    } else {
                        return Err(self.unexpected("START WITH or INCREMENT BY"));
                    }
                    self.take_symbol(',');
                }
            }
            metadata.insert(IDENTITY_START_KEY.to_owned(), start.to_string());
            metadata.insert(IDENTITY_STEP_KEY.to_owned(), step.to_string());
            metadata.insert(IDENTITY_EXPLICIT_KEY.to_owned(), (!always).to_string());
            return Ok(());
        }
        let expression = self.parenthesised()?;
        metadata.insert(GENERATION_EXPRESSION_KEY.to_owned(), expression);
        Ok(())
    }

    /// The source text between a parenthesis and its partner.
    fn parenthesised(&mut self) -> Result<String> {
        self.symbol('(')?;
        let start = self.spans.get(self.at).map_or(self.source.len(), |span| span.0);
        let mut depth = 1;
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(self.source[start..self.spans[self.at - 1].0].trim().to_owned());
            }
        }
        Err(self.unexpected("`)`"))
    }

    /// The source text up to the next column option or column.
    fn until_option(&mut self) -> String {
        let start = self.spans.get(self.at).map_or(self.source.len(), |span| span.0);
        let mut depth = 0_i32;
        let mut end = start;
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                Token::Symbol(',' | '>') if depth == 0 => break,
                Token::Word(w)
                    if depth == 0 && ["comment", "not", "generated"].contains(&w.to_lowercase().as_str()) =>
                {
                    break;
                }
                _ => {}
            }
            end = self.spans[self.at].1;
            self.at += 1;
        }
        self.source[start..end].trim().to_owned()
    }

    fn data_type(&mut self) -> Result<DataType> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else {
            return Err(self.unexpected("a type"));
        };
        let name = word.to_ascii_lowercase();
        self.at += 1;
        Ok(match name.as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" | "byte" => DataType::Int8,
            "smallint" | "short" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" | "long" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "decimal" | "dec" | "numeric" => self.decimal()?,
            "string" => DataType::Utf8,
            "varchar" | "char" | "character" => {
                self.symbol('(')?;
                self.number::<u32>()?;
                self.symbol(')')?;
                DataType::Utf8
            }
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" | "timestamp_ltz" => timestamp(),
            "timestamp_ntz" => timestamp_ntz(),
            "void" | "null" => DataType::Null,
            "interval" => self.interval()?,
            "array" => {
                self.symbol('<')?;
                let element = self.data_type()?;
                self.symbol('>')?;
                array(element)
            }
            "map" => self.map_type()?,
            "struct" => self.struct_type()?,
            "time" => {
                // Times have six decimals here, however few the type has.
                if self.take_symbol('(') {
                    self.number::<u8>()?;
                    self.symbol(')')?;
                }
                super::time()
            }
            "variant" => super::variant(),
            "geometry" | "geography" => {
                return Err(Error::unsupported(format!("the data type {}", name.to_ascii_uppercase()))
                    .with_condition("UNSUPPORTED_DATATYPE"));
            }
            _ => {
                return Err(Error::user(format!("unsupported data type `{}`", name.to_ascii_uppercase()))
                    .with_condition("UNSUPPORTED_DATATYPE"));
            }
        })
    }

    fn decimal(&mut self) -> Result<DataType> {
        let (mut precision, mut scale) = (10_u8, 0_i8);
        if self.take_symbol('(') {
            precision = self.number()?;
            if self.take_symbol(',') {
                scale = self.number()?;
            }
            self.symbol(')')?;
        }
        if precision == 0 || precision > 38 || scale < 0 || scale.unsigned_abs() > precision {
            return Err(Error::user(format!(
                "decimal({precision},{scale}) is out of range: at most 38 digits, and no more decimals than digits"
            ))
            .with_condition("DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION"));
        }
        Ok(DataType::Decimal128(precision, scale))
    }

    fn interval(&mut self) -> Result<DataType> {
        let unit = |p: &mut Self| -> Option<bool> {
            for (word, year_month) in
                [("year", true), ("month", true), ("day", false), ("hour", false), ("minute", false), ("second", false)]
            {
                if p.take_word(word) {
                    return Some(year_month);
                }
            }
            None
        };
        let Some(year_month) = unit(self) else {
            return Ok(DataType::Interval(IntervalUnit::MonthDayNano));
        };
        if self.take_word("to") && unit(self) != Some(year_month) {
            return Err(self.unexpected("a unit of the same kind of interval"));
        }
        Ok(match year_month {
            true => DataType::Interval(IntervalUnit::YearMonth),
            false => DataType::Duration(TimeUnit::Microsecond),
        })
    }

    fn map_type(&mut self) -> Result<DataType> {
        self.symbol('<')?;
        let key = self.data_type()?;
        self.symbol(',')?;
        let value = self.data_type()?;
        self.symbol('>')?;
        Ok(map_of(Field::new("key", key, false), Field::new("value", value, true)))
    }

    fn struct_type(&mut self) -> Result<DataType> {
        self.symbol('<')?;
        if self.take_symbol('>') {
            return Ok(DataType::Struct(Fields::empty()));
        }
        let fields = self.columns()?;
        self.symbol('>')?;
        Ok(DataType::Struct(fields))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::type_name;

    #[test]
    fn types_are_read_in_any_case_and_spelling() {
        for (text, expected) in [
            ("INTEGER", "int"),
            ("Long", "bigint"),
            ("numeric", "decimal(10,0)"),
            ("DEC( 5 )", "decimal(5,0)"),
            ("varchar(10)", "string"),
            ("MAP<STRING, ARRAY<STRUCT<a: INT, b BIGINT>>>", "map<string,array<struct<a:int,b:bigint>>>"),
            ("interval day", "interval day to second"),
            ("timestamp_ltz", "timestamp"),
        ] {
            assert_eq!(type_name(&parse_data_type(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_what_was_found() {
        let error = parse_data_type("array<int").unwrap_err();
        assert_eq!(error.message(), "cannot read the type or schema `array<int`: expected `>`, found the end");
        assert_eq!(parse_data_type("strng").unwrap_err().condition(), Some("UNSUPPORTED_DATATYPE"));
        assert!(parse_data_type("decimal(39,0)").is_err());
    }

    #[test]
    fn column_options_become_metadata() {
        let schema = parse_schema(
            "a INT NOT NULL COMMENT 'x', `b c` STRUCT<c: STRING>, \
             d DATE GENERATED ALWAYS AS (CAST(a AS date)) COMMENT 'gen', i BIGINT GENERATED BY DEFAULT AS IDENTITY",
        )
        .unwrap();
        assert!(!schema.field(0).is_nullable());
        assert_eq!(schema.field(0).metadata()[COMMENT_KEY], "x");
        assert_eq!(schema.field(1).name(), "b c");
        assert_eq!(schema.field(2).metadata()[GENERATION_EXPRESSION_KEY], "CAST(a AS date)");
        assert_eq!(schema.field(3).metadata()["delta.identity.allowExplicitInsert"], "true");
    }
}
