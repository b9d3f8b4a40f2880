//! One update: the selected flows of a graph, run in order, each committed batch by batch.
//!
//! Start at [`Rounds`]; [`run`] is one round of it. The protocol by which a batch counts exactly once is in [`batch`], what a flow has
//! done in [`checkpoint`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deltaworks_spark::{Error, Kind, Result};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use self::status::Status;
use self::streaming::OpenedFlow;
use crate::definitions::OutputKind;
use crate::definitions::python::{BatchFunctions, SnapshotFunctions};
use crate::event::{Details, EventEmitter, FlowProgress, FlowStatus, Level, UpdateProgress, UpdateState};
use crate::graph::{Environment, Graph, ResolvedFlow, ResolvedOutput};
use crate::locations::ExternalLocations;
use crate::name::DatasetName;

pub mod batch;
pub mod changes;
pub mod checkpoint;
pub(crate) mod compaction;
pub(crate) mod complete;
mod conform;
mod continuous;
mod delivery;
mod describe;
mod flow;
mod input;
mod lock;
mod nullability;
mod report;
mod retry;
mod rounds;
mod scheduler;
pub mod selection;
mod sink;
mod stateful;
mod status;
mod streaming;
pub(crate) mod target;
mod verdict;
pub(crate) mod write;

pub(crate) use delivery::Shown;
pub use describe::describe;
pub use flow::{FlowRun, snapshot};
pub use lock::UpdateLock;
pub use retry::Retries;
pub use rounds::{Rounds, RoundsOutcome};
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
    /// How flows ended in earlier rounds; they do not run again.
    pub finished: HashMap<DatasetName, FlowOutcome>,
    /// The datasets whose tables earlier rounds created or cleared.
    pub prepared: HashSet<DatasetName>,
    /// Emits the update's events.
    pub emitter: EventEmitter,
    /// No batch begins after it.
    pub stop: CancellationToken,
    /// Gives up the batches under way.
    pub cancel: CancellationToken,
    /// Whether flows run again and again until they are stopped, instead of once.
    pub repeats: bool,
    /// How many flows run at the same time, if set.
    pub max_concurrent_flows: Option<usize>,
    /// How often a flow is tried again after a transient error.
    pub retries: retry::Retries,
    /// Calls the functions of sinks; `None` if the pipeline has none.
    pub functions: Option<BatchFunctions>,
    /// Calls the functions that give snapshots; `None` without a Python process.
    pub snapshot_functions: Option<SnapshotFunctions>,
}

/// How a pass ended.
#[derive(Debug, Default)]
pub struct PassOutcome {
    /// Every flow that was selected.
    pub flows: HashMap<DatasetName, FlowOutcome>,
    /// The error of each flow that failed or was postponed.
    pub errors: Vec<(DatasetName, Error)>,
    /// The datasets whose tables have been created or cleared in this update.
    pub prepared: HashSet<DatasetName>,
    /// The flows that have caught up with their sources at least once.
    pub caught_up: HashSet<DatasetName>,
}

/// Runs the selected flows: once, or again and again until they are stopped or the graph has to be resolved anew.
///
/// # Errors
/// `Internal` if scheduling itself fails; errors of flows are in the outcome.
pub async fn run(mut pass: Pass) -> Result<PassOutcome> {
    let errors = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let first = pass.finished.is_empty() && pass.prepared.is_empty();
    pass.announce_flows(first);
    let mut prepared = std::mem::take(&mut pass.prepared);
    let unprepared = prepare_tables(&pass, &mut prepared, &errors).await;
    if first {
        pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Running)));
    }
    let pass = Arc::new(pass);
    let limit = pass
        .environment
        .conf
        .get("spark.sql.pipelines.execution.maxConcurrentFlows")
        .and_then(|limit| limit.parse().ok())
        .or(pass.max_concurrent_flows)
        .unwrap_or(MAX_CONCURRENT_FLOWS);
    let nodes = nodes(&pass.graph, &pass.selection, &pass.finished);
    if pass.repeats {
        let outcome = continuous::run(&pass, nodes, &unprepared, limit).await?;
        let errors = std::mem::take(&mut *errors.lock()).into_iter().chain(outcome.errors).collect();
        return Ok(PassOutcome { prepared, errors, ..outcome });
    }
    let runner = {
        let (pass, errors) = (Arc::clone(&pass), Arc::clone(&errors));
        move |name: DatasetName| {
            let (pass, errors) = (Arc::clone(&pass), Arc::clone(&errors));
            let unprepared = unprepared.contains(&name);
            async move { if unprepared { FlowOutcome::Failed } else { run_flow(&pass, name, &errors).await } }
        }
    };
    let skip = |name: &DatasetName| pass.flow_event(name, FlowStatus::Skipped);
    let flows = scheduler::run_all(nodes, pass.finished.clone(), limit, runner, skip).await?;
    let errors = std::mem::take(&mut *errors.lock());
    let caught_up = flows.iter().filter(|(_, outcome)| **outcome == FlowOutcome::Completed);
    let caught_up = caught_up.map(|(flow, _)| flow.clone()).collect();
    Ok(PassOutcome { flows, errors, prepared, caught_up })
}

