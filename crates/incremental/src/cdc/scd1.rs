//! SCD type 1: the latest state of each key.
//!
//! | Event | Applies if | Then |
//! |---|---|---|
//! | upsert at `s` | the key is new, or `s` is not before the event in force | the row of the key |
//! | delete at `s` | the key is new, or `s` is after the event in force | no row; the ledger keeps `s` |
//!
//! Between events of one batch with the same key and sequence an upsert wins over a delete, and of two upserts
//! the one with the greater values. Columns that an upsert leaves keep their value.
//!
//! Where a column of the table holds the sequence, rows tell it themselves: the ledger has a row of those keys only of which
//! that is not so, above all of keys that were deleted.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int32Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::Row;
use deltaworks_spark::error::Result;
use foldhash::fast::RandomState;

use super::compare::{Comparable, Prefixes, rows_of};
use super::known::{Known, KnownRows};
use super::left::Left;
use super::{Events, OPERATION, Operation, SEQUENCE, names, project};

/// How rows are kept.
#[derive(Debug, Clone)]
pub struct Scd1 {
    /// The key columns, by position.
    pub keys: Vec<usize>,
    /// For each column, whether NULL in an upsert keeps the value.
    pub partial: Vec<bool>,
    /// The column, by position, that holds the sequence of the event in force, unless the ledger has another.
    pub sequence: Option<usize>,
}

/// What became of the keys that some events changed. Keys ascend.
#[derive(Debug)]
pub struct Applied {
    changed: Vec<Changed>,
    /// Upserts in force, as rows of the events; those of one key are next to each other and ascend.
    upserts: Vec<u32>,
    left: Left,
    needs_stored: bool,
    removed: u64,
    /// The stored rows of the keys.
    touched: Vec<u32>,
}

/// One key.
#[derive(Debug)]
struct Changed {
    /// The event in force.
    last: u32,
    /// The ledger's row before, if it goes.
    forgotten: Option<u32>,
    /// The ledger has a new row.
    recorded: bool,
    /// Its upserts, as a range of [`Applied::upserts`]; empty if the row is gone.
    upserts: std::ops::Range<usize>,
    /// Nothing of the stored row remains.
    fresh: bool,
}

impl Scd1 {
    /// The columns of the ledger of a table with these columns.
    pub fn ledger_schema(&self, columns: &Schema, sequence: &DataType) -> SchemaRef {
        let mut fields: Vec<Field> =
            self.keys.iter().map(|key| columns.field(*key).clone().with_nullable(true)).collect();
        fields.push(Field::new(SEQUENCE, sequence.clone(), true));
        fields.push(Field::new(OPERATION, DataType::Int32, true));
        Arc::new(Schema::new(fields))
    }

    /// Applies upserts and deletes to what is known of their keys: the ledger's rows, and the `stored` ones of the table (the
    /// key columns and the sequence, NULL if the row does not tell it).
    ///
    /// # Errors
    /// `Internal` if a batch does not have the expected columns.
    pub fn apply(&self, events: &RecordBatch, ledger: &RecordBatch, stored: &RecordBatch) -> Result<Applied> {
        let parts = Events::new(events)?;
        let recorded = Events::new(ledger)?;
        let key_columns = project(parts.columns, &self.keys)?;
        let comparable = (Comparable::like(&key_columns)?, Comparable::like(std::slice::from_ref(parts.sequence))?);
        let (keys, sequences) =
            (comparable.0.rows(&key_columns)?, comparable.1.rows(std::slice::from_ref(parts.sequence))?);
        let known = KnownRows::new(&comparable, &recorded, stored)?;
        let known = Known::of(&known, &recorded);
        let (by_key, by_sequence) = (Prefixes::of(&keys), Prefixes::of(&sequences));
        let order = ordered(&parts, &by_key, &by_sequence)?;

        let left = Left::of(&parts, &names(events), &self.keys, &self.partial)?;
        let is_shown = self.is_shown(&parts, &left)?;
        let mut applied = Applied {
            changed: Vec::new(),
            upserts: Vec::new(),
            needs_stored: !left.is_empty(),
            left,
            removed: 0,
            touched: Vec::new(),
        };
        for group in order.chunk_by(|a, b| a.key == b.key && by_key.rest(a.row, b.row) == Ordering::Equal) {
            let before = known.before(&keys, group[0].row);
            let was_live = known.is_live(before);
            let mut latest = known.sequence(before).map(InForce::Known);
            let mut last = None;
            let (start, mut fresh) = (applied.upserts.len(), !was_live);
            for place in group {
                let compared = match latest {
                    Some(InForce::Known(latest)) => sequences.row(place.row as usize).cmp(&latest),
                    Some(InForce::New(latest)) => place.in_sequence(latest, &by_sequence),
                    None => Ordering::Greater,
                };
                if place.is_upsert {
                    if compared == Ordering::Less {
                        continue;
                    }
                    // Possibly what is stored already: a row that does not change is not written again.
                    applied.needs_stored |= was_live && last.is_none() && compared == Ordering::Equal;
                    applied.upserts.push(place.row);
                } else {
                    if compared != Ordering::Greater {
                        continue;
                    }
                    applied.upserts.truncate(start);
                    fresh = true;
                }
                latest = Some(InForce::New(place));
                last = Some(place.row);
            }
            let Some(last) = last else { continue };
            let upserts = start..applied.upserts.len();
            applied.removed += u64::from(was_live && upserts.is_empty());
            applied.touched.extend(known.stored_rows(before));
            let is_shown = is_shown.as_ref().is_some_and(|shown| shown.value(last as usize));
            let is_recorded = before.ledger.is_some_and(|row| {
                known.sequence(before) == Some(sequences.row(last as usize))
                    && recorded.operations.value(row as usize) == parts.operations.value(last as usize)
            });
            applied.changed.push(Changed {
                last,
                forgotten: before.ledger.filter(|_| is_shown || !is_recorded),
                recorded: !is_shown && !is_recorded,
                upserts,
                fresh,
            });
        }
        Ok(applied)
    }

