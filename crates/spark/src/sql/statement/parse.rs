//! Which statement it is.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{CreateFlow, DatasetKind, FlowDetails, PipelineStatement, cdc, dataset, function};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::script::StatementText;

/// Reads one statement of a pipeline.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) at the token that does not fit;
/// `PIPELINE_SQL_GRAPH_ELEMENT_REGISTRATION_ERROR` (`User`) for statements that define nothing.
pub fn parse(statement: &StatementText) -> Result<PipelineStatement> {
    let mut cursor = Cursor::new(statement)?;
    let parsed = statement_of(&mut cursor)?;
    cursor.eat_token(&Token::SemiColon);
    if !cursor.at_end() {
        return Err(cursor.expected("the end of the statement"));
    }
    Ok(parsed)
}

fn statement_of(cursor: &mut Cursor<'_>) -> Result<PipelineStatement> {
    let location = cursor.statement_location();
    if cursor.eat("CREATE") {
        return create(cursor, location);
    }
    if cursor.eat("APPLY CHANGES INTO") {
        let target = cursor.dataset_name()?;
        let cdc = Box::new(cdc::clauses(cursor, true)?);
        return Ok(PipelineStatement::ApplyChanges { target, cdc, location });
    }
    if cursor.eat("SET CATALOG") || cursor.eat("USE CATALOG") {
        return Ok(PipelineStatement::UseCatalog { catalog: cursor.identifier()?, location });
    }
    if cursor.eat("SET") {
        return set(cursor, location);
    }
    if cursor.eat("USE") {
        let _ = cursor.eat("SCHEMA") || cursor.eat("DATABASE") || cursor.eat("NAMESPACE");
        return Ok(PipelineStatement::UseSchema { schema: cursor.object_name()?, location });
    }
    Err(unsupported(cursor))
}

/// `SET key = value`: the value is the rest of the statement. `SET key` shows a value in a notebook.
fn set(cursor: &mut Cursor<'_>, location: SourceLocation) -> Result<PipelineStatement> {
    let key = cursor.property_key()?;
    if cursor.at_end() || cursor.at_token(&Token::SemiColon) {
        return Ok(PipelineStatement::Show { location });
    }
    cursor.expect_token(&Token::Eq)?;
    if cursor.at_end() {
        return Err(cursor.expected("a value"));
    }
    let value = cursor.rest();
    let quoted = |quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)).filter(|v| !v.contains(quote));
    let value = quoted('\'').or_else(|| quoted('"')).unwrap_or(&value).to_owned();
    Ok(PipelineStatement::Set { key, value, location })
}

fn create(cursor: &mut Cursor<'_>, location: SourceLocation) -> Result<PipelineStatement> {
    if cursor.eat("FLOW") {
        return flow(cursor, location);
    }
    let modifiers = cursor.here();
    let refresh = cursor.eat("OR REFRESH") || cursor.eat("OR REPLACE");
    let private = cursor.eat("PRIVATE");
    let temporary = cursor.eat("TEMPORARY") || cursor.eat("TEMP");
    let streaming = cursor.eat("STREAMING") || cursor.eat("INCREMENTAL");
    let live = cursor.eat("LIVE");
    if !private && !streaming && !live && cursor.eat("FUNCTION") {
        let modifiers = function::Modifiers { replace: refresh, temporary, location };
        return Ok(PipelineStatement::CreateFunction(Box::new(function::create(cursor, modifiers)?)));
    }
    let kind = if cursor.eat("TABLE") {
        table_kind(cursor, streaming, live)?
    } else if !streaming && !live && cursor.eat("MATERIALIZED VIEW") {
        DatasetKind::MaterializedView
    } else if cursor.eat("VIEW") {
        if private {
            return Err(cursor.illegal("a view cannot be PRIVATE, use CREATE TEMPORARY VIEW", modifiers));
        }
        if temporary || live { DatasetKind::TemporaryView } else { DatasetKind::PersistedView }
    } else if refresh || private || temporary || streaming || live {
        return Err(cursor.expected("`STREAMING TABLE`, `MATERIALIZED VIEW` or `VIEW`"));
    } else {
        return Err(unsupported(cursor));
    };
    let is_table = !matches!(kind, DatasetKind::TemporaryView | DatasetKind::PersistedView);
    let header = dataset::Header { kind, refresh, private: private || (temporary && is_table), location };
    Ok(PipelineStatement::CreateDataset(Box::new(dataset::body(cursor, header)?)))
}

fn table_kind(cursor: &Cursor<'_>, streaming: bool, live: bool) -> Result<DatasetKind> {
    match (streaming, live) {
        (true, _) => Ok(DatasetKind::StreamingTable),
        (false, true) => Ok(DatasetKind::LiveTable),
        (false, false) => {
            Err(unsupported(cursor)
                .with_help("Declare a STREAMING TABLE or a MATERIALIZED VIEW instead of a plain table."))
        }
    }
}

fn flow(cursor: &mut Cursor<'_>, location: SourceLocation) -> Result<PipelineStatement> {
    let place = cursor.here();
    let name = cursor.object_name()?;
    if name.0.len() > 1 {
        return Err(cursor.illegal(format!("flow name `{name}` has more than one part"), place));
    }
    let comment = if cursor.eat("COMMENT") { Some(cursor.string()?) } else { None };
    cursor.expect("AS")?;
    let (target, details) = flow_details(cursor)?;
    Ok(PipelineStatement::CreateFlow(Box::new(CreateFlow { name, comment, target, details, location })))
}

fn flow_details(cursor: &mut Cursor<'_>) -> Result<(ObjectName, FlowDetails)> {
    if cursor.eat("AUTO CDC") {
        let once = cursor.eat("ONCE");
        cursor.expect("INTO")?;
        let target = cursor.dataset_name()?;
        return Ok((target, FlowDetails::AutoCdc { once, cdc: Box::new(cdc::clauses(cursor, false)?) }));
    }
    if !cursor.eat("INSERT") {
        return Err(cursor.expected("`INSERT INTO` or `AUTO CDC INTO`"));
    }
    let mut once = cursor.eat("ONCE");
    cursor.expect("INTO")?;
    once |= cursor.eat("ONCE");
    cursor.eat("TABLE");
    let target = cursor.dataset_name()?;
    let by_name = cursor.eat("BY NAME");
    if cursor.at_words("REPLACE USING") {
        return Err(Error::unsupported("`REPLACE USING` in a flow").at(cursor.here()));
    }
    Ok((target, FlowDetails::InsertInto { once, by_name, query: cursor.query()? }))
}

/// The error for a statement that defines nothing.
fn unsupported(cursor: &Cursor<'_>) -> Error {
    Error::user("this statement defines no dataset or flow of a pipeline")
        .with_condition("PIPELINE_SQL_GRAPH_ELEMENT_REGISTRATION_ERROR")
        .with_help("A pipeline's SQL holds CREATE STREAMING TABLE, CREATE MATERIALIZED VIEW, CREATE [TEMPORARY] VIEW, CREATE FUNCTION, CREATE FLOW, APPLY CHANGES INTO, SET and USE statements.")
        .at(cursor.statement_location())
}
