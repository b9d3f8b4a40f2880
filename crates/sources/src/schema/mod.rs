//! Schemas of files: inferred, hinted, stored and evolved.

pub(crate) mod evolution;
pub(crate) mod hints;
pub(crate) mod partition;
pub(crate) mod store;
pub(crate) mod structured;
