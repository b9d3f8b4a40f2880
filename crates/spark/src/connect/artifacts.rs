//! What a session keeps for its client: uploaded files, data too large for a plan, rows of checkpoints and of
//! DataFrames.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parking_lot::RwLock;

use super::persisted::Persisted;
use crate::python::PythonWorkers;

/// Uploaded artifacts by name; blobs of the client's cache are named `cache/<sha256>`.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    uploads: Arc<RwLock<HashMap<String, Bytes>>>,
    checkpoints: Arc<RwLock<HashMap<String, Checkpoint>>>,
    persisted: Persisted,
    python: Option<Arc<PythonWorkers>>,
}

/// The rows of a DataFrame as they were once.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Artifacts {
    /// What a session keeps whose client may send functions in Python.
    pub fn with_python(python: Option<Arc<PythonWorkers>>) -> Self {
        Self { python, ..Self::default() }
    }

    /// Who runs the client's functions, if anybody does.
    pub fn python(&self) -> Option<&Arc<PythonWorkers>> {
        self.python.as_ref()
    }

    /// Keeps what another session keeps now, but for the rows of its DataFrames.
    pub(super) fn take_over(&self, other: &Self) {
        self.uploads.write().clone_from(&other.uploads.read());
        self.checkpoints.write().clone_from(&other.checkpoints.read());
    }

    /// Keeps an artifact.
    pub fn put(&self, name: impl Into<String>, data: Bytes) {
        self.uploads.write().insert(name.into(), data);
    }

    /// An artifact by its name.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.uploads.read().get(name).cloned()
    }

    /// Keeps rows under an id.
    pub fn keep(&self, id: impl Into<String>, checkpoint: Checkpoint) {
        self.checkpoints.write().insert(id.into(), checkpoint);
    }

    /// The rows kept under an id.
    pub fn kept(&self, id: &str) -> Option<Checkpoint> {
        self.checkpoints.read().get(id).cloned()
    }

    /// Forgets the rows kept under an id.
    pub fn forget(&self, id: &str) {
        self.checkpoints.write().remove(id);
    }

    /// The DataFrames whose rows are kept.
    pub(super) fn persisted(&self) -> &Persisted {
        &self.persisted
    }

    /// A blob of the client's cache, by its hash.
    pub fn cached(&self, hash: &str) -> Option<Bytes> {
        self.get(&format!("cache/{hash}"))
    }
}
