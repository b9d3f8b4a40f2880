//! Change data capture: events that say what happened to rows with a key, applied in the order of their sequence.
//!
//! Pure functions over Arrow: what a table holds for some keys, and what has been remembered of them, become
//! what it will hold once the events are applied. Which files hold those rows, and how they are replaced, this
//! module does not know.
//!
//! - An *event* is a row of the target's columns, then [`SEQUENCE`], then [`OPERATION`], then possibly [`SETS`].
//! - [`Scd1`] keeps the latest state of each key. Its ledger has a row per key whose row in the table does not tell the
//!   sequence: key columns, the sequence of the event in force, its operation. A deletion stays there, so that a late
//!   event finds it.
//! - [`Scd2`] keeps every version of each key. Its ledger has the events that cannot be read off the versions:
//!   those that changed nothing tracked, and deletions that ended nothing.
//!
//! The order in which events arrive does not matter, except between events of one key with equal sequence.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use deltaworks_spark::error::{Error, Result};

mod compare;
mod difference;
mod known;
mod left;
mod partition;
mod scd1;
mod scd2;
mod truncate;

pub use compare::supports;
pub use difference::{Difference, RowChanges, difference};
pub use partition::{distinct_keys, part, parts_of};
pub use scd1::{Applied, Scd1};
pub use scd2::{History, Scd2, keeps_values};
pub use truncate::{latest_truncation, not_before};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

/// The column of an event that orders it among those of its key.
pub const SEQUENCE: &str = "__deltaworks_sequence";
/// The column of an event that says what it does, an [`Operation`] as `Int32`.
pub const OPERATION: &str = "__deltaworks_operation";
/// The column of an event that lists the names of the columns that it sets, keys aside; NULL for all of them.
pub const SETS: &str = "__deltaworks_sets";
/// The column of a version that says from which sequence on it holds.
pub const START_AT: &str = "__START_AT";
/// The column of a version that says up to which sequence it holds, exclusive; NULL while it does.
pub const END_AT: &str = "__END_AT";

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Sets the row of the key.
    Upsert = 0,
    /// Removes the row of the key.
    Delete = 1,
    /// Removes all rows of smaller sequence, whatever their key.
    Truncate = 2,
}

impl Operation {
    /// As it stands in [`OPERATION`].
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// The columns of events over `columns`.
pub fn event_schema(columns: &Schema, sequence: &DataType) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(SEQUENCE, sequence.clone(), true)));
    fields.push(Arc::new(Field::new(OPERATION, DataType::Int32, true)));
    Arc::new(Schema::new(fields))
}

/// [`SETS`] as a column.
pub fn sets_field() -> Field {
    Field::new(SETS, DataType::new_list(DataType::Utf8, true), true)
}

/// An event's columns.
struct Events<'a> {
    columns: &'a [ArrayRef],
    sequence: &'a ArrayRef,
    operations: &'a Int32Array,
    sets: Option<&'a ListArray>,
}

impl<'a> Events<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        let (columns, sets) = match (batch.column_by_name(SETS), batch.columns()) {
            (Some(sets), [columns @ .., _]) => (columns, sets.as_list_opt::<i32>()),
            (_, columns) => (columns, None),
        };
        let [columns @ .., sequence, operations] = columns else {
            return Err(Error::internal("events have no sequence and operation"));
        };
        let operations = operations
            .as_primitive_opt::<Int32Type>()
            .ok_or_else(|| Error::internal("the operation of events is not an integer"))?;
        Ok(Self { columns, sequence, operations, sets })
    }

    fn is(&self, row: usize, operation: Operation) -> bool {
        self.operations.value(row) == operation.code()
    }
}

/// The columns at `indices`.
fn project(columns: &[ArrayRef], indices: &[usize]) -> Result<Vec<ArrayRef>> {
    indices
        .iter()
        .map(|index| columns.get(*index).map(Arc::clone).ok_or_else(|| Error::internal("a key column is missing")))
        .collect()
}

/// The names of the columns of a batch.
fn names(batch: &RecordBatch) -> Vec<&str> {
    batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect()
}
