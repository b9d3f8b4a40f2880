//! `CREATE FUNCTION`, `DROP FUNCTION`, `DESCRIBE FUNCTION`, `SHOW FUNCTIONS`.

use sqlparser::tokenizer::Token;

use super::command::Command;
use super::cursor::Cursor;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::data_types::arrow_type;
use crate::sql_function::{FunctionParameter, FunctionResult, ResultColumn};
use crate::types::type_name;

/// `CREATE FUNCTION` of a function written in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFunction {
    /// Its name.
    pub name: ObjectName,
    /// `OR REPLACE`
    pub replace: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `TEMPORARY`
    pub temporary: bool,
    /// The parameters.
    pub parameters: Vec<FunctionParameter>,
    /// `RETURNS`
    pub returns: FunctionResult,
    /// `COMMENT`
    pub comment: Option<String>,
    /// `[NOT] DETERMINISTIC`, if it is said.
    pub deterministic: Option<bool>,
    /// `READS SQL DATA` or `CONTAINS SQL`, if it is said.
    pub reads_data: Option<bool>,
    /// What follows `RETURN`.
    pub body: String,
    /// Where the statement stands.
    pub location: SourceLocation,
}

/// Which functions `SHOW FUNCTIONS` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionScope {
    /// Those of users.
    User,
    /// Spark's own.
    System,
    /// Both.
    All,
}

/// What `CREATE [OR REPLACE] [TEMPORARY]` says.
pub(super) struct Modifiers {
    pub(super) replace: bool,
    pub(super) temporary: bool,
    pub(super) location: SourceLocation,
}

/// Reads what follows `CREATE … FUNCTION`.
pub(super) fn create(cursor: &mut Cursor<'_>, modifiers: Modifiers) -> Result<CreateFunction> {
    let Modifiers { replace, temporary, location } = modifiers;
    let place = cursor.here();
    let if_not_exists = cursor.eat("IF NOT EXISTS");
    let exclusive = |condition: &str, what: &str| {
        Err(Error::user(format!("{what} exclude each other"))
            .with_condition(format!("INVALID_SQL_SYNTAX.{condition}"))
            .at(place.clone()))
    };
    if if_not_exists && replace {
        return exclusive("CREATE_ROUTINE_WITH_IF_NOT_EXISTS_AND_REPLACE", "`OR REPLACE` and `IF NOT EXISTS`");
    }
    if if_not_exists && temporary {
        return exclusive("CREATE_TEMP_FUNC_WITH_IF_NOT_EXISTS", "`TEMPORARY` and `IF NOT EXISTS`");
    }
    let place = cursor.here();
    let name = cursor.object_name()?;
    if temporary && name.0.len() > 1 {
        return Err(Error::user(format!("temporary function `{name}` has a qualified name"))
            .with_condition("INVALID_TEMP_OBJ_QUALIFIER")
            .at(place));
    }
    if cursor.eat("AS") {
        return Err(Error::unsupported("`CREATE FUNCTION … AS 'class'`, a function of the JVM,")
            .with_help("Write the function in SQL (RETURN …), or register one in Python.")
            .at(location));
    }
    let parameters = match cursor.at_token(&Token::LParen) {
        true => parameters(cursor, &name)?,
        false => return Err(cursor.expected("`(`")),
    };
    let mut function = CreateFunction {
        name,
        replace,
        if_not_exists,
        temporary,
        parameters,
        returns: FunctionResult::Value(None),
        comment: None,
        deterministic: None,
        reads_data: None,
        body: String::new(),
        location,
    };
    if cursor.eat("RETURNS") {
        function.returns = returns(cursor, &function.name)?;
    }
    let mut seen = Vec::new();
    while characteristic(cursor, &mut function, &mut seen)? {}
    if !cursor.eat("RETURN") {
        return Err(cursor.expected("`RETURN` and an expression or query"));
    }
    if cursor.at_end() {
        return Err(cursor.expected("an expression or query"));
    }
    function.body = cursor.rest().trim_end().trim_end_matches(';').trim_end().to_owned();
    Ok(function)
}

