//! SCD type 2: every version of each key.
//!
//! A version holds from [`START_AT`] up to [`END_AT`]. All events of a key that were ever seen can be read off
//! its versions and its ledger, so that a late event finds its place among them:
//!
//! - a version without ledger rows is one upsert, at its start, that set every column;
//! - of any other version, of several upserts whose tracked columns are equal or of one that left columns as they
//!   were, all upserts are in the ledger as they came; its values are those after the last;
//! - a version that ends where no other starts was ended by a delete;
//! - a delete that ended nothing is in the ledger.
//!
//! Versions that end before the first new event have no part in this, and need not be given: what the ledger has from
//! before the versions of a key that are given stays as it is. Only where the ledger has upserts that keep values of
//! the version before theirs all versions are needed ([`keeps_values`]).
//!
//! With the new events put among them they are walked once, in the order of their sequence. Of equal sequence, a
//! delete wins over upserts, and an upsert that was there over one that arrives.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltaworks_spark::error::{Error, Result};

use super::compare::{Equality, Prefixes, rows_of};
use super::difference::{Difference, difference};
use super::left::Left;
use super::{END_AT, Events, Operation, START_AT, event_schema, names, project};

/// The column of the ledger that names, as a JSON list, the columns whose values an upsert kept.
const KEPT: &str = "__deltaworks_kept";

/// How versions are kept.
#[derive(Debug, Clone)]
pub struct Scd2 {
    /// The key columns, by position.
    pub keys: Vec<usize>,
    /// For each column, whether NULL in a new upsert keeps the value.
    pub partial: Vec<bool>,
    /// The columns whose change opens a new version, by position.
    pub tracked: Vec<usize>,
}

/// The versions and the ledger of some keys.
#[derive(Debug)]
pub struct History {
    /// The columns of the table, then start and end. Versions that ended come before those in force.
    pub versions: RecordBatch,
    /// Events, of the columns of the table.
    pub ledger: RecordBatch,
    /// What became of the versions that were given.
    pub difference: Difference,
    /// Versions that the new deletes ended.
    pub ended: u64,
}

/// Whether upserts of the ledger keep values of the version before theirs.
pub fn keeps_values(ledger: &RecordBatch) -> bool {
    ledger.column_by_name(KEPT).is_some_and(|kept| kept.null_count() < kept.len())
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
    /// Its key: the first bytes at first, a number once the events are sorted.
    key: u64,
    /// Its key and sequence, likewise.
    at: u64,
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
    /// Where the rows of versions are, and from where on the sequences at which they end.
    versions: std::ops::Range<u32>,
    ends: u32,
    /// By key, sequence and origin.
    events: Vec<Event>,
    /// By row of an upsert that does not set every column: those whose value it keeps.
    kept: HashMap<u32, Vec<usize>>,
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
    /// Its upserts, as a range of [`Found::upserts`].
    upserts: std::ops::Range<usize>,
    /// The ledger has nothing of its key: it is one that was given only if it is so from its first event on.
    plain: bool,
}

/// What the walk over a timeline finds.
#[derive(Default)]
struct Found {
    /// Versions that ended.
    over: Vec<Version>,
    /// Versions in force.
    open: Vec<Version>,
    /// The upserts of all versions, one version after the other: rows of values and of sequence.
    upserts: Vec<(u32, u32)>,
    /// Upserts of versions that were not given, likewise.
    untouched: Vec<(u32, u32)>,
    /// Deletes that ended nothing: rows of key and sequence.
    tombstones: Vec<(u32, u32)>,
    /// Rows of versions that were given, whose keys are in the ledger.
    recorded: Vec<u32>,
    ended: u64,
}

impl Scd2 {
    /// The columns of the ledger of a table with these columns, start and end left out.
    pub fn ledger_schema(&self, columns: &Schema, sequence: &DataType) -> SchemaRef {
        let nullable: Vec<Field> =
            columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let events = event_schema(&Schema::new(nullable), sequence);
        let mut fields = events.fields().to_vec();
        fields.push(Arc::new(Field::new(KEPT, DataType::Utf8, true)));
        Arc::new(Schema::new(fields))
    }

