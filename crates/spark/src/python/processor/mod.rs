//! `transformWithState`, `transformWithStateInPandas`: a class in Python that handles the groups of rows and the timers
//! that it has set for them, with state that it keeps in variables of its own.
//!
//! In a plan it is a [`TransformWithState`] node. PySpark's worker runs the class; what the class does with state, the
//! worker asks of a socket beside it ([`server`]) in Spark's messages ([`message`]), and [`handle`] answers out of the
//! states of the partition's groups ([`entries`]), which are in memory. Where state is kept, this module does not know:
//! whoever runs a batch hands a [`StatefulProcessor`] what is known of its groups, and sees afterwards what has changed.

use std::hash::{Hash, Hasher};

use arrow::datatypes::SchemaRef;

use super::relation::RelationFunction;
use crate::error::{Error, Result};

mod entries;
mod handle;
mod message;
mod node;
mod run;
mod server;
mod text;
mod variable_calls;
mod variables;

pub use entries::{Content, GroupState, Place, TIMERS, Written};
pub use node::TransformWithState;
pub(crate) use run::Key;
pub use run::{Layout, ProcessorCall, ProcessorGroups};
pub use variables::{Variable, VariableKind, Variables};

use handle::RowType;

/// By which time timers expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeMode {
    /// There are no timers.
    None,
    /// The clock.
    ProcessingTime,
    /// The watermark.
    EventTime,
}

impl TimeMode {
    /// Reads what users write.
    ///
    /// # Errors
    /// `STATEFUL_PROCESSOR_UNKNOWN_TIME_MODE` (`User`) if it is none of the three.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let all = [Self::None, Self::ProcessingTime, Self::EventTime];
        all.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::user(format!("`{name}` is no time mode of a stateful processor"))
                .with_condition("STATEFUL_PROCESSOR_UNKNOWN_TIME_MODE")
                .with_help("It is one of None, ProcessingTime and EventTime.")
        })
    }

    /// What users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::ProcessingTime => "ProcessingTime",
            Self::EventTime => "EventTime",
        }
    }
}

/// A processor, apart from the rows that it is given.
#[derive(Debug, Clone)]
pub struct StatefulProcessor {
    function: RelationFunction,
    mode: TimeMode,
    rows: Layout,
    initial: Option<Layout>,
    key_type: RowType,
    output: SchemaRef,
    event_time: Option<usize>,
}

impl StatefulProcessor {
    /// `event_time` is the column of the output that is its event time.
    ///
    /// # Errors
    /// `Unsupported` for keys that Python cannot be sent; `User` if the initial state has other keys.
    pub(crate) fn new(
        function: RelationFunction,
        mode: TimeMode,
        rows: Layout,
        initial: Option<Layout>,
        output: SchemaRef,
        event_time: Option<usize>,
    ) -> Result<Self> {
        let key_type = handle::key_type(&rows.key_names(), rows.key_types())
            .map_err(|error| error.context("in the keys of a stateful processor"))?;
        if initial.as_ref().is_some_and(|initial| !initial.key_types().eq(rows.key_types())) {
            return Err(Error::user(
                "the initial state of a stateful processor is grouped by other types than its rows",
            )
            .with_help("Group both by the same columns."));
        }
        Ok(Self { function, mode, rows, initial, key_type, output, event_time })
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.function.name
    }

    /// By which time its timers expire.
    pub fn mode(&self) -> TimeMode {
        self.mode
    }

    /// How many first columns of its rows are values; those behind them are the keys.
    pub fn values(&self) -> usize {
        self.rows.values()
    }

    /// The same of its initial state, if it may have one.
    pub fn initial_values(&self) -> Option<usize> {
        self.initial.as_ref().map(Layout::values)
    }

    /// The column of its output that is the event time.
    pub fn event_time(&self) -> Option<usize> {
        self.event_time
    }

    /// Until when timers have expired in a batch of this moment; `None` if there is nothing to wait for.
    pub fn due_ms(&self, moment: super::Moment) -> Option<i64> {
        match self.mode {
            TimeMode::None => None,
            TimeMode::ProcessingTime => Some(moment.processing_ms),
            TimeMode::EventTime => moment.watermark_ms,
        }
    }
}

impl PartialEq for StatefulProcessor {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && self.function.command == other.function.command
            && self.mode == other.mode
            && self.rows == other.rows
            && self.initial == other.initial
            && self.output == other.output
            && self.event_time == other.event_time
    }
}

impl Eq for StatefulProcessor {}

impl Hash for StatefulProcessor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.function.name, &self.function.command, self.mode, &self.rows, self.event_time).hash(state);
    }
}
