//! One update: the selected flows of a graph, run in order, each committed batch by batch.
//!
//! Start at [`run`]. The protocol by which a batch counts exactly once is in [`batch`], what a flow has
//! done in [`checkpoint`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deltaworks_spark::{Error, Kind, Result};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use crate::definitions::OutputKind;
use crate::event::{Details, EventEmitter, FlowProgress, FlowStatus, Level, UpdateProgress, UpdateState};
use crate::graph::{Environment, Graph, ResolvedFlow};
use crate::locations::ExternalLocations;
use crate::name::DatasetName;

pub mod batch;
pub mod checkpoint;
mod complete;
mod conform;
mod describe;
mod flow;
mod lock;
mod report;
mod retry;
mod scheduler;
pub mod selection;
mod streaming;
pub(crate) mod target;
mod verdict;
pub(crate) mod write;

pub use describe::describe;
pub use flow::FlowRun;
pub use lock::UpdateLock;
pub use scheduler::FlowOutcome;
pub use selection::{Refresh, UpdateRequest};

/// How many flows run at the same time unless configured.
const MAX_CONCURRENT_FLOWS: usize = 16;

/// What one pass over the graph needs.
pub struct Pass {
    /// The pipeline.
    pub environment: Arc<Environment>,
    /// Its graph.
    pub graph: Arc<Graph>,
    /// What happens to each stored dataset.
    pub selection: IndexMap<DatasetName, Refresh>,
    /// Emits the update's events.
    pub emitter: EventEmitter,
    /// Stops the update.
    pub cancel: CancellationToken,
    /// How many flows run at the same time, if set.
    pub max_concurrent_flows: Option<usize>,
    /// How often a flow is tried again after a transient error.
    pub retries: retry::Retries,
}

pub use retry::Retries;

/// How a pass ended.
#[derive(Debug, Default)]
pub struct PassOutcome {
    /// Every flow that was selected.
    pub flows: HashMap<DatasetName, FlowOutcome>,
    /// The error of each flow that failed.
    pub errors: Vec<(DatasetName, Error)>,
}

impl PassOutcome {
    /// Whether every flow was completed.
    pub fn is_complete(&self) -> bool {
        self.flows.values().all(|outcome| *outcome == FlowOutcome::Completed)
    }

    /// Whether some flow failed because the schema of its source grew: a new pass will take it in.
    pub fn schema_evolved(&self) -> bool {
        self.errors.iter().any(|(_, error)| deltaworks_sources::is_schema_evolved(error))
    }
}

/// Runs the selected flows.
///
/// # Errors
/// `Internal` if scheduling itself fails; errors of flows are in the outcome.
pub async fn run(pass: Pass) -> Result<PassOutcome> {
    let pass = Arc::new(pass);
    let errors = Arc::new(parking_lot::Mutex::new(Vec::new()));
    pass.announce_flows();
    let prepared = prepare_tables(&pass, &errors).await;
    pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Running)));
    let limit = pass
        .environment
        .conf
        .get("spark.sql.pipelines.execution.maxConcurrentFlows")
        .and_then(|limit| limit.parse().ok())
        .or(pass.max_concurrent_flows)
        .unwrap_or(MAX_CONCURRENT_FLOWS);
    let nodes = nodes(&pass.graph, &pass.selection);
    let runner = {
        let (pass, errors) = (Arc::clone(&pass), Arc::clone(&errors));
        move |name: DatasetName| {
            let (pass, errors) = (Arc::clone(&pass), Arc::clone(&errors));
            let unprepared = prepared.contains(&name);
            async move { if unprepared { FlowOutcome::Failed } else { run_flow(&pass, name, &errors).await } }
        }
    };
    let skip = |name: &DatasetName| pass.flow_event(name, FlowStatus::Skipped);
    let flows = scheduler::run_all(nodes, limit, runner, skip).await?;
    let errors = std::mem::take(&mut *errors.lock());
    Ok(PassOutcome { flows, errors })
}

impl Pass {
    fn display(&self, name: &DatasetName) -> String {
        name.display_in(&self.environment.namespace)
    }

    fn flow_emitter(&self, name: &DatasetName) -> EventEmitter {
        let target = self.graph.flows.get(name).map_or(name, |flow| &flow.flow.target);
        self.emitter.for_flow(&self.display(name), &self.display(name), &self.display(target))
    }

    fn flow_event(&self, name: &DatasetName, status: FlowStatus) {
        self.flow_emitter(name).emit(Details::FlowProgress(FlowProgress::new(status)));
    }

    /// The state every flow starts in.
    fn announce_flows(&self) {
        for (name, flow) in &self.graph.flows {
            match self.selection.get(&flow.flow.target) {
                Some(Refresh::Excluded) => self.flow_event(name, FlowStatus::Excluded),
                Some(_) => self.flow_event(name, FlowStatus::Queued),
                None => {}
            }
        }
    }
}

