//! Writes to SQLite: one transaction, tables that are made and dropped included.

use arrow::array::RecordBatch;
use deltaworks_spark::catalog::SaveMode;
use deltaworks_spark::{Error, Result};
use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};
use rusqlite::{Connection, params_from_iter};
use tokio::sync::mpsc;

use super::{failed, open};
use crate::errors::{Doing, lost_task};
use crate::options::WriteJob;
use crate::scan::blocking;
use crate::time;
use crate::values::{OutColumn, Outgoing, Value, value};
use crate::write::{Step, beside, create_table, matched, step};

/// Batches that wait to be written.
const WAITING_BATCHES: usize = 2;

/// Writes rows, and commits.
pub(crate) async fn write(job: WriteJob, mode: SaveMode, rows: Outgoing) -> Result<()> {
    let checked = job.clone();
    let (step, existing) = blocking(move || {
        let connection = open(&checked.connecting, Doing::Writing)?;
        let existing = columns_of(&connection, &checked, &checked.table)?;
        Ok((step(mode, existing.is_some(), &checked)?, existing))
    })
    .await?;
    if step == Step::Nothing {
        return Ok(());
    }
    let columns = rows.columns.clone();
    // Fails before the query runs.
    if let (Some(existing), Step::Append | Step::Empty) = (&existing, step) {
        matched(&columns, existing, &job)?;
    }
    let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
    let writer = tokio::task::spawn_blocking(move || fill(&job, step, &columns, waiting));
    let mut running = rows.run().await?;
    loop {
        let sent = match running.next().await {
            Ok(Some(batch)) => batches.send(Some(batch)).await,
            // Whoever writes commits only after this.
            Ok(None) => {
                let _ = batches.send(None).await;
                break;
            }
            Err(error) => {
                drop(batches);
                let _ = writer.await;
                return Err(error);
            }
        };
        if sent.is_err() {
            // The writer has failed, and says why.
            break;
        }
    }
    writer.await.map_err(|error| lost_task(&error))?
}

/// The names of a table's columns; `None` if there is none.
fn columns_of(connection: &Connection, job: &WriteJob, table: &str) -> Result<Option<Vec<String>>> {
    match connection.prepare(&format!("SELECT * FROM {table} WHERE 1=0")) {
        Ok(prepared) => Ok(Some(prepared.column_names().map(str::to_owned).collect())),
        Err(error) => match failed(&job.connecting.target, Doing::Writing, &error) {
            error if error.condition() == Some("TABLE_OR_VIEW_NOT_FOUND") => Ok(None),
            error => Err(error),
        },
    }
}

/// Writes what comes, until `None` comes; without it, nothing is written.
fn fill(
    job: &WriteJob,
    step: Step,
    columns: &[OutColumn],
    mut batches: mpsc::Receiver<Option<RecordBatch>>,
) -> Result<()> {
    let connection = open(&job.connecting, Doing::Writing)?;
    let fail = |error: rusqlite::Error| failed(&job.connecting.target, Doing::Writing, &error);
    let run = |statement: &str| connection.execute_batch(statement).map_err(fail);
    let dialect = job.connecting.target.dialect;
    run("BEGIN")?;
    let staged = beside(job);
    let table = if step == Step::Replace { &staged } else { &job.table };
    match step {
        Step::Create | Step::Replace => run(&create_table(table, columns, job)?)?,
        Step::Empty => run(&format!("DELETE FROM {table}"))?,
        Step::Append | Step::Nothing => {}
    }
    let names = columns_of(&connection, job, table)?.unwrap_or_default();
    let places = matched(columns, &names, job)?;
    let list = places.iter().map(|at| dialect.quote(&names[*at])).collect::<Vec<_>>().join(", ");
    let marks = vec!["?"; columns.len()].join(", ");
    let mut insert = connection.prepare(&format!("INSERT INTO {table} ({list}) VALUES ({marks})")).map_err(fail)?;
    loop {
        match batches.blocking_recv() {
            Some(Some(batch)) => {
                for row in 0..batch.num_rows() {
                    let values = batch
                        .columns()
                        .iter()
                        .zip(columns)
                        .map(|(array, column)| stored(value(array, row)?, &column.name));
                    let values = values.collect::<Result<Vec<_>>>()?;
                    insert.execute(params_from_iter(values)).map_err(fail)?;
                }
            }
            Some(None) => break,
            // Closing the connection takes back what it has written.
            None => return Ok(()),
        }
    }
    drop(insert);
    if step == Step::Replace {
        run(&format!("DROP TABLE {}", job.table))?;
        let name = job.name.last().map(|name| dialect.quote(name)).unwrap_or_default();
        run(&format!("ALTER TABLE {staged} RENAME TO {name}"))?;
    }
    run("COMMIT")
}

fn stored<'a>(value: Value<'a>, name: &str) -> Result<ToSqlOutput<'a>> {
    let text = |text: Option<String>| {
        let out_of_range = || Error::data(format!("column `{name}` has a date or timestamp that is out of range"));
        Ok::<_, Error>(ToSqlOutput::Owned(Stored::Text(text.ok_or_else(out_of_range)?)))
    };
    Ok(match value {
        Value::Null => ToSqlOutput::Owned(Stored::Null),
        Value::Bool(value) => ToSqlOutput::Owned(Stored::Integer(value.into())),
        Value::Int(value) => ToSqlOutput::Owned(Stored::Integer(value)),
        Value::Float32(value) if !value.is_nan() => ToSqlOutput::Owned(Stored::Real(value.into())),
        Value::Float64(value) if !value.is_nan() => ToSqlOutput::Owned(Stored::Real(value)),
        Value::Float32(_) | Value::Float64(_) => {
            return Err(Error::data(format!("column `{name}` has NaN, which SQLite cannot store"))
                .with_help("Replace it: `nanvl(column, NULL)`."));
        }
        Value::Decimal(text) => ToSqlOutput::Owned(Stored::Text(text)),
        Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Value::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        Value::Date(days) => text(time::day(days).map(time::day_text))?,
        Value::Instant(micros) => text(time::clock(micros).map(|moment| time::moment_text(moment, "Z")))?,
        Value::Clock(micros) => text(time::clock(micros).map(|moment| time::moment_text(moment, "")))?,
        Value::List(_) => return Err(Error::internal("SQLite has no lists")),
    })
}