/// Reads one characteristic, in any order, each at most once.
fn characteristic(
    cursor: &mut Cursor<'_>,
    function: &mut CreateFunction,
    seen: &mut Vec<&'static str>,
) -> Result<bool> {
    let place = cursor.here();
    let clause = if cursor.eat("LANGUAGE") {
        let language = cursor.identifier()?;
        if !language.eq_ignore_ascii_case("SQL") {
            return Err(Error::unsupported(format!("a function in `{language}`"))
                .with_help("Register functions in Python with spark.udf.register.")
                .at(place));
        }
        "LANGUAGE"
    } else if cursor.eat("NOT DETERMINISTIC") {
        function.deterministic = Some(false);
        "DETERMINISTIC"
    } else if cursor.eat("DETERMINISTIC") {
        function.deterministic = Some(true);
        "DETERMINISTIC"
    } else if cursor.eat("COMMENT") {
        function.comment = Some(cursor.string()?);
        "COMMENT"
    } else if cursor.eat("CONTAINS SQL") {
        function.reads_data = Some(false);
        "SQL DATA ACCESS"
    } else if cursor.eat("READS SQL DATA") {
        function.reads_data = Some(true);
        "SQL DATA ACCESS"
    } else {
        return Ok(false);
    };
    if seen.contains(&clause) {
        return Err(Error::user(format!("`{clause}` is given twice")).with_condition("DUPLICATE_CLAUSES").at(place));
    }
    seen.push(clause);
    Ok(true)
}

fn parameters(cursor: &mut Cursor<'_>, function: &ObjectName) -> Result<Vec<FunctionParameter>> {
    cursor.expect_token(&Token::LParen)?;
    let mut all: Vec<FunctionParameter> = Vec::new();
    while !cursor.eat_token(&Token::RParen) {
        let place = cursor.here();
        let parameter = parameter(cursor)?;
        if all.iter().any(|known| known.name.eq_ignore_ascii_case(&parameter.name)) {
            return Err(Error::user(format!("function `{function}` has two parameters `{}`", parameter.name))
                .with_condition("DUPLICATE_ROUTINE_PARAMETER_NAMES")
                .at(place));
        }
        if parameter.default.is_none()
            && let Some(before) = all.last().filter(|before| before.default.is_some())
        {
            return Err(Error::user(format!(
                "parameter `{}` of function `{function}` has a default, `{}` after it has none",
                before.name, parameter.name
            ))
            .with_condition("USER_DEFINED_FUNCTIONS.NOT_A_VALID_DEFAULT_PARAMETER_POSITION")
            .at(place));
        }
        all.push(parameter);
        if !cursor.eat_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            break;
        }
    }
    Ok(all)
}

fn parameter(cursor: &mut Cursor<'_>) -> Result<FunctionParameter> {
    let name = cursor.identifier()?;
    let data_type = data_type(cursor)?;
    let mut parameter = FunctionParameter { name, data_type, default: None, comment: None };
    loop {
        let place = cursor.here();
        if cursor.eat("NOT NULL") {
            return Err(Error::user(format!("parameter `{}` cannot be NOT NULL", parameter.name))
                .with_condition("USER_DEFINED_FUNCTIONS.NOT_NULL_ON_FUNCTION_PARAMETERS")
                .at(place));
        }
        if cursor.eat("DEFAULT") {
            let default = cursor.expression()?.text;
            if cursor.holds_subquery(&default)? {
                return Err(Error::user(format!("the default of parameter `{}` holds a subquery", parameter.name))
                    .with_condition("USER_DEFINED_FUNCTIONS.NOT_A_VALID_DEFAULT_EXPRESSION")
                    .at(place));
            }
            parameter.default = Some(default);
        } else if cursor.eat("COMMENT") {
            parameter.comment = Some(cursor.string()?);
        } else {
            return Ok(parameter);
        }
    }
}

