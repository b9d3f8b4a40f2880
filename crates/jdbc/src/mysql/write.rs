//! Writes to MySQL: rows in one transaction. Statements that make and drop tables end transactions there, so rows for a new
//! table go into one of another name, which gets its name when it is complete.

use arrow::array::RecordBatch;
use chrono::{Datelike, Timelike};
use chrono_tz::Tz;
use deltaworks_spark::catalog::SaveMode;
use deltaworks_spark::{Error, Result};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Value as Sent};

use super::{connect, failed};
use crate::errors::Doing;
use crate::options::WriteJob;
use crate::time;
use crate::values::{Outgoing, Value, value};
use crate::write::{Step, beside, create_table, matched, step};

/// Values of a statement at most; the protocol's limit.
const MOST_VALUES: usize = 65_535;

/// Bytes of a statement's values at most: servers may refuse packets of a few megabytes.
const MOST_BYTES: usize = 1 << 20;

/// A column of a table that takes values.
#[derive(Clone)]
struct TableColumn {
    name: String,
    /// Whether moments are absolute there; elsewhere they are what clocks show.
    is_absolute: bool,
}

/// Writes rows, and commits.
pub(crate) async fn write(job: &WriteJob, mode: SaveMode, rows: Outgoing) -> Result<()> {
    let mut session = Session { connection: connect(&job.connecting, Doing::Writing).await?, job };
    let existing = session.columns_of(&job.table).await?;
    let step = step(mode, existing.is_some(), job)?;
    match step {
        Step::Nothing => return Ok(()),
        Step::Append | Step::Empty => {
            session.begin().await?;
            if step == Step::Empty {
                // TRUNCATE would be committed at once.
                session.run(&format!("DELETE FROM {}", job.table)).await?;
            }
            session.insert(&job.table, &existing.unwrap_or_default(), rows).await?;
            session.run("COMMIT").await?;
        }
        Step::Create | Step::Replace => {
            let staged = beside(job);
            let filled = session.fill_new(&staged, rows).await;
            let renamed = match filled {
                Ok(()) => session.give_name(&staged, step).await,
                Err(error) => Err(error),
            };
            if let Err(error) = renamed {
                // What failed is the error to report.
                let _ = session.run(&format!("DROP TABLE IF EXISTS {staged}")).await;
                return Err(error);
            }
        }
    }
    let _ = session.connection.disconnect().await;
    Ok(())
}

/// A connection that writes.
struct Session<'a> {
    connection: Conn,
    job: &'a WriteJob,
}

impl Session<'_> {
    async fn run(&mut self, statement: &str) -> Result<()> {
        let done = self.connection.query_drop(statement).await;
        done.map_err(|error| failed(&self.job.connecting.target, Doing::Writing, &error))
    }

    async fn begin(&mut self) -> Result<()> {
        if let Some(level) = self.job.isolation {
            self.run(&format!("SET TRANSACTION ISOLATION LEVEL {level}")).await?;
        }
        self.run("START TRANSACTION").await
    }

    /// The columns of a table; `None` if there is none.
    async fn columns_of(&mut self, table: &str) -> Result<Option<Vec<TableColumn>>> {
        match self.connection.prep(format!("SELECT * FROM {table} WHERE 1=0")).await {
            Ok(prepared) => {
                let is_absolute = |data_type| {
                    matches!(data_type, ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2)
                };
                let columns = prepared.columns();
                let columns = columns.iter().map(|column| TableColumn {
                    name: column.name_str().into_owned(),
                    is_absolute: is_absolute(column.column_type()),
                });
                Ok(Some(columns.collect()))
            }
            Err(mysql_async::Error::Server(answer)) if answer.code == 1146 => Ok(None),
            Err(error) => Err(failed(&self.job.connecting.target, Doing::Writing, &error)),
        }
    }

    async fn fill_new(&mut self, table: &str, rows: Outgoing) -> Result<()> {
        self.run(&create_table(table, &rows.columns, self.job)?).await?;
        let columns = self.columns_of(table).await?.unwrap_or_default();
        self.begin().await?;
        self.insert(table, &columns, rows).await?;
        self.run("COMMIT").await
    }

    /// Puts a complete table in its place, at once.
    async fn give_name(&mut self, staged: &str, step: Step) -> Result<()> {
        let table = &self.job.table;
        if step == Step::Create {
            return self.run(&format!("RENAME TABLE {staged} TO {table}")).await;
        }
        let old = beside(self.job);
        self.run(&format!("RENAME TABLE {table} TO {old}, {staged} TO {table}")).await?;
        self.run(&format!("DROP TABLE {old}")).await
    }

    async fn insert(&mut self, table: &str, existing: &[TableColumn], rows: Outgoing) -> Result<()> {
        let names: Vec<String> = existing.iter().map(|column| column.name.clone()).collect();
        let columns: Vec<TableColumn> =
            matched(&rows.columns, &names, self.job)?.into_iter().map(|at| existing[at].clone()).collect();
        let dialect = self.job.connecting.target.dialect;
        let list = columns.iter().map(|column| dialect.quote(&column.name)).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO {table} ({list}) VALUES ");
        let most_rows = self.job.batch_rows.min(MOST_VALUES / columns.len()).max(1);
        let mut pending = Pending::default();
        let mut running = rows.run().await?;
        while let Some(batch) = running.next().await? {
            for row in 0..batch.num_rows() {
                pending.add(&batch, row, &columns, self.job.connecting.zone)?;
                if pending.rows >= most_rows || pending.bytes >= MOST_BYTES {
                    self.send(&insert, columns.len(), &mut pending).await?;
                }
            }
        }
        self.send(&insert, columns.len(), &mut pending).await
    }

    async fn send(&mut self, insert: &str, columns: usize, pending: &mut Pending) -> Result<()> {
        if pending.rows == 0 {
            return Ok(());
        }
        let row = format!("({})", vec!["?"; columns].join(", "));
        let statement = format!("{insert}{}", vec![row; pending.rows].join(", "));
        let Pending { values, .. } = std::mem::take(pending);
        let done = self.connection.exec_drop(statement, Params::Positional(values)).await;
        done.map_err(|error| failed(&self.job.connecting.target, Doing::Writing, &error))
    }
}

