//! One flow of a continuous pipeline: it waits for its inputs, runs, waits for its next turn, and runs again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use deltaworks_spark::{Error, Kind, Result};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::retry::{Attempts, Retries};
use super::super::streaming::OpenedFlow;
use super::super::{FlowOutcome, FlowRun, attempt, is_postponed};
use super::{Standing, Standings};
use crate::event::{FlowStatus, Level};
use crate::name::DatasetName;

/// A flow that runs until it is stopped.
pub struct RepeatedFlow {
    /// The flow. Its `stop` ends the repetition between two batches.
    pub run: FlowRun,
    /// The flows that write what it reads.
    pub inputs: HashSet<DatasetName>,
    /// From one trigger to the next.
    pub interval: Duration,
    /// How often it is tried again after a transient error.
    pub retries: Retries,
    /// How the flows of the pass are.
    pub standings: watch::Sender<Standings>,
    /// One for each flow that may work at the same time.
    pub permits: Arc<Semaphore>,
}

/// How the repetition of a flow ended.
pub struct Ended {
    /// `Stopped` if it would go on; `Postponed` if it goes on once the graph has been resolved anew.
    pub outcome: FlowOutcome,
    /// Why it failed or is postponed.
    pub error: Option<Error>,
    /// Whether it had caught up with its sources at least once.
    pub has_caught_up: bool,
}

/// Whether `error` means that the flow was planned for other columns than its source has: it goes on once the graph has
/// been resolved anew.
fn ends_pass(error: &Error) -> bool {
    is_postponed(error) || deltaworks_lake::are_columns_changed(error)
}

impl RepeatedFlow {
    /// Runs the flow until it is stopped, fails for good, or has nothing to do ever again.
    pub async fn run(mut self) -> Ended {
        let mut has_caught_up = false;
        let (outcome, error) = match self.repeat(&mut has_caught_up).await {
            Ok(outcome) => (outcome, None),
            Err(error) if error.kind() == Kind::Cancelled => (FlowOutcome::Stopped, None),
            Err(error) if ends_pass(&error) => (FlowOutcome::Postponed, Some(self.run.located(error))),
            Err(error) => (FlowOutcome::Failed, Some(self.run.located(error))),
        };
        let status = &self.run.status;
        match (outcome, &error) {
            (FlowOutcome::Postponed, Some(error)) => status.failed(error, Level::Warn),
            (_, Some(error)) => status.failed(error, Level::Error),
            (FlowOutcome::Completed, None) => status.tell(FlowStatus::Completed),
            (FlowOutcome::Skipped, None) => status.tell(FlowStatus::Skipped),
            // Whether it is stopped or goes on in another pass is not known here.
            (FlowOutcome::Failed | FlowOutcome::Stopped | FlowOutcome::Postponed, None) => {}
        }
        self.stand(match outcome {
            FlowOutcome::Completed => Standing::Well,
            FlowOutcome::Stopped | FlowOutcome::Postponed => Standing::Behind,
            FlowOutcome::Failed | FlowOutcome::Skipped => Standing::Gone,
        });
        Ended { outcome, error, has_caught_up }
    }

    async fn repeat(&mut self, has_caught_up: &mut bool) -> Result<FlowOutcome> {
        let once = self.run.flow()?.flow.once;
        let mut attempts = Attempts::new(self.retries);
        let mut opened = None;
        loop {
            if self.inputs().await? == Standing::Gone {
                return Ok(FlowOutcome::Skipped);
            }
            let triggered = Instant::now();
            match self.trigger(&mut opened).await {
                Ok(()) => {
                    *has_caught_up = true;
                    if once {
                        return Ok(FlowOutcome::Completed);
                    }
                    attempts = Attempts::new(self.retries);
                    // A full refresh is asked for once.
                    self.run.force = false;
                    self.run.status.tell(FlowStatus::Idle);
                    self.stand(Standing::Well);
                    self.wait_until(triggered + self.interval).await?;
                }
                Err(error) => {
                    // What was open may be ahead of what was committed.
                    opened = None;
                    let wait = if ends_pass(&error) { None } else { attempts.next_wait(&error) };
                    let Some(wait) = wait else { return Err(error) };
                    self.stand(Standing::Behind);
                    self.run.status.failed_for_now(&error);
                    self.wait_until(Instant::now() + wait).await?;
                }
            }
        }
    }

    /// Processes what is there now.
    async fn trigger(&self, opened: &mut Option<OpenedFlow>) -> Result<()> {
        let permit = tokio::select! {
            biased;
            () = self.run.stop.cancelled() => return self.run.check_stop(),
            permit = self.permits.acquire() => permit,
        };
        let _permit = permit.map_err(|_| Error::internal("the permits of flows are closed"))?;
        let status = &self.run.status;
        // A flow that has been idle runs once it has found something to do.
        if !status.is(FlowStatus::Idle) {
            if !status.is(FlowStatus::Failed) {
                status.tell(FlowStatus::Starting);
            }
            status.tell(FlowStatus::Running);
        }
        attempt(&self.run, opened).await
    }

    /// How the flows that write what this one reads are, once none of them is behind or one of them is gone.
    async fn inputs(&self) -> Result<Standing> {
        let all = |standings: &Standings| {
            let of_inputs = self.inputs.iter().filter_map(|input| standings.get(input)).copied();
            of_inputs.max().unwrap_or(Standing::Well)
        };
        let mut standings = self.standings.subscribe();
        let known = async {
            let settled = standings.wait_for(|standings| all(standings) != Standing::Behind).await;
            settled.map(|standings| all(&standings))
        };
        tokio::select! {
            biased;
            () = self.run.stop.cancelled() => self.run.check_stop().map(|()| Standing::Well),
            known = known => known.map_err(|_| Error::internal("the standings of flows are closed")),
        }
    }

    async fn wait_until(&self, time: Instant) -> Result<()> {
        tokio::select! {
            biased;
            () = self.run.stop.cancelled() => {}
            () = tokio::time::sleep_until(time) => {}
        }
        self.run.check_stop()
    }

    fn stand(&self, standing: Standing) {
        self.standings
            .send_if_modified(|standings| standings.insert(self.run.name.clone(), standing) != Some(standing));
    }
}
