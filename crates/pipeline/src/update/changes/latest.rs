//! SCD type 1: the rows of changed keys are replaced by the latest ones.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::kernels::boolean::{and, not};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use deltaworks_incremental::cdc::{
    Applied, OPERATION, Operation, SEQUENCE, Scd1, distinct_keys, latest_truncation, not_before,
};
use deltaworks_lake::DataFile;
use deltaworks_spark::{Error, Result};

use super::parts::{in_parallel, partition_by_key};
use super::rewrite::{
    Compared, Copied, Stored, files_named, files_of, replacement, rows_of_others, stored_rows, with_file, without_file,
};
use super::{ChangeCounts, Merge, Outcome, Rewrite, named};

/// What became of some keys.
struct Part {
    /// The keys that changed.
    keys: RecordBatch,
    rows: Rows,
    /// Rows that deletes took out.
    removed: u64,
    /// The files that hold a row of theirs.
    files: Vec<String>,
    /// The ledger's rows of the keys, with their file.
    ledger: RecordBatch,
    /// Those of them that are no more, and those that come.
    replaced: UInt32Array,
    recorded: RecordBatch,
}

/// The new rows of a part.
enum Rows {
    Known(RecordBatch),
    /// What they are made of, together with the rows that are stored.
    Of(RecordBatch, Applied),
}

impl Rows {
    fn complete(&self, scd: &Scd1, stored: &RecordBatch) -> Result<RecordBatch> {
        match self {
            Self::Known(rows) => Ok(rows.clone()),
            Self::Of(events, applied) => scd.rows(applied, events, stored),
        }
    }
}

/// What becomes of the table's rows.
struct Latest {
    /// The files that go.
    replaced: Vec<DataFile>,
    /// The rows that come.
    rows: Vec<RecordBatch>,
    /// What the change data feed shows.
    feed: Vec<RecordBatch>,
    counts: ChangeCounts,
}

/// What was known of the keys of a batch, with the files it was read from.
struct Known {
    /// The ledger's rows.
    ledger: Stored,
    /// The rows of the table: keys and sequence.
    stored: Stored,
}

/// A truncation that is new to the table.
struct Truncation {
    at: ArrayRef,
    /// The ledger's rows that it spares, and keys and sequences of the table's rows that it spares and the ledger does not have.
    spared: Vec<RecordBatch>,
    spared_rows: Vec<RecordBatch>,
}

