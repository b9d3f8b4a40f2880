//! An update as rounds over the graph: what is known runs, then what waited for it becomes known.
//!
//! Most updates are one round. Another follows when a source has grown a column (the flow and what depends on it
//! run again, nothing else does), and when a Python function reads rows of datasets before it can say its query:
//! it is called once those datasets are up to date.
//!
//! The rounds of a continuous update are the same until every query is known. The one after them runs until the update
//! is stopped, or a source has grown a column.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deltaworks_spark::diagnostic::{Diagnostic, Severity};
use deltaworks_spark::{Error, Kind, Result};
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::changes::latest_version;
use super::{FlowOutcome, Pass, Refresh, Retries, UpdateRequest, describe, failed, flow_emitter, run, selection};
use crate::definitions::python::{Evaluated, PythonSession};
use crate::definitions::snapshots::{SnapshotAnswer, SnapshotVersion};
use crate::definitions::{Definitions, Flow};
use crate::event::{Details, EventEmitter, FlowProgress, FlowStatus};
use crate::graph::{Environment, Graph, PendingFlow, resolve};
use crate::name::DatasetName;

/// How often one flow is started again because its source has grown.
const MAX_SCHEMA_CHANGES: usize = 20;

/// An update in progress.
pub struct Rounds {
    /// The pipeline.
    pub environment: Arc<Environment>,
    /// What the source files declare, and what functions said since.
    pub definitions: Definitions,
    /// Calls functions again; `None` if no function needs it.
    pub python: Option<PythonSession>,
    /// What the update was asked to do.
    pub request: UpdateRequest,
    /// Emits the update's events.
    pub emitter: EventEmitter,
    /// Stops the update.
    pub cancel: CancellationToken,
    /// Whether flows run until the update is stopped.
    pub continuous: bool,
    /// How many flows run at the same time, if set.
    pub max_concurrent_flows: Option<usize>,
    /// How often a flow is tried again after a transient error.
    pub retries: Retries,
}

/// How the flows of an update ended.
#[derive(Debug, Default)]
pub struct RoundsOutcome {
    /// Every flow that was selected.
    pub flows: HashMap<DatasetName, FlowOutcome>,
    /// Why flows failed.
    pub problems: Vec<Diagnostic>,
}

impl RoundsOutcome {
    /// Whether every flow was completed.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.flows.values().all(|outcome| *outcome == FlowOutcome::Completed)
    }
}

/// Whether the rows of a dataset may be read by a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Waiting,
    /// It will not be up to date in this update.
    Failed,
}

impl Rounds {
    /// What gives up the batches under way.
    pub fn cancel_of_batches(&self) -> CancellationToken {
        // A continuous update is stopped in its normal course: no batch is given up for it.
        if self.continuous { CancellationToken::new() } else { self.cancel.clone() }
    }

