//! How new input becomes new output: operators that remember what earlier batches had.
//!
//! A flow's plan holds logical operators such as [`Deduplicate`]. Over a whole table they run once
//! ([`IncrementalPlanner`]). Over a stream they also need the state of earlier batches: a flow asks
//! [`stateful_operators`] what state its plan needs, and [`bind_state`] to plug that state in. What a watermark
//! has seen comes from [`bind_watermarks`].
//! Where the state is kept, this crate does not know.
//!
//! [`Deduplicate`]: deltaworks_spark::operators::Deduplicate

mod aggregate;
pub mod cdc;
mod collect;
mod completion;
mod dedup;
mod digest;
mod digest_set;
mod divided;
mod event_time;
mod fingerprint;
mod grouping_sets;
mod join;
mod join_bounds;
mod map_exec;
mod new_rows;
mod outer_join;
mod planner;
mod processor;
mod spool;
pub mod state;
pub mod support;
mod user_state;
mod watermark;

pub use aggregate::{EXPIRES, GroupState};
pub use dedup::DedupExec;
pub use digest::DigestKey;
pub use planner::{IncrementalPlanner, IncrementalQueryPlanner};
pub use processor::{first_timer, latest_entries};
pub use spool::{Spooled, size_of_rows};
pub use state::{NewRows, OperatorKind, OperatorState, StatefulOperator, bind_state, stateful_operators};
pub use support::{OutputMode, StreamOperator, StreamProblem, output_mode, unsupported_streaming};
pub use user_state::{first_due, newest};
pub use watermark::{LateRows, LatestEventTime, Watermarks, bind_watermarks, watermark_delays};

/// With what tests make digests.
#[cfg(test)]
const DIGEST_KEY: DigestKey = DigestKey::new([7; 16]);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod aggregate_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod join_tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod outer_join_tests;
