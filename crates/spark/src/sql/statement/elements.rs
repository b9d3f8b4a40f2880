//! The list in parentheses after a dataset's name: columns, expectations, keys.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{
    ColumnDefinition, CreateDataset, DatasetKind, ExpectationDefinition, Identity, KeyConstraint, OnViolation,
    RowFilter,
};
use crate::error::Result;
use crate::relation::ObjectName;
use crate::sql::data_types::arrow_type;

pub(super) fn list(cursor: &mut Cursor<'_>, dataset: &mut CreateDataset) -> Result<()> {
    cursor.expect_token(&Token::LParen)?;
    while !cursor.eat_token(&Token::RParen) {
        element(cursor, dataset)?;
        if !cursor.eat_token(&Token::Comma) {
            match cursor.eat_token(&Token::RParen) {
                true => break,
                false => return Err(cursor.expected("`,` or `)`")),
            }
        }
    }
    Ok(())
}

fn element(cursor: &mut Cursor<'_>, dataset: &mut CreateDataset) -> Result<()> {
    if cursor.at_words("PRIMARY KEY") || cursor.at_words("FOREIGN KEY") {
        let key = table_key(cursor, None)?;
        dataset.keys.push(key);
        return Ok(());
    }
    let place = cursor.here();
    if !cursor.eat("CONSTRAINT") {
        return column(cursor, dataset);
    }
    let name = cursor.identifier()?;
    if !cursor.eat("EXPECT") {
        let key = table_key(cursor, Some(name))?;
        dataset.keys.push(key);
        return Ok(());
    }
    if dataset.kind == DatasetKind::PersistedView {
        return Err(cursor.illegal("a view in the catalog has no expectations, use a temporary view", place));
    }
    let expectation = expectation(cursor, name)?;
    if dataset.expectations.iter().any(|other| other.name.eq_ignore_ascii_case(&expectation.name)) {
        return Err(cursor.illegal(format!("expectation `{}` is declared twice", expectation.name), place));
    }
    dataset.expectations.push(expectation);
    Ok(())
}

fn expectation(cursor: &mut Cursor<'_>, name: String) -> Result<ExpectationDefinition> {
    cursor.expect_token(&Token::LParen)?;
    let condition = cursor.expression()?;
    cursor.expect_token(&Token::RParen)?;
    let mut on_violation = OnViolation::Warn;
    if cursor.eat("ON VIOLATION") {
        on_violation = match () {
            () if cursor.eat("DROP ROW") => OnViolation::Drop,
            () if cursor.eat("FAIL UPDATE") => OnViolation::Fail,
            () => return Err(cursor.expected("`DROP ROW` or `FAIL UPDATE`")),
        };
    }
    Ok(ExpectationDefinition { name, expression_sql: condition.text, location: condition.location, on_violation })
}

fn table_key(cursor: &mut Cursor<'_>, name: Option<String>) -> Result<KeyConstraint> {
    if cursor.eat("PRIMARY KEY") {
        let columns = cursor.list(|cursor| {
            let column = cursor.identifier()?;
            cursor.eat("TIMESERIES");
            Ok(column)
        })?;
        return Ok(KeyConstraint { name, columns, references: None, rely: rely(cursor) });
    }
    if !cursor.eat("FOREIGN KEY") {
        return Err(cursor.expected("`EXPECT`, `PRIMARY KEY` or `FOREIGN KEY`"));
    }
    let columns = cursor.identifiers()?;
    cursor.expect("REFERENCES")?;
    let references = Some(referenced(cursor)?);
    Ok(KeyConstraint { name, columns, references, rely: rely(cursor) })
}

fn referenced(cursor: &mut Cursor<'_>) -> Result<(ObjectName, Vec<String>)> {
    let table = cursor.dataset_name()?;
    let columns = if cursor.at_token(&Token::LParen) { cursor.identifiers()? } else { Vec::new() };
    Ok((table, columns))
}

fn rely(cursor: &mut Cursor<'_>) -> bool {
    while cursor.eat("NOT ENFORCED") || cursor.eat("INITIALLY DEFERRED") || cursor.eat("NORELY") {}
    cursor.eat("RELY")
}

