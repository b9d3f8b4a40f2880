//! Commands: statements that a session runs at once, on what is stored.

use arrow::datatypes::{Field, Schema, SchemaRef};
use indexmap::IndexMap;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::dataset::{self, Header};
use super::dml::{self, Delete, Merge, Update};
use super::function::{self, CreateFunction, FunctionScope};
use super::insert::{self, Insert};
use super::maintenance::{self, Optimize, Vacuum};
use super::show;
use super::{ClusterBy, CreateDataset, DatasetKind, FlowSource};
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::query::SqlQuery;
use crate::sql::script::StatementText;

/// A statement that is no query.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `CREATE TABLE`
    CreateTable(Box<CreateTable>),
    /// `CREATE VIEW`
    CreateView(Box<CreateView>),
    /// `CREATE TEMPORARY VIEW … USING`
    CreateReadView(Box<CreateReadView>),
    /// `DROP TABLE`, `DROP VIEW`
    Drop {
        /// What is dropped.
        name: ObjectName,
        /// Whether the statement says it is a view.
        view: bool,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// `CREATE SCHEMA`
    CreateSchema {
        /// Its name.
        name: ObjectName,
        /// `IF NOT EXISTS`
        if_not_exists: bool,
    },
    /// `DROP SCHEMA`
    DropSchema {
        /// Its name.
        name: ObjectName,
        /// `IF EXISTS`
        if_exists: bool,
        /// `CASCADE`
        cascade: bool,
    },
    /// `CREATE FUNCTION`
    CreateFunction(Box<CreateFunction>),
    /// `DROP FUNCTION`
    DropFunction {
        /// Its name.
        name: ObjectName,
        /// `TEMPORARY`
        temporary: bool,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// `DESCRIBE FUNCTION`
    DescribeFunction {
        /// Its name.
        name: ObjectName,
        /// `EXTENDED`
        extended: bool,
    },
    /// `SHOW FUNCTIONS`
    ShowFunctions {
        /// Which.
        scope: FunctionScope,
        /// `IN schema`
        schema: Option<ObjectName>,
        /// `LIKE pattern`
        pattern: Option<String>,
    },
    /// `INSERT INTO`, `INSERT OVERWRITE`
    Insert(Box<Insert>),
    /// `DELETE FROM`
    Delete(Box<Delete>),
    /// `UPDATE`
    Update(Box<Update>),
    /// `MERGE INTO`
    Merge(Box<Merge>),
    /// `OPTIMIZE`
    Optimize(Box<Optimize>),
    /// `VACUUM`
    Vacuum(Box<Vacuum>),
    /// `TRUNCATE TABLE`
    Truncate(ObjectName),
    /// `USE schema`
    Use(ObjectName),
    /// `USE CATALOG`, `SET CATALOG`
    UseCatalog(String),
    /// `SET`: all settings, one, or one to a value.
    Set {
        /// The setting, if one is named.
        key: Option<String>,
        /// Its value, if one is given.
        value: Option<String>,
    },
    /// `RESET`
    Reset(Option<String>),
    /// `SHOW TABLES`, `SHOW VIEWS`
    ShowTables {
        /// `IN schema`
        schema: Option<ObjectName>,
        /// `LIKE pattern`
        pattern: Option<String>,
        /// Whether only views are shown.
        views: bool,
    },
    /// `SHOW SCHEMAS`
    ShowSchemas {
        /// `LIKE pattern`
        pattern: Option<String>,
    },
    /// `SHOW CATALOGS`
    ShowCatalogs {
        /// `LIKE pattern`
        pattern: Option<String>,
    },
    /// `SHOW COLUMNS IN table`
    ShowColumns(ObjectName),
    /// `SHOW TBLPROPERTIES table`
    ShowProperties(ObjectName),
    /// `SHOW CREATE TABLE`
    ShowCreate(ObjectName),
    /// `DESCRIBE TABLE`
    Describe(ObjectName),
    /// `DESCRIBE query`
    DescribeQuery(Box<SqlQuery>),
    /// `DESCRIBE HISTORY`, newest commit first
    DescribeHistory {
        /// The table.
        name: ObjectName,
        /// `LIMIT`
        limit: Option<usize>,
    },
    /// `EXPLAIN`
    Explain {
        /// How much is told.
        detail: ExplainDetail,
        /// The query.
        query: Box<SqlQuery>,
    },
    /// `CACHE TABLE`, `UNCACHE TABLE`, `REFRESH TABLE`, `ANALYZE TABLE`: the table must exist.
    Touch {
        /// The table.
        name: ObjectName,
        /// `IF EXISTS`
        if_exists: bool,
    },
}

/// What `EXPLAIN` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainDetail {
    /// The physical plan; `FORMATTED` and `CODEGEN` add nothing to it here.
    Plan,
    /// `EXTENDED`: the logical plans, too.
    Extended,
    /// `COST`: statistics, too.
    Cost,
}

