//! What a client has asked to keep by `cache` and `persist`.
//!
//! A DataFrame is known by its relation: the client sends the same one whenever it uses it, alone or within another.

use std::sync::Arc;

use parking_lot::RwLock;

use super::proto::{Relation, StorageLevel};
use crate::kept::KeptRows;

/// The DataFrames of a session whose rows are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Persisted(Arc<RwLock<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    relation: Relation,
    level: StorageLevel,
    rows: Arc<KeptRows>,
}

impl Persisted {
    /// Keeps the rows of a relation from the next use on.
    pub(super) fn insert(&self, relation: Relation, level: StorageLevel) {
        let mut entries = self.0.write();
        match entries.iter_mut().find(|entry| entry.relation == relation) {
            Some(entry) => entry.level = level,
            None => entries.push(Entry { relation, level, rows: Arc::default() }),
        }
    }

    pub(super) fn remove(&self, relation: &Relation) {
        self.0.write().retain(|entry| entry.relation != *relation);
    }

    pub(super) fn clear(&self) {
        self.0.write().clear();
    }

    /// Has all rows computed again: something that they are made of may have changed.
    pub(super) fn refresh(&self) {
        self.0.write().iter_mut().for_each(|entry| entry.rows = Arc::default());
    }

    pub(super) fn level(&self, relation: &Relation) -> Option<StorageLevel> {
        self.0.read().iter().find(|entry| entry.relation == *relation).map(|entry| entry.level)
    }

    pub(super) fn rows(&self, relation: &Relation) -> Option<Arc<KeptRows>> {
        self.0.read().iter().find(|entry| entry.relation == *relation).map(|entry| Arc::clone(&entry.rows))
    }
}