impl Merge<'_> {
    /// Applies events to a table that holds the latest state of each key.
    pub(super) async fn latest(&self, events: Vec<RecordBatch>) -> Result<Outcome> {
        let scd = Scd1 { keys: self.keys.clone(), partial: self.partial.clone(), sequence: self.sequence_column()? };
        let sequence_type = events[0].column(self.columns.fields().len()).data_type().clone();
        let ledger_schema = scd.ledger_schema(&self.columns, &sequence_type);
        let rows_schema = self.sequenced(&scd, &sequence_type)?;
        let truncated = self.ledger.truncated(self.ctx).await?;
        let (events, truncated) = after_truncation(events, truncated)?;
        let truncation = match truncated {
            Some(at) => Some(self.spared(at, &ledger_schema, &rows_schema).await?),
            None => None,
        };
        let Known { ledger: recorded, stored } = match &truncation {
            Some(truncation) => Known {
                ledger: Stored { files: Vec::new(), rows: with_no_file(&truncation.spared)? },
                stored: Stored { files: Vec::new(), rows: truncation.spared_rows.clone() },
            },
            None => self.known(&events, &ledger_schema, &rows_schema).await?,
        };
        let leading: Vec<usize> = (0..self.keys.len()).collect();
        let ledger = partition_by_key(recorded.rows, &with_file(&ledger_schema), &leading, events.len()).await?;
        let rows = partition_by_key(stored.rows, &with_file(&rows_schema), &leading, events.len()).await?;
        let (worker, nothing) = (scd.clone(), RecordBatch::new_empty(Arc::clone(&self.columns)));
        let work = events.into_iter().zip(ledger).zip(rows).collect();
        let parts = in_parallel(work, move |((events, ledger), rows)| {
            let applied = worker.apply(&events, &without_file(&ledger)?, &without_file(&rows)?)?;
            Ok(Part {
                keys: worker.changed_keys(&applied, &events)?,
                files: files_of(&rows, applied.touched())?,
                removed: applied.removed(),
                replaced: applied.forgotten().map(Some).collect(),
                recorded: worker.ledger_rows(&applied, &events)?,
                ledger,
                rows: match applied.needs_stored() {
                    true => Rows::Of(events, applied),
                    false => Rows::Known(worker.rows(&applied, &events, &nothing)?),
                },
            })
        })
        .await?;
        let keys: Vec<_> = parts.iter().map(|part| &part.keys).collect();
        let keys = concat_batches(&Arc::new(self.columns.project(&self.keys)?), keys)?;
        let Latest { replaced, rows, feed, mut counts } =
            self.latest_rows(&scd, &parts, &keys, &stored.files, truncation.is_some()).await?;
        let copied = match &truncation {
            Some(truncation) => {
                let spared = live_keys(truncation, &keys)?;
                let gone = self.table.row_count_from_stats()?.unwrap_or(0).saturating_sub(spared.num_rows() as u64);
                counts.deleted += gone;
                Copied::Only(spared, keys)
            }
            None => Copied::AllBut(keys),
        };
        let target = Rewrite { replaced, copied, rows, schema: Arc::clone(&self.columns), apart: None };
        let ledger = self.ledger_rewrite(parts, &recorded.files, truncation, ledger_schema).await?;
        Ok(Outcome { target, feed, ledger: Some(ledger), counts })
    }

    /// The column that holds the sequence, by position.
    fn sequence_column(&self) -> Result<Option<usize>> {
        let Some(name) = &self.ledger.sequence else { return Ok(None) };
        let found = self.columns.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        found.map(Some).ok_or_else(|| {
            Error::data(format!("`{}` has no column `{name}` any more, which orders its changes", self.into.target))
                .with_help("Refresh the table fully.")
        })
    }

    /// Keys and sequence of the table's rows; a sequence that no column holds is read as NULL.
    fn sequenced(&self, scd: &Scd1, sequence_type: &DataType) -> Result<SchemaRef> {
        let name = scd.sequence.map_or(SEQUENCE, |column| self.columns.field(column).name());
        let mut fields = self.columns.project(&self.keys)?.fields().to_vec();
        fields.push(Arc::new(Field::new(name, sequence_type.clone(), true)));
        Ok(Arc::new(Schema::new(fields)))
    }

    /// What is known of the events' keys.
    async fn known(&self, events: &[RecordBatch], ledger: &SchemaRef, rows: &SchemaRef) -> Result<Known> {
        let nothing = || Stored { files: Vec::new(), rows: Vec::new() };
        if self.ledger.table.is_none() && self.table.files()?.is_empty() {
            return Ok(Known { ledger: nothing(), stored: nothing() });
        }
        let keys = events.iter().map(|events| distinct_keys(events, &self.keys)).collect::<Result<Vec<_>>>()?;
        let keys = concat_batches(&Arc::new(self.columns.project(&self.keys)?), &keys)?;
        let ledger = match &self.ledger.table {
            Some(table) => stored_rows(self.ctx, &self.held, table, ledger, &keys, None).await?,
            None => nothing(),
        };
        Ok(Known { ledger, stored: stored_rows(self.ctx, &self.held, self.table, rows, &keys, None).await? })
    }

    /// What a truncation spares.
    async fn spared(&self, at: ArrayRef, ledger: &SchemaRef, rows: &SchemaRef) -> Result<Truncation> {
        let later = |rows: &RecordBatch| not_before(rows.column(self.keys.len()), &at);
        let leading: Vec<usize> = (0..self.keys.len()).collect();
        let (mut spared, mut recorded) = (Vec::new(), Vec::new());
        for rows in self.ledger.rows(self.ctx, &self.held, ledger).await? {
            let keyed = filter_record_batch(&rows, &not(&is(&rows, Operation::Truncate)?)?)?;
            recorded.push(keyed.project(&leading)?);
            spared.push(filter_record_batch(&keyed, &later(&keyed)?)?);
        }
        let recorded = concat_batches(&Arc::new(self.columns.project(&self.keys)?), &recorded)?;
        let others = rows_of_others(self.ctx, &self.held, self.table, rows, &recorded).await?;
        let spared_rows = others.iter().map(|rows| Ok(filter_record_batch(rows, &later(rows)?)?));
        let spared_rows = spared_rows.collect::<Result<Vec<_>>>()?;
        Ok(Truncation { at, spared, spared_rows })
    }

    async fn latest_rows(
        &self,
        scd: &Scd1,
        parts: &[Part],
        keys: &RecordBatch,
        looked_at: &[DataFile],
        truncated: bool,
    ) -> Result<Latest> {
        let deleted: u64 = parts.iter().map(|part| part.removed).sum();
        let known = parts.iter().map(|part| match &part.rows {
            Rows::Known(rows) if !self.records_changes => Some(rows.clone()),
            _ => None,
        });
        if let Some(rows) = known.collect::<Option<Vec<_>>>() {
            let files = match truncated {
                true => self.table.files()?,
                false => files_named(self.table, looked_at, parts.iter().flat_map(|part| &part.files))?,
            };
            let rows: Vec<_> = rows.into_iter().filter(|rows| rows.num_rows() > 0).collect();
            let upserted = rows.iter().map(|rows| rows.num_rows() as u64).sum();
            return Ok(Latest { replaced: files, rows, feed: Vec::new(), counts: ChangeCounts { upserted, deleted } });
        }
        let stored = stored_rows(self.ctx, &self.held, self.table, &self.columns, keys, None).await?;
        let before = partition_by_key(stored.rows, &with_file(&self.columns), &self.keys, parts.len()).await?;
        let mut pairs = Vec::with_capacity(parts.len());
        for (part, before) in parts.iter().zip(before) {
            let after = part.rows.complete(scd, &without_file(&before)?)?;
            pairs.push((before, after));
        }
        let pairs = Compared::parts(pairs).await?;
        let (replaced, rows, upserted) = replacement(Some(self.table), &stored.files, &pairs).await?;
        let counts = ChangeCounts { upserted, deleted };
        if truncated {
            // All files go and others come: that tells what is gone, and what is there.
            let rows = pairs.into_iter().map(|pair| pair.after).filter(|after| after.num_rows() > 0).collect();
            return Ok(Latest { replaced: self.table.files()?, rows, feed: Vec::new(), counts });
        }
        let feed = self.feed(&replaced, &pairs, &self.keys)?;
        Ok(Latest { replaced, rows, feed, counts })
    }

    async fn ledger_rewrite(
        &self,
        parts: Vec<Part>,
        files: &[DataFile],
        truncation: Option<Truncation>,
        schema: SchemaRef,
    ) -> Result<Rewrite> {
        let Some(truncation) = truncation else {
            let own: Vec<usize> = (0..self.keys.len()).collect();
            let pairs =
                parts.into_iter().map(|part| Ok((take_record_batch(&part.ledger, &part.replaced)?, part.recorded)));
            let pairs = pairs.collect::<Result<Vec<_>>>()?;
            // Those that go without others that come are not copied either.
            let keys = pairs.iter().flat_map(|(gone, come)| [gone.project(&own), come.project(&own)]);
            let keys = keys.collect::<std::result::Result<Vec<_>, _>>()?;
            let keys = concat_batches(&Arc::new(self.columns.project(&self.keys)?), &keys)?;
            let pairs = Compared::parts(pairs).await?;
            let (replaced, rows, _) = replacement(self.ledger.table.as_ref(), files, &pairs).await?;
            return Ok(Rewrite { replaced, copied: Copied::AllBut(keys), rows, schema, apart: None });
        };
        // The ledger begins anew: what was spared and has not changed, what changed, the truncation.
        let mut rows = Vec::new();
        for part in parts {
            let changed: HashSet<u32> = part.replaced.values().iter().copied().collect();
            let stays: BooleanArray =
                (0_u32..).take(part.ledger.num_rows()).map(|row| Some(!changed.contains(&row))).collect();
            rows.push(filter_record_batch(&without_file(&part.ledger)?, &stays)?);
            rows.push(part.recorded);
        }
        rows.push(truncation_row(&schema, truncation.at)?);
        let replaced = self.ledger.table.as_ref().map_or(Ok(Vec::new()), |table| table.files())?;
        Ok(Rewrite { replaced, copied: Copied::Nothing, rows, schema, apart: None })
    }
}

