//! Statements that change rows of a stored table, as the program behind the session carries them out.
//!
//! A [`TableEdit`] is a table at one version. Whoever edits it says which of its files go and plans the rows that come in
//! their place, out of [`TableEdit::rows`]; all of it is one commit, which lands on that version or not at all.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use crate::catalog::TableEntry;
use crate::error::Result;

/// The column of [`TableEdit::rows`] that says in which file the row is, as [`TableEdit::file`] reads it.
pub const FILE: &str = "__deltaworks_edited_file";

/// The column of [`Edit::rows`] that says what became of the row: the number of a [`RowChange`].
pub const CHANGE: &str = "__deltaworks_change";

/// The condition of the error for a commit that came too late: the edit can be planned anew.
pub const CONCURRENT_WRITE: &str = "DELTA_CONCURRENT_WRITE";

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowChange {
    /// It stays, but moves to another file.
    Copied,
    /// It changes.
    Updated,
    /// It goes.
    Deleted,
    /// It comes.
    Inserted,
    /// It changes, because no row of the source matches it.
    UpdatedBySource,
    /// It goes, because no row of the source matches it.
    DeletedBySource,
}

impl RowChange {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Copied, Self::Updated, Self::Deleted, Self::Inserted, Self::UpdatedBySource, Self::DeletedBySource];

    /// As it stands in [`CHANGE`].
    pub fn number(self) -> i32 {
        match self {
            Self::Copied => 0,
            Self::Updated => 1,
            Self::Deleted => 2,
            Self::Inserted => 3,
            Self::UpdatedBySource => 4,
            Self::DeletedBySource => 5,
        }
    }
}

/// How many rows met each fate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCounts([u64; RowChange::ALL.len()]);

impl RowCounts {
    /// Adds rows.
    pub fn add(&mut self, change: RowChange, rows: u64) {
        self.0[change.number() as usize] += rows;
    }

    /// The rows of one fate.
    pub fn of(&self, change: RowChange) -> u64 {
        self.0[change.number() as usize]
    }

    /// Rows that changed.
    pub fn updated(&self) -> u64 {
        self.of(RowChange::Updated) + self.of(RowChange::UpdatedBySource)
    }

    /// Rows that went.
    pub fn deleted(&self) -> u64 {
        self.of(RowChange::Deleted) + self.of(RowChange::DeletedBySource)
    }

    /// Rows that came.
    pub fn inserted(&self) -> u64 {
        self.of(RowChange::Inserted)
    }

    /// All but the rows that stayed as they were.
    pub fn affected(&self) -> u64 {
        self.updated() + self.deleted() + self.inserted()
    }

    /// Adds what another part of the same edit did.
    pub fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(rows, more)| *rows += more);
    }
}

/// What a statement may do to the rows of a table: some tables refuse some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EditScope {
    /// Rows go or change.
    pub removes_rows: bool,
    /// Rows come.
    pub inserts_rows: bool,
    /// Columns come.
    pub adds_columns: bool,
}

/// A file of the table that is edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedFile {
    /// Its name.
    pub name: String,
    /// Its rows, if that is known without opening it.
    pub rows: Option<u64>,
}

/// What the statement is called in the table's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `DELETE`
    Delete,
    /// `UPDATE`
    Update,
    /// `MERGE`
    Merge,
    /// `WRITE` that replaces some rows by others.
    Write,
}

/// What is done to a table, in one commit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The statement.
    pub operation: Operation,
    /// Its parts, as the history of the table shows them.
    pub parameters: BTreeMap<String, String>,
    /// The names of the files that go.
    pub removed: Vec<String>,
    /// The rows that come: the columns of the table under their names, the same columns as they were before (only if
    /// [`TableEdit::records_changes`]) under other names, and [`CHANGE`].
    pub rows: Option<LogicalPlan>,
    /// Rows that go with their files and are not among `rows`.
    pub dropped_rows: u64,
    /// The columns of the table from now on, if they change.
    pub columns: Option<SchemaRef>,
}

/// A stored table at one version, to be edited.
#[async_trait]
pub trait TableEdit: Send + Sync {
    /// The table.
    fn entry(&self) -> &TableEntry;

    /// Whether commits record which rows they change.
    ///
    /// # Errors
    /// `Data` if the table's metadata cannot be read.
    fn records_changes(&self) -> Result<bool>;

    /// The files of the table.
    ///
    /// # Errors
    /// `Data` if the table's log cannot be read.
    fn files(&self) -> Result<Vec<EditedFile>>;

    /// The file that a value of [`FILE`] means.
    ///
    /// # Errors
    /// `Internal` if it means none.
    fn file(&self, value: &str) -> Result<EditedFile>;

    /// The rows of some files, or of all: the columns of the table, and [`FILE`].
    ///
    /// # Errors
    /// `Internal` for a file that the table does not have.
    fn rows(&self, files: Option<&[String]>) -> Result<LogicalPlan>;

    /// Runs and commits `edit`; gives what became of the rows.
    ///
    /// # Errors
    /// `Conflict` with [`CONCURRENT_WRITE`] if the table has another version by now; `Data` for rows that break a rule of
    /// the table. Nothing is committed then.
    async fn commit(self: Box<Self>, ctx: &SessionContext, edit: Edit) -> Result<RowCounts>;
}

/// What `OPTIMIZE` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Optimized {
    /// Files that it wrote.
    pub added_files: u64,
    /// Files that it put together.
    pub removed_files: u64,
    /// Bytes that it wrote.
    pub added_bytes: u64,
    /// Bytes that it put together.
    pub removed_bytes: u64,
}

/// How long files that left a table stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VacuumOptions {
    /// Hours; what the table says, or a week, if `None`.
    pub retain_hours: Option<f64>,
    /// Whether a time that may be too short for queries that run is refused.
    pub check_retention: bool,
    /// Whether files are told and stay.
    pub dry_run: bool,
}
