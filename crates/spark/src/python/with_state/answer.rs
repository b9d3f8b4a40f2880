//! What a worker answers for groups with state: batches of rows with the states of groups beside them.
//!
//! A batch has three columns: how many of its rows count in the second and in the third; rows; states.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use serde::Deserialize;

use super::run::Change;
use crate::error::{Error, Result};
use crate::python::pickle::{Pickled, read};

/// The properties of a state that the function may have changed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    defined: bool,
    updated: bool,
    removed: bool,
    /// In milliseconds since the epoch, not always whole; negative if there is none.
    timeout_timestamp: f64,
}

/// The state of one group after its call.
struct Answer {
    properties: Properties,
    values: Option<Vec<Pickled>>,
}

/// The answers so far, by group.
pub(super) struct Answers(Vec<Option<Answer>>);

impl Answers {
    pub(super) fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| None).collect())
    }

    /// Takes the states of a batch, and gives its rows.
    pub(super) fn take(&mut self, batch: &RecordBatch, output: &SchemaRef) -> Result<Option<RecordBatch>> {
        let [counts, rows, states] = batch.columns() else { return Err(unexpected("no three columns")) };
        let (counts, rows, states) = (structs(counts)?, structs(rows)?, structs(states)?);
        let count = |place: usize| -> Result<usize> {
            let counts = cast(counts.columns().get(place).ok_or_else(|| unexpected("no count"))?, &DataType::Int32)?;
            let counts = counts.as_primitive::<Int32Type>();
            Ok(if counts.is_empty() { 0 } else { usize::try_from(counts.value(0)).unwrap_or_default() })
        };
        for row in 0..count(1)? {
            self.state(states, row)?;
        }
        let count = count(0)?;
        if count == 0 {
            return Ok(None);
        }
        let columns = rows.columns().iter().zip(output.fields());
        let columns = columns.map(|(column, field)| Ok(cast(&column.slice(0, count), field.data_type())?));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(output), columns, &options)?))
    }

    fn state(&mut self, states: &StructArray, row: usize) -> Result<()> {
        let column = |name: &str, to: &DataType| -> Result<ArrayRef> {
            let column = states.column_by_name(name).ok_or_else(|| unexpected(name))?;
            Ok(cast(&column.slice(row, 1), to)?)
        };
        let properties = column("properties", &DataType::Utf8)?;
        let properties: Properties = serde_json::from_str(properties.as_string::<i32>().value(0))
            .map_err(|error| unexpected(&format!("properties ({error})")))?;
        let key = column("keyRowAsUnsafe", &DataType::Binary)?;
        let group = key.as_binary::<i32>().value(0).try_into().map(u64::from_le_bytes);
        let place = group.ok().and_then(|group| self.0.get_mut(usize::try_from(group).ok()?));
        let place = place.ok_or_else(|| unexpected("no group of this batch"))?;
        let object = column("object", &DataType::Binary)?;
        let values = match properties.defined && object.is_valid(0) {
            true => match read(object.as_binary::<i32>().value(0))? {
                Pickled::Tuple(values) | Pickled::List(values) => Some(values),
                _ => return Err(unexpected("no row of state")),
            },
            false => None,
        };
        *place = Some(Answer { properties, values });
        Ok(())
    }

    /// What becomes of the state of each group; the rows of state that changes refer to are added to `kept`.
    ///
    /// As in Spark, a call that neither updates nor removes state nor sets a timeout leaves all as it was.
    pub(super) fn changes(self, kept: &mut Vec<Option<Vec<Pickled>>>) -> Result<Vec<Change>> {
        let change = |answer: Option<Answer>| {
            let Answer { properties, values } = answer.ok_or_else(|| unexpected("no state for a group"))?;
            let timeout_ms = (properties.timeout_timestamp >= 0.0).then_some(properties.timeout_timestamp as i64);
            if properties.removed {
                return Ok(Change::Remove);
            }
            if !properties.updated && timeout_ms.is_none() {
                return Ok(Change::Keep);
            }
            let state = values.map(|values| {
                kept.push(Some(values));
                kept.len() - 1
            });
            Ok(Change::Write { state, timeout_ms })
        };
        self.0.into_iter().map(change).collect()
    }
}

fn structs(column: &ArrayRef) -> Result<&StructArray> {
    column.as_struct_opt().ok_or_else(|| unexpected("a column that is no struct"))
}

fn unexpected(what: &str) -> Error {
    Error::internal(format!("a Python worker answered groups with state with {what}"))
}
