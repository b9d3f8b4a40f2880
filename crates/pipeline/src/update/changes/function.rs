//! Flows that follow the snapshots of a function: it is called with the version of the last snapshot that is stored, until
//! there is no other.
//!
//! Each snapshot is a batch, whose progress names its version. The first of an update is part of the graph, which needs its
//! columns. A later one is planned here; if it has other columns, or reads what the graph does not know of, the graph
//! is resolved anew, and the function called again.

use std::collections::HashSet;

use arrow::datatypes::SchemaRef;
use deltaworks_lake::Table;
use deltaworks_spark::{Error, Result};

use super::snapshot::{Arrived, apply};
use crate::definitions::python::Evaluated;
use crate::definitions::snapshots::{SnapshotAnswer, SnapshotVersion};
use crate::definitions::{Flow, Output};
use crate::event::FlowStatus;
use crate::graph::{Environment, ResolvedFlow, is_pending, replan};
use crate::name::DatasetName;
use crate::update::checkpoint::{Checkpoint, Progress};
use crate::update::flow::FlowRun;

/// The condition of snapshots that the graph was not resolved for.
const OTHER_GRAPH: &str = "DELTAWORKS_SNAPSHOT_CHANGES_GRAPH";

/// Whether a flow has stopped because its next snapshot needs the graph to be resolved anew.
pub fn needs_other_graph(error: &Error) -> bool {
    error.condition() == Some(OTHER_GRAPH)
}

/// The version of the last snapshot that `output` has of the function of `flow`; `None` before the first.
///
/// # Errors
/// `AUTOCDC_INVALID_STATE.SNAPSHOT_SOURCE_DRIFT` if the flow had its rows from elsewhere.
pub async fn latest_version(
    environment: &Environment,
    output: &Output,
    flow: &Flow,
) -> Result<Option<SnapshotVersion>> {
    let location = environment.table_location(output)?;
    let Some(table) = environment.lake.open(&location, None).await? else { return Ok(None) };
    let folder = environment.storage.checkpoint(&flow.name, &flow.target)?;
    let checkpoint = Checkpoint::open(&folder, &environment.pipeline_id, &flow.name, &table).await?;
    latest(checkpoint.committed(&table).await?.as_ref(), &flow.target)
}

fn latest(committed: Option<&Progress>, target: &DatasetName) -> Result<Option<SnapshotVersion>> {
    let Some(committed) = committed else { return Ok(None) };
    match &committed.source_version {
        Some(version) => Ok(Some(version.clone())),
        None => Err(other_source(target, "a function gives its snapshots now, which it had from elsewhere before")),
    }
}

/// The error of a target whose flow goes on with another kind of source.
pub fn other_source(target: &DatasetName, why: &str) -> Error {
    Error::user(format!("`{}` cannot go on: {why}", target.name))
        .with_condition("AUTOCDC_INVALID_STATE.SNAPSHOT_SOURCE_DRIFT")
        .with_help(format!("Run a full refresh of the table: `--full-refresh {}`.", target.name))
}

/// Applies one snapshot after the other, until there is none.
///
/// # Errors
/// What the function raises, or must not return; those of a batch. Snapshots applied before stay.
pub async fn run(run: &FlowRun) -> Result<()> {
    let mut table = run.open_target().await?;
    let checkpoint = run.checkpoint(&table).await?;
    let flow = run.flow()?;
    let function = flow.flow.query.snapshot_function();
    let mut known = function.and_then(|function| function.answer.clone()).map(|answer| (answer, flow.clone()));
    let mut committed = checkpoint.committed(&table).await?;
    loop {
        run.check_stop()?;
        let latest = latest(committed.as_ref(), &flow.flow.target)?;
        // What the graph knows may have been applied by an earlier attempt, or be none because it was asked too early.
        let is_latest =
            |answer: &SnapshotAnswer| answer.after == latest && (answer.next.is_some() || run.repeats.is_none());
        let (answer, planned) = match known.take().filter(|(answer, _)| is_latest(answer)) {
            Some(known) => known,
            None => ask(run, latest.as_ref()).await?,
        };
        let Some(next) = answer.next else { return Ok(()) };
        run.status.tell(FlowStatus::Running);
        committed = Some(commit(run, &mut table, &checkpoint, planned, &next.version, committed).await?);
    }
}

