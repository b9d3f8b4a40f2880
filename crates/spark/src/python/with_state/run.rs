//! Calls a function with state for the groups of a batch.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema};
use std::ops::Range;
use std::sync::Arc;

use super::answer::Answers;
use super::task::Sending;
use super::values::{to_columns, to_values};
use super::{StatefulFunction, Timeout};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::python::function::blocking;
use crate::python::worker::Input;
use crate::types::canonical;

/// The times that a batch works with, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// By the clock.
    pub processing_ms: i64,
    /// The watermark; `None` if the stream has none.
    pub watermark_ms: Option<i64>,
}

impl Moment {
    /// Groups whose timeout is before this are called for; `None` if there is nothing to wait for.
    pub fn due_ms(&self, timeout: Timeout) -> Option<i64> {
        match timeout {
            Timeout::Never => None,
            Timeout::ProcessingTime => Some(self.processing_ms),
            Timeout::EventTime => self.watermark_ms,
        }
    }
}

/// A call for one group.
#[derive(Debug, Clone)]
pub struct GroupCall {
    /// Its rows; one that has nothing but the key if the group has timed out.
    pub rows: Range<usize>,
    /// The row of [`Groups::states`] that is its state; `None` if it has none.
    pub state: Option<usize>,
}

/// What a function is called for.
#[derive(Debug)]
pub struct Groups<'a> {
    /// The rows, group by group: values, then keys.
    pub rows: &'a RecordBatch,
    /// The states that calls refer to, by column.
    pub states: &'a [ArrayRef],
    /// The groups, in the order of their rows.
    pub calls: &'a [GroupCall],
    /// Whether they are called for because they have timed out.
    pub timed_out: bool,
}

/// What becomes of the state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// It is forgotten.
    Remove,
    /// It is as the row of [`Outcome::states`] says (`None`: there is a timeout alone), until the timeout.
    Write {
        /// The row.
        state: Option<usize>,
        /// When the group times out, in milliseconds since the epoch.
        timeout_ms: Option<i64>,
    },
}

/// What a function has given.
#[derive(Debug)]
pub struct Outcome {
    /// Rows.
    pub rows: Vec<RecordBatch>,
    /// What becomes of the state of each group.
    pub changes: Vec<Change>,
    /// The states to be kept, by column.
    pub states: Vec<ArrayRef>,
}

impl StatefulFunction {
    /// Calls the function for each group.
    ///
    /// # Errors
    /// `PYTHON_EXCEPTION` (`User`) with the traceback of the user's code; `User` for state that its schema cannot hold.
    pub fn call(&self, groups: &Groups<'_>, moment: Moment, conf: &SparkConf) -> Result<Outcome> {
        if groups.calls.is_empty() {
            return Ok(Outcome { rows: Vec::new(), changes: Vec::new(), states: self.no_states()? });
        }
        blocking(|| self.run(groups, moment, conf))
            .map_err(|error| error.context(format!("in the Python function `{}`", self.function.name)))
    }

    /// The columns of no state.
    ///
    /// # Errors
    /// None that can be met.
    pub fn no_states(&self) -> Result<Vec<ArrayRef>> {
        to_columns(&[], &self.state, &self.function.name)
    }

    fn run(&self, groups: &Groups<'_>, moment: Moment, conf: &SparkConf) -> Result<Outcome> {
        let rows = self.named(groups.rows)?;
        let states = groups.calls.iter().map(|call| call.state.map(|row| to_values(groups.states, row)).transpose());
        let sending = Sending {
            function: self,
            rows: &rows,
            states: states.collect::<Result<Vec<_>>>()?,
            calls: groups.calls,
            timed_out: groups.timed_out,
            moment,
        };
        let batches = sending.batches(conf)?;
        let task = sending.task(conf);
        let results = self.function.workers.with_worker(|worker| worker.run(&task, &Input::Batches(&batches)))?;
        let mut answers = Answers::new(groups.calls.len());
        let mut given = Vec::with_capacity(results.len());
        for result in &results {
            given.extend(answers.take(result, &self.output)?);
        }
        let mut kept = Vec::new();
        let changes = answers.changes(&mut kept)?;
        Ok(Outcome { rows: given, changes, states: to_columns(&kept, &self.state, &self.function.name)? })
    }

    /// The rows with plain types and the names that the function knows.
    fn named(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let schema = rows.schema();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (place, (field, column)) in schema.fields().iter().zip(rows.columns()).enumerate() {
            let name = self.names.get(place).cloned().unwrap_or_else(|| format!("key{place}"));
            let plain = canonical(field.data_type());
            columns.push(cast(column, &plain)?);
            // The row of a group that has timed out has no values.
            fields.push(Field::new(name, plain, true));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| Error::internal(format!("rows for a Python function: {error}")))
    }
}
