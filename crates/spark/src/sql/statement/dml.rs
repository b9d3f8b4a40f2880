//! Statements that change rows of a table: `DELETE`, `UPDATE`, `MERGE`.

use sqlparser::ast::{SetExpr, TableFactor};
use sqlparser::tokenizer::Token;

use super::SqlText;
use super::cursor::Cursor;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::query::SqlQuery;

/// The table whose rows a statement changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name.
    pub table: ObjectName,
    /// `AS alias`
    pub alias: Option<String>,
    /// Where the name stands.
    pub location: SourceLocation,
}

/// `DELETE FROM`
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// The table.
    pub target: Target,
    /// `WHERE`; all rows if there is none.
    pub condition: Option<SqlText>,
}

/// `UPDATE`
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The table.
    pub target: Target,
    /// `SET`
    pub assignments: Vec<Assignment>,
    /// `WHERE`; all rows if there is none.
    pub condition: Option<SqlText>,
}

/// `column = value`
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The column, or the path to a field of a struct; the table's name or alias may stand before it.
    pub column: Vec<String>,
    /// The value; `None` for `DEFAULT`.
    pub value: Option<SqlText>,
    /// Where the column stands.
    pub location: SourceLocation,
}

/// `MERGE INTO`
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The table.
    pub target: Target,
    /// `WITH SCHEMA EVOLUTION`
    pub evolves: bool,
    /// What follows `USING`, as a query of all of its columns.
    pub source: SqlQuery,
    /// What the columns of the source may be qualified with; empty if it is a query without an alias.
    pub source_name: Vec<String>,
    /// `ON`
    pub on: SqlText,
    /// `WHEN`, in order.
    pub clauses: Vec<MergeClause>,
}

/// For which rows a clause of `MERGE` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeRows {
    /// `MATCHED`
    Matched,
    /// `NOT MATCHED [BY TARGET]`
    NotMatched,
    /// `NOT MATCHED BY SOURCE`
    NotMatchedBySource,
}

/// `WHEN … THEN …`
#[derive(Debug, Clone, PartialEq)]
pub struct MergeClause {
    /// For which rows.
    pub rows: MergeRows,
    /// `AND`
    pub condition: Option<SqlText>,
    /// What is done.
    pub action: MergeAction,
    /// Where the clause begins.
    pub location: SourceLocation,
}

/// What a clause of `MERGE` does.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeAction {
    /// `DELETE`
    Delete,
    /// `UPDATE SET`
    Update(Vec<Assignment>),
    /// `UPDATE SET *`
    UpdateAll,
    /// `INSERT (columns) VALUES (values)`
    Insert(Vec<Assignment>),
    /// `INSERT *`
    InsertAll,
}

/// What begins after the name of a table, and so is no alias of it.
const AFTER_TARGET: [&str; 3] = ["WHERE", "SET", "USING"];

pub(super) fn delete(cursor: &mut Cursor<'_>) -> Result<Delete> {
    cursor.expect("FROM")?;
    Ok(Delete { target: target(cursor)?, condition: condition(cursor, "WHERE")? })
}

pub(super) fn update(cursor: &mut Cursor<'_>) -> Result<Update> {
    let target = target(cursor)?;
    cursor.expect("SET")?;
    let assignments = cursor.bare_list(assignment)?;
    Ok(Update { target, assignments, condition: condition(cursor, "WHERE")? })
}

pub(super) fn merge(cursor: &mut Cursor<'_>) -> Result<Merge> {
    let evolves = cursor.eat("WITH SCHEMA EVOLUTION");
    cursor.expect("INTO")?;
    let target = target(cursor)?;
    cursor.expect("USING")?;
    let source = cursor.relation_until("ON")?;
    let source_name = name_of(&source)?;
    cursor.expect("ON")?;
    let on = cursor.expression()?;
    let mut clauses = Vec::new();
    while cursor.at_words("WHEN") {
        clauses.push(clause(cursor)?);
    }
    if clauses.is_empty() {
        return Err(cursor.expected("`WHEN`"));
    }
    check_last(&clauses)?;
    Ok(Merge { target, evolves, source, source_name, on, clauses })
}

fn target(cursor: &mut Cursor<'_>) -> Result<Target> {
    let location = cursor.here();
    let table = cursor.object_name()?;
    let named = cursor.eat("AS") || !(cursor.at_end() || AFTER_TARGET.iter().any(|word| cursor.at_words(word)));
    let alias = match named && !cursor.at_token(&Token::SemiColon) {
        true => Some(cursor.identifier()?),
        false => None,
    };
    Ok(Target { table, alias, location })
}

fn condition(cursor: &mut Cursor<'_>, word: &str) -> Result<Option<SqlText>> {
    if cursor.eat(word) { cursor.expression().map(Some) } else { Ok(None) }
}