/// The upserts and deletes that no truncation undoes, and the sequence of a truncation that was not `known`.
fn after_truncation(events: Vec<RecordBatch>, known: Option<ArrayRef>) -> Result<(Vec<RecordBatch>, Option<ArrayRef>)> {
    let mut latest = known.clone();
    let mut new = None;
    for batch in &events {
        let Some(at) = latest_truncation(batch)? else { continue };
        let is_later = match &latest {
            Some(latest) => !not_before(latest, &at)?.value(0),
            None => true,
        };
        if is_later {
            latest = Some(Arc::clone(&at));
            new = Some(at);
        }
    }
    let Some(latest) = latest else { return Ok((events, None)) };
    let events = events
        .into_iter()
        .map(|batch| {
            let keyed = not(&is(&batch, Operation::Truncate)?)?;
            let later = not_before(named(&batch, SEQUENCE)?, &latest)?;
            Ok(filter_record_batch(&batch, &and(&keyed, &later)?)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((events, new))
}

fn is(events: &RecordBatch, operation: Operation) -> Result<BooleanArray> {
    let operations = named(events, OPERATION)?.as_primitive::<Int32Type>();
    Ok(operations.iter().map(|code| Some(code == Some(operation.code()))).collect())
}

/// Rows that are not of a file any more.
fn with_no_file(rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    rows.iter()
        .map(|batch| {
            let schema = with_file(&batch.schema());
            let mut columns = batch.columns().to_vec();
            columns.push(new_null_array(schema.field(columns.len()).data_type(), batch.num_rows()));
            Ok(RecordBatch::try_new(schema, columns)?)
        })
        .collect()
}

/// The keys that a truncation spares and that have a row; in the columns of `like`.
fn live_keys(truncation: &Truncation, like: &RecordBatch) -> Result<RecordBatch> {
    let keys: Vec<usize> = (0..like.num_columns()).collect();
    let recorded = truncation
        .spared
        .iter()
        .map(|rows| Ok(filter_record_batch(rows, &is(rows, Operation::Upsert)?)?.project(&keys)?));
    let told = truncation.spared_rows.iter().map(|rows| Ok(rows.project(&keys)?));
    let live = recorded.chain(told).collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(&like.schema(), &live)?)
}

fn truncation_row(schema: &SchemaRef, at: ArrayRef) -> Result<RecordBatch> {
    let keys = schema.fields().len() - 2;
    let mut columns: Vec<ArrayRef> =
        schema.fields()[..keys].iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    columns.push(at);
    columns.push(Arc::new(Int32Array::from(vec![Operation::Truncate.code()])));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
