//! Reads from MySQL: rows of a prepared statement, as fast as they are taken.

use deltaworks_spark::Result;
use mysql_async::prelude::Queryable;

use super::types::Reading;
use super::{connect, failed};
use crate::cells::Rows;
use crate::column::Column;
use crate::errors::{Doing, malformed};
use crate::options::ReadJob;
use crate::scan::{Batches, send};

/// The columns that a statement gives.
pub(crate) async fn describe(job: &ReadJob, statement: &str) -> Result<Vec<Column>> {
    let mut connection = connect(&job.connecting, Doing::Reading).await?;
    let fail = |error: mysql_async::Error| failed(&job.connecting.target, Doing::Reading, &error);
    let prepared = connection.prep(statement).await.map_err(fail)?;
    let reading = Reading::of(job);
    let columns = prepared.columns().iter().map(|column| reading.column(column)).collect();
    connection.disconnect().await.map_err(fail)?;
    columns
}

/// Runs a statement and hands its rows over.
pub(crate) async fn read(job: &ReadJob, statement: &str, mut rows: Rows, batches: &Batches) -> Result<()> {
    let mut connection = connect(&job.connecting, Doing::Reading).await?;
    let fail = |error: mysql_async::Error| failed(&job.connecting.target, Doing::Reading, &error);
    let reading = Reading::of(job);
    let columns = rows.columns().to_vec();
    let mut answer = connection.exec_iter(statement, ()).await.map_err(fail)?;
    while let Some(row) = answer.next().await.map_err(fail)? {
        for (at, column) in columns.iter().enumerate() {
            let value = row.as_ref(at).ok_or_else(|| malformed(&column.name))?;
            rows.push(at, reading.cell(column, value)?)?;
        }
        let batch = rows.end_row()?;
        if !send(batches, batch).await {
            return Ok(());
        }
    }
    send(batches, rows.finish()?).await;
    Ok(())
}
