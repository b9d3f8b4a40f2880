//! SCD type 2: every version of each key.
//!
//! A version holds from [`START_AT`] up to [`END_AT`]. All events of a key that were ever seen can be read off
//! its versions and its ledger, so that a late event finds its place among them:
//!
//! - a version without ledger rows is one upsert, at its start;
//! - a version of several upserts, whose tracked columns are equal, has all of them in the ledger; its values are
//!   those of the last;
//! - a version that ends where no other starts was ended by a delete;
//! - a delete that ended nothing is in the ledger.
//!
//! With the new events put among them they are walked once, in the order of their sequence. Of equal sequence, a
//! delete wins over upserts, and an upsert that was there over one that arrives.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{Row, Rows};
use deltaworks_spark::error::{Error, Result};

use super::compare::rows_of;
use super::{END_AT, Events, Operation, START_AT, event_schema, project};

/// How versions are kept.
#[derive(Debug, Clone)]
pub struct Scd2 {
    /// The key columns, by position.
    pub keys: Vec<usize>,
    /// For each column, whether NULL in an upsert keeps the value.
    pub partial: Vec<bool>,
    /// The columns whose change opens a new version, by position.
    pub tracked: Vec<usize>,
}

/// The versions and the ledger of some keys.
#[derive(Debug)]
pub struct History {
    /// The columns of the table, then start and end.
    pub versions: RecordBatch,
    /// Events, of the columns of the table.
    pub ledger: RecordBatch,
    /// Versions that the new deletes ended.
    pub ended: u64,
}

/// Where an event is known from; of equal events the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Ledger,
    Version,
    /// The end of a version: a delete, unless another version starts there.
    End,
    New,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    /// The row with the values.
    row: u32,
    /// The row with the sequence.
    sequence: u32,
    operation: Operation,
    origin: Origin,
}

/// All events of some keys, over columns that all of them share.
struct Timeline {
    columns: Vec<ArrayRef>,
    sequences: ArrayRef,
    keys: Rows,
    order: Rows,
    events: Vec<Event>,
}

/// The values in force: for each column the row it is taken from.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    Of(u32),
    Filled(Vec<u32>),
}

impl Values {
    fn row(&self, column: usize) -> u32 {
        match self {
            Self::Of(row) => *row,
            Self::Filled(rows) => rows[column],
        }
    }
}

/// A version as it is found.
struct Version {
    start: u32,
    end: Option<u32>,
    values: Values,
    events: Vec<(u32, Values)>,
}

/// What the walk over a timeline finds.
#[derive(Default)]
struct Found {
    versions: Vec<Version>,
    /// Deletes that ended nothing: rows of key and sequence.
    tombstones: Vec<(u32, u32)>,
    ended: u64,
}

impl Scd2 {
    /// The columns of the ledger of a table with these columns, start and end left out.
    pub fn ledger_schema(&self, columns: &Schema, sequence: &DataType) -> SchemaRef {
        let nullable: Vec<Field> =
            columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        event_schema(&Schema::new(nullable), sequence)
    }

    /// Puts upserts and deletes among the `versions` and the `ledger` of their keys; gives those as they are then.
    ///
    /// # Errors
    /// `Internal` if a batch does not have the expected columns.
    pub fn apply(&self, events: &RecordBatch, versions: &RecordBatch, ledger: &RecordBatch) -> Result<History> {
        let timeline = self.timeline(events, versions, ledger)?;
        let tracked = match self.partial.contains(&true) {
            false => vec![rows_of(&project(&timeline.columns, &self.tracked)?)?],
            true => self
                .tracked
                .iter()
                .map(|column| rows_of(&timeline.columns[*column..=*column]))
                .collect::<Result<Vec<_>>>()?,
        };
        let mut found = Found::default();
        let same_key = |a: &Event, b: &Event| timeline.keys.row(a.row as usize) == timeline.keys.row(b.row as usize);
        for of_key in timeline.events.chunk_by(same_key) {
            self.walk(of_key, &timeline, &tracked, &mut found);
        }
        self.assemble(&found, &timeline, events, versions)
    }

