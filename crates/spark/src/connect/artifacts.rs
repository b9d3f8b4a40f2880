//! What a client has uploaded to its session: files, and data too large for a plan.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

/// Uploaded artifacts by name; blobs of the client's cache are named `cache/<sha256>`.
#[derive(Debug, Clone, Default)]
pub struct Artifacts(Arc<RwLock<HashMap<String, Bytes>>>);

impl Artifacts {
    /// Keeps an artifact.
    pub fn put(&self, name: impl Into<String>, data: Bytes) {
        self.0.write().insert(name.into(), data);
    }

    /// An artifact by its name.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.0.read().get(name).cloned()
    }

    /// A blob of the client's cache, by its hash.
    pub fn cached(&self, hash: &str) -> Option<Bytes> {
        self.get(&format!("cache/{hash}"))
    }
}
