//! The groups of a batch, and what is known and becomes of the state of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch,
    RecordBatchOptions, UInt64Array, new_null_array,
};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use arrow::datatypes::{Field, Int64Type, Schema};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::python::{Change, GroupCall, Groups};

use super::bound::BoundGroups;
use super::{OWN_COLUMNS, REMOVED};
use crate::aggregate::{convert, stored_type};
use crate::digest::DIGEST_BYTES;

pub(crate) type Digest = [u8; DIGEST_BYTES as usize];

/// The rows of a partition, group by group.
pub(crate) struct Rows {
    /// Values, then keys.
    pub batch: RecordBatch,
    pub digests: Vec<Digest>,
    pub ranges: Vec<Range<usize>>,
}

impl Rows {
    /// Groups come in the order of their first rows, rows in the order they came.
    pub(crate) fn group(batch: &RecordBatch) -> Result<Self> {
        let width = batch.num_columns() - 1;
        let mut places: HashMap<Digest, usize> = HashMap::new();
        let mut members: Vec<Vec<u64>> = Vec::new();
        let mut found = Vec::new();
        for (row, digest) in digests(batch.column(width))?.into_iter().enumerate() {
            let group = *places.entry(digest).or_insert_with(|| {
                found.push(digest);
                members.push(Vec::new());
                members.len() - 1
            });
            members[group].push(row as u64);
        }
        let mut ranges = Vec::with_capacity(members.len());
        let mut start = 0;
        for rows in &members {
            ranges.push(start..start + rows.len());
            start += rows.len();
        }
        let order: UInt64Array = members.into_iter().flatten().collect();
        let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
        Ok(Self { batch: take_record_batch(&rows, &order)?, digests: found, ranges })
    }
}

/// One group.
struct Group {
    digest: Digest,
    /// Its row in [`States::keys`].
    key: usize,
    /// The batch that its state is of, if any is kept.
    since: Option<i64>,
    /// Its row in [`States::values`].
    value: Option<usize>,
    timeout_ms: Option<i64>,
    is_removed: bool,
    is_changed: bool,
}

/// The states of the groups of a batch: of those that have rows, then of those that have timed out.
pub(super) struct States {
    groups: Vec<Group>,
    places: HashMap<Digest, usize>,
    /// Rows of the log that groups refer to, some of them overtaken.
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    /// The keys of the groups that have rows, then those of `kept`.
    keys: Vec<ArrayRef>,
    /// The values of `kept`, then those that calls have given.
    values: Vec<ArrayRef>,
    value_rows: usize,
}

impl States {
    /// Nothing is known yet of the groups of `rows`.
    pub(super) fn of(node: &BoundGroups, rows: &Rows) -> Result<Self> {
        let group = |(key, digest): (usize, &Digest)| Group {
            digest: *digest,
            key,
            since: None,
            value: None,
            timeout_ms: None,
            is_removed: false,
            is_changed: false,
        };
        let firsts: UInt64Array = rows.ranges.iter().map(|range| range.start as u64).collect();
        let keys = &rows.batch.columns()[node.function.values()..];
        Ok(Self {
            groups: rows.digests.iter().enumerate().map(group).collect(),
            places: rows.digests.iter().enumerate().map(|(place, digest)| (*digest, place)).collect(),
            kept: Vec::new(),
            kept_rows: 0,
            keys: keys.iter().map(|key| take(key, &firsts, None)).collect::<Result<_, _>>()?,
            values: node.function.no_states()?,
            value_rows: 0,
        })
    }

    /// Whether there is no group.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes what rows of the log say of the groups. How many more bytes are in memory.
    pub(super) fn see(&mut self, log: &RecordBatch) -> Result<usize> {
        let stored = Stored::of(log)?;
        let mut taken: Vec<u64> = Vec::new();
        for (row, digest) in stored.digests.iter().enumerate() {
            let Some(place) = self.places.get(digest) else { continue };
            let group = &mut self.groups[*place];
            let batch = stored.batches.value(row);
            if group.since.is_some_and(|since| since > batch) {
                continue;
            }
            stored.tell(group, row, self.kept_rows + taken.len());
            taken.push(row as u64);
        }
        if taken.is_empty() {
            return Ok(0);
        }
        let kept = take_record_batch(log, &UInt64Array::from(taken))?;
        let bytes = kept.get_array_memory_size();
        self.kept_rows += kept.num_rows();
        self.kept.push(kept);
        Ok(bytes)
    }