    fn timeline(&self, events: &RecordBatch, versions: &RecordBatch, ledger: &RecordBatch) -> Result<Timeline> {
        let (new, known) = (Events::new(events)?, Events::new(ledger)?);
        let [stored @ .., starts, ends] = versions.columns() else {
            return Err(Error::internal("versions have no start and end"));
        };
        let columns = new
            .columns
            .iter()
            .zip(stored)
            .zip(known.columns)
            .map(|((new, stored), known)| Ok(concat(&[new, stored, known])?))
            .collect::<Result<Vec<_>>>()?;
        let sequences = concat(&[new.sequence, starts, known.sequence, ends])?;
        let keys = rows_of(&project(&columns, &self.keys)?)?;
        let order = rows_of(std::slice::from_ref(&sequences))?;
        let rows = |count: usize| 0..u32::try_from(count).unwrap_or(u32::MAX);
        let (offset, ledger_offset) = (events.num_rows() as u32, (events.num_rows() + versions.num_rows()) as u32);
        let ends_offset = ledger_offset + ledger.num_rows() as u32;
        let operation = |parts: &Events<'_>, row: u32| match parts.is(row as usize, Operation::Delete) {
            true => Operation::Delete,
            false => Operation::Upsert,
        };
        let event = |row, sequence, operation, origin| Event { row, sequence, operation, origin };
        let mut all: Vec<Event> =
            rows(events.num_rows()).map(|row| event(row, row, operation(&new, row), Origin::New)).collect();
        for row in rows(versions.num_rows()) {
            let at = offset + row;
            all.push(event(at, at, Operation::Upsert, Origin::Version));
            if ends.is_valid(row as usize) {
                all.push(event(at, ends_offset + row, Operation::Delete, Origin::End));
            }
        }
        for row in rows(ledger.num_rows()) {
            let at = ledger_offset + row;
            all.push(event(at, at, operation(&known, row), Origin::Ledger));
        }
        all.sort_unstable_by(|a, b| {
            keys.row(a.row as usize)
                .cmp(&keys.row(b.row as usize))
                .then_with(|| order.row(a.sequence as usize).cmp(&order.row(b.sequence as usize)))
                .then_with(|| (a.origin, a.row).cmp(&(b.origin, b.row)))
        });
        Ok(Timeline { columns, sequences, keys, order, events: all })
    }

    fn walk(&self, events: &[Event], timeline: &Timeline, tracked: &[Rows], found: &mut Found) {
        let mut open: Option<Version> = None;
        let same = |a: &Event, b: &Event| timeline.sequence(a) == timeline.sequence(b);
        for tied in events.chunk_by(same) {
            let event = in_force(tied);
            if event.operation == Operation::Delete {
                match open.take() {
                    Some(version) => {
                        found.ended += u64::from(event.origin == Origin::New);
                        found.versions.push(Version { end: Some(event.sequence), ..version });
                    }
                    None => found.tombstones.push((event.row, event.sequence)),
                }
                continue;
            }
            let before = open.as_ref().map(|version| &version.values);
            let values = self.values(&event, before, timeline);
            match &mut open {
                Some(version) if self.equal(&version.values, &values, tracked) => {
                    version.values = values.clone();
                    version.events.push((event.sequence, values));
                }
                _ => {
                    if let Some(version) = open.take() {
                        found.versions.push(Version { end: Some(event.sequence), ..version });
                    }
                    let events = vec![(event.sequence, values.clone())];
                    open = Some(Version { start: event.sequence, end: None, values, events });
                }
            }
        }
        found.versions.extend(open);
    }

    /// What holds after `event`: its values, where it has one.
    fn values(&self, event: &Event, before: Option<&Values>, timeline: &Timeline) -> Values {
        let (Some(before), Origin::New) = (before, event.origin) else { return Values::Of(event.row) };
        if !self.partial.contains(&true) {
            return Values::Of(event.row);
        }
        let rows = timeline.columns.iter().enumerate().map(|(index, column)| {
            let keeps = self.partial.get(index).is_some_and(|partial| *partial) && column.is_null(event.row as usize);
            if keeps { before.row(index) } else { event.row }
        });
        Values::Filled(rows.collect())
    }

    fn equal(&self, a: &Values, b: &Values, tracked: &[Rows]) -> bool {
        match (a, b, tracked) {
            // Rows of no columns do not know how many they are.
            _ if self.tracked.is_empty() => true,
            (Values::Of(a), Values::Of(b), [all]) if !self.partial.contains(&true) => {
                all.row(*a as usize) == all.row(*b as usize)
            }
            _ => self
                .tracked
                .iter()
                .zip(tracked)
                .all(|(column, rows)| rows.row(a.row(*column) as usize) == rows.row(b.row(*column) as usize)),
        }
    }

    fn assemble(
        &self,
        found: &Found,
        timeline: &Timeline,
        events: &RecordBatch,
        versions: &RecordBatch,
    ) -> Result<History> {
        let width = timeline.columns.len();
        let mut columns = timeline.taken(width, found.versions.iter().map(|version| &version.values))?;
        let starts: UInt32Array = found.versions.iter().map(|version| Some(version.start)).collect();
        let ends: UInt32Array = found.versions.iter().map(|version| version.end).collect();
        columns.push(take(&timeline.sequences, &starts, None)?);
        columns.push(take(&timeline.sequences, &ends, None)?);
        let schema = versions.schema();
        let mut fields: Vec<Field> = events.schema().fields()[..width].iter().map(|f| f.as_ref().clone()).collect();
        for (name, index) in [(START_AT, width), (END_AT, width + 1)] {
            fields.push(Field::new(name, schema.field(index).data_type().clone(), true));
        }
        let versions = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(History { versions, ledger: self.ledger(found, timeline, events)?, ended: found.ended })
    }

    fn ledger(&self, found: &Found, timeline: &Timeline, events: &RecordBatch) -> Result<RecordBatch> {
        let width = timeline.columns.len();
        let several = || found.versions.iter().filter(|version| version.events.len() > 1).flat_map(|v| &v.events);
        let upserts = timeline.taken(width, several().map(|(_, values)| values))?;
        let keys: UInt32Array = found.tombstones.iter().map(|(row, _)| Some(*row)).collect();
        let mut columns = Vec::with_capacity(width + 2);
        for (index, upserts) in upserts.iter().enumerate() {
            // Of a delete nothing but its key counts.
            let deletes = match self.keys.contains(&index) {
                true => take(&timeline.columns[index], &keys, None)?,
                false => new_null_array(upserts.data_type(), keys.len()),
            };
            columns.push(concat(&[upserts, &deletes])?);
        }
        let sequences: UInt32Array = several()
            .map(|(sequence, _)| Some(*sequence))
            .chain(found.tombstones.iter().map(|(_, sequence)| Some(*sequence)))
            .collect();
        let operations: Int32Array = several()
            .map(|_| Operation::Upsert.code())
            .chain(found.tombstones.iter().map(|_| Operation::Delete.code()))
            .collect();
        columns.push(take(&timeline.sequences, &sequences, None)?);
        columns.push(Arc::new(operations));
        let columns_schema = Schema::new(events.schema().fields()[..width].to_vec());
        Ok(RecordBatch::try_new(self.ledger_schema(&columns_schema, timeline.sequences.data_type()), columns)?)
    }
}

impl Timeline {
    fn sequence(&self, event: &Event) -> Row<'_> {
        self.order.row(event.sequence as usize)
    }

    /// Rows of values, column by column.
    fn taken<'a>(&self, width: usize, values: impl Iterator<Item = &'a Values> + Clone) -> Result<Vec<ArrayRef>> {
        (0..width)
            .map(|column| {
                let rows: UInt32Array = values.clone().map(|values| Some(values.row(column))).collect();
                Ok(take(&self.columns[column], &rows, None)?)
            })
            .collect()
    }
}

/// Of events with the same key and sequence, in the order of their origin, the one that counts.
fn in_force(tied: &[Event]) -> Event {
    let stored = tied.iter().find(|event| matches!(event.origin, Origin::Ledger | Origin::Version));
    let deletes = |event: &&Event| {
        event.operation == Operation::Delete
            // A version ends where the next one starts: no event of its own.
            && (event.origin != Origin::End || stored.is_none_or(|stored| stored.operation == Operation::Delete))
    };
    tied.iter()
        .filter(deletes)
        .min_by_key(|event| event.origin == Origin::New)
        .copied()
        .unwrap_or_else(|| tied.iter().copied().find(|event| event.operation == Operation::Upsert).unwrap_or(tied[0]))
}
