//! The heart of Deltaworks: from a pipeline's settings and source files to committed tables.
//!
//! The way of an update: [`spec`] (settings) → [`definitions`] (outputs and flows, from SQL and Python) →
//! [`graph`] (every flow a resolved plan, every problem found) → [`update`] (run along the graph, commit) →
//! [`event`] (what happened). [`Pipeline`] is the face that the command line and servers use.

pub mod connect;
pub mod definitions;
pub mod event;
pub mod expectation;
mod files;
mod functions;
pub mod graph;
mod identity;
mod locations;
mod memory;
pub mod name;
mod owner;
mod pipeline;
pub mod session;
pub mod spec;
pub mod storage;
pub mod update;
mod validate;
mod views;

pub use pipeline::{Pipeline, QueryResult, UpdateOutcome, Validation};
pub use session::{Console, EngineOptions};
pub use update::UpdateRequest;