    /// Runs `graph`, and what it grows into, to the end.
    ///
    /// # Errors
    /// If the selection is not valid, or scheduling itself fails; errors of flows are in the outcome.
    pub async fn run(mut self, mut graph: Graph) -> Result<RoundsOutcome> {
        let mut outcome = RoundsOutcome::default();
        let mut prepared = HashSet::new();
        let mut restarts: HashMap<DatasetName, usize> = HashMap::new();
        let mut described = HashSet::new();
        loop {
            let selection = selection::select(&graph, &self.request, &self.environment.namespace)?;
            describe(&graph, &self.environment.namespace, &self.emitter, &mut described);
            if self.evaluate_ready(&graph, &selection, &prepared, &mut outcome).await? {
                graph = self.resolve_again(&mut outcome).await;
                continue;
            }
            let is_known = |flow: &&PendingFlow| outcome.flows.contains_key(&flow.flow.name);
            let repeats = self.continuous && needed(&graph, &selection).iter().all(is_known);
            let mut finished = outcome.flows.clone();
            // What has caught up goes on; what failed for good does not.
            finished.retain(|_, ended| !repeats || *ended != FlowOutcome::Completed);
            let graph_of_pass = Arc::new(graph);
            let pass = run(Pass {
                environment: Arc::clone(&self.environment),
                graph: Arc::clone(&graph_of_pass),
                selection,
                finished,
                prepared: std::mem::take(&mut prepared),
                emitter: self.emitter.clone(),
                stop: self.cancel.clone(),
                cancel: self.cancel_of_batches(),
                repeats,
                max_concurrent_flows: self.max_concurrent_flows,
                retries: self.retries,
                functions: self.python.as_ref().map(PythonSession::batch_functions),
                snapshot_functions: self.python.as_ref().map(|python| {
                    let definitions = Arc::new(self.definitions.clone());
                    python.snapshot_functions(definitions)
                }),
            })
            .await?;
            prepared = pass.prepared;
            let mut evolved = HashSet::new();
            for (flow, error) in pass.errors {
                if pass.flows.get(&flow) == Some(&FlowOutcome::Postponed) {
                    if pass.caught_up.contains(&flow) {
                        restarts.remove(&flow);
                    }
                    let restarts = restarts.entry(flow.clone()).or_default();
                    *restarts += 1;
                    if *restarts > MAX_SCHEMA_CHANGES {
                        return Err(too_many_changes(&flow));
                    }
                    evolved.extend(graph_of_pass.flows.get(&flow).map(|flow| flow.flow.target.clone()));
                    self.forget_snapshot(&flow);
                } else {
                    outcome.problems.push(error.to_diagnostic());
                }
            }
            let before = outcome.flows.len();
            let ended = pass.flows.into_iter().filter(|(_, ended)| *ended != FlowOutcome::Postponed);
            outcome.flows.extend(ended);
            let progress = outcome.flows.len() > before || !evolved.is_empty();
            let all_known = repeats || graph_of_pass.pending.is_empty();
            let stopped = self.cancel.is_cancelled();
            if stopped || !progress || (evolved.is_empty() && all_known) {
                self.skip_pending(&graph_of_pass, &mut outcome)?;
                if stopped || repeats || !self.continuous {
                    break;
                }
            }
            if !evolved.is_empty() {
                self.defer_askers(&graph_of_pass, evolved);
            }
            graph = self.resolve_again(&mut outcome).await;
        }
        if let Some(python) = self.python.take() {
            python.close().await;
        }
        Ok(outcome)
    }

