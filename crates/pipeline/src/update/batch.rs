//! One batch of a flow, from bound plan to commit: the protocol that makes every row count exactly once.
//!
//! 1. The plan runs; data files are written. No reader sees them.
//!    Expectations on the dataset as a whole are evaluated.
//! 2. State and ledgers are committed to their own tables, on top of the versions the last batch named.
//! 3. The progress file is written. It names what the batch read up to and the new versions.
//! 4. One commit to the target adds the data files and the flow's transaction. From here on the batch counts.
//!
//! The rows for a sink that is no table are no data files: they are sent in step 1, or promised in step 3 and handed over
//! before step 4, whose commit then has no more than the transaction (see `delivery`).
//!
//! A crash before step 4 leaves files and versions that nobody refers to; the next attempt starts from
//! the last batch that the target's transaction names. Each step has a failpoint of its name.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Lake, Replacement, StateTable, Table, TableDefinition};
use deltaworks_spark::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::changes::{ChangeCounts, MergeInto};
use super::checkpoint::{Checkpoint, Progress};
use super::delivery::Delivery;
use super::target;
use super::verdict::DatasetConditions;
use super::write::{Written, write_plan};
use crate::expectation::metrics::ExpectationCount;
use crate::identity::Numbering;

/// What a batch does to its target.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Adds rows, with the numbers of identity columns if the table has any.
    Append(Option<NumberRows>),
    /// Takes the place of all rows, and of the table's definition.
    Replace(Box<TableDefinition>),
    /// Changes rows: the plan's rows are events.
    Merge(Box<MergeInto>),
    /// Leaves the table as it is, which only counts the batch: the rows go elsewhere.
    Deliver(Box<Delivery>),
}

/// How the batches of a table with identity columns take turns: each goes on where the last stopped.
#[derive(Debug, Clone)]
pub struct NumberRows {
    /// Whose turn it is.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// The pipeline, whose transactions in the target count the numbers.
    pub pipeline_id: String,
}

/// A batch that is ready to run.
pub struct Batch<'a> {
    /// The session of the flow.
    pub ctx: &'a SessionContext,
    /// The plan, bound to slices and snapshots.
    pub plan: LogicalPlan,
    /// The flow's checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// What the batch does to the target.
    pub effect: Effect,
    /// Stops the batch before it commits.
    pub cancel: &'a CancellationToken,
}

/// The numbers of a committed batch.
#[derive(Debug, Clone)]
pub struct BatchReport {
    /// Rows of the slices of a stream; of any other query, those that its scans read.
    pub input_rows: u64,
    /// Rows written.
    pub output_rows: u64,
    /// Bytes written.
    pub output_bytes: u64,
    /// Rows changed, if the batch changes rows.
    pub changes: Option<ChangeCounts>,
    /// Rows left out because they came after the watermark.
    pub late_rows: u64,
    /// Rows left out by drop expectations.
    pub dropped_rows: u64,
    /// The counts of every expectation met on the way, views' included.
    pub expectations: Vec<ExpectationCount>,
    /// Milliseconds from start to commit.
    pub duration_ms: u64,
    /// The version of the target that the batch made.
    pub version: u64,
}

