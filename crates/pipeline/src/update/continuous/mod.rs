//! The pass of a continuous pipeline: every flow is triggered again and again, until the update is stopped.
//!
//! Each flow has a task of its own ([`flow`]), which runs it as a triggered pass does once, and then waits for its next turn
//! ([`interval`]); what there is to read is cut into batches that take about as long ([`batch_size`]). Tasks know of each other
//! only how the flows are that write what they read ([`Standing`]). A pass ends early, all flows between two batches, if the graph
//! has to be resolved anew: a source has got new columns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::runtime::JoinSet;
use deltaworks_spark::{Error, Result};
use tokio::sync::{Semaphore, watch};

use self::flow::RepeatedFlow;
use self::interval::trigger_interval;
use super::scheduler::Node;
use super::{FlowOutcome, FlowRun, Pass, PassOutcome};
use crate::event::FlowStatus;
use crate::name::DatasetName;

mod batch_size;
mod flow;
mod interval;

pub(super) use self::batch_size::BatchSize;

/// How a flow is, for those that read what it writes. Of several, the last one in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has caught up with its sources, and does so again and again.
    Well,
    /// It has not caught up yet, or failed and will be tried again.
    Behind,
    /// It does not run any more: it failed for good, or waited for one that did.
    Gone,
}

type Standings = HashMap<DatasetName, Standing>;

/// Runs the flows of `nodes` until the update is stopped, or the graph has to be resolved anew, or none of them runs any
/// more. Flows that would go on are [`FlowOutcome::Postponed`]. Flows of `unprepared` have no table and have failed.
///
/// # Errors
/// `Internal` if the task of a flow dies.
pub async fn run(
    pass: &Pass,
    nodes: Vec<Node>,
    unprepared: &HashSet<DatasetName>,
    limit: usize,
) -> Result<PassOutcome> {
    let mut outcome = PassOutcome { flows: pass.finished.clone(), ..PassOutcome::default() };
    outcome.flows.extend(unprepared.iter().map(|flow| (flow.clone(), FlowOutcome::Failed)));
    let gone = outcome.flows.iter().map(|(flow, ended)| (flow.clone(), standing_of(*ended)));
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| !unprepared.contains(&node.flow)).collect();
    let behind = nodes.iter().map(|node| (node.flow.clone(), Standing::Behind));
    let standings = watch::Sender::new(gone.chain(behind).collect::<Standings>());
    let permits = Arc::new(Semaphore::new(limit.max(1)));
    let end_of_pass = pass.stop.child_token();
    let mut tasks = JoinSet::new();
    for node in nodes {
        let mut run = FlowRun { stop: end_of_pass.clone(), ..pass.flow_run(&node.flow) };
        let interval = trigger_interval(run.flow()?, run.output()?)?;
        run.repeats = Some(interval);
        let flow = RepeatedFlow {
            interval,
            run,
            inputs: node.waits_for,
            retries: pass.retries,
            standings: standings.clone(),
            permits: Arc::clone(&permits),
        };
        tasks.spawn(async move { (node.flow, flow.run().await) });
    }
    while let Some(ended) = tasks.join_next().await {
        let (flow, ended) = ended.map_err(|died| Error::internal(format!("the task of a flow died: {died}")))?;
        if ended.has_caught_up {
            outcome.caught_up.insert(flow.clone());
        }
        let how = match ended.outcome {
            FlowOutcome::Stopped if pass.stop.is_cancelled() => {
                pass.flow_event(&flow, FlowStatus::Stopped);
                FlowOutcome::Stopped
            }
            FlowOutcome::Stopped => FlowOutcome::Postponed,
            FlowOutcome::Postponed => {
                end_of_pass.cancel();
                FlowOutcome::Postponed
            }
            how => how,
        };
        outcome.flows.insert(flow.clone(), how);
        outcome.errors.extend(ended.error.map(|error| (flow, error)));
    }
    Ok(outcome)
}

fn standing_of(outcome: FlowOutcome) -> Standing {
    match outcome {
        FlowOutcome::Completed => Standing::Well,
        FlowOutcome::Failed | FlowOutcome::Skipped | FlowOutcome::Stopped | FlowOutcome::Postponed => Standing::Gone,
    }
}
