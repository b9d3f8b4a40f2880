//! Reads from PostgreSQL: rows in binary form, as fast as they are taken.

use deltaworks_spark::Result;
use futures::{StreamExt, pin_mut};
use tokio_postgres::types::{FromSql, Type};

use super::{Connection, failed, types};
use crate::cells::{Cell, Rows};
use crate::column::Column;
use crate::errors::{Doing, malformed};
use crate::options::ReadJob;
use crate::scan::{Batches, send};

/// The columns that a statement gives.
pub(crate) async fn describe(job: &ReadJob, statement: &str) -> Result<Vec<Column>> {
    let connection = Connection::open(&job.connecting, Doing::Reading).await?;
    let target = &job.connecting.target;
    let prepared = connection.client.prepare(statement).await;
    let prepared = prepared.map_err(|error| failed(target, Doing::Reading, &error))?;
    let columns = prepared.columns().iter();
    Ok(columns.map(|c| types::column(c.name(), c.type_(), c.type_modifier(), job.prefer_ntz)).collect())
}

/// Runs a statement and hands its rows over.
pub(crate) async fn read(job: &ReadJob, statement: &str, mut rows: Rows, batches: &Batches) -> Result<()> {
    let connection = Connection::open(&job.connecting, Doing::Reading).await?;
    let fail = |error: tokio_postgres::Error| failed(&job.connecting.target, Doing::Reading, &error);
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let answer = connection.client.query_raw(statement, none).await.map_err(fail)?;
    pin_mut!(answer);
    let (zone, columns) = (job.connecting.zone, rows.columns().to_vec());
    while let Some(row) = answer.next().await {
        let row = row.map_err(fail)?;
        for (at, column) in columns.iter().enumerate() {
            let cell = match row.try_get::<_, Raw<'_>>(at).map_err(|_| malformed(&column.name))? {
                Raw(None) => Cell::Null,
                Raw(Some(bytes)) => types::cell(&column.name, row.columns()[at].type_(), &column.natural, bytes, zone)?,
            };
            rows.push(at, cell)?;
        }
        let batch = rows.end_row()?;
        if !send(batches, batch).await {
            return Ok(());
        }
    }
    send(batches, rows.finish()?).await;
    Ok(())
}

/// A value of any type as it came.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
