//! The heart: settings, definitions, graph, updates, expectations, checkpoints, event log.

pub mod event;
pub mod spec;
