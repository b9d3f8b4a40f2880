//! The groups of a batch, with the entries of their state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::{concat, take, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::python::{
    Content, GroupState, Place, ProcessorCall, ProcessorGroups, TIMERS, Variable, VariableKind, Written,
};

use super::OWN_COLUMNS;
use super::bound::BoundProcessor;
use crate::aggregate::convert;
use crate::state::NewRows;
use crate::user_state::groups::{Digest, Rows, digests, other_log, restored};

/// About how many bytes an entry takes beside its text.
const BYTES_OF_ENTRY: usize = 160;

/// The groups of a partition: those that have rows, in order, then those that have initial state alone, then those that
/// have nothing but expired timers.
pub(super) struct Groups {
    digests: Vec<Digest>,
    places: HashMap<Digest, usize>,
    /// A row per group.
    keys: Vec<ArrayRef>,
    calls: Vec<ProcessorCall>,
    states: Vec<GroupState>,
    /// What earlier batches have declared.
    declared: HashMap<String, Variable>,
}

impl Groups {
    pub(super) fn of(node: &BoundProcessor, rows: &Rows, initial: Option<&Rows>) -> Result<Self> {
        let mut groups = Self {
            digests: rows.digests.clone(),
            places: rows.digests.iter().enumerate().map(|(place, digest)| (*digest, place)).collect(),
            keys: firsts(rows, node.processor.values(), rows.ranges.iter().map(|range| range.start))?,
            calls: Vec::new(),
            states: Vec::new(),
            declared: node.variables.all().into_iter().collect(),
        };
        groups.calls = rows.ranges.iter().map(|rows| ProcessorCall { rows: rows.clone(), initial: 0..0 }).collect();
        if let (Some(initial), Some(values)) = (initial, node.processor.initial_values()) {
            let mut new = Vec::new();
            for (digest, range) in initial.digests.iter().zip(&initial.ranges) {
                let next = groups.digests.len();
                match groups.places.entry(*digest) {
                    Entry::Occupied(place) => groups.calls[*place.get()].initial = range.clone(),
                    Entry::Vacant(place) => {
                        place.insert(next);
                        groups.digests.push(*digest);
                        groups.calls.push(ProcessorCall { rows: 0..0, initial: range.clone() });
                        new.push(range.start);
                    }
                }
            }
            groups.add_keys(&firsts(initial, values, new.into_iter())?)?;
        }
        groups.states.resize_with(groups.digests.len(), GroupState::default);
        Ok(groups)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Adds groups whose timers have expired: rows of a digest and the keys.
    pub(super) fn add_due(&mut self, due: &RecordBatch) -> Result<()> {
        let Some((digest, keys)) = due.columns().split_first() else { return Err(other_log()) };
        let mut new: Vec<u64> = Vec::new();
        for (row, digest) in digests(digest)?.into_iter().enumerate() {
            let next = self.digests.len();
            if let Entry::Vacant(place) = self.places.entry(digest) {
                place.insert(next);
                self.digests.push(digest);
                new.push(row as u64);
            }
        }
        if keys.len() != self.keys.len() {
            return Err(other_log());
        }
        let new = UInt64Array::from(new);
        let restore = |(key, stored): (&ArrayRef, &ArrayRef)| {
            let field = arrow::datatypes::Field::new("key", key.data_type().clone(), true);
            restored(&take(stored, &new, None)?, &field)
        };
        let keys = self.keys.iter().zip(keys).map(restore).collect::<Result<Vec<_>>>()?;
        self.add_keys(&keys)?;
        self.states.resize_with(self.digests.len(), GroupState::default);
        Ok(())
    }

    fn add_keys(&mut self, more: &[ArrayRef]) -> Result<()> {
        for (keys, more) in self.keys.iter_mut().zip(more) {
            *keys = concat(&[keys.as_ref(), convert(more, keys.data_type())?.as_ref()])?;
        }
        Ok(())
    }

    /// Takes what rows of the log say of the groups. How many more bytes are in memory.
    pub(super) fn see(&mut self, node: &BoundProcessor, log: &RecordBatch) -> Result<usize> {
        let (mut taken, mut groups): (Vec<u64>, Vec<usize>) = (Vec::new(), Vec::new());
        for (row, digest) in digests(log.columns().first().ok_or_else(other_log)?)?.iter().enumerate() {
            if let Some(place) = self.places.get(digest) {
                taken.push(row as u64);
                groups.push(*place);
            }
        }
        if taken.is_empty() {
            return Ok(0);
        }
        let mut bytes = 0;
        for (written, group) in
            stored(&take_record_batch(log, &UInt64Array::from(taken))?, &self.declared)?.into_iter().zip(groups)
        {
            let Some(written) = written else { continue };
            let value = written.content.as_ref().and_then(|content| content.value.as_ref());
            bytes += BYTES_OF_ENTRY + value.map_or(0, |value| value.len());
            self.states[group].load(written, node.moment.processing_ms);
        }
        Ok(bytes)
    }

    /// Has the processor handle the rows and timers.
    pub(super) fn call(
        &mut self,
        node: &BoundProcessor,
        rows: &Rows,
        initial: Option<&Rows>,
        conf: &SparkConf,
    ) -> Result<Vec<RecordBatch>> {
        let groups = ProcessorGroups {
            rows: &rows.batch,
            initial: initial.map(|initial| &initial.batch),
            calls: &self.calls,
            states: &mut self.states,
            keys: &self.keys,
            variables: &node.variables,
            batch: node.batch,
            moment: node.moment,
            late_us: node.late_us,
        };
        Ok(node.processor.call(groups, conf)?)
    }

    /// Hands the entries that have changed to the log.
    pub(super) fn hand_over(&self, state: &NewRows, batch: i64, context: &TaskContext) -> Result<()> {
        let (mut groups, mut variables, mut entries, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut removed, mut values, mut expires) = (Vec::new(), Vec::new(), Vec::new());
        for (group, one) in self.states.iter().enumerate() {
            for (variable, place, content) in one.changes() {
                groups.push(group as u64);
                variables.push(variable);
                entries.push(if let Place::Key(key) = place { Some(key.as_ref()) } else { None });
                places.push(if let Place::At(at) = place { Some(*at) } else { None });
                removed.push(content.is_none());
                values.push(content.and_then(|content| content.value.as_deref()));
                expires.push(content.and_then(|content| content.expires_ms));
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let digests: BinaryArray = groups.iter().map(|group| Some(self.digests[*group as usize])).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(digests),
            Arc::new(Int64Array::from(vec![batch; groups.len()])),
            Arc::new(StringArray::from(variables)),
            Arc::new(StringArray::from(entries)),
            Arc::new(Int64Array::from(places)),
            Arc::new(BooleanArray::from(removed)),
            Arc::new(StringArray::from(values)),
            Arc::new(Int64Array::from(expires)),
        ];
        debug_assert_eq!(columns.len(), OWN_COLUMNS.len());
        let groups = UInt64Array::from(groups);
        for key in &self.keys {
            columns.push(take(key, &groups, None)?);
        }
        let schema = state.schema();
        let columns = columns.iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| convert(column, field.data_type())).collect::<Result<Vec<_>>>()?;
        state.push(&columns, &(0..columns.len()).collect::<Vec<_>>(), None, context)
    }
}

/// The keys of some rows.
fn firsts(rows: &Rows, values: usize, places: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
    let places: UInt64Array = places.map(|place| place as u64).collect();
    rows.batch.columns()[values..].iter().map(|key| Ok(take(key, &places, None)?)).collect()
}

/// What rows of the log say; nothing if their variable has been deleted since.
fn stored(log: &RecordBatch, declared: &HashMap<String, Variable>) -> Result<Vec<Option<Written>>> {
    let column = |place: usize, to: &DataType| convert(log.columns().get(place).ok_or_else(other_log)?, to);
    let [batches, places, expires] = [1, 4, 7].map(|place| column(place, &DataType::Int64));
    let (batches, places, expires) = (batches?, places?, expires?);
    let [variables, entries, values] = [2, 3, 6].map(|place| column(place, &DataType::Utf8));
    let (variables, entries, values) = (variables?, entries?, values?);
    let removed = column(5, &DataType::Boolean)?;
    let numbers = |column: &ArrayRef| column.as_primitive::<Int64Type>().clone();
    let (batches, places, expires) = (numbers(&batches), numbers(&places), numbers(&expires));
    let (variables, entries, values) =
        (variables.as_string::<i32>(), entries.as_string::<i32>(), values.as_string::<i32>());
    let mut names: HashMap<&str, Arc<str>> = HashMap::new();
    let mut all = Vec::with_capacity(log.num_rows());
    for row in 0..log.num_rows() {
        let (variable, batch) = (variables.value(row), batches.value(row));
        let kind = match declared.get(variable) {
            Some(declared) if batch >= declared.since => Some(declared.kind),
            Some(_) => None,
            None => (variable == TIMERS).then_some(VariableKind::List),
        };
        let Some(kind) = kind else {
            all.push(None);
            continue;
        };
        let place = match kind {
            VariableKind::Value => Place::Whole,
            VariableKind::List => Place::At(places.value(row)),
            VariableKind::Map => Place::Key(Arc::from(entries.value(row))),
        };
        let content = (!removed.as_boolean().value(row)).then(|| Content {
            value: values.is_valid(row).then(|| Arc::from(values.value(row))),
            expires_ms: expires.is_valid(row).then(|| expires.value(row)),
        });
        let variable = Arc::clone(names.entry(variable).or_insert_with(|| Arc::from(variable)));
        all.push(Some(Written { variable, place, batch, content }));
    }
    Ok(all)
}
