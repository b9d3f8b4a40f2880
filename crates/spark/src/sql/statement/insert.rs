//! `INSERT`.

use sqlparser::tokenizer::Token;

use super::SqlText;
use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::query::SqlQuery;

/// `INSERT`
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: ObjectName,
    /// `OVERWRITE`
    pub overwrite: bool,
    /// `PARTITION (column = value)`: the value as an expression's text.
    pub partition: Vec<(String, String)>,
    /// The columns that are given, in order; all if empty.
    pub columns: Vec<String>,
    /// `BY NAME`
    pub by_name: bool,
    /// `REPLACE WHERE`: which rows go.
    pub replace_where: Option<SqlText>,
    /// The rows.
    pub query: SqlQuery,
}

pub(super) fn insert(cursor: &mut Cursor<'_>) -> Result<Insert> {
    let overwrite = cursor.eat("OVERWRITE");
    if !overwrite {
        cursor.expect("INTO")?;
    }
    cursor.eat("TABLE");
    let table = cursor.object_name()?;
    let partition = if cursor.eat("PARTITION") {
        cursor.list(|cursor| {
            let column = cursor.identifier()?;
            if !cursor.eat_token(&Token::Eq) {
                return Err(Error::unsupported("a partition without a value in `INSERT`").at(cursor.here()));
            }
            Ok((column, cursor.expression()?.text))
        })?
    } else {
        Vec::new()
    };
    let by_name = cursor.eat("BY NAME");
    let columns = if !by_name && cursor.at_token(&Token::LParen) && !cursor.at_subquery() {
        cursor.identifiers()?
    } else {
        Vec::new()
    };
    let replace_where = if !overwrite && cursor.eat("REPLACE WHERE") { Some(cursor.expression()?) } else { None };
    let query = cursor.query()?;
    Ok(Insert { table, overwrite, partition, columns, by_name, replace_where, query })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::diagnostic::SourceLocation;
    use crate::sql::script::StatementText;
    use crate::sql::statement::{Command, parse_command};

    fn parsed(text: &str) -> Result<Command> {
        parse_command(&StatementText { text: text.to_owned(), location: SourceLocation::new("<sql>", 1, 1) })
    }

    #[test]
    fn inserts_name_columns_or_partitions() {
        let Command::Insert(insert) = parsed("INSERT INTO t PARTITION (p = 1) SELECT 2").unwrap() else {
            panic!("no insert")
        };
        assert_eq!(insert.partition, [("p".to_owned(), "1".to_owned())]);
        let Command::Insert(insert) = parsed("INSERT OVERWRITE t (a, b) VALUES (1, 2)").unwrap() else {
            panic!("no insert")
        };
        assert!(insert.overwrite);
        assert_eq!(insert.columns, ["a", "b"]);
        let Command::Insert(insert) = parsed("INSERT INTO t (SELECT 1)").unwrap() else { panic!("no insert") };
        assert!(insert.columns.is_empty());
        let Command::Insert(insert) = parsed("INSERT INTO t REPLACE WHERE d = 1 SELECT 1 AS d").unwrap() else {
            panic!("no insert")
        };
        assert_eq!(
            (insert.replace_where.unwrap().text, insert.query.text),
            ("d = 1".to_owned(), "SELECT 1 AS d".to_owned())
        );
    }
}