    /// For each event, whether the row that it makes tells its sequence; `None` if no row does.
    fn is_shown(&self, events: &Events<'_>, left: &Left) -> Result<Option<BooleanArray>> {
        let Some(index) = self.sequence else { return Ok(None) };
        let column = left.set_values(index, &events.columns[index])?;
        if column.data_type() != events.sequence.data_type() {
            return Ok(None);
        }
        let upserts: BooleanArray = (0..column.len()).map(|row| Some(events.is(row, Operation::Upsert))).collect();
        Ok(Some(and(&not_distinct(&column, events.sequence)?, &upserts)?))
    }

    /// The rows of the changed keys, in the columns of the table. `stored` are those it has now: needed if
    /// [`Applied::needs_stored`], else ignored.
    ///
    /// # Errors
    /// `Internal` if a batch does not have the expected columns.
    pub fn rows(&self, applied: &Applied, events: &RecordBatch, stored: &RecordBatch) -> Result<RecordBatch> {
        let parts = Events::new(events)?;
        let live: Vec<&Changed> = applied.changed.iter().filter(|key| !key.upserts.is_empty()).collect();
        let last: UInt32Array = live.iter().map(|key| key.last).collect();
        let positions = match applied.left.is_empty() {
            true => Vec::new(),
            false => self.stored_positions(&parts, &live, stored)?,
        };
        let mut columns = Vec::with_capacity(parts.columns.len());
        for (index, column) in parts.columns.iter().enumerate() {
            let Some(left) = applied.left.by_row(index) else {
                columns.push(take(column, &last, None)?);
                continue;
            };
            let nulls = new_null_array(column.data_type(), 1);
            let chosen: Vec<(usize, usize)> = live
                .iter()
                .zip(&positions)
                .map(|(key, position)| {
                    let set = applied.upserts[key.upserts.clone()].iter().rev().find(|event| !left[**event as usize]);
                    match (set, position) {
                        (Some(event), _) => (0, *event as usize),
                        (None, Some(row)) => (1, *row),
                        (None, None) => (2, 0),
                    }
                })
                .collect();
            columns.push(interleave(&[column.as_ref(), stored.column(index).as_ref(), nulls.as_ref()], &chosen)?);
        }
        let fields = events.schema().fields()[..columns.len()].to_vec();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// For each key, the stored row that its upserts complete.
    fn stored_positions(
        &self,
        events: &Events<'_>,
        live: &[&Changed],
        stored: &RecordBatch,
    ) -> Result<Vec<Option<usize>>> {
        let key_columns = project(events.columns, &self.keys)?;
        let comparable = Comparable::like(&key_columns)?;
        let keys = comparable.rows(&key_columns)?;
        let stored_keys = comparable.rows(&project(stored.columns(), &self.keys)?)?;
        let positions: HashMap<_, usize, RandomState> = stored_keys.iter().zip(0..).collect();
        Ok(live
            .iter()
            .map(|key| match key.fresh {
                true => None,
                false => positions.get(&keys.row(key.last as usize)).copied(),
            })
            .collect())
    }

    /// The changed keys.
    ///
    /// # Errors
    /// `Internal` if the batch does not have the expected columns.
    pub fn changed_keys(&self, applied: &Applied, events: &RecordBatch) -> Result<RecordBatch> {
        let last: UInt32Array = applied.changed.iter().map(|key| key.last).collect();
        let columns = project(events.columns(), &self.keys)?;
        let columns = columns.iter().map(|column| Ok(take(column, &last, None)?)).collect::<Result<Vec<_>>>()?;
        let schema = events.schema().project(&self.keys)?;
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    /// The ledger's new rows. Those that they replace, or that are not needed any more, are [`Applied::forgotten`].
    ///
    /// # Errors
    /// `Internal` if the batch does not have the expected columns.
    pub fn ledger_rows(&self, applied: &Applied, events: &RecordBatch) -> Result<RecordBatch> {
        let parts = Events::new(events)?;
        let last: UInt32Array = applied.changed.iter().filter(|key| key.recorded).map(|key| key.last).collect();
        let keys = project(parts.columns, &self.keys)?;
        let mut columns = keys.iter().map(|column| Ok(take(column, &last, None)?)).collect::<Result<Vec<_>>>()?;
        columns.push(take(parts.sequence, &last, None)?);
        let operations: Int32Array = last.values().iter().map(|row| parts.operations.value(*row as usize)).collect();
        columns.push(Arc::new(operations));
        let schema = Schema::new(events.schema().fields()[..parts.columns.len()].to_vec());
        Ok(RecordBatch::try_new(self.ledger_schema(&schema, parts.sequence.data_type()), columns)?)
    }
}

impl Applied {
    /// Whether the new rows depend on those that the table has now.
    pub fn needs_stored(&self) -> bool {
        self.needs_stored
    }

    /// The rows of the ledger that go.
    pub fn forgotten(&self) -> impl Iterator<Item = u32> + '_ {
        self.changed.iter().filter_map(|key| key.forgotten)
    }

    /// The stored rows of the keys that changed.
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Whether no event changed anything.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Rows that deletes took out.
    pub fn removed(&self) -> u64 {
        self.removed
    }
}

/// Where an event stands among the others of its batch.
#[derive(Clone, Copy)]
struct Place {
    /// The first bytes of its key and of its sequence.
    key: u64,
    sequence: u64,
    row: u32,
    is_upsert: bool,
}

impl Place {
    /// Compares the sequences of two events.
    fn in_sequence(&self, other: &Self, sequences: &Prefixes<'_>) -> Ordering {
        self.sequence.cmp(&other.sequence).then_with(|| sequences.rest(self.row, other.row))
    }
}

/// The event of a key that counts so far.
#[derive(Clone, Copy)]
enum InForce<'a> {
    /// One that the ledger has; its sequence.
    Known(Row<'a>),
    New(&'a Place),
}

/// The events by key, then sequence, deletes before upserts, then values.
fn ordered(events: &Events<'_>, keys: &Prefixes<'_>, sequences: &Prefixes<'_>) -> Result<Vec<Place>> {
    let count = u32::try_from(events.operations.len()).unwrap_or(u32::MAX);
    let place = |row| {
        let is_upsert = events.is(row as usize, Operation::Upsert);
        Place { key: keys.at(row), sequence: sequences.at(row), row, is_upsert }
    };
    let compared = |a: &Place, b: &Place| -> Ordering {
        (a.key.cmp(&b.key))
            .then_with(|| keys.rest(a.row, b.row))
            .then_with(|| a.in_sequence(b, sequences))
            .then_with(|| a.is_upsert.cmp(&b.is_upsert))
    };
    let mut order: Vec<Place> = (0..count).map(place).collect();
    order.sort_unstable_by(|a, b| compared(a, b).then(a.row.cmp(&b.row)));
    let mut tied: Vec<std::ops::Range<usize>> = Vec::new();
    let mut start = 0;
    for end in 1..=order.len() {
        if end == order.len() || compared(&order[start], &order[end]) != Ordering::Equal {
            if end - start > 1 {
                tied.push(start..end);
            }
            start = end;
        }
    }
    let wanted: UInt32Array = tied.iter().flat_map(|range| &order[range.clone()]).map(|place| place.row).collect();
    let values = events.columns.iter().map(|column| Ok(take(column, &wanted, None)?)).collect::<Result<Vec<_>>>()?;
    let values = rows_of(&values)?;
    let mut start = 0;
    for range in tied {
        let mut positions: Vec<usize> = (start..start + range.len()).collect();
        start += range.len();
        positions.sort_by(|a, b| values.row(*a).cmp(&values.row(*b)));
        for (place, position) in range.zip(positions) {
            order[place].row = wanted.value(position);
        }
    }
    Ok(order)
}