    /// Takes groups that have timed out; those that have rows are known already.
    pub(super) fn time_out(&mut self, log: &RecordBatch) -> Result<()> {
        let stored = Stored::of(log)?;
        let of_rows = self.groups.len();
        for (row, digest) in stored.digests.iter().enumerate() {
            let Place::Vacant(place) = self.places.entry(*digest) else { continue };
            place.insert(self.groups.len());
            let mut group = Group {
                digest: *digest,
                key: of_rows + self.kept_rows + row,
                since: None,
                value: None,
                timeout_ms: None,
                is_removed: false,
                is_changed: false,
            };
            stored.tell(&mut group, row, self.kept_rows + row);
            self.groups.push(group);
        }
        self.kept_rows += log.num_rows();
        self.kept.push(log.clone());
        Ok(())
    }

    /// Calls the function for the groups that have rows.
    pub(super) fn call_for_rows(
        &mut self,
        node: &BoundGroups,
        rows: &Rows,
        conf: &SparkConf,
    ) -> Result<Vec<RecordBatch>> {
        self.read_kept(node, rows)?;
        let calls = rows.ranges.iter().cloned().enumerate();
        self.call(node, &rows.batch, calls.collect(), false, conf)
    }

    /// Calls the function for the groups whose time has come, with one row each that has the key alone. It may have come
    /// for groups with rows, too: their calls may have left a timeout as it was.
    pub(super) fn call_for_timeouts(
        &mut self,
        node: &BoundGroups,
        rows: &Rows,
        conf: &SparkConf,
    ) -> Result<Vec<RecordBatch>> {
        let Some(due_ms) = node.moment.due_ms(node.function.timeout()) else { return Ok(Vec::new()) };
        let is_due = |group: &Group| group.timeout_ms.is_some_and(|timeout_ms| timeout_ms < due_ms);
        let due: Vec<usize> =
            self.groups.iter().enumerate().filter(|(_, group)| is_due(group)).map(|(place, _)| place).collect();
        let keys: UInt64Array = due.iter().map(|place| self.groups[*place].key as u64).collect();
        let schema = rows.batch.schema();
        let values = node.function.values();
        let mut columns: Vec<ArrayRef> =
            schema.fields()[..values].iter().map(|field| new_null_array(field.data_type(), due.len())).collect();
        for key in &self.keys {
            columns.push(take(key, &keys, None)?);
        }
        let fields: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(due.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        let calls = due.into_iter().enumerate().map(|(row, place)| (place, row..row + 1));
        self.call(node, &batch, calls.collect(), true, conf)
    }

    fn call(
        &mut self,
        node: &BoundGroups,
        rows: &RecordBatch,
        groups: Vec<(usize, Range<usize>)>,
        timed_out: bool,
        conf: &SparkConf,
    ) -> Result<Vec<RecordBatch>> {
        let call =
            |(place, rows): &(usize, Range<usize>)| GroupCall { rows: rows.clone(), state: self.groups[*place].value };
        let calls: Vec<GroupCall> = groups.iter().map(call).collect();
        let asked = Groups { rows, states: &self.values, calls: &calls, timed_out };
        let outcome = node.function.call(&asked, node.moment, conf)?;
        let mut added = 0;
        for ((place, _), change) in groups.into_iter().zip(outcome.changes) {
            let group = &mut self.groups[place];
            let (value, timeout_ms, is_removed) = match change {
                Change::Keep => continue,
                Change::Remove => (None, None, true),
                Change::Write { state, timeout_ms } => (state, timeout_ms, false),
            };
            added += usize::from(value.is_some());
            group.value = value.map(|row| self.value_rows + row);
            group.timeout_ms = timeout_ms;
            group.is_removed = is_removed;
            group.is_changed = true;
        }
        for (values, new) in self.values.iter_mut().zip(&outcome.states) {
            *values = concat(&[values.as_ref(), new.as_ref()])?;
        }
        self.value_rows += added;
        Ok(outcome.rows)
    }

    /// Hands the states that have changed to the log.
    pub(super) fn hand_over(&self, node: &BoundGroups, context: &TaskContext) -> Result<()> {
        // What no log knows need not be forgotten there.
        let changed = |group: &&Group| group.is_changed && (!group.is_removed || group.since.is_some());
        let changed: Vec<&Group> = self.groups.iter().filter(changed).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let keys: UInt64Array = changed.iter().map(|group| group.key as u64).collect();
        let values: UInt64Array = changed.iter().map(|group| group.value.map(|row| row as u64)).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(changed.iter().map(|group| Some(group.digest)).collect::<BinaryArray>()),
            Arc::new(Int64Array::from(vec![node.batch; changed.len()])),
            Arc::new(changed.iter().map(|group| Some(group.is_removed)).collect::<BooleanArray>()),
            Arc::new(changed.iter().map(|group| Some(group.value.is_some())).collect::<BooleanArray>()),
            Arc::new(changed.iter().map(|group| group.timeout_ms).collect::<Int64Array>()),
        ];
        for key in &self.keys {
            columns.push(take(key, &keys, None)?);
        }
        for value in &self.values {
            columns.push(take(value, &values, None)?);
        }
        let schema = node.state.schema();
        let columns = columns.iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| convert(column, field.data_type())).collect::<Result<Vec<_>>>()?;
        node.state.push(&columns, &(0..columns.len()).collect::<Vec<_>>(), None, context)
    }

    /// Keys and values of the log in the types that rows and functions have.
    fn read_kept(&mut self, node: &BoundGroups, rows: &Rows) -> Result<()> {
        let Some(first) = self.kept.first() else { return Ok(()) };
        let kept = concat_batches(&first.schema(), &self.kept)?;
        self.kept.clear();
        let columns = kept.columns().get(OWN_COLUMNS..).unwrap_or_default();
        let (keys, values) = columns.split_at_checked(self.keys.len()).ok_or_else(other_log)?;
        if values.len() != self.values.len() {
            return Err(other_log());
        }
        let key_types = &rows.batch.schema().fields()[node.function.values()..].to_vec();
        for ((all, kept), field) in self.keys.iter_mut().zip(keys).zip(key_types) {
            *all = concat(&[all.as_ref(), restored(kept, field)?.as_ref()])?;
        }
        for ((all, kept), field) in self.values.iter_mut().zip(values).zip(node.function.state()) {
            *all = restored(kept, field)?;
        }
        self.value_rows = kept.num_rows();
        Ok(())
    }
}