/// `CREATE TABLE`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: ObjectName,
    /// `OR REPLACE`
    pub replace: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The columns, if they are listed.
    pub schema: Option<SchemaRef>,
    /// `USING`
    pub provider: Option<String>,
    /// `PARTITIONED BY`
    pub partition_columns: Vec<String>,
    /// `CLUSTER BY`
    pub clustering_columns: Vec<String>,
    /// `LOCATION`
    pub location: Option<String>,
    /// `COMMENT`
    pub comment: Option<String>,
    /// `TBLPROPERTIES`
    pub properties: IndexMap<String, String>,
    /// `AS query`
    pub query: Option<SqlQuery>,
}

/// `CREATE [TEMPORARY] VIEW`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// Its name.
    pub name: ObjectName,
    /// `OR REPLACE`
    pub replace: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// Whether it lives as long as the session.
    pub temporary: bool,
    /// Whether it lives as long as the server.
    pub global: bool,
    /// Names for the columns of the query; none if they keep theirs.
    pub columns: Vec<String>,
    /// `COMMENT`
    pub comment: Option<String>,
    /// The query.
    pub query: SqlQuery,
}

/// `CREATE TEMPORARY VIEW … USING format OPTIONS (…)`
#[derive(Clone, PartialEq)]
pub struct CreateReadView {
    /// Its name.
    pub name: ObjectName,
    /// `OR REPLACE`
    pub replace: bool,
    /// Whether it lives as long as the server.
    pub global: bool,
    /// The columns, if they are listed.
    pub schema: Option<SchemaRef>,
    /// `USING`
    pub format: String,
    /// `OPTIONS`, which may hold secrets.
    pub options: IndexMap<String, String>,
}

impl std::fmt::Debug for CreateReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateReadView").field("name", &self.name).field("format", &self.format).finish_non_exhaustive()
    }
}

/// Reads a command.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) at the token that does not fit; `Unsupported` for statements that are no
/// commands of ours.
pub fn parse_command(statement: &StatementText) -> Result<Command> {
    let mut cursor = Cursor::new(statement)?;
    let command = command(&mut cursor)?;
    cursor.eat_token(&Token::SemiColon);
    if !cursor.at_end() {
        return Err(cursor.expected("the end of the statement"));
    }
    Ok(command)
}