fn assignment(cursor: &mut Cursor<'_>) -> Result<Assignment> {
    let location = cursor.here();
    let column = cursor.object_name()?.0;
    cursor.expect_token(&Token::Eq)?;
    Ok(Assignment { column, value: value(cursor)?, location })
}

/// An expression, or `DEFAULT`.
fn value(cursor: &mut Cursor<'_>) -> Result<Option<SqlText>> {
    if cursor.eat("DEFAULT") { Ok(None) } else { cursor.expression().map(Some) }
}

fn clause(cursor: &mut Cursor<'_>) -> Result<MergeClause> {
    let location = cursor.here();
    cursor.expect("WHEN")?;
    let rows = match cursor.eat("NOT") {
        false => {
            cursor.expect("MATCHED")?;
            MergeRows::Matched
        }
        true => {
            cursor.expect("MATCHED")?;
            let by_source = cursor.eat("BY SOURCE");
            let _ = !by_source && cursor.eat("BY TARGET");
            if by_source { MergeRows::NotMatchedBySource } else { MergeRows::NotMatched }
        }
    };
    let condition = condition(cursor, "AND")?;
    cursor.expect("THEN")?;
    let action = match rows {
        MergeRows::NotMatched => insert(cursor)?,
        _ if cursor.eat("DELETE") => MergeAction::Delete,
        _ if cursor.eat("UPDATE SET") => match rows == MergeRows::Matched && cursor.eat_token(&Token::Mul) {
            true => MergeAction::UpdateAll,
            false => MergeAction::Update(cursor.bare_list(assignment)?),
        },
        _ => return Err(cursor.expected("`UPDATE SET` or `DELETE`")),
    };
    Ok(MergeClause { rows, condition, action, location })
}

fn insert(cursor: &mut Cursor<'_>) -> Result<MergeAction> {
    cursor.expect("INSERT")?;
    if cursor.eat_token(&Token::Mul) {
        return Ok(MergeAction::InsertAll);
    }
    let columns = cursor.list(|cursor| Ok((cursor.here(), cursor.object_name()?.0)))?;
    let place = cursor.here();
    cursor.expect("VALUES")?;
    let values = cursor.list(value)?;
    if columns.len() != values.len() {
        let message = format!("{} columns are named, there are {} values", columns.len(), values.len());
        return Err(cursor.illegal(message, place));
    }
    let assignment = |((location, column), value)| Assignment { column, value, location };
    Ok(MergeAction::Insert(columns.into_iter().zip(values).map(assignment).collect()))
}

/// What follows a clause without a condition would never be done.
fn check_last(clauses: &[MergeClause]) -> Result<()> {
    for (rows, condition, kind) in [
        (MergeRows::Matched, "NON_LAST_MATCHED_CLAUSE_OMIT_CONDITION", "MATCHED"),
        (MergeRows::NotMatched, "NON_LAST_NOT_MATCHED_BY_TARGET_CLAUSE_OMIT_CONDITION", "NOT MATCHED [BY TARGET]"),
        (
            MergeRows::NotMatchedBySource,
            "NON_LAST_NOT_MATCHED_BY_SOURCE_CLAUSE_OMIT_CONDITION",
            "NOT MATCHED BY SOURCE",
        ),
    ] {
        let mut of_kind = clauses.iter().filter(|clause| clause.rows == rows).rev();
        of_kind.next();
        if let Some(clause) = of_kind.find(|clause| clause.condition.is_none()) {
            return Err(Error::user(format!("only the last `WHEN {kind}` clause may have no condition"))
                .with_condition(condition)
                .at(clause.location.clone()));
        }
    }
    Ok(())
}

