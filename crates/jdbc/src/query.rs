//! The statements that are sent.

use crate::column::Column;
use crate::dialect::Dialect;
use crate::options::ReadJob;

/// What a statement asks for besides the columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// Conditions that must all hold.
    pub(crate) filters: &'a [String],
    /// The condition of one part.
    pub(crate) part: Option<&'a str>,
    /// Rows at most.
    pub(crate) limit: Option<usize>,
}

/// The statement that reads `columns`.
pub(crate) fn select(job: &ReadJob, columns: &[Column], wanted: &Wanted<'_>) -> String {
    let dialect = job.connecting.target.dialect;
    let list = columns.iter().map(|column| expression(column, dialect)).collect::<Vec<_>>();
    let list = if list.is_empty() { "1".to_owned() } else { list.join(", ") };
    let conditions: Vec<String> =
        wanted.filters.iter().map(String::as_str).chain(wanted.part).map(|text| format!("({text})")).collect();
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let limit = wanted.limit.map(|rows| format!(" LIMIT {rows}")).unwrap_or_default();
    format!("{}SELECT {list} FROM {}{filter}{limit}", job.prepare, job.from)
}

/// The statement that tells the columns, and reads no row.
pub(crate) fn describe(job: &ReadJob) -> String {
    format!("{}SELECT * FROM {} WHERE 1=0", job.prepare, job.from)
}

fn expression(column: &Column, dialect: Dialect) -> String {
    let name = dialect.quote(&column.name);
    match column.sent_as {
        Some(data_type) => format!("CAST({name} AS {data_type}) AS {name}"),
        None => name,
    }
}
