//! A parser over one statement that knows where in the user's file it stands.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

use super::SqlText;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::query::{SqlQuery, parse_query};
use crate::sql::script::StatementText;
use crate::sql::tokens::{Source, is_word};

pub(super) struct Cursor<'a> {
    source: Source<'a>,
    parser: Parser<'static>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(statement: &'a StatementText) -> Result<Self> {
        let source = Source::new(&statement.text, &statement.location);
        let parser = source.parser()?;
        Ok(Self { source, parser })
    }

    pub(super) fn statement_location(&self) -> SourceLocation {
        self.source.location.clone()
    }

    /// Where the next token stands.
    pub(super) fn here(&self) -> SourceLocation {
        self.source.place(self.start())
    }

    fn start(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    /// Whether the coming words are these, without consuming them.
    pub(super) fn at_words(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(i, word)| is_word(self.parser.peek_nth_token_ref(i), word))
    }

    /// Consumes these words if they come next.
    pub(super) fn eat(&mut self, words: &str) -> bool {
        let found = self.at_words(words);
        if found {
            for _ in words.split(' ') {
                self.parser.next_token();
            }
        }
        found
    }

    /// Consumes these words.
    pub(super) fn expect(&mut self, words: &str) -> Result<()> {
        if self.eat(words) { Ok(()) } else { Err(self.expected(&format!("`{words}`"))) }
    }

    pub(super) fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn at_token(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    /// Whether a query in parentheses comes next.
    pub(super) fn at_subquery(&self) -> bool {
        ["SELECT", "WITH", "VALUES", "FROM", "TABLE"]
            .iter()
            .any(|word| is_word(self.parser.peek_nth_token_ref(1), word))
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    pub(super) fn at_end(&self) -> bool {
        self.at_token(&Token::EOF)
    }

    /// The error that something else should stand here.
    pub(super) fn expected(&self, what: &str) -> Error {
        let found = self.parser.peek_token_ref();
        let message = match found.token {
            Token::EOF => format!("expected {what}, found the end of the statement"),
            ref token => format!("expected {what}, found `{token}`"),
        };
        match found.token {
            Token::EOF => self.source.error(&ParserError::ParserError(message)),
            _ => self.source.syntax_error(message, self.here()),
        }
    }

    /// The error that nothing begins with what stands here.
    pub(super) fn unexpected(&self) -> Error {
        match &self.parser.peek_token_ref().token {
            Token::EOF => self.source.syntax_error("syntax error at or near the end of the text", self.here()),
            token => self.source.syntax_error(format!("syntax error at or near `{token}`"), self.here()),
        }
    }

    /// The error that what stands here, though it can be read, is not allowed.
    pub(super) fn illegal(&self, message: impl Into<String>, place: SourceLocation) -> Error {
        self.source.syntax_error(message, place)
    }

    fn run<T>(&mut self, parse: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>) -> Result<T> {
        parse(&mut self.parser).map_err(|error| self.source.error(&error))
    }

    pub(super) fn identifier(&mut self) -> Result<String> {
        match &self.parser.peek_token_ref().token {
            Token::Word(_) => Ok(self.run(Parser::parse_identifier)?.value),
            _ => Err(self.expected("a name")),
        }
    }

    /// A name of one to three parts; `IDENTIFIER('a.b')` too. The virtual schema `LIVE` is dropped.
    pub(super) fn dataset_name(&mut self) -> Result<ObjectName> {
        let mut name = self.object_name()?;
        if name.0.len() > 1 && name.0[0].eq_ignore_ascii_case("live") {
            name.0.remove(0);
        }
        Ok(name)
    }

    pub(super) fn object_name(&mut self) -> Result<ObjectName> {
        if self.at_words("IDENTIFIER") && self.parser.peek_nth_token_ref(1).token == Token::LParen {
            self.eat("IDENTIFIER");
            self.expect_token(&Token::LParen)?;
            let text = self.string()?;
            self.expect_token(&Token::RParen)?;
            return Ok(ObjectName(text.split('.').map(|part| part.trim_matches('`').to_owned()).collect()));
        }
        let mut parts = vec![self.identifier()?];
        while self.eat_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        Ok(ObjectName(parts))
    }

    /// Consumes one of Spark's operators that `DESCRIBE FUNCTION` can name.
    pub(super) fn operator(&mut self) -> Option<String> {
        let token = &self.parser.peek_token_ref().token;
        if matches!(token, Token::Word(_) | Token::SingleQuotedString(_) | Token::EOF | Token::SemiColon) {
            return None;
        }
        let text = token.to_string();
        crate::functions::is_spark_builtin(&text).then(|| {
            self.parser.next_token();
            text
        })
    }

    /// Whether a string comes next.
    pub(super) fn at_string(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_))
    }

    /// Whether the text of an expression holds a query.
    pub(super) fn holds_subquery(&self, text: &str) -> Result<bool> {
        let source = Source::new(text, self.source.location);
        let expr = source.parser()?.parse_expr().map_err(|error| source.error(&error))?;
        Ok(crate::sql::query::holds_subquery(&expr))
    }

    pub(super) fn string(&mut self) -> Result<String> {
        match self.parser.peek_token_ref().token.clone() {
            Token::SingleQuotedString(text) => {
                self.parser.next_token();
                Ok(text)
            }
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn data_type(&mut self) -> Result<ast::DataType> {
        self.run(Parser::parse_data_type)
    }

    pub(super) fn integer(&mut self) -> Result<i64> {
        let negative = self.eat_token(&Token::Minus);
        match self.parser.peek_token_ref().token.clone() {
            Token::Number(text, _) => match text.parse::<i64>() {
                Ok(value) => {
                    self.parser.next_token();
                    Ok(if negative { -value } else { value })
                }
                Err(_) => Err(self.expected("an integer")),
            },
            _ => Err(self.expected("an integer")),
        }
    }

    /// A comma list in parentheses.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let items = self.bare_list(&mut item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    pub(super) fn bare_list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.eat_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn identifiers(&mut self) -> Result<Vec<String>> {
        self.list(Self::identifier)
    }

    /// A value of a property: a string, a word or a number, as text.
    pub(super) fn property_value(&mut self) -> Result<String> {
        let negative = if self.eat_token(&Token::Minus) { "-" } else { "" };
        let token = self.parser.peek_token_ref().token.clone();
        let text = match token {
            Token::SingleQuotedString(text) => text,
            Token::Word(word) => word.value,
            Token::Number(text, _) => text,
            _ => return Err(self.expected("a value")),
        };
        self.parser.next_token();
        Ok(format!("{negative}{text}"))
    }

    /// A key of a property: a string or dotted words.
    pub(super) fn property_key(&mut self) -> Result<String> {
        if let Token::SingleQuotedString(_) = self.parser.peek_token_ref().token {
            return self.string();
        }
        Ok(self.object_name()?.0.join("."))
    }

    /// Reads an expression, and gives its text.
    pub(super) fn expression(&mut self) -> Result<SqlText> {
        let start = self.start();
        self.run(Parser::parse_expr)?;
        Ok(self.text_from(start))
    }

    /// Reads a query to its end.
    pub(super) fn query(&mut self) -> Result<SqlQuery> {
        let start = self.start();
        self.run(Parser::parse_query)?;
        let text = self.text_from(start);
        parse_query(&text.text, &text.location)
    }

    /// Reads a relation, up to the word `end`, and makes `SELECT * FROM relation` of it.
    pub(super) fn relation_until(&mut self, end: &str) -> Result<SqlQuery> {
        let start = self.start();
        let mut depth = 0_usize;
        while !(self.at_end() || (depth == 0 && self.at_words(end))) {
            match self.parser.next_token().token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let relation = self.text_from(start);
        let mut query = parse_query(&format!("SELECT * FROM {}", relation.text), &relation.location)?;
        query.location.column = relation.location.column.saturating_sub("SELECT * FROM ".len() as u32).max(1);
        Ok(query)
    }

    fn text_from(&self, start: Location) -> SqlText {
        let end = self.parser.get_current_token().span.end;
        // Where nothing was read, the last token stands before `start`.
        let start_offset = self.source.offset(start);
        let text = &self.source.text[start_offset..self.source.offset(end).max(start_offset)];
        SqlText { text: text.trim().to_owned(), location: self.source.place(start) }
    }

    /// The rest of the statement as text, consumed.
    pub(super) fn rest(&mut self) -> String {
        let text = self.source.text[self.source.offset(self.start())..].trim().to_owned();
        while self.parser.next_token().token != Token::EOF {}
        text
    }
}
