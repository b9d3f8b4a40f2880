//! Statements that look after the files of a table and change none of its rows: `OPTIMIZE`, `VACUUM`.

use super::SqlText;
use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::relation::ObjectName;

/// `OPTIMIZE`
#[derive(Debug, Clone, PartialEq)]
pub struct Optimize {
    /// The table.
    pub table: ObjectName,
    /// `WHERE`, about partition columns.
    pub condition: Option<SqlText>,
}

/// `VACUUM`
#[derive(Debug, Clone, PartialEq)]
pub struct Vacuum {
    /// The table.
    pub table: ObjectName,
    /// `RETAIN n HOURS`; what the table says if there is none.
    pub retain_hours: Option<f64>,
    /// `DRY RUN`: files are told, and stay.
    pub dry_run: bool,
}

pub(super) fn optimize(cursor: &mut Cursor<'_>) -> Result<Optimize> {
    let table = cursor.object_name()?;
    let condition = if cursor.eat("WHERE") { Some(cursor.expression()?) } else { None };
    if cursor.at_words("ZORDER") {
        return Err(Error::unsupported("`ZORDER BY`")
            .with_condition("UNSUPPORTED_FEATURE.SQL_COMMAND")
            .with_help("Leave it out: small files are put together all the same.")
            .at(cursor.here()));
    }
    Ok(Optimize { table, condition })
}

pub(super) fn vacuum(cursor: &mut Cursor<'_>) -> Result<Vacuum> {
    let table = cursor.object_name()?;
    let (mut retain_hours, mut dry_run) = (None, false);
    loop {
        if retain_hours.is_none() && cursor.eat("RETAIN") {
            let place = cursor.here();
            let number = cursor.property_value()?;
            let hours = number.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours >= 0.0);
            retain_hours = Some(hours.ok_or_else(|| {
                cursor.illegal(format!("expected a number of hours that is not negative, found `{number}`"), place)
            })?);
            cursor.expect("HOURS")?;
        } else if !dry_run && cursor.eat("DRY RUN") {
            dry_run = true;
        } else {
            return Ok(Vacuum { table, retain_hours, dry_run });
        }
    }
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
    fn tables_are_vacuumed_and_optimized() {
        let Command::Vacuum(vacuum) = parsed("VACUUM a.t RETAIN 0.5 HOURS DRY RUN").unwrap() else { panic!("none") };
        assert_eq!((vacuum.table.to_string().as_str(), vacuum.retain_hours, vacuum.dry_run), ("a.t", Some(0.5), true));
        let Command::Vacuum(vacuum) = parsed("VACUUM t DRY RUN").unwrap() else { panic!("none") };
        assert_eq!((vacuum.retain_hours, vacuum.dry_run), (None, true));
        let Command::Optimize(optimize) = parsed("OPTIMIZE t WHERE d >= '2026-01-01'").unwrap() else { panic!("none") };
        assert_eq!(optimize.condition.unwrap().text, "d >= '2026-01-01'");
    }

    #[test]
    fn what_is_not_supported_says_so() {
        assert_eq!(parsed("OPTIMIZE t ZORDER BY (a)").unwrap_err().location().unwrap().column, 12);
        assert!(parsed("VACUUM t RETAIN -1 HOURS").is_err());
        assert!(parsed("VACUUM t RETAIN 1 DAYS").is_err());
    }
}