/// Creates, evolves or clears the tables of the selected datasets. Returns the flows whose table failed.
async fn prepare_tables(pass: &Pass, errors: &parking_lot::Mutex<Vec<(DatasetName, Error)>>) -> HashSet<DatasetName> {
    if pass.selection.values().any(|refresh| *refresh == Refresh::Full) {
        pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Resetting)));
    }
    pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::SettingUpTables)));
    let mut unprepared = HashSet::new();
    if let Err(error) = note_locations(pass) {
        tracing::warn!(%error, "the places of tables outside of the storage could not be noted");
    }
    for (name, refresh) in pass.selection.iter().filter(|(_, refresh)| **refresh != Refresh::Excluded) {
        let Some(output) = pass.graph.outputs.get(name) else { continue };
        if let Err(error) =
            target::prepare(&pass.environment.lake, output, *refresh, &pass.environment.pipeline_id).await
        {
            let error = error.at(output.output.location.clone());
            for flow in &output.flows {
                failed(&pass.flow_emitter(flow), &error);
                unprepared.insert(flow.clone());
            }
            errors.lock().push((name.clone(), error));
        }
    }
    unprepared
}

/// Notes where tables with a place of their own lie, for queries by name.
fn note_locations(pass: &Pass) -> Result<()> {
    let outputs = pass.graph.outputs.iter().filter(|(name, _)| pass.selection.contains_key(*name));
    let locations =
        outputs.map(|(name, output)| (name, output.location.as_ref().filter(|_| output.output.path.is_some())));
    ExternalLocations::update(&pass.environment.storage.locations_file(), locations)
}

/// The selected flows; each waits for the flows that write what it reads, and for once-flows into its target.
fn nodes(graph: &Graph, selection: &IndexMap<DatasetName, Refresh>) -> Vec<scheduler::Node> {
    let selected =
        |flow: &ResolvedFlow| selection.get(&flow.flow.target).is_some_and(|refresh| *refresh != Refresh::Excluded);
    graph
        .flows
        .iter()
        .filter(|(_, flow)| selected(flow))
        .map(|(name, flow)| scheduler::Node {
            flow: name.clone(),
            waits_for: graph
                .flows
                .iter()
                .filter(|(other, writer)| {
                    *other != name && selected(writer) && flow.reads.iter().any(|read| read.name == writer.flow.target)
                })
                .map(|(other, _)| other.clone())
                .collect(),
        })
        .collect()
}

async fn run_flow(
    pass: &Pass,
    name: DatasetName,
    errors: &parking_lot::Mutex<Vec<(DatasetName, Error)>>,
) -> FlowOutcome {
    let emitter = pass.flow_emitter(&name);
    let progress = |status| emitter.emit(Details::FlowProgress(FlowProgress::new(status)));
    progress(FlowStatus::Starting);
    let target = pass.graph.flows.get(&name).map(|flow| flow.flow.target.clone());
    let refresh = target.as_ref().and_then(|target| pass.selection.get(target)).copied();
    let run = FlowRun {
        environment: Arc::clone(&pass.environment),
        graph: Arc::clone(&pass.graph),
        name: name.clone(),
        emitter: emitter.clone(),
        cancel: pass.cancel.clone(),
        force: refresh == Some(Refresh::Full),
    };
    progress(FlowStatus::Running);
    match retry::with_retries(pass.retries, &emitter, &pass.cancel, || attempt(&run)).await {
        Ok(()) => {
            progress(FlowStatus::Completed);
            FlowOutcome::Completed
        }
        Err(error) if error.kind() == Kind::Cancelled => {
            progress(FlowStatus::Stopped);
            FlowOutcome::Stopped
        }
        Err(error) => {
            let error = match pass.graph.flows.get(&name) {
                Some(flow) => error.at(flow.flow.location.clone()),
                None => error,
            };
            failed(&emitter, &error);
            errors.lock().push((name, error));
            FlowOutcome::Failed
        }
    }
}

async fn attempt(run: &FlowRun) -> Result<()> {
    let flow = run.flow()?;
    match run.output()?.kind {
        OutputKind::MaterializedView => complete::run(run).await,
        _ if flow.flow.once => streaming::run_once(run).await,
        _ => streaming::run(run).await,
    }
}

fn failed(emitter: &EventEmitter, error: &Error) {
    let level = if deltaworks_sources::is_schema_evolved(error) { Level::Warn } else { Level::Error };
    emitter.event(Details::FlowProgress(FlowProgress::new(FlowStatus::Failed))).level(level).error(error).emit();
}
