//! Delta tables: snapshots, transactional writes, what changed between versions, tables of operator state.
//!
//! Start at [`Lake`], which opens and creates each [`Table`]. Rows go into files through a [`Writer`], files into the table through one
//! atomic [`Commit`]. Nothing here knows what a flow or a query is.
//!
//! # Invariants
//! 1. Files that no commit names are invisible; a writer that is dropped leaves nothing but such files.
//! 2. A commit is one log entry: rows, schema, properties and application transaction appear together.
//! 3. A commit with an application transaction that the table already has is refused.

mod align;
mod blank;
pub mod changes;
mod check;
pub mod commit;
pub mod definition;
mod dictionary;
mod empty_scans;
mod error;
pub mod feed;
mod history;
pub mod lake;
mod length;
pub mod location;
mod log_checkpoint;
pub mod maintenance;
mod metadata;
mod null_fields;
pub mod properties;
mod provider;
mod prune;
mod scan_guard;
pub mod schema;
pub mod state;
pub mod table;
mod variant;
pub mod writer;

pub use changes::{CommitChanges, DataFile};
pub use commit::Commit;
pub use definition::TableDefinition;
pub use lake::Lake;
pub use provider::{FILE_COLUMN, FileIndex, latest_of, snapshot_of};
pub use state::{LEAST_ROWS_OF_PART, PreparedVersion, Replacement, StateTable};
pub use table::{Table, are_columns_changed};
pub use writer::{Writer, WriterOptions, WrittenFiles};

#[cfg(test)]
mod test_support;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod commit_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod merge_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod reader_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod state_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod table_tests;
