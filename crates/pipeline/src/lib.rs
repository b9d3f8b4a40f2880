//! The heart: spec, definitions, graph, updates, expectations, checkpoints, event log.

pub mod event;
