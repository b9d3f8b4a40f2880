//! The clauses of `AUTO CDC` and `APPLY CHANGES`, in any order after `KEYS`.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{AutoCdcClause, ColumnSelection, SqlText, StoredAs};
use crate::error::{Error, Result};

#[derive(Default)]
struct Clauses {
    condition: Option<SqlText>,
    ignore_null_updates: Option<ColumnSelection>,
    apply_as_delete: Option<SqlText>,
    apply_as_truncate: Option<SqlText>,
    sequence_by: Option<SqlText>,
    system_sequence_by: Option<SqlText>,
    columns: Option<ColumnSelection>,
    stored_as: Option<StoredAs>,
    track_history: Option<ColumnSelection>,
    columns_to_update: Option<String>,
}

/// Reads from `FROM` to the end; `WHERE` only where `legacy`.
pub(super) fn clauses(cursor: &mut Cursor<'_>, legacy: bool) -> Result<AutoCdcClause> {
    let start = cursor.here();
    cursor.expect("FROM")?;
    let source = cursor.relation_until("KEYS")?;
    cursor.expect("KEYS")?;
    let keys = cursor.identifiers()?;
    let mut clauses = Clauses::default();
    while clause(cursor, &mut clauses, legacy)? {}
    let stored_as = clauses.stored_as.unwrap_or_default();
    let Some(sequence_by) = clauses.sequence_by else {
        return Err(Error::user("`SEQUENCE BY` is missing").with_condition("MISSING_CLAUSES_FOR_OPERATION").at(start));
    };
    if clauses.track_history.is_some() && stored_as != StoredAs::ScdType2 {
        return Err(cursor.illegal("`TRACK HISTORY ON` needs `STORED AS SCD TYPE 2`", start));
    }
    if clauses.apply_as_truncate.is_some() && stored_as != StoredAs::ScdType1 {
        return Err(cursor.illegal("`APPLY AS TRUNCATE WHEN` needs `STORED AS SCD TYPE 1`", start));
    }
    if clauses.columns_to_update.is_some() && clauses.ignore_null_updates.is_some() {
        return Err(cursor.illegal("`COLUMNS TO UPDATE` and `IGNORE NULL UPDATES` exclude each other", start));
    }
    Ok(AutoCdcClause {
        source,
        keys,
        condition: clauses.condition,
        ignore_null_updates: clauses.ignore_null_updates,
        apply_as_delete: clauses.apply_as_delete,
        apply_as_truncate: clauses.apply_as_truncate,
        sequence_by,
        system_sequence_by: clauses.system_sequence_by,
        columns: clauses.columns,
        stored_as,
        track_history: clauses.track_history,
        columns_to_update: clauses.columns_to_update,
    })
}

fn clause(cursor: &mut Cursor<'_>, clauses: &mut Clauses, legacy: bool) -> Result<bool> {
    let place = cursor.here();
    let twice = if legacy && cursor.eat("WHERE") {
        clauses.condition.replace(cursor.expression()?).is_some()
    } else if cursor.eat("IGNORE NULL UPDATES") {
        let columns = if cursor.eat("ON") { selection(cursor)? } else { ColumnSelection::All };
        clauses.ignore_null_updates.replace(columns).is_some()
    } else if cursor.eat("APPLY AS DELETE WHEN") {
        clauses.apply_as_delete.replace(cursor.expression()?).is_some()
    } else if cursor.eat("APPLY AS TRUNCATE WHEN") {
        clauses.apply_as_truncate.replace(cursor.expression()?).is_some()
    } else if cursor.eat("SEQUENCE BY") {
        clauses.sequence_by.replace(cursor.expression()?).is_some()
    } else if cursor.eat("SYSTEM SEQUENCE BY") {
        clauses.system_sequence_by.replace(cursor.expression()?).is_some()
    } else if cursor.eat("COLUMNS TO UPDATE") {
        clauses.columns_to_update.replace(cursor.identifier()?).is_some()
    } else if cursor.eat("COLUMNS") {
        clauses.columns.replace(selection(cursor)?).is_some()
    } else if cursor.eat("STORED AS") {
        clauses.stored_as.replace(stored_as(cursor)?).is_some()
    } else if cursor.eat("TRACK HISTORY ON") {
        clauses.track_history.replace(selection(cursor)?).is_some()
    } else {
        return Ok(false);
    };
    match twice {
        true => Err(cursor.illegal("this clause is given twice", place).with_condition("DUPLICATE_CLAUSES")),
        false => Ok(true),
    }
}

/// `(a, b)`, `a, b`, `* EXCEPT (a, b)`, `* EXCEPT a, b`
fn selection(cursor: &mut Cursor<'_>) -> Result<ColumnSelection> {
    if cursor.eat_token(&Token::Mul) {
        if !cursor.eat("EXCEPT") {
            return Ok(ColumnSelection::All);
        }
        return Ok(ColumnSelection::Except(names(cursor)?));
    }
    Ok(ColumnSelection::Only(names(cursor)?))
}

fn names(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    match cursor.at_token(&Token::LParen) {
        true => cursor.identifiers(),
        false => cursor.bare_list(Cursor::identifier),
    }
}

fn stored_as(cursor: &mut Cursor<'_>) -> Result<StoredAs> {
    if cursor.eat("BITEMPORAL") {
        return Ok(StoredAs::Bitemporal);
    }
    cursor.expect("SCD TYPE")?;
    let place = cursor.here();
    match cursor.integer()? {
        1 => Ok(StoredAs::ScdType1),
        2 => Ok(StoredAs::ScdType2),
        other => Err(cursor.illegal(format!("unsupported SCD type {other}, it is 1 or 2"), place)),
    }
}
