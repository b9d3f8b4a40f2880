//! Writes to PostgreSQL: one transaction, rows by COPY.

use arrow::array::{Array, RecordBatch};
use bytes::{BufMut, Bytes, BytesMut};
use chrono_tz::Tz;
use deltaworks_spark::catalog::SaveMode;
use deltaworks_spark::{Error, Result};
use futures::{SinkExt, pin_mut};
use tokio_postgres::types::Type;
use tokio_postgres::{Column, CopyInSink};

use super::{Connection, failed};
use crate::errors::Doing;
use crate::options::WriteJob;
use crate::time;
use crate::values::{Outgoing, Value, value};
use crate::write::{Step, beside, create_table, matched, step};

/// Rows are sent in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// A column of a table that takes values.
#[derive(Clone)]
struct TableColumn {
    name: String,
    /// Whether moments are absolute there; elsewhere they are what clocks show.
    is_absolute: bool,
}

/// Writes rows, and commits.
pub(crate) async fn write(job: &WriteJob, mode: SaveMode, rows: Outgoing) -> Result<()> {
    let connection = Connection::open(&job.connecting, Doing::Writing).await?;
    let existing = columns_of(&connection, job, &job.table).await?;
    let step = step(mode, existing.is_some(), job)?;
    if step == Step::Nothing {
        return Ok(());
    }
    // TRUNCATE locks readers out until the commit, which would wait for them.
    if step == Step::Empty && rows.reads(&job.connecting.target, &job.table)? {
        return Err(Error::user(format!("table `{}` cannot be truncated for a query that reads it", job.table))
            .with_condition("UNSUPPORTED_OVERWRITE.TABLE")
            .with_help("Leave option `truncate` out: the table is then replaced when all rows are there."));
    }
    let run = async |statement: &str| connection.run(&job.connecting, Doing::Writing, statement).await;
    match job.isolation {
        Some(level) => run(&format!("BEGIN ISOLATION LEVEL {level}")).await?,
        None => run("BEGIN").await?,
    }
    // A table that is replaced is there until all rows are: the query may read it.
    let staged = beside(job);
    let target = if step == Step::Replace { &staged } else { &job.table };
    let table = match step {
        Step::Create | Step::Replace => {
            run(&create_table(target, &rows.columns, job)?).await?;
            columns_of(&connection, job, target).await?
        }
        Step::Empty => {
            let cascade = if job.cascade_truncate { " CASCADE" } else { "" };
            run(&format!("TRUNCATE TABLE ONLY {}{cascade}", job.table)).await?;
            existing
        }
        Step::Append | Step::Nothing => existing,
    };
    let table = table.unwrap_or_default();
    let names: Vec<String> = table.iter().map(|column| column.name.clone()).collect();
    let columns: Vec<TableColumn> =
        matched(&rows.columns, &names, job)?.into_iter().map(|at| table[at].clone()).collect();
    copy(&connection, job, target, &columns, rows).await?;
    if step == Step::Replace {
        run(&format!("DROP TABLE {}", job.table)).await?;
        let name = job.name.last().map(|name| job.connecting.target.dialect.quote(name)).unwrap_or_default();
        run(&format!("ALTER TABLE {staged} RENAME TO {name}")).await?;
    }
    run("COMMIT").await
}

/// The columns of a table; `None` if there is none.
async fn columns_of(connection: &Connection, job: &WriteJob, table: &str) -> Result<Option<Vec<TableColumn>>> {
    match connection.client.prepare(&format!("SELECT * FROM {table} WHERE 1=0")).await {
        Ok(prepared) => {
            let is_absolute = |data_type: &Type| matches!(*data_type, Type::TIMESTAMPTZ | Type::TIMESTAMPTZ_ARRAY);
            let columns = prepared.columns().iter();
            let column = |c: &Column| TableColumn { name: c.name().to_owned(), is_absolute: is_absolute(c.type_()) };
            Ok(Some(columns.map(column).collect()))
        }
        Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => Ok(None),
        Err(error) => Err(failed(&job.connecting.target, Doing::Writing, &error)),
    }
}