fn command(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.eat("CREATE") {
        return create(cursor);
    }
    if cursor.eat("DROP") {
        return drop_of(cursor);
    }
    if cursor.eat("INSERT") {
        return Ok(Command::Insert(Box::new(insert::insert(cursor)?)));
    }
    if cursor.eat("DELETE") {
        return Ok(Command::Delete(Box::new(dml::delete(cursor)?)));
    }
    if cursor.eat("UPDATE") {
        return Ok(Command::Update(Box::new(dml::update(cursor)?)));
    }
    if cursor.eat("MERGE") {
        return Ok(Command::Merge(Box::new(dml::merge(cursor)?)));
    }
    if cursor.eat("OPTIMIZE") {
        return Ok(Command::Optimize(Box::new(maintenance::optimize(cursor)?)));
    }
    if cursor.eat("VACUUM") {
        return Ok(Command::Vacuum(Box::new(maintenance::vacuum(cursor)?)));
    }
    if cursor.eat("SHOW") {
        return show::show(cursor);
    }
    if cursor.eat("TRUNCATE TABLE") {
        return Ok(Command::Truncate(cursor.object_name()?));
    }
    if cursor.eat("USE CATALOG") || cursor.eat("SET CATALOG") {
        return Ok(Command::UseCatalog(cursor.identifier()?));
    }
    if cursor.eat("USE") {
        let _ = cursor.eat("SCHEMA") || cursor.eat("DATABASE") || cursor.eat("NAMESPACE");
        return Ok(Command::Use(cursor.object_name()?));
    }
    if cursor.eat("RESET") {
        return Ok(Command::Reset(if cursor.at_end() { None } else { Some(cursor.property_key()?) }));
    }
    if cursor.at_words("SET") && !cursor.at_words("SET VAR") && !cursor.at_words("SET VARIABLE") {
        cursor.eat("SET");
        return set(cursor);
    }
    if cursor.eat("DESCRIBE") || cursor.eat("DESC") {
        return show::describe(cursor);
    }
    if cursor.eat("EXPLAIN") {
        return show::explain(cursor);
    }
    touch(cursor)
}

/// The words that Spark's statements begin with, queries aside. A text that begins with another is none.
const STATEMENTS: [&str; 43] = [
    "ADD", "ALTER", "ANALYZE", "BEGIN", "CACHE", "CALL", "CLEAR", "COMMENT", "CONVERT", "COPY", "CREATE", "DECLARE",
    "DELETE", "DESC", "DESCRIBE", "DROP", "EXECUTE", "EXPLAIN", "EXPORT", "FSCK", "GRANT", "IMPORT", "INSERT", "LIST",
    "LOAD", "LOCK", "MERGE", "MSCK", "OPEN", "OPTIMIZE", "REFRESH", "REPAIR", "REPLACE", "RESET", "RESTORE", "REVOKE",
    "SET", "SHOW", "TRUNCATE", "UNCACHE", "UPDATE", "USE", "VACUUM",
];

fn touch(cursor: &mut Cursor<'_>) -> Result<Command> {
    const PREFIXES: [&str; 5] = ["CACHE LAZY TABLE", "CACHE TABLE", "UNCACHE TABLE", "REFRESH TABLE", "ANALYZE TABLE"];
    let Some(prefix) = PREFIXES.into_iter().find(|prefix| cursor.eat(prefix)) else {
        if !STATEMENTS.iter().any(|word| cursor.at_words(word)) {
            return Err(cursor.unexpected());
        }
        let words = cursor.rest().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        return Err(Error::unsupported(format!("the SQL statement `{words} ...` through spark.sql"))
            .with_condition("UNSUPPORTED_FEATURE.SQL_COMMAND")
            .at(cursor.statement_location()));
    };
    let if_exists = cursor.eat("IF EXISTS");
    let name = cursor.object_name()?;
    if prefix == "ANALYZE TABLE" {
        cursor.expect("COMPUTE STATISTICS")?;
        let _ = cursor.rest();
    }
    Ok(Command::Touch { name, if_exists })
}

fn create(cursor: &mut Cursor<'_>) -> Result<Command> {
    let location = cursor.statement_location();
    if cursor.eat("SCHEMA") || cursor.eat("DATABASE") || cursor.eat("NAMESPACE") {
        let if_not_exists = cursor.eat("IF NOT EXISTS");
        let name = cursor.object_name()?;
        if cursor.eat("COMMENT") {
            cursor.string()?;
        }
        return Ok(Command::CreateSchema { name, if_not_exists });
    }
    let replace = cursor.eat("OR REPLACE");
    let global = cursor.eat("GLOBAL");
    let temporary = cursor.eat("TEMPORARY") || cursor.eat("TEMP");
    if cursor.eat("VIEW") {
        let kind = if temporary { DatasetKind::TemporaryView } else { DatasetKind::PersistedView };
        let body = dataset::body(cursor, Header { kind, refresh: false, private: false, location })?;
        return view(body, replace, temporary, global);
    }
    if !global && cursor.eat("FUNCTION") {
        let created = function::create(cursor, function::Modifiers { replace, temporary, location })?;
        return Ok(Command::CreateFunction(Box::new(created)));
    }
    if temporary || global || !cursor.eat("TABLE") {
        return Err(cursor.expected("`TABLE`, `VIEW` or `SCHEMA`"));
    }
    let kind = DatasetKind::StreamingTable;
    let body = dataset::body(cursor, Header { kind, refresh: false, private: false, location })?;
    table(body, replace)
}