impl Pass {
    fn flow_emitter(&self, name: &DatasetName) -> EventEmitter {
        let target = self.graph.flows.get(name).map_or(name, |flow| &flow.flow.target);
        flow_emitter(&self.emitter, &self.environment, name, target)
    }

    /// What a flow needs to run.
    fn flow_run(&self, name: &DatasetName) -> FlowRun {
        let emitter = self.flow_emitter(name);
        let target = self.graph.flows.get(name).map(|flow| &flow.flow.target);
        FlowRun {
            environment: Arc::clone(&self.environment),
            graph: Arc::clone(&self.graph),
            name: name.clone(),
            status: Status::new(emitter.clone()),
            emitter,
            stop: self.stop.clone(),
            cancel: self.cancel.clone(),
            repeats: None,
            force: target.and_then(|target| self.selection.get(target)) == Some(&Refresh::Full),
            functions: self.functions.clone(),
            snapshot_functions: self.snapshot_functions.clone(),
        }
    }

    fn flow_event(&self, name: &DatasetName, status: FlowStatus) {
        self.flow_emitter(name).emit(Details::FlowProgress(FlowProgress::new(status)));
    }

    /// The state every flow starts in.
    fn announce_flows(&self, first: bool) {
        for (name, flow) in self.graph.flows.iter().filter(|(name, _)| !self.finished.contains_key(*name)) {
            match self.selection.get(&flow.flow.target) {
                Some(Refresh::Excluded) if !first => {}
                Some(Refresh::Excluded) => self.flow_event(name, FlowStatus::Excluded),
                Some(_) => self.flow_event(name, FlowStatus::Queued),
                None => {}
            }
        }
    }
}

fn flow_emitter(
    emitter: &EventEmitter,
    environment: &Environment,
    flow: &DatasetName,
    target: &DatasetName,
) -> EventEmitter {
    let flow = flow.display_in(&environment.namespace);
    emitter.for_flow(&flow, &flow, &target.display_in(&environment.namespace))
}

/// Creates, evolves or clears the tables of the selected datasets that have flows to run. A table that an earlier
/// round cleared is not cleared again. Returns the flows whose table failed.
async fn prepare_tables(
    pass: &Pass,
    prepared: &mut HashSet<DatasetName>,
    errors: &parking_lot::Mutex<Vec<(DatasetName, Error)>>,
) -> HashSet<DatasetName> {
    if prepared.is_empty() {
        if pass.selection.values().any(|refresh| *refresh == Refresh::Full) {
            pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Resetting)));
        }
        pass.emitter.emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::SettingUpTables)));
    }
    let mut unprepared = HashSet::new();
    if let Err(error) = note_locations(pass) {
        tracing::warn!(%error, "the places of tables outside of the storage could not be noted");
    }
    for (name, refresh) in pass.selection.iter().filter(|(_, refresh)| **refresh != Refresh::Excluded) {
        let Some(output) = pass.graph.outputs.get(name) else { continue };
        if output.flows.iter().all(|flow| pass.finished.contains_key(flow)) {
            continue;
        }
        let refresh = if prepared.contains(name) { Refresh::Incremental } else { *refresh };
        match prepare_table(pass, output, refresh).await {
            Ok(stopped) => {
                if refresh == Refresh::Full {
                    pass.environment.resets.done(name);
                }
                prepared.insert(name.clone());
                for (flow, error) in stopped {
                    failed(&pass.flow_emitter(&flow), &error);
                    unprepared.insert(flow);
                    errors.lock().push((name.clone(), error));
                }
            }
            Err(error) => {
                let error = error.at(output.output.location.clone());
                for flow in &output.flows {
                    failed(&pass.flow_emitter(flow), &error);
                    unprepared.insert(flow.clone());
                }
                errors.lock().push((name.clone(), error));
            }
        }
    }
    unprepared
}

