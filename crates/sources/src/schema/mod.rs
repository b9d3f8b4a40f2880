//! Schemas of files: as DDL text, inferred, hinted, stored and evolved.

pub(crate) mod ddl;
pub(crate) mod evolution;
pub(crate) mod hints;
pub(crate) mod partition;
pub(crate) mod store;