fn table(body: CreateDataset, replace: bool) -> Result<Command> {
    if !body.expectations.is_empty() || body.row_filter.is_some() {
        return Err(Error::unsupported("a constraint or row filter of a plain table").at(body.location));
    }
    let schema = columns(&body)?;
    let query = query(body.source)?;
    if schema.is_some() && query.is_some() {
        return Err(Error::user("`CREATE TABLE ... AS` takes its columns from the query")
            .with_condition("PARSE_SYNTAX_ERROR")
            .at(body.location));
    }
    Ok(Command::CreateTable(Box::new(CreateTable {
        name: body.name,
        replace,
        if_not_exists: body.if_not_exists,
        schema,
        provider: body.provider,
        partition_columns: body.partitioned_by,
        clustering_columns: match body.cluster_by {
            Some(ClusterBy::Columns(columns)) => columns,
            _ => Vec::new(),
        },
        location: body.path,
        comment: body.comment,
        properties: body.properties,
        query,
    })))
}

fn columns(body: &CreateDataset) -> Result<Option<SchemaRef>> {
    let mut fields = Vec::with_capacity(body.columns.len());
    for column in &body.columns {
        if column.generated.is_some() || column.identity.is_some() || column.default.is_some() || column.mask.is_some()
        {
            return Err(Error::unsupported(format!(
                "column `{}` with a generated value, default or mask",
                column.name
            ))
            .at(column.location.clone()));
        }
        let data_type = column.data_type.clone().ok_or_else(|| {
            Error::user(format!("column `{}` has no type", column.name))
                .with_condition("PARSE_SYNTAX_ERROR")
                .at(column.location.clone())
        })?;
        let comment = column.comment.iter().map(|text| ("comment".to_owned(), text.clone())).collect();
        fields.push(Field::new(&column.name, data_type, column.nullable).with_metadata(comment));
    }
    Ok((!fields.is_empty()).then(|| Schema::new(fields).into()))
}

fn query(source: Option<FlowSource>) -> Result<Option<SqlQuery>> {
    match source {
        None => Ok(None),
        Some(FlowSource::Query(query)) => Ok(Some(query)),
        Some(FlowSource::InsertFlow { .. } | FlowSource::AutoCdc(_)) => {
            Err(Error::user("a flow can only be defined in a pipeline"))
        }
        // Only temporary views have it.
        Some(FlowSource::Read { .. }) => Err(Error::internal("a table with a source in place of a query")),
    }
}

fn view(mut body: CreateDataset, replace: bool, temporary: bool, global: bool) -> Result<Command> {
    if let Some(FlowSource::Read { format, options }) = body.source {
        body.source = None;
        let schema = columns(&body)?;
        let view = CreateReadView { name: body.name, replace, global, schema, format, options };
        return Ok(Command::CreateReadView(Box::new(view)));
    }
    let query = query(body.source)?.ok_or_else(|| {
        Error::user("a view needs a query").with_condition("PARSE_SYNTAX_ERROR").at(body.location.clone())
    })?;
    Ok(Command::CreateView(Box::new(CreateView {
        name: body.name,
        replace,
        if_not_exists: body.if_not_exists,
        temporary,
        global,
        columns: body.columns.into_iter().map(|column| column.name).collect(),
        comment: body.comment,
        query,
    })))
}