/// What qualifies the columns of `SELECT * FROM one relation`.
fn name_of(query: &SqlQuery) -> Result<Vec<String>> {
    let place = || query.location.clone();
    let SetExpr::Select(select) = query.query.body.as_ref() else {
        return Err(Error::internal("a relation is not read by a select").at(place()));
    };
    let [table] = select.from.as_slice() else {
        return Err(Error::user("expected one table or one query after `USING`")
            .with_condition("PARSE_SYNTAX_ERROR")
            .at(place()));
    };
    let (name, alias) = match &table.relation {
        TableFactor::Table { name, alias, args, .. } => {
            let parts = name.0.iter().filter_map(|part| part.as_ident()).map(|part| part.value.clone()).collect();
            (if args.is_none() { parts } else { Vec::new() }, alias)
        }
        TableFactor::Derived { alias, .. } | TableFactor::Function { alias, .. } => (Vec::new(), alias),
        _ => (Vec::new(), &None),
    };
    Ok(alias.as_ref().map_or(name, |alias| vec![alias.name.value.clone()]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::sql::script::StatementText;
    use crate::sql::statement::{Command, parse_command};

    fn parsed(text: &str) -> Result<Command> {
        parse_command(&StatementText { text: text.to_owned(), location: SourceLocation::new("<sql>", 1, 1) })
    }

    fn merged(text: &str) -> Merge {
        match parsed(text).unwrap() {
            Command::Merge(merge) => *merge,
            other => panic!("{other:?}"),
        }
    }

    fn text(text: &Option<SqlText>) -> &str {
        text.as_ref().map_or("-", |text| &text.text)
    }

    #[test]
    fn deletes_and_updates_name_a_table_or_an_alias() {
        let Command::Delete(delete) = parsed("DELETE FROM a.t AS x WHERE x.id IN (SELECT 1)").unwrap() else {
            panic!("no delete")
        };
        assert_eq!(delete.target.table.to_string(), "a.t");
        assert_eq!(delete.target.alias.as_deref(), Some("x"));
        assert_eq!(text(&delete.condition), "x.id IN (SELECT 1)");
        let Command::Delete(delete) = parsed("DELETE FROM t;").unwrap() else { panic!("no delete") };
        assert_eq!((delete.target.alias, delete.condition), (None, None));
        let Command::Update(update) = parsed("UPDATE t u\nSET u.a = a + 1, b.c = DEFAULT\nWHERE b.c > 0").unwrap()
        else {
            panic!("no update")
        };
        assert_eq!(update.target.alias.as_deref(), Some("u"));
        let assigned: Vec<_> =
            update.assignments.iter().map(|one| (one.column.join("."), text(&one.value).to_owned())).collect();
        assert_eq!(assigned, [("u.a".to_owned(), "a + 1".to_owned()), ("b.c".to_owned(), "-".to_owned())]);
        assert_eq!(update.assignments[1].location, SourceLocation::new("<sql>", 2, 18));
        assert_eq!(update.condition.unwrap().location, SourceLocation::new("<sql>", 3, 7));
    }

    #[test]
    fn clauses_of_a_merge_come_in_order() {
        let merge = merged(
            "MERGE WITH SCHEMA EVOLUTION INTO t USING (SELECT 1 AS id, 2 AS v) AS s ON t.id = s.id
             WHEN MATCHED AND s.v = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET *
             WHEN NOT MATCHED BY TARGET THEN INSERT (id, v) VALUES (s.id, DEFAULT)
             WHEN NOT MATCHED BY SOURCE AND t.v < 0 THEN UPDATE SET v = 0
             WHEN NOT MATCHED BY SOURCE THEN DELETE",
        );
        assert!(merge.evolves);
        assert_eq!((merge.source_name, merge.on.text.as_str()), (vec!["s".to_owned()], "t.id = s.id"));
        let rows: Vec<_> = merge.clauses.iter().map(|clause| (clause.rows, text(&clause.condition))).collect();
        use MergeRows::{Matched, NotMatched, NotMatchedBySource};
        assert_eq!(
            rows,
            [
                (Matched, "s.v = 0"),
                (Matched, "-"),
                (NotMatched, "-"),
                (NotMatchedBySource, "t.v < 0"),
                (NotMatchedBySource, "-")
            ]
        );
        assert_eq!(merge.clauses[1].action, MergeAction::UpdateAll);
        assert!(matches!(&merge.clauses[2].action, MergeAction::Insert(values) if values.len() == 2));
        let merge = merged("MERGE INTO a.b.t USING x.src ON true WHEN NOT MATCHED THEN INSERT *");
        assert_eq!(
            (merge.source_name.join("."), merge.source.text.as_str()),
            ("x.src".to_owned(), "SELECT * FROM x.src")
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_where_it_stands() {
        let failure = |text: &str| {
            let error = parsed(text).unwrap_err();
            (error.condition().unwrap_or_default().to_owned(), error.location().unwrap().to_string())
        };
        let on = "MERGE INTO t USING s ON true\n";
        assert_eq!(
            failure(&format!("{on}WHEN MATCHED THEN DELETE\nWHEN MATCHED AND true THEN UPDATE SET *")),
            ("NON_LAST_MATCHED_CLAUSE_OMIT_CONDITION".to_owned(), "<sql>:2:1".to_owned())
        );
        for (text, place) in [
            ("WHEN NOT MATCHED THEN DELETE", "<sql>:2:23"),
            ("WHEN MATCHED THEN INSERT *", "<sql>:2:19"),
            ("WHEN NOT MATCHED THEN INSERT (a, b) VALUES (1)", "<sql>:2:37"),
            ("WHEN NOT MATCHED BY SOURCE THEN UPDATE SET *", "<sql>:2:44"),
        ] {
            assert_eq!(failure(&format!("{on}{text}")), ("PARSE_SYNTAX_ERROR".to_owned(), place.to_owned()), "{text}");
        }
        assert_eq!(failure(on).0, "PARSE_SYNTAX_ERROR");
        assert_eq!(failure("DELETE t").0, "PARSE_SYNTAX_ERROR");
    }
}
