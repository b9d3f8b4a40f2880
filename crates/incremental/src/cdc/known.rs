//! What is known of the keys of some events before: the ledger's rows, and those of the table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::row::{Row, Rows};
use deltaworks_spark::error::{Error, Result};
use foldhash::fast::RandomState;

use super::compare::Comparable;
use super::{Events, Operation};

/// What was known of keys before, as bytes that compare.
pub(super) struct KnownRows {
    ledger_keys: Rows,
    ledger_sequences: Rows,
    stored_keys: Rows,
    stored_sequences: Rows,
    /// Which stored rows tell their sequence.
    told: ArrayRef,
}

impl KnownRows {
    pub(super) fn new(
        comparable: &(Comparable, Comparable),
        ledger: &Events<'_>,
        stored: &RecordBatch,
    ) -> Result<Self> {
        let [stored_keys @ .., told] = stored.columns() else {
            return Err(Error::internal("stored rows have no sequence"));
        };
        Ok(Self {
            ledger_keys: comparable.0.rows(ledger.columns)?,
            ledger_sequences: comparable.1.rows(std::slice::from_ref(ledger.sequence))?,
            stored_keys: comparable.0.rows(stored_keys)?,
            stored_sequences: comparable.1.rows(std::slice::from_ref(told))?,
            told: Arc::clone(told),
        })
    }
}

/// What was known of one key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    /// Its row of the ledger.
    pub(super) ledger: Option<u32>,
    /// Its row of the table.
    stored: Option<u32>,
}

/// What was known of keys, by key.
pub(super) struct Known<'a> {
    rows: &'a KnownRows,
    ledger: &'a Events<'a>,
    by_key: HashMap<Row<'a>, Before, RandomState>,
    /// For each stored row another one of its key. AUTO CDC writes one row of a key, but others may have inserted rows.
    others: Vec<Option<u32>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(rows: &'a KnownRows, ledger: &'a Events<'a>) -> Self {
        let mut by_key: HashMap<Row<'a>, Before, RandomState> = HashMap::default();
        by_key.reserve(rows.ledger_keys.num_rows().max(rows.stored_keys.num_rows()));
        for (key, row) in rows.ledger_keys.iter().zip(0..) {
            by_key.entry(key).or_default().ledger = Some(row);
        }
        let mut others = Vec::with_capacity(rows.stored_keys.num_rows());
        for (key, row) in rows.stored_keys.iter().zip(0..) {
            others.push(by_key.entry(key).or_default().stored.replace(row));
        }
        Self { rows, ledger, by_key, others }
    }

    pub(super) fn before(&self, keys: &Rows, row: u32) -> Before {
        match self.by_key.is_empty() {
            true => Before::default(),
            false => self.by_key.get(&keys.row(row as usize)).copied().unwrap_or_default(),
        }
    }

    /// Whether the key has a row.
    pub(super) fn is_live(&self, before: Before) -> bool {
        match before.ledger {
            Some(row) => self.ledger.is(row as usize, Operation::Upsert),
            None => before.stored.is_some(),
        }
    }

    /// The sequence of the event in force, if that is known.
    pub(super) fn sequence(&self, before: Before) -> Option<Row<'a>> {
        if let Some(row) = before.ledger {
            return Some(self.rows.ledger_sequences.row(row as usize));
        }
        let told = self.stored_rows(before).filter(|row| self.rows.told.is_valid(*row as usize));
        told.map(|row| self.rows.stored_sequences.row(row as usize)).max()
    }

    pub(super) fn stored_rows(&self, before: Before) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(before.stored, |row| self.others[*row as usize])
    }
}