/// Creates, evolves or clears one table, unless none of its flows could add to it. Gives the flows that cannot go on where
/// they stopped.
async fn prepare_table(pass: &Pass, output: &ResolvedOutput, refresh: Refresh) -> Result<Vec<(DatasetName, Error)>> {
    let environment = &pass.environment;
    let location = output.location.as_ref().ok_or_else(|| Error::internal("a view has no table"))?;
    let stored = environment.lake.open(location, None).await?;
    let flows: Vec<&ResolvedFlow> = output
        .flows
        .iter()
        .filter(|flow| !pass.finished.contains_key(*flow))
        .filter_map(|flow| pass.graph.flows.get(flow))
        .collect();
    let mut stopped = Vec::new();
    if let (Some(table), Refresh::Incremental) = (&stored, refresh) {
        for flow in &flows {
            if let Err(error) = streaming::check_continues(environment, flow, table).await {
                stopped.push((flow.flow.name.clone(), error.at(flow.flow.location.clone())));
            }
        }
    }
    if stopped.is_empty() || stopped.len() < flows.len() {
        let (lake, pipeline_id) = (&environment.lake, &environment.pipeline_id);
        match output.output.sink {
            Some(ref sink) if sink.is_table() => sink::prepare(lake, stored, output, refresh, pipeline_id).await?,
            Some(_) => sink::prepare_deliveries(environment, stored, output, refresh).await?,
            None => target::prepare(environment, stored, output, refresh).await?,
        };
    }
    Ok(stopped)
}

/// Notes where tables with a place of their own lie, for queries by name.
fn note_locations(pass: &Pass) -> Result<()> {
    let outputs = pass.graph.outputs.iter().filter(|(name, _)| pass.selection.contains_key(*name));
    let locations =
        outputs.map(|(name, output)| (name, output.location.as_ref().filter(|_| output.output.path.is_some())));
    ExternalLocations::update(&pass.environment.storage.locations_file(), locations)
}

/// The selected flows that have not ended yet; each waits for the flows that write what it reads, and what its
/// function asked the schema of.
fn nodes(
    graph: &Graph,
    selection: &IndexMap<DatasetName, Refresh>,
    finished: &HashMap<DatasetName, FlowOutcome>,
) -> Vec<scheduler::Node> {
    let selected =
        |flow: &ResolvedFlow| selection.get(&flow.flow.target).is_some_and(|refresh| *refresh != Refresh::Excluded);
    let inputs = |flow: &ResolvedFlow| -> HashSet<DatasetName> {
        let asked = flow.flow.asked.iter().flat_map(|asked| graph.stored_below(asked).unwrap_or_default());
        flow.reads.iter().map(|read| read.name.clone()).chain(asked).collect()
    };
    graph
        .flows
        .iter()
        .filter(|(name, flow)| selected(flow) && !finished.contains_key(*name))
        .map(|(name, flow)| {
            let inputs = inputs(flow);
            let waits_for = graph
                .flows
                .iter()
                .filter(|(other, writer)| *other != name && selected(writer) && inputs.contains(&writer.flow.target))
                .map(|(other, _)| other.clone())
                .collect();
            scheduler::Node { flow: name.clone(), waits_for }
        })
        .collect()
}

async fn run_flow(
    pass: &Pass,
    name: DatasetName,
    errors: &parking_lot::Mutex<Vec<(DatasetName, Error)>>,
) -> FlowOutcome {
    let run = pass.flow_run(&name);
    run.status.tell(FlowStatus::Starting);
    run.status.tell(FlowStatus::Running);
    let attempt = || async { attempt(&run, &mut None).await };
    match retry::with_retries(pass.retries, &run.status, &pass.stop, attempt).await {
        Ok(()) => {
            run.status.tell(FlowStatus::Completed);
            FlowOutcome::Completed
        }
        Err(error) if error.kind() == Kind::Cancelled => {
            run.status.tell(FlowStatus::Stopped);
            FlowOutcome::Stopped
        }
        Err(error) => {
            let error = run.located(error);
            failed(&run.emitter, &error);
            let postponed = is_postponed(&error);
            errors.lock().push((name, error));
            if postponed { FlowOutcome::Postponed } else { FlowOutcome::Failed }
        }
    }
}

/// Runs a flow until everything that is there now has been processed. What it needs the next time stays in `opened`.
async fn attempt(run: &FlowRun, opened: &mut Option<OpenedFlow>) -> Result<()> {
    run.check_stop()?;
    let flow = run.flow()?;
    match run.output()?.kind {
        OutputKind::MaterializedView => complete::run(run).await,
        _ if flow.flow.query.snapshot_function().is_some() => changes::run_function(run).await,
        _ if flow.changes.as_ref().is_some_and(|changes| changes.snapshot) => changes::run_snapshot(run).await,
        _ if flow.flow.once => streaming::run_once(run).await,
        _ => streaming::run(run, opened).await,
    }
}

/// Whether a flow that ended with `error` goes on once the graph has been resolved again.
fn is_postponed(error: &Error) -> bool {
    deltaworks_sources::is_schema_evolved(error) || changes::needs_other_graph(error)
}

fn failed(emitter: &EventEmitter, error: &Error) {
    let level = if is_postponed(error) { Level::Warn } else { Level::Error };
    emitter.event(Details::FlowProgress(FlowProgress::new(FlowStatus::Failed))).level(level).error(error).emit();
}
