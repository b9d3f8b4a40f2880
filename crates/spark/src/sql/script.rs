//! Splits the text of a SQL file into statements, each with the place of its first token.
//!
//! Statements end at a `;` outside strings, comments and back-quotes, at a notebook's cell border, or at
//! the end of the text. Cells of a notebook in other languages (`-- MAGIC`) are comments, and so pass by.

use std::path::Path;

use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};

/// One statement: from its first token to its last, comments in between included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementText {
    /// The text without the final semicolon.
    pub text: String,
    /// Where its first token stands.
    pub location: SourceLocation,
}

/// Splits `text`, the content of `file`.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) for a string, back-quoted name or comment that is never closed.
pub fn split(text: &str, file: impl AsRef<Path>) -> Result<Vec<StatementText>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut scanner = Scanner::new(text, file.as_ref());
    while let Some(c) = scanner.peek() {
        scanner.step(c)?;
    }
    scanner.finish_statement();
    Ok(scanner.statements)
}

struct Scanner<'a> {
    text: &'a str,
    file: &'a Path,
    at: usize,
    line: u32,
    column: u32,
    /// First token of the statement: offset, line, column.
    start: Option<(usize, u32, u32)>,
    /// End of the last token of the statement.
    end: usize,
    statements: Vec<StatementText>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, file: &'a Path) -> Self {
        Self { text, file, at: 0, line: 1, column: 1, start: None, end: 0, statements: Vec::new() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn step(&mut self, c: char) -> Result<()> {
        if self.rest().starts_with("--") {
            self.line_comment();
            return Ok(());
        }
        if self.rest().starts_with("/*") {
            return self.block_comment();
        }
        match c {
            ';' => {
                self.finish_statement();
                self.advance();
            }
            '\'' | '"' | '`' => {
                self.token_starts();
                self.quoted(c)?;
                self.end = self.at;
            }
            c if c.is_whitespace() => {
                self.advance();
            }
            _ => {
                self.token_starts();
                self.advance();
                self.end = self.at;
            }
        }
        Ok(())
    }

    fn token_starts(&mut self) {
        self.start.get_or_insert((self.at, self.line, self.column));
    }

    /// Skips to the end of the line; a notebook's cell border ends the statement.
    fn line_comment(&mut self) {
        let line = self.rest().lines().next().unwrap_or_default();
        if self.column == 1 && line.trim_end().starts_with("-- COMMAND ----------") {
            self.finish_statement();
        }
        for _ in line.chars() {
            self.advance();
        }
    }

    fn block_comment(&mut self) -> Result<()> {
        let opened = self.location();
        let mut depth = 0;
        loop {
            let opens = self.rest().starts_with("/*");
            if opens || self.rest().starts_with("*/") {
                depth = if opens { depth + 1 } else { depth - 1 };
                self.advance();
                self.advance();
                if depth == 0 {
                    return Ok(());
                }
            } else if self.advance().is_none() {
                return Err(unclosed("comment", "*/", opened));
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<()> {
        let opened = self.location();
        let raw = quote != '`' && self.is_raw_string();
        self.advance();
        while let Some(c) = self.advance() {
            match c {
                '\\' if quote != '`' && !raw => {
                    self.advance();
                }
                c if c == quote => return Ok(()),
                _ => {}
            }
        }
        let what = if quote == '`' { "back-quoted name" } else { "string" };
        Err(unclosed(what, &quote.to_string(), opened))
    }

    /// Whether the quote here follows a lone `r`.
    fn is_raw_string(&self) -> bool {
        let mut before = self.text[..self.at].chars().rev();
        matches!(before.next(), Some('r' | 'R')) && !before.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    fn location(&self) -> SourceLocation {
        SourceLocation::new(self.file, self.line, self.column)
    }

    fn finish_statement(&mut self) {
        if let Some((start, line, column)) = self.start.take() {
            self.statements.push(StatementText {
                text: self.text[start..self.end].to_owned(),
                location: SourceLocation::new(self.file, line, column),
            });
        }
    }
}

fn unclosed(what: &str, closing: &str, location: SourceLocation) -> Error {
    Error::user(format!("{what} is never closed"))
        .with_condition("PARSE_SYNTAX_ERROR")
        .with_help(format!("Add the missing `{closing}`."))
        .at(location)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn places(text: &str) -> Vec<(String, u32, u32)> {
        let statements = split(text, "a.sql").unwrap();
        statements.into_iter().map(|s| (s.text, s.location.line, s.location.column)).collect()
    }

    #[test]
    fn splits_outside_strings_comments_and_back_quotes() {
        let text = "-- it's; fine\n  SELECT ';', \"a\\\";\", `x;y` /* ; /* nested; */ */ FROM t; ;\n\n\tSET a = b";
        assert_eq!(
            places(text),
            vec![
                ("SELECT ';', \"a\\\";\", `x;y` /* ; /* nested; */ */ FROM t".to_owned(), 2, 3),
                ("SET a = b".to_owned(), 4, 2),
            ]
        );
    }

    #[test]
    fn cells_of_a_notebook_end_statements() {
        let text = "-- Databricks notebook source\n-- MAGIC %md it's\n\n-- COMMAND ----------\n\n-- DBTITLE 1,Bronze\nSELECT 1\n\n-- COMMAND ----------\n-- MAGIC %python\n-- MAGIC x = ';'\n-- COMMAND ----------\nSELECT 2 -- end";
        assert_eq!(places(text), vec![("SELECT 1".to_owned(), 7, 1), ("SELECT 2".to_owned(), 13, 1)]);
    }

    #[test]
    fn raw_strings_and_globs() {
        assert_eq!(places("SELECT r'a\\'; SELECT '/x/*', '*/'").len(), 2);
    }

    #[test]
    fn an_open_string_is_an_error_where_it_opens() {
        let error = split("SELECT 1;\n  SELECT 'abc", "a.sql").unwrap_err();
        assert_eq!(error.location().unwrap().to_string(), "a.sql:2:10");
        assert_eq!(error.condition(), Some("PARSE_SYNTAX_ERROR"));
    }
}
