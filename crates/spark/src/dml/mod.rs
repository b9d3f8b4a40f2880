//! Which rows a statement changes and what they become, as plans: `DELETE`, `UPDATE`, `MERGE`.
//!
//! All of them are one [`Change`]: clauses for the rows of the target that a row of the source matches, for those that
//! none matches, and for the rows of the source that match none. A `DELETE` is a change without a source. Its expressions
//! are planned already, over the columns of target and source. [`Change::touched`] finds the files that hold an affected
//! row, [`Change::rewritten`] gives the rows of these files as they are afterwards, [`Change::inserted`] the new ones.

mod assignment;
mod plans;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, LogicalPlan};

pub(crate) use assignment::{Assigned, Assignments, Target, column_of};
pub(crate) use plans::{MOST, TOUCHED_ROWS, old_name};

/// What happens to the rows of a table.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The columns that the table has afterwards.
    pub schema: SchemaRef,
    /// What the target is compared with.
    pub source: Option<Source>,
    /// For rows of the target that a row of the source matches.
    pub matched: Vec<Clause>,
    /// For rows of the source that match none.
    pub not_matched: Vec<Clause>,
    /// For rows of the target that no row of the source matches; for all of them if there is no source.
    pub by_source: Vec<Clause>,
    /// Whether rows are given as they were before, too.
    pub keeps_old: bool,
}

/// The rows that a target is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The rows. No column has the name of one of the target's.
    pub plan: LogicalPlan,
    /// Which of them match.
    pub on: Expr,
}

/// What happens to the rows that meet a condition.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    /// The condition; `None`: all that no clause before was for.
    pub condition: Option<Expr>,
    /// What happens.
    pub action: Action,
}

/// What happens to a row.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// It goes.
    Delete,
    /// It gets these values, or it comes with them.
    Set(Assignments),
}

impl Change {
    /// Whether a row that several rows of the source match is no contradiction: it goes, whichever it was.
    fn only_deletes_matched(&self) -> bool {
        matches!(self.matched.as_slice(), [Clause { condition: None, action: Action::Delete }])
    }
}