/// Rows of the log.
struct Stored<'a> {
    digests: Vec<Digest>,
    batches: &'a Int64Array,
    removed: &'a BooleanArray,
    has_value: &'a BooleanArray,
    timeouts: &'a Int64Array,
}

impl<'a> Stored<'a> {
    fn of(log: &'a RecordBatch) -> Result<Self> {
        let [digest, batches, removed, has_value, timeouts, ..] = log.columns() else { return Err(other_log()) };
        debug_assert_eq!(log.schema().field(2).name(), REMOVED);
        Ok(Self {
            digests: digests(digest)?,
            batches: batches.as_primitive_opt::<Int64Type>().ok_or_else(other_log)?,
            removed: removed.as_boolean_opt().ok_or_else(other_log)?,
            has_value: has_value.as_boolean_opt().ok_or_else(other_log)?,
            timeouts: timeouts.as_primitive_opt::<Int64Type>().ok_or_else(other_log)?,
        })
    }

    /// Tells `group` what `row` says of it, which is row `kept` of those kept.
    fn tell(&self, group: &mut Group, row: usize, kept: usize) {
        let stays = !self.removed.value(row);
        group.since = Some(self.batches.value(row));
        group.value = (stays && self.has_value.value(row)).then_some(kept);
        group.timeout_ms = (stays && self.timeouts.is_valid(row)).then(|| self.timeouts.value(row));
    }
}

/// The values of a stored column as they were before: readers give views of text and bytes.
pub(crate) fn restored(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    convert(&convert(column, &stored_type(column.data_type()))?, field.data_type())
}

pub(crate) fn digests(column: &ArrayRef) -> Result<Vec<Digest>> {
    let column: &FixedSizeBinaryArray = column.as_fixed_size_binary_opt().ok_or_else(other_log)?;
    let digest = |row| Digest::try_from(column.value(row)).map_err(|_| other_log());
    (0..column.len()).map(digest).collect()
}

pub(crate) fn other_log() -> DataFusionError {
    DataFusionError::Internal("the state of a function in Python has other columns than it was given".to_owned())
}
