//! Commands that only look: `SHOW`, `DESCRIBE`, `EXPLAIN`.

use sqlparser::tokenizer::Token;

use super::command::{Command, ExplainDetail};
use super::cursor::Cursor;
use super::function::{self, FunctionScope};
use crate::error::{Error, Result};

pub(super) fn show(cursor: &mut Cursor<'_>) -> Result<Command> {
    let schema = |cursor: &mut Cursor<'_>| match cursor.eat("IN") || cursor.eat("FROM") {
        true => cursor.object_name().map(Some),
        false => Ok(None),
    };
    if cursor.at_words("TABLES") || cursor.at_words("VIEWS") {
        let views = !cursor.eat("TABLES") && cursor.eat("VIEWS");
        let schema = schema(cursor)?;
        return Ok(Command::ShowTables { schema, pattern: pattern(cursor)?, views });
    }
    for (words, scope) in [
        ("USER FUNCTIONS", FunctionScope::User),
        ("SYSTEM FUNCTIONS", FunctionScope::System),
        ("ALL FUNCTIONS", FunctionScope::All),
        ("FUNCTIONS", FunctionScope::All),
    ] {
        if cursor.eat(words) {
            return function::show(cursor, scope);
        }
    }
    if cursor.eat("SCHEMAS") || cursor.eat("DATABASES") || cursor.eat("NAMESPACES") {
        return Ok(Command::ShowSchemas { pattern: pattern(cursor)? });
    }
    if cursor.eat("CATALOGS") {
        return Ok(Command::ShowCatalogs { pattern: pattern(cursor)? });
    }
    if cursor.eat("COLUMNS") {
        if !cursor.eat("IN") {
            cursor.expect("FROM")?;
        }
        return Ok(Command::ShowColumns(cursor.object_name()?));
    }
    if cursor.eat("TBLPROPERTIES") {
        return Ok(Command::ShowProperties(cursor.object_name()?));
    }
    if cursor.eat("CREATE TABLE") {
        return Ok(Command::ShowCreate(cursor.object_name()?));
    }
    Err(Error::unsupported(format!("the SQL statement `SHOW {}`", cursor.rest())).at(cursor.statement_location()))
}

fn pattern(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.eat("LIKE") || !(cursor.at_end() || cursor.at_token(&Token::SemiColon)) {
        return cursor.string().map(Some);
    }
    Ok(None)
}

pub(super) fn describe(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.eat("QUERY") || ["SELECT", "WITH", "VALUES", "FROM"].into_iter().any(|word| cursor.at_words(word)) {
        return Ok(Command::DescribeQuery(Box::new(cursor.query()?)));
    }
    if cursor.eat("HISTORY") {
        let name = cursor.object_name()?;
        let limit = if cursor.eat("LIMIT") { Some(limit(cursor)?) } else { None };
        return Ok(Command::DescribeHistory { name, limit });
    }
    if cursor.eat("FUNCTION") {
        return function::describe(cursor);
    }
    cursor.eat("TABLE");
    if cursor.at_words("EXTENDED") || cursor.at_words("FORMATTED") {
        return Err(Error::unsupported(format!("`DESCRIBE {}`", cursor.rest())).at(cursor.statement_location()));
    }
    Ok(Command::Describe(cursor.object_name()?))
}

fn limit(cursor: &mut Cursor<'_>) -> Result<usize> {
    let place = cursor.here();
    usize::try_from(cursor.integer()?).map_err(|_| cursor.illegal("a limit cannot be negative", place))
}

pub(super) fn explain(cursor: &mut Cursor<'_>) -> Result<Command> {
    let detail = if cursor.eat("EXTENDED") {
        ExplainDetail::Extended
    } else if cursor.eat("COST") {
        ExplainDetail::Cost
    } else {
        let _ = cursor.eat("FORMATTED") || cursor.eat("CODEGEN");
        ExplainDetail::Plan
    };
    Ok(Command::Explain { detail, query: Box::new(cursor.query()?) })
}
