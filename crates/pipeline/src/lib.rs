//! The heart: settings, definitions, graph, updates.

pub mod spec;