fn column(cursor: &mut Cursor<'_>, dataset: &mut CreateDataset) -> Result<()> {
    let location = cursor.here();
    let mut column = ColumnDefinition {
        name: cursor.identifier()?,
        data_type: None,
        char_type: None,
        nullable: true,
        comment: None,
        generated: None,
        default: None,
        identity: None,
        mask: None,
        location,
    };
    let ends = |cursor: &Cursor<'_>| cursor.at_token(&Token::Comma) || cursor.at_token(&Token::RParen);
    const OPTIONS: [&str; 10] = [
        "COMMENT",
        "NOT NULL",
        "DEFAULT",
        "GENERATED",
        "CONSTRAINT",
        "PRIMARY KEY",
        "FOREIGN KEY",
        "REFERENCES",
        "MASK",
        "COLLATE",
    ];
    cursor.eat_token(&Token::Colon);
    if !ends(cursor) && !OPTIONS.iter().any(|option| cursor.at_words(option)) {
        let place = cursor.here();
        let data_type = cursor.data_type()?;
        column.char_type = char_type(&data_type);
        column.data_type = Some(arrow_type(&data_type).map_err(|error| error.at(place))?);
    }
    while !ends(cursor) {
        option(cursor, &mut column, dataset)?;
    }
    dataset.columns.push(column);
    Ok(())
}

fn char_type(data_type: &ast::DataType) -> Option<String> {
    let (name, length) = match data_type {
        ast::DataType::Varchar(length) => ("varchar", length),
        ast::DataType::Char(length) | ast::DataType::Character(length) => ("char", length),
        _ => return None,
    };
    match length {
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Some(format!("{name}({length})")),
        _ => None,
    }
}

fn option(cursor: &mut Cursor<'_>, column: &mut ColumnDefinition, dataset: &mut CreateDataset) -> Result<()> {
    if cursor.eat("COMMENT") {
        column.comment = Some(cursor.string()?);
    } else if cursor.eat("NOT NULL") {
        column.nullable = false;
    } else if cursor.eat("DEFAULT") {
        column.default = Some(cursor.expression()?.text);
    } else if cursor.eat("GENERATED") {
        generated(cursor, column)?;
    } else if cursor.eat("MASK") {
        let function = cursor.object_name()?;
        let columns = if cursor.eat("USING COLUMNS") { cursor.identifiers()? } else { Vec::new() };
        column.mask = Some(RowFilter { function, columns });
    } else {
        let key = column_key(cursor, &column.name)?;
        dataset.keys.push(key);
    }
    Ok(())
}

fn column_key(cursor: &mut Cursor<'_>, column: &str) -> Result<KeyConstraint> {
    let name = if cursor.eat("CONSTRAINT") { Some(cursor.identifier()?) } else { None };
    let columns = vec![column.to_owned()];
    if cursor.eat("PRIMARY KEY") {
        cursor.eat("TIMESERIES");
        return Ok(KeyConstraint { name, columns, references: None, rely: rely(cursor) });
    }
    cursor.eat("FOREIGN KEY");
    if !cursor.eat("REFERENCES") {
        return Err(cursor.expected("a column option, `,` or `)`"));
    }
    let references = Some(referenced(cursor)?);
    Ok(KeyConstraint { name, columns, references, rely: rely(cursor) })
}

fn generated(cursor: &mut Cursor<'_>, column: &mut ColumnDefinition) -> Result<()> {
    let always = cursor.eat("ALWAYS");
    if !always {
        cursor.expect("BY DEFAULT")?;
    }
    cursor.expect("AS")?;
    if !cursor.eat("IDENTITY") {
        cursor.expect_token(&Token::LParen)?;
        column.generated = Some(cursor.expression()?.text);
        return cursor.expect_token(&Token::RParen);
    }
    let mut identity = Identity { always, start: 1, step: 1 };
    if cursor.eat_token(&Token::LParen) {
        while !cursor.eat_token(&Token::RParen) {
            if cursor.eat("START WITH") {
                identity.start = cursor.integer()?;
            } else if cursor.eat("INCREMENT BY") {
                identity.step = cursor.integer()?;
            } else if !cursor.eat_token(&Token::Comma) {
                return Err(cursor.expected("`START WITH`, `INCREMENT BY` or `)`"));
            }
        }
    }
    column.identity = Some(identity);
    Ok(())
}