    /// Calls the functions whose inputs are up to date; whether the graph has to be resolved again.
    async fn evaluate_ready(
        &mut self,
        graph: &Graph,
        selection: &IndexMap<DatasetName, Refresh>,
        prepared: &HashSet<DatasetName>,
        outcome: &mut RoundsOutcome,
    ) -> Result<bool> {
        let readiness = |name: &DatasetName| readiness(graph, selection, &outcome.flows, name);
        let settled: HashSet<DatasetName> =
            selection.keys().filter(|name| readiness(name) == Readiness::Ready).cloned().collect();
        let deferred: Vec<(PendingFlow, Readiness)> = needed(graph, selection)
            .into_iter()
            .filter(|flow| flow.is_deferred() && !outcome.flows.contains_key(&flow.flow.name))
            .map(|flow| (flow.clone(), flow.waits_for.as_ref().map_or(Readiness::Ready, readiness)))
            .collect();
        let mut changed = false;
        for (pending, readiness) in deferred {
            let emitter = flow_emitter(&self.emitter, &self.environment, &pending.flow.name, &pending.flow.target);
            match readiness {
                Readiness::Waiting => {}
                Readiness::Failed => {
                    emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Skipped)));
                    outcome.flows.insert(pending.flow.name.clone(), FlowOutcome::Skipped);
                }
                Readiness::Ready => {
                    emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Planning)));
                    let target = &pending.flow.target;
                    let refresh = match selection.get(target) {
                        // It is empty by now.
                        Some(Refresh::Full) if prepared.contains(target) => Refresh::Incremental,
                        selected => selected.copied().unwrap_or(Refresh::Excluded),
                    };
                    if let Err(error) = self.evaluate(&pending, refresh, settled.clone()).await {
                        if error.kind() == Kind::Cancelled {
                            return Ok(false);
                        }
                        let error = error.at(pending.flow.location.clone());
                        failed(&emitter, &error);
                        outcome.problems.push(error.to_diagnostic());
                        outcome.flows.insert(pending.flow.name.clone(), FlowOutcome::Failed);
                    }
                    changed = true;
                }
            }
        }
        Ok(changed)
    }

    /// Calls one function, whose target is going to be refreshed like this, and takes its query, or what it waits for, into
    /// the definitions.
    async fn evaluate(&mut self, pending: &PendingFlow, refresh: Refresh, settled: HashSet<DatasetName>) -> Result<()> {
        let latest = match (pending.flow.query.snapshot_function(), refresh) {
            (Some(_), Refresh::Incremental | Refresh::Excluded) => self.latest_version(&pending.flow).await?,
            (Some(_), Refresh::Full) | (None, _) => None,
        };
        if let (Some(_), Refresh::Excluded) = (pending.flow.query.snapshot_function(), refresh) {
            let mut flow = pending.flow.clone();
            if let Some(function) = flow.query.snapshot_function_mut() {
                function.answer = Some(SnapshotAnswer { after: latest, next: None });
            }
            self.definitions.replace(flow);
            return Ok(());
        }
        let python = self.python.as_mut().ok_or_else(|| {
            Error::internal(format!("there is no Python process to evaluate flow `{}`", pending.flow.name.name))
        })?;
        let definitions = Arc::new(self.definitions.clone());
        let evaluated = tokio::select! {
            () = self.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
            evaluated = async {
                match pending.flow.query.snapshot_function() {
                    Some(_) => {
                        let functions = python.snapshot_functions(definitions);
                        functions.next(&pending.flow, latest.as_ref(), settled).await
                    }
                    None => python.evaluate(&pending.flow, &definitions, settled).await,
                }
            } => evaluated?,
        };
        let mut flow = pending.flow.clone();
        match evaluated {
            Evaluated::Query(query) => flow = *query,
            Evaluated::WaitsFor(dataset) if Some(&dataset) == pending.waits_for.as_ref() => {
                return Err(Error::internal(format!("flow `{}` waits for `{dataset}` in vain", flow.name.name)));
            }
            Evaluated::WaitsFor(dataset) => flow.query.defer(dataset),
        }
        self.definitions.replace(flow);
        Ok(())
    }

    /// The version of the last snapshot that the target of `flow` has.
    async fn latest_version(&self, flow: &Flow) -> Result<Option<SnapshotVersion>> {
        let output = self.definitions.outputs.iter().find(|output| output.name == flow.target);
        let output = output.ok_or_else(|| Error::internal(format!("`{}` is not defined", flow.target)))?;
        latest_version(&self.environment, output, flow).await
    }

    /// The next snapshot of `flow` is asked for again before the graph is resolved.
    fn forget_snapshot(&mut self, flow: &DatasetName) {
        let mut flows = self.definitions.flows.iter_mut();
        if let Some(function) =
            flows.find(|known| known.name == *flow).and_then(|flow| flow.query.snapshot_function_mut())
        {
            function.answer = None;
        }
    }

    /// Functions that asked for a schema which has grown are called again when their turn comes.
    fn defer_askers(&mut self, graph: &Graph, mut stale: HashSet<DatasetName>) {
        loop {
            let reads_stale = |name: &DatasetName| {
                let output = graph.outputs.get(name);
                let flows =
                    output.into_iter().flat_map(|output| &output.flows).filter_map(|flow| graph.flows.get(flow));
                flows.into_iter().any(|flow| flow.references.iter().any(|reference| stale.contains(reference)))
            };
            let more: Vec<_> =
                graph.outputs.keys().filter(|name| !stale.contains(*name) && reads_stale(name)).cloned().collect();
            if more.is_empty() {
                break;
            }
            stale.extend(more);
        }
        for flow in &mut self.definitions.flows {
            if let Some(asked) = flow.asked.iter().find(|asked| stale.contains(*asked)).cloned() {
                flow.query.defer(asked);
            }
        }
    }

    /// The graph of the definitions as they are now. Flows that turn out to be wrong have failed.
    async fn resolve_again(&mut self, outcome: &mut RoundsOutcome) -> Graph {
        let (graph, diagnostics) = resolve(&self.definitions, &self.environment).await;
        let new: Vec<Diagnostic> = diagnostics
            .into_iter()
            .filter(|found| found.severity == Severity::Error && !outcome.problems.contains(found))
            .collect();
        for flow in &self.definitions.flows {
            let known = graph.outputs.contains_key(&flow.target) || graph.pending.contains_key(&flow.target);
            if known || outcome.flows.contains_key(&flow.name) {
                continue;
            }
            let error =
                Error::from_diagnostics(format!("flow `{}` could not be resolved", flow.name.name), new.clone());
            failed(&flow_emitter(&self.emitter, &self.environment, &flow.name, &flow.target), &error);
            outcome.flows.insert(flow.name.clone(), FlowOutcome::Failed);
        }
        outcome.problems.extend(new);
        graph
    }

    /// What never became known was waiting for something that failed.
    fn skip_pending(&self, graph: &Graph, outcome: &mut RoundsOutcome) -> Result<()> {
        let selection = selection::select(graph, &self.request, &self.environment.namespace)?;
        for flow in needed(graph, &selection) {
            if !outcome.flows.contains_key(&flow.flow.name) {
                let emitter = flow_emitter(&self.emitter, &self.environment, &flow.flow.name, &flow.flow.target);
                emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Skipped)));
                outcome.flows.insert(flow.flow.name.clone(), FlowOutcome::Skipped);
            }
        }
        Ok(())
    }
}