impl Batch<'_> {
    /// Runs the batch and commits it. `finish` is called when the data files are written: it commits
    /// state and ledgers, and says what the progress file must hold.
    ///
    /// # Errors
    /// Whatever happens before the commit; the target is as it was.
    pub async fn run<F>(self, table: &mut Table, finish: F) -> Result<BatchReport>
    where
        F: AsyncFnOnce() -> Result<Progress>,
    {
        let started = Instant::now();
        let expectations = crate::expectation::metrics_of(&self.plan)?;
        expectations.iter().for_each(|metrics| metrics.reset());
        let conditions = DatasetConditions::of(&self.plan)?;
        // One flow at a time merges into a table or numbers its rows: each must see what the others did.
        let turn = match &self.effect {
            Effect::Merge(merge) => Some(&merge.merging),
            Effect::Append(Some(number)) => Some(&number.turn),
            _ => None,
        };
        let _turn = match turn {
            Some(turn) => {
                let turn = turn.lock().await;
                table.refresh().await?;
                Some(turn)
            }
            None => None,
        };
        let (plan, numbering) = match &self.effect {
            Effect::Append(Some(number)) => {
                let (plan, numbering) = Numbering::bind(self.plan, table, &number.pipeline_id).await?;
                (plan, Some(numbering))
            }
            _ => (self.plan, None),
        };
        let definition = match &self.effect {
            Effect::Append(_) | Effect::Merge(_) | Effect::Deliver(_) => table.definition()?,
            Effect::Replace(definition) => definition.as_ref().clone(),
        };
        let options = target::writer_options(definition, self.ctx);
        let mut promise = None;
        let (written, merged) = match &self.effect {
            Effect::Merge(merge) => {
                let merged = merge.merge(self.ctx, plan, table, &options, self.cancel).await?;
                (merged.written, Some((merged.replaced, merged.ledger, merged.counts)))
            }
            Effect::Deliver(delivery) => {
                let (written, promised) = delivery.write(self.ctx, plan, self.checkpoint, self.cancel).await?;
                promise = promised;
                (written, None)
            }
            _ => (write_plan(self.ctx, plan, table, &options, self.cancel).await?, None),
        };
        reached("batch.files_written")?;
        let on_target = conditions.depend_on_target(&self.effect);
        if on_target {
            table.refresh().await?;
        }
        let mut of_datasets = conditions.evaluate(self.ctx, table, &self.effect).await?;
        let mut progress = finish().await?;
        progress.promise = promise;
        let (replaced, ledger, changes) = match merged {
            Some((replaced, ledger, counts)) => (replaced, ledger, Some(counts)),
            None => (Vec::new(), None, None),
        };
        let ledger = match ledger {
            Some(ledger) => Some(ledger.commit(self.checkpoint.app_id(), progress.batch).await?),
            None => None,
        };
        reached("batch.state_committed")?;
        self.checkpoint.write(&progress).await?;
        reached("batch.progress_written")?;
        if self.cancel.is_cancelled() {
            return Err(Error::new(deltaworks_spark::Kind::Cancelled, "the update was cancelled"));
        }
        if let Effect::Deliver(delivery) = &self.effect {
            delivery.deliver(self.checkpoint, &progress, false, self.cancel).await?;
            reached("batch.delivered")?;
        }
        let Written { files, input_rows } = written;
        let (output_rows, output_bytes) = (files.rows, files.bytes);
        let commit = match &self.effect {
            Effect::Append(_) | Effect::Deliver(_) => Commit::append(files),
            Effect::Replace(definition) => target::replace(files, definition),
            Effect::Merge(_) => Commit::merge(table, files, &replaced)?,
        };
        let mut commit = commit.transaction(self.checkpoint.app_id(), progress.batch);
        for (app_id, version) in ledger.into_iter().chain(numbering.into_iter().flat_map(Numbering::transactions)) {
            commit = commit.transaction(app_id, version);
        }
        let version = if on_target {
            loop {
                match commit.clone().on_this_version().commit(table).await {
                    // Another flow added rows since the conditions were evaluated: they may not hold any more.
                    Err(error) if error.condition() == Some("DELTA_CONCURRENT_WRITE") => {
                        table.refresh().await?;
                        of_datasets = conditions.evaluate(self.ctx, table, &self.effect).await?;
                    }
                    committed => break committed?,
                }
            }
        } else {
            commit.commit(table).await?
        };
        reached("batch.committed")?;
        if let Effect::Deliver(delivery) = &self.effect {
            delivery.clean_up(self.checkpoint).await;
        }
        self.checkpoint.forget_before(progress.batch).await;
        Ok(BatchReport {
            input_rows,
            output_rows,
            output_bytes,
            changes,
            late_rows: 0,
            dropped_rows: expectations.iter().map(|metrics| metrics.dropped()).sum(),
            expectations: expectations.iter().flat_map(|metrics| metrics.counts()).chain(of_datasets).collect(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            version,
        })
    }
}

/// A table of a checkpoint (operator state, a source's ledger) and the version that the last batch named.
#[derive(Debug)]
pub struct Remembered {
    table: StateTable,
    version: Option<u64>,
}

impl Remembered {
    /// The table in `folder`, as of `version`.
    pub async fn open(lake: &Lake, folder: &std::path::Path, version: Option<u64>) -> Result<Self> {
        let location = crate::storage::directory_url(folder)?;
        Ok(Self { table: lake.state_table(&location).await?, version })
    }

    /// The version of the last batch; `None` before anything was remembered.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Everything remembered so far.
    pub async fn provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.version {
            Some(version) => Ok(Some(self.table.provider_at(version).await?)),
            None => Ok(None),
        }
    }

    /// The table as of the last batch.
    pub async fn open_table(&self) -> Result<Option<Table>> {
        match self.version {
            Some(version) => Ok(Some(self.table.open_at(version).await?)),
            None => Ok(None),
        }
    }

    /// Lets files go and rows come on top of the last batch's version; rows of a crashed attempt go too.
    pub async fn replace(&mut self, replacement: Replacement, app_id: &str, batch: i64) -> Result<()> {
        self.version = Some(self.table.replace_from(self.version, replacement, app_id, batch).await?);
        Ok(())
    }

    /// Adds rows on top of the last batch's version; rows of a crashed attempt are removed by the same commit.
    pub async fn append(&mut self, rows: Vec<RecordBatch>, app_id: &str, batch: i64) -> Result<()> {
        let Some(schema) = rows.iter().find(|rows| rows.num_rows() > 0).map(RecordBatch::schema) else { return Ok(()) };
        self.version = Some(self.table.append_from(self.version, &schema, rows, app_id, batch).await?);
        Ok(())
    }
}

/// A named step of the protocol: tests make it fail or kill the process here.
fn reached(step: &'static str) -> Result<()> {
    tracing::trace!(step, "batch");
    fail::fail_point!(step, |_| Err(Error::internal(format!("failpoint {step}"))));
    Ok(())
}
