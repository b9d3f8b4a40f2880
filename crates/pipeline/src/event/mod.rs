//! What happened in an update, as data: typed events in the schema of Databricks' event log.
//!
//! Everything that shows or keeps progress reads these events and nothing else: the event log table, the
//! terminal, JSON lines, the web page. This module must not know how anything is computed; whoever computes
//! says what happened to an [`EventEmitter`].
//!
//! Start at [`Event`] for what an event holds, at [`EventBus`] for how it travels, at [`log`] for the table.
//!
//! # Invariants
//! - `details` serialises to an object with exactly one key, and that key is the `event_type`.
//! - Events of one bus carry ascending sequence numbers, and every sink sees them in that order.
//! - Emitting never waits. A sink that falls behind loses transient progress only, and the loss is reported.
//! - No value registered with the bus's [`Redactor`] leaves the bus.

mod arrow;
mod bus;
mod clock;
mod details;
mod error_details;
mod json;
pub mod log;
mod message;
mod model;
mod origin;
mod planning;
mod queue;
mod redact;
mod states;
mod text_enum;

pub use arrow::{from_record_batch, schema, to_record_batch};
pub use bus::{BusContext, EventBuilder, EventBus, EventEmitter, EventSink};
pub use clock::{Clock, IdGenerator, RandomIds, SystemClock};
pub use details::{
    AutoLoaderDetails, CreateUpdate, DataQuality, DatasetDefinition, Deprecation, Details, ExpectationDefinition,
    ExpectationMetrics, FlowDefinition, FlowMetrics, FlowProgress, GraphCreated, HookProgress, OperationProgress,
    RuntimeDetails, SinkDefinition, StreamProgress, UpdateProgress, UserAction, Warning,
};
pub use error_details::{ErrorDetails, Exception, StackFrame};
pub use json::JsonLines;
pub use model::{DataPlaneId, Event, Level, MaturityLevel, Sequence};
pub use origin::Origin;
pub use planning::{IncrementalizationIssue, IssueType, MaintenanceType, PlanningInformation, Technique};
pub use redact::Redactor;
pub use states::{
    DatasetType, FlowStatus, FlowType, Language, OperationStatus, OperationType, UpdateCause, UpdateState,
};

#[cfg(test)]
mod tests;