    /// Puts upserts and deletes among the `versions` and the `ledger` of their keys; gives those as they are then.
    ///
    /// # Errors
    /// `Internal` if a batch does not have the expected columns.
    pub fn apply(&self, events: &RecordBatch, versions: &RecordBatch, ledger: &RecordBatch) -> Result<History> {
        let timeline = self.timeline(events, versions, ledger)?;
        // Keys are the same in all versions of a key.
        let tracked = self.tracked.iter().filter(|column| !self.keys.contains(column));
        let tracked = tracked.map(|column| Ok((*column, Equality::of(&timeline.columns[*column])?)));
        let tracked = tracked.collect::<Result<Vec<_>>>()?;
        let mut found = Found::default();
        for of_key in timeline.events.chunk_by(|a, b| a.key == b.key) {
            walk(of_key, &timeline, &tracked, &mut found);
        }
        self.assemble(&found, &timeline, events, versions)
    }

    fn timeline(&self, events: &RecordBatch, versions: &RecordBatch, ledger: &RecordBatch) -> Result<Timeline> {
        let known_kept = Arc::clone(ledger.column(ledger.num_columns().saturating_sub(1)));
        let ledger = ledger.project(&(0..ledger.num_columns().saturating_sub(1)).collect::<Vec<_>>())?;
        let (new, known) = (Events::new(events)?, Events::new(&ledger)?);
        let [stored @ .., starts, ends] = versions.columns() else {
            return Err(Error::internal("versions have no start and end"));
        };
        let left = Left::of(&new, &names(events), &self.keys, &self.partial)?;
        let columns = new
            .columns
            .iter()
            .enumerate()
            .zip(stored)
            .zip(known.columns)
            .map(|(((index, new), stored), known)| in_a_row(&[&left.set_values(index, new)?, stored, known]))
            .collect::<Result<Vec<_>>>()?;
        let sequences = in_a_row(&[new.sequence, starts, known.sequence, ends])?;
        let (keys, order) = (rows_of(&project(&columns, &self.keys)?)?, rows_of(std::slice::from_ref(&sequences))?);
        let (by_key, by_sequence) = (Prefixes::of(&keys), Prefixes::of(&order));
        let rows = |count: usize| 0..u32::try_from(count).unwrap_or(u32::MAX);
        let (offset, ledger_offset) = (events.num_rows() as u32, (events.num_rows() + versions.num_rows()) as u32);
        let ends_offset = ledger_offset + ledger.num_rows() as u32;
        let operation = |parts: &Events<'_>, row: u32| match parts.is(row as usize, Operation::Delete) {
            true => Operation::Delete,
            false => Operation::Upsert,
        };
        let event = |row, sequence, operation, origin| {
            let (key, at) = (by_key.at(row), by_sequence.at(sequence));
            Event { key, at, row, sequence, operation, origin }
        };
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
        let of_one_key = |a: &Event, b: &Event| a.key.cmp(&b.key).then_with(|| by_key.rest(a.row, b.row));
        let in_sequence = |a: &Event, b: &Event| a.at.cmp(&b.at).then_with(|| by_sequence.rest(a.sequence, b.sequence));
        all.sort_unstable_by(|a, b| {
            of_one_key(a, b).then_with(|| in_sequence(a, b)).then_with(|| (a.origin, a.row).cmp(&(b.origin, b.row)))
        });
        number(&mut all, of_one_key, in_sequence);
        let mut kept = kept_by_new(&new, &left);
        kept.extend(kept_by_known(&known_kept, &events.schema().fields()[..columns.len()], ledger_offset)?);
        let versions = offset..ledger_offset;
        Ok(Timeline { columns, sequences, versions, ends: ends_offset, events: all, kept })
    }

    fn assemble(
        &self,
        found: &Found,
        timeline: &Timeline,
        events: &RecordBatch,
        versions: &RecordBatch,
    ) -> Result<History> {
        let width = timeline.columns.len();
        let mut columns = timeline.taken(width, found.versions().map(|version| &version.values))?;
        let starts: UInt32Array = found.versions().map(|version| Some(version.start)).collect();
        let ends: UInt32Array = found.versions().map(|version| version.end).collect();
        columns.push(take(&timeline.sequences, &starts, None)?);
        columns.push(take(&timeline.sequences, &ends, None)?);
        let schema = versions.schema();
        let mut fields: Vec<Field> = events.schema().fields()[..width].iter().map(|f| f.as_ref().clone()).collect();
        for (name, index) in [(START_AT, width), (END_AT, width + 1)] {
            fields.push(Field::new(name, schema.field(index).data_type().clone(), true));
        }
        let found_versions = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        Ok(History {
            difference: found.difference(timeline, versions, &found_versions)?,
            versions: found_versions,
            ledger: self.ledger(found, timeline, events)?,
            ended: found.ended,
        })
    }

    fn ledger(&self, found: &Found, timeline: &Timeline, events: &RecordBatch) -> Result<RecordBatch> {
        let width = timeline.columns.len();
        let recorded: Vec<(u32, u32)> = found
            .versions()
            .map(|version| &found.upserts[version.upserts.clone()])
            .filter(|upserts| match upserts {
                [(row, _)] => timeline.kept.contains_key(row),
                _ => true,
            })
            .flatten()
            .chain(&found.untouched)
            .copied()
            .collect();
        let rows: UInt32Array = recorded.iter().map(|(row, _)| Some(*row)).collect();
        let keys: UInt32Array = found.tombstones.iter().map(|(row, _)| Some(*row)).collect();
        let mut columns = Vec::with_capacity(width + 3);
        for (index, column) in timeline.columns.iter().enumerate() {
            let upserts = take(column, &rows, None)?;
            // Of a delete nothing but its key counts.
            let deletes = match self.keys.contains(&index) {
                true => take(column, &keys, None)?,
                false => new_null_array(upserts.data_type(), keys.len()),
            };
            columns.push(in_a_row(&[&upserts, &deletes])?);
        }
        let sequences: UInt32Array =
            recorded.iter().chain(&found.tombstones).map(|(_, sequence)| Some(*sequence)).collect();
        let upserts = std::iter::repeat_n(Operation::Upsert.code(), recorded.len());
        let deletes = std::iter::repeat_n(Operation::Delete.code(), found.tombstones.len());
        let operations: Int32Array = upserts.chain(deletes).map(Some).collect();
        columns.push(take(&timeline.sequences, &sequences, None)?);
        columns.push(Arc::new(operations));
        let fields = events.schema().fields()[..width].to_vec();
        let kept: StringArray = recorded
            .iter()
            .map(|(row, _)| timeline.kept.get(row).map(|kept| names_of(kept, &fields)))
            .chain(found.tombstones.iter().map(|_| None))
            .collect();
        columns.push(Arc::new(kept));
        let schema = self.ledger_schema(&Schema::new(fields), timeline.sequences.data_type());
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Finds the versions of one key.
fn walk(events: &[Event], timeline: &Timeline, tracked: &[(usize, Equality)], found: &mut Found) {
    let equal =
        |a: &Values, b: &Values| tracked.iter().all(|(column, equal)| equal.holds(a.row(*column), b.row(*column)));
    let mut open: Option<Version> = None;
    let plain = events.iter().all(|event| event.origin != Origin::Ledger);
    if !plain {
        found.recorded.extend(events.iter().filter(|event| event.origin == Origin::Version).map(|event| event.row));
    }
    let (before, events) = events.split_at(untouched(events));
    for event in before {
        match event.operation {
            Operation::Delete => found.tombstones.push((event.row, event.sequence)),
            _ => found.untouched.push((event.row, event.sequence)),
        }
    }
    for tied in events.chunk_by(|a, b| a.at == b.at) {
        let event = in_force(tied);
        if event.operation == Operation::Delete {
            match open.take() {
                Some(version) => {
                    found.ended += u64::from(event.origin == Origin::New);
                    found.over.push(Version { end: Some(event.sequence), ..version });
                }
                None => found.tombstones.push((event.row, event.sequence)),
            }
            continue;
        }
        let before = open.as_ref().map(|version| &version.values);
        let values = values_after(&event, before, timeline);
        match &mut open {
            Some(version) if equal(&version.values, &values) => {
                version.values = values;
                found.upserts.push((event.row, event.sequence));
                version.upserts.end = found.upserts.len();
            }
            _ => {
                if let Some(version) = open.take() {
                    found.over.push(Version { end: Some(event.sequence), ..version });
                }
                let first = found.upserts.len();
                found.upserts.push((event.row, event.sequence));
                open = Some(Version { start: event.sequence, end: None, values, upserts: first..first + 1, plain });
            }
        }
    }
    found.open.extend(open);
}

/// How many of the first events of a key lie before all versions that are known and all new events.
fn untouched(events: &[Event]) -> usize {
    let Some(first) = events.iter().find(|event| event.origin != Origin::Ledger) else { return events.len() };
    events.iter().take_while(|event| event.at < first.at).count()
}

/// Numbers the keys of sorted events, and the sequences of each.
fn number(
    events: &mut [Event],
    of_one_key: impl Fn(&Event, &Event) -> Ordering,
    in_sequence: impl Fn(&Event, &Event) -> Ordering,
) {
    let Some(mut before) = events.first().copied() else { return };
    let (mut key, mut at) = (0, 0);
    for event in events {
        let is_other_key = of_one_key(&before, event) != Ordering::Equal;
        if is_other_key || in_sequence(&before, event) != Ordering::Equal {
            (key, at) = (key + u64::from(is_other_key), at + 1);
        }
        before = *event;
        (event.key, event.at) = (key, at);
    }
}

/// What holds after `event`: its values, where it sets one.
fn values_after(event: &Event, before: Option<&Values>, timeline: &Timeline) -> Values {
    let (Some(before), Some(kept)) = (before, timeline.kept.get(&event.row)) else { return Values::Of(event.row) };
    let row = |column| if kept.contains(&column) { before.row(column) } else { event.row };
    Values::Filled((0..timeline.columns.len()).map(row).collect())
}

/// The values of all arrays; those of a single one are not copied.
fn in_a_row(arrays: &[&ArrayRef]) -> Result<ArrayRef> {
    let mut filled = arrays.iter().filter(|array| !array.is_empty());
    match (filled.next(), filled.next()) {
        (Some(only), None) => Ok(Arc::clone(only)),
        _ => Ok(concat(&arrays.iter().map(|array| array.as_ref()).collect::<Vec<_>>())?),
    }
}

/// The columns that new upserts keep, by row.
fn kept_by_new(new: &Events<'_>, left: &Left) -> HashMap<u32, Vec<usize>> {
    let mut kept: HashMap<u32, Vec<usize>> = HashMap::new();
    for index in 0..new.columns.len() {
        let Some(left) = left.by_row(index) else { continue };
        for (row, _) in (0..).zip(left).filter(|(row, left)| **left && new.is(*row as usize, Operation::Upsert)) {
            kept.entry(row).or_default().push(index);
        }
    }
    kept
}

/// The column names as [`KEPT`] has them.
fn names_of(columns: &[usize], fields: &[Arc<Field>]) -> String {
    let names: Vec<&str> = columns.iter().filter_map(|column| Some(fields.get(*column)?.name().as_str())).collect();
    serde_json::Value::from(names).to_string()
}

/// The columns that upserts in the ledger keep, by row counted from `offset`. One that the table lost is kept by nothing.
fn kept_by_known(kept: &ArrayRef, fields: &[Arc<Field>], offset: u32) -> Result<HashMap<u32, Vec<usize>>> {
    let kept = cast(kept, &DataType::Utf8)?;
    let mut by_row = HashMap::new();
    for (row, names) in (offset..).zip(kept.as_string::<i32>()) {
        let Some(names) = names else { continue };
        let names: Vec<String> = serde_json::from_str(names)
            .map_err(|error| Error::data(format!("`{KEPT}` of the ledger is not a list of names: {error}")))?;
        let place = |name: &String| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
        by_row.insert(row, names.iter().filter_map(place).collect());
    }
    Ok(by_row)
}

impl Found {
    /// Those that ended, then those in force.
    fn versions(&self) -> impl Iterator<Item = &Version> + Clone {
        self.over.iter().chain(&self.open)
    }

    /// Which of the versions that were given are among those that were found. Most can be told from the events they come from;
    /// only the others are compared, value by value.
    fn difference(&self, timeline: &Timeline, given: &RecordBatch, found: &RecordBatch) -> Result<Difference> {
        let at_once = Equality::of(&timeline.sequences)?;
        let ends = given.column(given.num_columns() - 1);
        let (mut kept, mut added) = (Vec::new(), Vec::new());
        let (mut compared, mut with) = (self.recorded.clone(), Vec::new());
        for (place, version) in (0_u32..).zip(self.versions()) {
            if !version.plain {
                with.push(place);
                continue;
            }
            let start = version.start;
            if !timeline.versions.contains(&start) {
                added.push(place);
            } else if version.values == Values::Of(start) {
                let row = start - timeline.versions.start;
                let same_end = match version.end {
                    Some(end) => ends.is_valid(row as usize) && at_once.holds(end, timeline.ends + row),
                    None => ends.is_null(row as usize),
                };
                match same_end {
                    true => kept.push((row, place)),
                    false => added.push(place),
                }
            } else {
                // Later events have set values, perhaps the same ones.
                compared.push(start);
                with.push(place);
            }
        }
        let compared: UInt32Array = compared.iter().map(|row| row - timeline.versions.start).map(Some).collect();
        let with = UInt32Array::from(with);
        let rest = difference(&take_record_batch(given, &compared)?, &take_record_batch(found, &with)?)?;
        let position = |(before, after): (u32, u32)| (compared.value(before as usize), with.value(after as usize));
        kept.extend(rest.kept.into_iter().map(position));
        added.extend(rest.added.iter().map(|after| with.value(*after as usize)));
        added.sort_unstable();
        Ok(Difference::of(given.num_rows(), kept, added))
    }
}

impl Timeline {
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