fn drop_of(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.eat("SCHEMA") || cursor.eat("DATABASE") || cursor.eat("NAMESPACE") {
        let if_exists = cursor.eat("IF EXISTS");
        let name = cursor.object_name()?;
        let cascade = cursor.eat("CASCADE");
        let _ = !cascade && cursor.eat("RESTRICT");
        return Ok(Command::DropSchema { name, if_exists, cascade });
    }
    let temporary = cursor.at_words("TEMPORARY FUNCTION") && cursor.eat("TEMPORARY");
    if cursor.eat("FUNCTION") {
        return function::drop_function(cursor, temporary);
    }
    let view = cursor.eat("VIEW");
    if !view && !cursor.eat("TABLE") {
        return Err(cursor.expected("`TABLE`, `VIEW`, `FUNCTION` or `SCHEMA`"));
    }
    let if_exists = cursor.eat("IF EXISTS");
    let name = cursor.object_name()?;
    cursor.eat("PURGE");
    Ok(Command::Drop { name, view, if_exists })
}

/// `SET`, `SET key`, `SET key = value`: the value is the rest of the statement.
fn set(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.at_end() || cursor.at_words("-v") {
        let _ = cursor.rest();
        return Ok(Command::Set { key: None, value: None });
    }
    let key = cursor.property_key()?;
    if !cursor.eat_token(&Token::Eq) {
        return Ok(Command::Set { key: Some(key), value: None });
    }
    let value = cursor.rest();
    let value = value.trim_end_matches(';').trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)).filter(|v| !v.contains(quote));
    let value = quoted('\'').or_else(|| quoted('"')).unwrap_or(value).to_owned();
    Ok(Command::Set { key: Some(key), value: Some(value) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::diagnostic::SourceLocation;

    fn parsed(text: &str) -> Result<Command> {
        parse_command(&StatementText { text: text.to_owned(), location: SourceLocation::new("<sql>", 1, 1) })
    }

    fn name(parts: &[&str]) -> ObjectName {
        ObjectName(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    #[test]
    fn temporary_views_may_read_a_source_whose_options_are_not_shown() {
        let command = parsed(
            "CREATE OR REPLACE TEMPORARY VIEW v (id INT) USING jdbc OPTIONS (url 'jdbc:sqlite:x', 'password' = 'hunter2')",
        );
        let Command::CreateReadView(view) = command.unwrap() else { panic!("not a view that reads") };
        assert!(!format!("{view:?}").contains("hunter2"));
        assert_eq!((view.name, view.format.as_str(), view.replace), (name(&["v"]), "jdbc", true));
        assert_eq!(view.schema.unwrap().field(0).name(), "id");
        assert_eq!(view.options["password"], "hunter2");
        let stored = parsed("CREATE VIEW v USING jdbc OPTIONS (url 'jdbc:sqlite:x')").unwrap_err();
        assert_eq!(stored.message(), "a view has no clause `USING`");
    }

    #[test]
    fn tables_are_created_with_columns_or_from_a_query() {
        let Command::CreateTable(table) =
            parsed("CREATE TABLE a.t (id INT NOT NULL, p STRING) USING parquet PARTITIONED BY (p)").unwrap()
        else {
            panic!("no table")
        };
        assert_eq!(table.name, name(&["a", "t"]));
        let schema = table.schema.unwrap();
        assert!(!schema.field(0).is_nullable());
        assert_eq!(table.partition_columns, ["p"]);
        let Command::CreateTable(table) = parsed("CREATE OR REPLACE TABLE t AS SELECT 1").unwrap() else {
            panic!("no table")
        };
        assert!(table.replace && table.schema.is_none());
        assert_eq!(table.query.unwrap().text, "SELECT 1");
    }

    #[test]
    fn other_commands_are_told_apart() {
        let drop = Command::Drop { name: name(&["t"]), view: false, if_exists: true };
        assert_eq!(parsed("DROP TABLE IF EXISTS t").unwrap(), drop);
        let set = Command::Set { key: Some("a.b".to_owned()), value: Some("x y".to_owned()) };
        assert_eq!(parsed("SET a.b = 'x y'").unwrap(), set);
        assert_eq!(parsed("USE SCHEMA s").unwrap(), Command::Use(name(&["s"])));
        assert!(parsed("RESTORE t").unwrap_err().to_string().contains("`RESTORE t ...`"));
        assert!(parsed("DROP TABLE t t2").is_err());
    }
}
