//! Names outside of statements: in refresh selections, in the Python API.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::SparkDialect;
use crate::error::{Error, Result};
use crate::relation::ObjectName;

/// Parses a name of one or more parts, back-quoted where needed: `` main.`my schema`.orders ``.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) if the text is no name.
pub fn parse_name(text: &str) -> Result<ObjectName> {
    let not_a_name = || Error::user(format!("`{text}` is not a name")).with_condition("PARSE_SYNTAX_ERROR");
    let mut parser = Parser::new(&SparkDialect).try_with_sql(text).map_err(|_| not_a_name())?;
    let mut parts = Vec::new();
    loop {
        parts.push(parser.parse_identifier().map_err(|_| not_a_name())?.value);
        if !parser.consume_token(&Token::Period) {
            break;
        }
    }
    match parser.peek_token().token {
        Token::EOF => Ok(ObjectName(parts)),
        _ => Err(not_a_name().with_help("Put names with special characters in back-quotes.")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_have_parts_and_back_quotes() {
        assert_eq!(parse_name("a.`b c`.d").unwrap().0, ["a", "b c", "d"]);
        assert_eq!(parse_name("Orders").unwrap().0, ["Orders"]);
        assert!(parse_name("a b").is_err());
        assert!(parse_name("").is_err());
    }
}
