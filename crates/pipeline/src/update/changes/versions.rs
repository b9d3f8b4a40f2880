//! SCD type 2: the versions of changed keys are found anew from all of their events.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltaworks_incremental::cdc::{END_AT, START_AT, Scd2, distinct_keys, partition_by_key};
use deltaworks_lake::DataFile;
use deltaworks_spark::Result;

use super::rewrite::{Copied, Stored, replacement, stored_rows, with_file, without_file};
use super::{ChangeCounts, Merge, Outcome, Rewrite, in_parallel, positions};

/// The versions and the ledger of some keys, each before and after.
struct Part {
    versions: (RecordBatch, RecordBatch),
    ledger: (RecordBatch, RecordBatch),
    ended: u64,
}

impl Merge<'_> {
    /// Puts events into a table that holds every version of each key.
    pub(super) async fn versions(&self, events: Vec<RecordBatch>) -> Result<Outcome> {
        let scd = Scd2 {
            keys: self.keys.clone(),
            partial: self.partial.clone(),
            tracked: positions(&self.columns, &self.into.changes.tracked)?,
        };
        let sequence_type = events[0].column(self.columns.fields().len()).data_type().clone();
        let ledger_schema = scd.ledger_schema(&self.columns, &sequence_type);
        let versions_schema = with_versions(&self.columns, &sequence_type);
        let keys = match self.table.files()?.is_empty() && self.ledger.table.is_none() {
            true => Vec::new(),
            false => events.iter().map(|events| distinct_keys(events, &self.keys)).collect::<Result<Vec<_>>>()?,
        };
        let keys = concat_batches(&Arc::new(self.columns.project(&self.keys)?), &keys)?;
        let stored = stored_rows(self.ctx, self.table, &versions_schema, &keys).await?;
        let recorded = match &self.ledger.table {
            Some(table) => stored_rows(self.ctx, table, &ledger_schema, &keys).await?,
            None => Stored { files: Vec::new(), rows: Vec::new() },
        };
        let versions = partition_by_key(&stored.rows, &with_file(&versions_schema), &self.keys, events.len())?;
        let ledger = partition_by_key(&recorded.rows, &with_file(&ledger_schema), &self.keys, events.len())?;
        let work = events.into_iter().zip(versions).zip(ledger).collect();
        let parts = in_parallel(work, move |((events, versions), ledger)| {
            let history = scd.apply(&events, &without_file(&versions)?, &without_file(&ledger)?)?;
            Ok(Part { versions: (versions, history.versions), ledger: (ledger, history.ledger), ended: history.ended })
        })
        .await?;
        let ended = parts.iter().map(|part| part.ended).sum();
        let (versions, ledger): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.versions, part.ledger)).unzip();
        let (target, upserted) = rewrite(Some(self.table), &stored.files, &versions, &keys, versions_schema)?;
        // A version is the same one as long as it starts where it did.
        let same: Vec<usize> = self.keys.iter().copied().chain([self.columns.fields().len()]).collect();
        let feed = self.feed(&target.replaced, &versions, &same)?;
        let (ledger, _) = rewrite(self.ledger.table.as_ref(), &recorded.files, &ledger, &keys, ledger_schema)?;
        Ok(Outcome { target, feed, ledger: Some(ledger), counts: ChangeCounts { upserted, deleted: ended } })
    }
}

fn rewrite(
    table: Option<&deltaworks_lake::Table>,
    files: &[DataFile],
    parts: &[(RecordBatch, RecordBatch)],
    keys: &RecordBatch,
    schema: SchemaRef,
) -> Result<(Rewrite, u64)> {
    let (replaced, rows, added) = replacement(table, files, parts)?;
    Ok((Rewrite { replaced, copied: Copied::AllBut(keys.clone()), rows, schema }, added))
}

fn with_versions(columns: &Schema, sequence: &DataType) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    fields.extend([START_AT, END_AT].map(|name| Arc::new(Field::new(name, sequence.clone(), true))));
    Arc::new(Schema::new(fields))
}