/// Rows of the next statement.
#[derive(Default)]
struct Pending {
    values: Vec<Sent>,
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn add(&mut self, batch: &RecordBatch, row: usize, columns: &[TableColumn], zone: Tz) -> Result<()> {
        for (array, column) in batch.columns().iter().zip(columns) {
            let sent = sent(value(array, row)?, column, zone)?;
            self.bytes += if let Sent::Bytes(bytes) = &sent { bytes.len() } else { 8 };
            self.values.push(sent);
        }
        self.rows += 1;
        Ok(())
    }
}

fn sent(value: Value<'_>, column: &TableColumn, zone: Tz) -> Result<Sent> {
    let name = &column.name;
    let out_of_range = || Error::data(format!("column `{name}` has a date or timestamp that is out of range"));
    Ok(match value {
        Value::Null => Sent::NULL,
        Value::Bool(value) => Sent::Int(value.into()),
        Value::Int(value) => Sent::Int(value),
        Value::Float32(value) if value.is_finite() => Sent::Float(value),
        Value::Float64(value) if value.is_finite() => Sent::Double(value),
        Value::Float32(_) | Value::Float64(_) => {
            return Err(Error::data(format!("column `{name}` has NaN or an infinity, which MySQL cannot store"))
                .with_help("Replace it: `nanvl(column, NULL)`."));
        }
        Value::Decimal(text) => Sent::Bytes(text.into_bytes()),
        Value::Text(text) => Sent::Bytes(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => Sent::Bytes(bytes.to_vec()),
        Value::Date(days) => {
            let day = time::day(days).ok_or_else(out_of_range)?;
            let year = u16::try_from(day.year()).map_err(|_| out_of_range())?;
            Sent::Date(year, day.month() as u8, day.day() as u8, 0, 0, 0, 0)
        }
        Value::Instant(micros) if column.is_absolute => moment(Some(micros)).ok_or_else(out_of_range)?,
        Value::Instant(micros) => moment(time::local(micros, zone)).ok_or_else(out_of_range)?,
        Value::Clock(micros) if column.is_absolute => moment(time::instant(micros, zone)).ok_or_else(out_of_range)?,
        Value::Clock(micros) => moment(Some(micros)).ok_or_else(out_of_range)?,
        Value::List(_) => return Err(Error::internal("MySQL has no lists")),
    })
}

fn moment(micros: Option<i64>) -> Option<Sent> {
    let clock = time::clock(micros?)?;
    let year = u16::try_from(clock.year()).ok()?;
    let (month, day) = (clock.month() as u8, clock.day() as u8);
    let (hour, minute, second) = (clock.hour() as u8, clock.minute() as u8, clock.second() as u8);
    Some(Sent::Date(year, month, day, hour, minute, second, clock.nanosecond() / 1000))
}