async fn commit(
    run: &FlowRun,
    table: &mut Table,
    checkpoint: &Checkpoint,
    planned: ResolvedFlow,
    version: &SnapshotVersion,
    committed: Option<Progress>,
) -> Result<Progress> {
    let number = committed.map_or(0, |progress| progress.batch + 1);
    let progress = Progress { source_version: Some(version.clone()), ..Progress::new(number) };
    let snapshots = run.snapshots(&planned.plan).await?;
    let arrived = Arrived { plan: planned.plan, snapshots, version: version.scalar()?, progress: progress.clone() };
    apply(run, table, checkpoint, arrived).await?;
    Ok(progress)
}

/// Calls the function, and plans what it gives.
async fn ask(run: &FlowRun, latest: Option<&SnapshotVersion>) -> Result<(SnapshotAnswer, ResolvedFlow)> {
    let functions = run.snapshot_functions.as_ref().ok_or_else(|| Error::internal("there is no Python process"))?;
    let resolved = run.flow()?;
    let settled = settled(run, resolved);
    let flow = tokio::select! {
        () = run.cancel.cancelled() => return Err(Error::new(deltaworks_spark::Kind::Cancelled, "the update was cancelled")),
        evaluated = functions.next(&resolved.flow, latest, settled.clone()) => match evaluated? {
            Evaluated::Query(flow) => flow,
            Evaluated::WaitsFor(dataset) => return Err(other_graph(resolved, &format!("reads rows of `{}`", dataset.name))),
        },
    };
    let answer = flow.query.snapshot_function().and_then(|function| function.answer.clone());
    let answer = answer.ok_or_else(|| Error::internal("a function of snapshots has not answered"))?;
    if answer.next.is_none() {
        return Ok((answer, resolved.clone()));
    }
    let definitions = functions.definitions_with(flow.as_ref().clone());
    let (planned, columns) = match replan(&definitions, &run.environment, &flow).await {
        Ok(planned) => planned,
        Err(error) if is_pending(&error) => return Err(other_graph(resolved, "reads what is not known yet")),
        Err(error) => return Err(error),
    };
    if let Some(column) = missing(&columns, &run.output()?.schema) {
        return Err(other_graph(resolved, &format!("has a new column or type: `{column}`")));
    }
    if let Some(read) = planned.reads.iter().find(|read| !settled.contains(&read.name)) {
        return Err(other_graph(resolved, &format!("reads `{}`", read.name.name)));
    }
    Ok((answer, planned))
}

/// The datasets that are up to date when the flow runs: those it waits for.
fn settled(run: &FlowRun, flow: &ResolvedFlow) -> HashSet<DatasetName> {
    let asked = flow.flow.asked.iter().flat_map(|asked| run.graph.stored_below(asked).unwrap_or_default());
    flow.reads.iter().map(|read| read.name.clone()).chain(asked).collect()
}

/// The first of `columns` that `known` has not with the same type.
fn missing(columns: &SchemaRef, known: &SchemaRef) -> Option<String> {
    let is_known = |name: &str, data_type| {
        let same_name = known.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        same_name.is_some_and(|field| field.data_type() == data_type)
    };
    let missing = columns.fields().iter().find(|field| !is_known(field.name(), field.data_type()));
    missing.map(|field| field.name().clone())
}

fn other_graph(flow: &ResolvedFlow, why: &str) -> Error {
    Error::user(format!("the next snapshot of flow `{}` {why}", flow.flow.name.name))
        .with_condition(OTHER_GRAPH)
        .with_help("The flow goes on once the pipeline has been resolved again.")
}
