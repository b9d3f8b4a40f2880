//! How new input becomes new output: operators that remember what earlier batches had.
//!
//! A flow's plan holds logical operators such as [`Deduplicate`]. Over a whole table they run once
//! ([`IncrementalPlanner`]). Over a stream they also need the state of earlier batches: a flow asks
//! [`stateful_operators`] what state its plan needs, and [`bind_state`] to plug that state in.
//! Where the state is kept, this crate does not know.
//!
//! [`Deduplicate`]: deltaworks_spark::operators::Deduplicate

pub mod cdc;
mod collect;
mod dedup;
mod digest;
mod planner;
pub mod state;
pub mod support;

pub use dedup::DedupExec;
pub use planner::{IncrementalPlanner, IncrementalQueryPlanner};
pub use state::{NewRows, OperatorKind, OperatorState, StatefulOperator, bind_state, stateful_operators};
pub use support::unsupported_streaming;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