/// The pending flows that write what is selected, or what those wait for.
fn needed<'a>(graph: &'a Graph, selection: &IndexMap<DatasetName, Refresh>) -> Vec<&'a PendingFlow> {
    let selected = |name: &&DatasetName| selection.get(*name).is_some_and(|refresh| *refresh != Refresh::Excluded);
    let mut open: Vec<&DatasetName> = graph.pending.keys().filter(selected).collect();
    let mut names: Vec<&DatasetName> = Vec::new();
    while let Some(name) = open.pop() {
        let Some(pending) = graph.pending.get(name) else { continue };
        if !names.contains(&name) {
            names.push(name);
            open.extend(pending.flows.iter().filter_map(|flow| flow.waits_for.as_ref()));
        }
    }
    graph.pending.iter().filter(|(name, _)| names.contains(name)).flat_map(|(_, pending)| &pending.flows).collect()
}

/// Whether everything below `name` is up to date.
fn readiness(
    graph: &Graph,
    selection: &IndexMap<DatasetName, Refresh>,
    finished: &HashMap<DatasetName, FlowOutcome>,
    name: &DatasetName,
) -> Readiness {
    if let Some(pending) = graph.pending.get(name) {
        let failed = |flow: &PendingFlow| finished.contains_key(&flow.flow.name);
        return if pending.flows.iter().any(failed) { Readiness::Failed } else { Readiness::Waiting };
    }
    let stored = graph.stored_below(name).unwrap_or_default();
    let writers = stored
        .iter()
        .filter(|name| selection.get(*name).is_some_and(|refresh| *refresh != Refresh::Excluded))
        .filter_map(|name| graph.outputs.get(name))
        .flat_map(|output| &output.flows);
    let mut readiness = if graph.outputs.contains_key(name) { Readiness::Ready } else { Readiness::Failed };
    for writer in writers {
        match finished.get(writer) {
            Some(FlowOutcome::Completed) => {}
            Some(_) => return Readiness::Failed,
            None => readiness = Readiness::Waiting,
        }
    }
    readiness
}

fn too_many_changes(flow: &DatasetName) -> Error {
    Error::new(
        Kind::Data,
        format!(
            "the schema of the source of `{}` changed more than {MAX_SCHEMA_CHANGES} times in one update",
            flow.name
        ),
    )
    .with_help("Run the update again, or give the source a schema.")
}