/// A type by Spark's name for it.
fn data_type(cursor: &mut Cursor<'_>) -> Result<String> {
    let place = cursor.here();
    let written = cursor.data_type()?;
    let text = written.to_string().to_ascii_lowercase();
    if text.starts_with("varchar") || text.starts_with("char") {
        return Err(Error::user("a function has no parameter or result of a type with a length")
            .with_condition("UNSUPPORTED_CHAR_OR_VARCHAR_AS_STRING")
            .with_help("Use STRING.")
            .at(place));
    }
    Ok(type_name(&arrow_type(&written).map_err(|error| error.at(place))?))
}

fn returns(cursor: &mut Cursor<'_>, function: &ObjectName) -> Result<FunctionResult> {
    if !cursor.eat("TABLE") {
        return data_type(cursor).map(|data_type| FunctionResult::Value(Some(data_type)));
    }
    if !cursor.at_token(&Token::LParen) {
        return Ok(FunctionResult::Rows(None));
    }
    let place = cursor.here();
    let columns = cursor.list(|cursor| {
        let (name, data_type) = (cursor.identifier()?, data_type(cursor)?);
        let comment = if cursor.eat("COMMENT") { Some(cursor.string()?) } else { None };
        Ok(ResultColumn { name, data_type, comment })
    })?;
    let twice = |(at, column): &(usize, &ResultColumn)| {
        columns[..*at].iter().any(|known| known.name.eq_ignore_ascii_case(&column.name))
    };
    if let Some((_, column)) = columns.iter().enumerate().find(twice) {
        return Err(Error::user(format!("function `{function}` gives two columns `{}`", column.name))
            .with_condition("DUPLICATE_ROUTINE_RETURNS_COLUMNS")
            .at(place));
    }
    Ok(FunctionResult::Rows(Some(columns)))
}

/// Reads what follows `DROP [TEMPORARY] FUNCTION`.
pub(super) fn drop_function(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Command> {
    let if_exists = cursor.eat("IF EXISTS");
    let place = cursor.here();
    let name = cursor.object_name()?;
    if temporary && name.0.len() > 1 {
        return Err(Error::user(format!("temporary function `{name}` has a qualified name"))
            .with_condition("INVALID_TEMP_OBJ_QUALIFIER")
            .at(place));
    }
    Ok(Command::DropFunction { name, temporary, if_exists })
}

/// Reads what follows `DESCRIBE FUNCTION`.
pub(super) fn describe(cursor: &mut Cursor<'_>) -> Result<Command> {
    let extended = cursor.eat("EXTENDED");
    let name = match cursor.operator() {
        Some(operator) => ObjectName(vec![operator]),
        None => cursor.object_name()?,
    };
    Ok(Command::DescribeFunction { name, extended })
}

/// Reads what follows `SHOW [USER | SYSTEM | ALL] FUNCTIONS`.
pub(super) fn show(cursor: &mut Cursor<'_>, scope: FunctionScope) -> Result<Command> {
    let schema = match cursor.eat("IN") || cursor.eat("FROM") {
        true => Some(cursor.object_name()?),
        false => None,
    };
    let ends = |cursor: &Cursor<'_>| cursor.at_end() || cursor.at_token(&Token::SemiColon);
    let like = cursor.eat("LIKE");
    if ends(cursor) && !like {
        return Ok(Command::ShowFunctions { scope, schema, pattern: None });
    }
    if cursor.at_string() {
        return Ok(Command::ShowFunctions { scope, schema, pattern: Some(cursor.string()?) });
    }
    // A function may be named instead of described by a pattern.
    let mut name = cursor.object_name()?.0;
    let pattern = name.pop();
    let schema = if name.is_empty() { schema } else { Some(ObjectName(name)) };
    Ok(Command::ShowFunctions { scope, schema, pattern })
}
