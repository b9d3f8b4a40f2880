//! SCD type 2: the versions of changed keys are found anew from their events.
//!
//! Versions in force and versions that ended are in files of their own. A batch of events that are later than what came
//! before ends versions in force: files of others are neither read nor written again, however long the history is.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, lit};
use deltaworks_incremental::cdc::{END_AT, SEQUENCE, START_AT, Scd2, distinct_keys, keeps_values};
use deltaworks_spark::Result;

use super::parts::{in_parallel, partition_by_key};
use super::rewrite::{Compared, Copied, Stored, replacement, stored_rows, with_file, without_file};
use super::{ChangeCounts, Merge, Outcome, Rewrite, named, positions};

/// The versions and the ledger of some keys, each before and after.
struct Part {
    versions: Compared,
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
        let recorded = match &self.ledger.table {
            Some(table) => stored_rows(self.ctx, &self.held, table, &ledger_schema, &keys, None).await?,
            None => Stored { files: Vec::new(), rows: Vec::new() },
        };
        let needed = match recorded.rows.iter().any(keeps_values) {
            true => None,
            false => not_over_before(&events)?,
        };
        let stored = stored_rows(self.ctx, &self.held, self.table, &versions_schema, &keys, needed.clone()).await?;
        let parts = events.len();
        let versions = partition_by_key(stored.rows, &with_file(&versions_schema), &self.keys, parts).await?;
        let ledger = partition_by_key(recorded.rows, &with_file(&ledger_schema), &self.keys, parts).await?;
        let work = events.into_iter().zip(versions).zip(ledger).collect();
        let parts = in_parallel(work, move |((events, versions), ledger)| {
            let history = scd.apply(&events, &without_file(&versions)?, &without_file(&ledger)?)?;
            let (after, difference) = (history.versions, history.difference);
            let versions = Compared { before: versions, after, difference };
            Ok(Part { versions, ledger: (ledger, history.ledger), ended: history.ended })
        })
        .await?;
        let ended = parts.iter().map(|part| part.ended).sum();
        let (versions, ledger): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.versions, part.ledger)).unzip();
        let (replaced, rows, upserted) = replacement(Some(self.table), &stored.files, &versions).await?;
        let copied = match needed {
            Some(needed) => Copied::AllButAmong(keys.clone(), needed),
            None => Copied::AllBut(keys.clone()),
        };
        let apart = Some(self.columns.fields().len() + 1);
        let target = Rewrite { replaced, copied, rows, schema: versions_schema, apart };
        // A version is the same one as long as it starts where it did.
        let same: Vec<usize> = self.keys.iter().copied().chain([self.columns.fields().len()]).collect();
        let feed = self.feed(&target.replaced, &versions, &same)?;
        let ledger = Compared::parts(ledger).await?;
        let (replaced, rows, _) = replacement(self.ledger.table.as_ref(), &recorded.files, &ledger).await?;
        let ledger = Rewrite { replaced, copied: Copied::AllBut(keys), rows, schema: ledger_schema, apart: None };
        Ok(Outcome { target, feed, ledger: Some(ledger), counts: ChangeCounts { upserted, deleted: ended } })
    }
}

/// The condition that versions meet which are in force at the first of the events, or later; `None` for sequences of which files
/// have no statistics.
fn not_over_before(events: &[RecordBatch]) -> Result<Option<Expr>> {
    let mut first: Option<ScalarValue> = None;
    for events in events.iter().filter(|events| events.num_rows() > 0) {
        let sequences = named(events, SEQUENCE)?;
        let Some(least) = sort_to_indices(sequences, None, Some(1)).ok().filter(|least| !least.is_empty()) else {
            return Ok(None);
        };
        let least = ScalarValue::try_from_array(sequences, least.value(0) as usize)?;
        first = Some(match first {
            Some(first) if first <= least => first,
            _ => least,
        });
    }
    let first = match first {
        // Statistics keep milliseconds.
        Some(ScalarValue::TimestampMicrosecond(Some(first), zone)) => {
            ScalarValue::TimestampMicrosecond(Some(first.saturating_sub(1000)), zone)
        }
        Some(first) if first.data_type().is_integer() || first.data_type() == DataType::Date32 => first,
        Some(first @ ScalarValue::Utf8(Some(_))) => first,
        _ => return Ok(None),
    };
    let end = Expr::Column(Column::from_name(END_AT));
    Ok(Some(end.clone().is_null().or(end.gt_eq(lit(first)))))
}

fn with_versions(columns: &Schema, sequence: &DataType) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    fields.extend([START_AT, END_AT].map(|name| Arc::new(Field::new(name, sequence.clone(), true))));
    Arc::new(Schema::new(fields))
}
