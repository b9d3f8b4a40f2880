//! What the aggregates of a dataset came to in one batch, and what that means for its conditions.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use deltaworks_spark::{Error, Kind};
use parking_lot::Mutex;

use super::compiled::{ConditionOutcome, Conditions, PartialState};
use crate::definitions::ExpectationAction;
use crate::expectation::metrics::ExpectationCount;

/// The runs of one node's operators in one batch.
#[derive(Debug, Default)]
pub struct Tally {
    runs: Mutex<Vec<Arc<Run>>>,
}

/// One operator's run over its partitions.
#[derive(Debug)]
pub struct Run {
    conditions: Arc<Conditions>,
    partitions: usize,
    states: Mutex<Vec<PartialState>>,
}

/// How the conditions of one dataset came out.
#[derive(Debug, Clone)]
pub struct Verdict {
    dataset: String,
    outcomes: Vec<ConditionOutcome>,
}

impl Tally {
    /// Forgets earlier batches and attempts.
    pub fn reset(&self) {
        self.runs.lock().clear();
    }

    pub(super) fn begin(&self, conditions: Arc<Conditions>, partitions: usize) -> Arc<Run> {
        let run = Arc::new(Run { conditions, partitions, states: Mutex::default() });
        self.runs.lock().push(Arc::clone(&run));
        run
    }

    /// The runs whose rows have all passed. A reader that stops early leaves its run unfinished.
    pub fn finished(&self) -> Vec<Arc<Run>> {
        self.runs.lock().iter().filter(|run| run.is_finished()).cloned().collect()
    }

    /// The only run, over all rows.
    ///
    /// # Errors
    /// `Internal` if the rows did not all pass exactly once.
    pub fn complete(&self) -> Result<Arc<Run>> {
        match self.runs.lock().as_slice() {
            [run] if run.is_finished() => Ok(Arc::clone(run)),
            runs => Err(DataFusionError::Internal(format!("{} runs of the aggregates, not one", runs.len()))),
        }
    }
}

impl Run {
    pub(super) fn finished(&self, state: PartialState) {
        self.states.lock().push(state);
    }

    fn is_finished(&self) -> bool {
        self.states.lock().len() == self.partitions
    }

    /// Evaluates the conditions over the rows of this run and of `others`.
    pub fn verdict(&self, others: &[Arc<Run>]) -> Result<Verdict> {
        let own = self.states.lock();
        let others: Vec<_> = others.iter().map(|run| run.states.lock()).collect();
        let states = own.iter().chain(others.iter().flat_map(|states| states.iter()));
        let outcomes = self.conditions.evaluate(states)?;
        Ok(Verdict { dataset: self.conditions.dataset.clone(), outcomes })
    }
}

impl Verdict {
    /// One record per condition: the dataset as a whole.
    pub fn counts(&self) -> impl Iterator<Item = ExpectationCount> {
        self.outcomes.iter().map(|outcome| ExpectationCount {
            name: outcome.name.clone(),
            dataset: self.dataset.clone(),
            passed: u64::from(outcome.holds),
            failed: u64::from(!outcome.holds),
        })
    }

    /// The error of the fail conditions that do not hold.
    pub fn violation(&self) -> Option<Error> {
        let violated: Vec<_> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.action == ExpectationAction::Fail && !outcome.holds)
            .collect();
        if violated.is_empty() {
            return None;
        }
        let names: Vec<_> = violated.iter().map(|outcome| outcome.name.as_str()).collect();
        let mut values: Vec<&str> = Vec::new();
        for value in violated.iter().flat_map(|outcome| &outcome.values) {
            if !values.contains(&value.as_str()) {
                values.push(value);
            }
        }
        let error = Error::new(
            Kind::Data,
            format!(
                "Flow '{}' failed to meet the expectation. Violated expectations: '{}'. Aggregates: {}.",
                self.dataset,
                names.join(", "),
                values.join(", ")
            ),
        )
        .with_condition("EXPECTATION_VIOLATION.VERBOSITY_OUTPUT")
        .with_help("The table is as it was before. Fix the data, or leave FAIL UPDATE out (expect) to only record it.");
        Some(error)
    }
}
