//! Reads from SQLite, on threads that may wait.

use deltaworks_spark::Result;
use rusqlite::{Connection, Statement};

use super::types::{self, of_value};
use super::{failed, open};
use crate::cells::Rows;
use crate::column::{Column, Compare};
use crate::errors::Doing;
use crate::options::ReadJob;
use crate::query::{Wanted, select};
use crate::scan::{Batches, blocking, send_blocking};

/// The columns that a statement gives. Where nothing is declared, the first row tells.
pub(crate) async fn describe(job: &ReadJob, statement: &str) -> Result<Vec<Column>> {
    let (job, statement) = (job.clone(), statement.to_owned());
    blocking(move || {
        let connection = open(&job.connecting, Doing::Reading)?;
        let target = &job.connecting.target;
        let prepared = prepare(&connection, &job, &statement)?;
        let declared: Vec<(String, Option<Column>)> = prepared
            .columns()
            .map(|column| {
                let name = column.name();
                let known = column.decl_type().and_then(|declared| types::column(name, declared, job.prefer_ntz));
                (name.to_owned(), known)
            })
            .collect();
        drop(prepared);
        let wanted = Wanted { limit: Some(1), ..Wanted::default() };
        let mut first = Vec::new();
        if declared.iter().any(|(_, known)| known.is_none()) {
            let names: Vec<Column> =
                declared.iter().map(|(name, _)| Column::new(name, types::unknown(), Compare::Nothing)).collect();
            let mut prepared = prepare(&connection, &job, &select(&job, &names, &wanted))?;
            let fail = |error: rusqlite::Error| failed(target, Doing::Reading, &error);
            let mut rows = prepared.query([]).map_err(fail)?;
            if let Some(row) = rows.next().map_err(fail)? {
                for at in 0..declared.len() {
                    first.push(of_value(row.get_ref(at).map_err(fail)?));
                }
            }
        }
        let columns = declared.into_iter().enumerate().map(|(at, (name, known)): (usize, (String, Option<Column>))| {
            let first = first.get(at).cloned().unwrap_or_else(types::unknown);
            known.unwrap_or_else(|| Column::new(&name, first, Compare::Nothing))
        });
        Ok(columns.collect())
    })
    .await
}

fn prepare<'a>(connection: &'a Connection, job: &ReadJob, statement: &str) -> Result<Statement<'a>> {
    connection.prepare(statement).map_err(|error| failed(&job.connecting.target, Doing::Reading, &error))
}

/// Runs a statement and hands its rows over.
pub(crate) fn read(job: &ReadJob, statement: &str, mut rows: Rows, batches: &Batches) -> Result<()> {
    let connection = open(&job.connecting, Doing::Reading)?;
    let fail = |error: rusqlite::Error| failed(&job.connecting.target, Doing::Reading, &error);
    let columns = rows.columns().to_vec();
    let mut prepared = prepare(&connection, job, statement)?;
    let mut answer = prepared.query([]).map_err(fail)?;
    while let Some(row) = answer.next().map_err(fail)? {
        for (at, column) in columns.iter().enumerate() {
            let value = row.get_ref(at).map_err(fail)?;
            rows.push(at, types::cell(column, value, job.connecting.zone)?)?;
        }
        if !send_blocking(batches, rows.end_row()?) {
            return Ok(());
        }
    }
    send_blocking(batches, rows.finish()?);
    Ok(())
}
