//! The counts of a dataset's expectations while a batch runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters shared by the partitions of one run of a plan.
#[derive(Debug)]
pub struct ExpectationMetrics {
    dataset: String,
    names: Vec<String>,
    passed: Vec<AtomicU64>,
    failed: Vec<AtomicU64>,
    dropped: AtomicU64,
}

/// The counts of one expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectationCount {
    /// Its name.
    pub name: String,
    /// The dataset that declares it.
    pub dataset: String,
    /// Rows for which the predicate was TRUE.
    pub passed: u64,
    /// All other rows.
    pub failed: u64,
}

impl ExpectationMetrics {
    /// Counters at zero.
    pub fn new(dataset: impl Into<String>, names: Vec<String>) -> Self {
        let zeros = || names.iter().map(|_| AtomicU64::new(0)).collect();
        Self { dataset: dataset.into(), passed: zeros(), failed: zeros(), names, dropped: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, expectation: usize, passed: u64, failed: u64) {
        if let (Some(p), Some(f)) = (self.passed.get(expectation), self.failed.get(expectation)) {
            p.fetch_add(passed, Ordering::Relaxed);
            f.fetch_add(failed, Ordering::Relaxed);
        }
    }

    pub(super) fn add_dropped(&self, rows: u64) {
        self.dropped.fetch_add(rows, Ordering::Relaxed);
    }

    /// The counts so far, in the order of declaration.
    pub fn counts(&self) -> Vec<ExpectationCount> {
        self.names
            .iter()
            .zip(self.passed.iter().zip(&self.failed))
            .map(|(name, (passed, failed))| ExpectationCount {
                name: name.clone(),
                dataset: self.dataset.clone(),
                passed: passed.load(Ordering::Relaxed),
                failed: failed.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// Rows left out because at least one drop expectation did not hold.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Back to zero, for the next batch.
    pub fn reset(&self) {
        for counter in self.passed.iter().chain(&self.failed).chain([&self.dropped]) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
