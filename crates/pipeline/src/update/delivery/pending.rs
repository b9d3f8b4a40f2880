//! Rows that wait to be delivered: files of Arrow's stream format, one per partition, in a folder per attempt.
//!
//! Unlike data files of tables they take any type and any name of a column. A folder that no progress file promises is the
//! leftover of an attempt that failed.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use deltaworks_spark::{Error, Result};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::partitions::{WAITING, take_partitions};

/// The file in a folder whose rows a function has been called with, and has raised.
const REFUSED: &str = "refused";

/// Runs `plan` and keeps its rows in a new folder, durably. Gives rows and bytes.
///
/// # Errors
/// Those of the plan and of the disk.
pub async fn write(
    plan: &Arc<dyn ExecutionPlan>,
    ctx: &SessionContext,
    folder: &Path,
    cancel: &CancellationToken,
) -> Result<(u64, u64)> {
    tokio::fs::create_dir_all(folder).await?;
    let (place, schema) = (folder.to_owned(), plan.schema());
    let written = take_partitions(plan, ctx, cancel, move |partition, rows| {
        write_file(&place.join(format!("{partition}.arrow")), &schema, rows)
    });
    let written = written.await?;
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || File::open(folder)?.sync_all())
        .await
        .map_err(|error| Error::internal(error.to_string()))??;
    Ok((written.iter().map(|(rows, _)| rows).sum(), written.iter().map(|(_, bytes)| bytes).sum()))
}

fn write_file(path: &Path, schema: &SchemaRef, mut rows: Receiver<RecordBatch>) -> Result<(u64, u64)> {
    let mut writer = StreamWriter::try_new(BufWriter::new(File::create(path)?), schema)?;
    let mut count = 0;
    while let Some(batch) = rows.blocking_recv() {
        writer.write(&batch)?;
        count += batch.num_rows() as u64;
    }
    writer.finish()?;
    let mut file = writer.into_inner()?;
    file.flush()?;
    let file = file.into_inner().map_err(|error| Error::from(error.into_error()))?;
    file.sync_all()?;
    Ok((count, file.metadata()?.len()))
}

/// Notes that a function has raised.
pub async fn note_refusal(folder: &Path) -> Result<()> {
    Ok(tokio::fs::write(folder.join(REFUSED), "").await?)
}

/// Whether a function has raised.
pub fn is_refused(folder: &Path) -> bool {
    folder.join(REFUSED).exists()
}

/// The rows in a folder, as a table that is read from its files each time.
///
/// # Errors
/// `Data` if there is no file.
pub fn table(folder: &Path) -> Result<Arc<dyn TableProvider>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "arrow"));
    paths.sort();
    let first = paths.first().ok_or_else(|| Error::data(format!("`{}` has no files", folder.display())))?;
    let schema = StreamReader::try_new(BufReader::new(File::open(first)?), None)?.schema();
    let partition = |path: PathBuf| -> Arc<dyn PartitionStream> {
        Arc::new(PendingPartition { path, schema: Arc::clone(&schema) })
    };
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(&schema), paths.into_iter().map(partition).collect())?))
}

/// The rows of one file.
#[derive(Debug)]
struct PendingPartition {
    path: PathBuf,
    schema: SchemaRef,
}

impl PartitionStream for PendingPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), WAITING);
        let (path, batches) = (self.path.clone(), stream.tx());
        stream.spawn_blocking(move || {
            for batch in open(&path)? {
                if batches.blocking_send(Ok(batch?)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

fn open(path: &Path) -> DataFusionResult<StreamReader<BufReader<File>>> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => DataFusionError::from(
            Error::user("the rows of a batch are gone: they are there as long as the function of their sink runs")
                .with_help("Keep what you need in a table of your own."),
        ),
        _ => error.into(),
    })?;
    Ok(StreamReader::try_new(BufReader::new(file), None)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::DataFrame;

    use super::*;

    async fn plan(ctx: &SessionContext, query: &str) -> Arc<dyn ExecutionPlan> {
        ctx.sql(query).await.unwrap().create_physical_plan().await.unwrap()
    }

    async fn rows(frame: DataFrame) -> String {
        pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
    }

    #[tokio::test]
    async fn rows_of_any_name_and_type_can_be_read_more_than_once_and_are_gone_in_the_end() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pending/attempt");
        let ctx = SessionContext::new();
        let cancel = CancellationToken::new();
        let query = "SELECT 7 AS \"a (b)\", INTERVAL '1' DAY AS i, NULL AS nothing UNION ALL SELECT 8, NULL, NULL";
        let (count, bytes) = write(&plan(&ctx, query).await, &ctx, &folder, &cancel).await.unwrap();
        assert_eq!((count, bytes > 0), (2, true));
        assert!(!is_refused(&folder));
        note_refusal(&folder).await.unwrap();
        assert!(is_refused(&folder));
        let table = table(&folder).unwrap();
        let frame = ctx.read_table(Arc::clone(&table)).unwrap().sort_by(vec![datafusion::prelude::ident("a (b)")]);
        insta::assert_snapshot!(rows(frame.unwrap()).await, @r"
        +-------+--------+---------+
        | a (b) | i      | nothing |
        +-------+--------+---------+
        | 7     | 1 days |         |
        | 8     |        |         |
        +-------+--------+---------+
        ");
        assert_eq!(ctx.read_table(Arc::clone(&table)).unwrap().count().await.unwrap(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
        let gone = ctx.read_table(table).unwrap().count().await.unwrap_err();
        assert!(gone.to_string().contains("the rows of a batch are gone"), "{gone}");
    }
}