async fn copy(
    connection: &Connection,
    job: &WriteJob,
    table: &str,
    columns: &[TableColumn],
    rows: Outgoing,
) -> Result<()> {
    let target = &job.connecting.target;
    let fail = |error: tokio_postgres::Error| failed(target, Doing::Writing, &error);
    let names = columns.iter().map(|column| target.dialect.quote(&column.name)).collect::<Vec<_>>().join(", ");
    let statement = format!("COPY {table} ({names}) FROM STDIN");
    let sink: CopyInSink<Bytes> = connection.client.copy_in(&statement).await.map_err(fail)?;
    pin_mut!(sink);
    let mut running = rows.run().await?;
    let mut piece = BytesMut::with_capacity(PIECE_BYTES + 4096);
    while let Some(batch) = running.next().await? {
        for row in 0..batch.num_rows() {
            put_row(&mut piece, &batch, row, columns, job.connecting.zone)?;
            if piece.len() >= PIECE_BYTES {
                sink.send(piece.split().freeze()).await.map_err(fail)?;
            }
        }
    }
    if !piece.is_empty() {
        sink.send(piece.freeze()).await.map_err(fail)?;
    }
    sink.finish().await.map_err(fail)?;
    Ok(())
}

fn put_row(out: &mut BytesMut, batch: &RecordBatch, row: usize, columns: &[TableColumn], zone: Tz) -> Result<()> {
    for (at, (array, column)) in batch.columns().iter().zip(columns).enumerate() {
        if at > 0 {
            out.put_u8(b'\t');
        }
        match text(&value(array, row)?, column.is_absolute, zone)? {
            Some(text) => put_escaped(out, text.as_bytes()),
            None => out.put_slice(b"\\N"),
        }
    }
    out.put_u8(b'\n');
    Ok(())
}

/// As COPY has it: what separates values is marked by a backslash.
fn put_escaped(out: &mut BytesMut, text: &[u8]) {
    for byte in text {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            b'\t' => out.put_slice(b"\\t"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            byte => out.put_u8(*byte),
        }
    }
}

/// A value as PostgreSQL reads it, whatever the type of the column; `None` is NULL.
fn text(value: &Value<'_>, is_absolute: bool, zone: Tz) -> Result<Option<String>> {
    let moment = |micros: Option<i64>, suffix: &str| {
        let clock = micros.and_then(time::clock).ok_or_else(|| Error::data("a timestamp is out of range"))?;
        Ok::<_, Error>(time::moment_text(clock, suffix))
    };
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float32(value) => float(f64::from(*value), value.to_string()),
        Value::Float64(value) => float(*value, value.to_string()),
        Value::Decimal(text) => text.clone(),
        Value::Text(text) => (*text).to_owned(),
        Value::Bytes(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        Value::Date(days) => time::day_text(time::day(*days).ok_or_else(|| Error::data("a date is out of range"))?),
        Value::Instant(micros) if is_absolute => moment(Some(*micros), "+00")?,
        Value::Instant(micros) => moment(time::local(*micros, zone), "")?,
        // An absolute column takes what clocks of the session show.
        Value::Clock(micros) if is_absolute => moment(time::instant(*micros, zone), "+00")?,
        Value::Clock(micros) => moment(Some(*micros), "")?,
        Value::List(elements) => list(elements.as_ref(), is_absolute, zone)?,
    }))
}

fn float(value: f64, text: String) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => text,
    }
}

/// `{"a","b\"c",NULL}`
fn list(elements: &dyn Array, is_absolute: bool, zone: Tz) -> Result<String> {
    let mut shown = Vec::with_capacity(elements.len());
    for row in 0..elements.len() {
        shown.push(match text(&value(elements, row)?, is_absolute, zone)? {
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        });
    }
    Ok(format!("{{{}}}", shown.join(",")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_as_copy_reads_them() {
        let check = |value: Value<'_>, is_absolute, expected: &str| {
            let mut out = BytesMut::new();
            put_escaped(&mut out, text(&value, is_absolute, Tz::Europe__Berlin).unwrap().unwrap().as_bytes());
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        };
        check(Value::Text("a\tb\\\n"), true, "a\\tb\\\\\\n");
        check(Value::Bytes(&[0, 255]), true, "\\\\x00ff");
        check(Value::Float64(f64::NEG_INFINITY), true, "-Infinity");
        check(Value::Float32(0.1), true, "0.1");
        check(Value::Instant(0), true, "1970-01-01 00:00:00.000000+00");
        check(Value::Instant(0), false, "1970-01-01 01:00:00.000000");
        check(Value::Clock(0), false, "1970-01-01 00:00:00.000000");
        let list: arrow::array::ArrayRef =
            std::sync::Arc::new(arrow::array::StringArray::from(vec![Some("a\"b"), None]));
        check(Value::List(list), true, "{\"a\\\\\"b\",NULL}");
    }
}
