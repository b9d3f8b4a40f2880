//! What the runners of flows share: the flow, its target, and how to bind what it reads.

use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_incremental::{OutputMode, output_mode};
use deltaworks_lake::Table;
use deltaworks_spark::{Error, Kind, Result};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::batch::{Effect, NumberRows};
use super::changes::MergeInto;
use super::checkpoint::{Checkpoint, InputVersion};
use super::delivery::Delivery;
use super::status::Status;
use crate::definitions::python::{BatchFunctions, SnapshotFunctions};
use crate::event::EventEmitter;
use crate::graph::dataset::{DatasetTable, bind_tables, dataset_tables, with_latest_reads};
use crate::graph::{Environment, Graph, ResolvedFlow, ResolvedOutput};
use crate::identity::has_numbers;
use crate::name::DatasetName;

/// One flow of an update, with everything it needs to run.
#[derive(Clone)]
pub struct FlowRun {
    /// The pipeline.
    pub environment: Arc<Environment>,
    /// The graph that the flow is part of.
    pub graph: Arc<Graph>,
    /// The flow's name.
    pub name: DatasetName,
    /// Emits events of this flow.
    pub emitter: EventEmitter,
    /// What the flow is doing.
    pub status: Status,
    /// No batch begins after it.
    pub stop: CancellationToken,
    /// Gives up the batch under way, if it is not committed.
    pub cancel: CancellationToken,
    /// From one trigger to the next if the flow runs again and again, so that what its plan reads must be looked at anew.
    pub repeats: Option<Duration>,
    /// A materialized view is recomputed even if nothing changed.
    pub force: bool,
    /// Calls the functions of sinks; `None` if the pipeline has none.
    pub functions: Option<BatchFunctions>,
    /// Calls the functions that give snapshots; `None` without a Python process.
    pub snapshot_functions: Option<SnapshotFunctions>,
}

/// A snapshot that a batch reads.
pub struct Snapshot {
    /// The dataset.
    pub name: DatasetName,
    /// Which state of which table.
    pub version: InputVersion,
    provider: Arc<dyn TableProvider>,
}

impl FlowRun {
    /// The resolved flow.
    pub fn flow(&self) -> Result<&ResolvedFlow> {
        self.graph
            .flows
            .get(&self.name)
            .ok_or_else(|| Error::internal(format!("flow `{}` is not in the graph", self.name)))
    }

    /// The output the flow writes.
    pub fn output(&self) -> Result<&ResolvedOutput> {
        let target = &self.flow()?.flow.target;
        self.graph.outputs.get(target).ok_or_else(|| Error::internal(format!("output `{target}` is not in the graph")))
    }

    /// The target's table as it is now.
    pub async fn open_target(&self) -> Result<Table> {
        let location = self.output()?.location.as_ref().ok_or_else(|| Error::internal("a view has no table"))?;
        self.environment
            .lake
            .open(location, None)
            .await?
            .ok_or_else(|| Error::internal(format!("table `{location}` vanished after it was prepared")))
    }

    /// The flow's checkpoint at the target's current generation.
    pub async fn checkpoint(&self, table: &Table) -> Result<Checkpoint> {
        let flow = &self.flow()?.flow;
        let folder = self.environment.storage.checkpoint(&flow.name, &flow.target)?;
        Checkpoint::open(&folder, &self.environment.pipeline_id, &flow.name, table).await
    }

    /// What batch number `batch` of the flow does to the target.
    pub fn effect(&self, batch: i64) -> Result<Effect> {
        let (flow, output) = (self.flow()?, self.output()?);
        if let Some(delivery) = Delivery::of(self, batch)? {
            return Ok(Effect::Deliver(Box::new(delivery)));
        }
        let (Some(changes), Some(own)) = (&output.changes, &flow.changes) else {
            return Ok(match output_mode(&flow.plan) {
                OutputMode::Append => Effect::Append(has_numbers(&flow.plan)?.then(|| NumberRows {
                    turn: Arc::clone(&output.merging),
                    pipeline_id: self.environment.pipeline_id.clone(),
                })),
                OutputMode::Complete => {
                    Effect::Replace(Box::new(super::target::definition(output, &self.environment.pipeline_id)))
                }
            });
        };
        Ok(Effect::Merge(Box::new(MergeInto {
            lake: self.environment.lake.clone(),
            ledgers: self.environment.storage.change_ledgers(&output.output.name)?,
            pipeline_id: self.environment.pipeline_id.clone(),
            target: output.output.name.clone(),
            changes: changes.clone(),
            partial: own.partial.clone(),
            sets: own.sets.clone(),
            merging: Arc::clone(&output.merging),
        })))
    }

    /// A session with the flow's settings.
    pub fn session(&self) -> Result<SessionContext> {
        self.environment.sessions.context(&self.flow()?.conf)
    }

    /// The query. What it reads of anything but the pipeline's datasets was looked at when it was planned, or just now
    /// if the flow runs again and again.
    pub async fn plan(&self) -> Result<LogicalPlan> {
        let plan = self.flow()?.plan.clone();
        if self.repeats.is_some() { with_latest_reads(plan).await } else { Ok(plan) }
    }

    /// An error of the flow, where its definition stands unless it says so itself.
    pub fn located(&self, error: Error) -> Error {
        match self.graph.flows.get(&self.name) {
            Some(flow) => error.at(flow.flow.location.clone()),
            None => error,
        }
    }

    /// Fails once the flow shall stop.
    ///
    /// # Errors
    /// `Cancelled`
    pub fn check_stop(&self) -> Result<()> {
        match self.stop.is_cancelled() {
            true => Err(Error::new(Kind::Cancelled, "the update was cancelled")),
            false => Ok(()),
        }
    }

    /// The latest snapshots of the datasets that `plan` reads in batch, in the order of its reads.
    pub async fn snapshots(&self, plan: &LogicalPlan) -> Result<Vec<Snapshot>> {
        let mut snapshots: Vec<Snapshot> = Vec::new();
        for read in dataset_tables(plan)? {
            // Two reads of one dataset see the same snapshot.
            let known = snapshots
                .iter()
                .find(|known| known.name == read.name && read.time_travel.is_none())
                .map(|known| (known.version.clone(), Arc::clone(&known.provider)));
            let (version, provider) = match known {
                Some(known) => known,
                None => self.snapshot(&read).await?,
            };
            snapshots.push(Snapshot { name: read.name, version, provider });
        }
        Ok(snapshots)
    }

    async fn snapshot(&self, read: &DatasetTable) -> Result<(InputVersion, Arc<dyn TableProvider>)> {
        match self.graph.outputs.get(&read.name).and_then(|output| output.location.as_ref()) {
            Some(location) => snapshot_at(&self.environment, location, read).await,
            None => snapshot(&self.environment, read).await,
        }
    }
}

/// The state of a stored dataset that `read` names, in the schema it was planned for.
///
/// # Errors
/// `TABLE_OR_VIEW_NOT_FOUND` if it has never been computed.
pub async fn snapshot(
    environment: &Environment,
    read: &DatasetTable,
) -> Result<(InputVersion, Arc<dyn TableProvider>)> {
    snapshot_at(environment, &environment.storage.find_table(&read.name)?, read).await
}

async fn snapshot_at(
    environment: &Environment,
    location: &Url,
    read: &DatasetTable,
) -> Result<(InputVersion, Arc<dyn TableProvider>)> {
    let table = environment.lake.open(location, read.time_travel.clone()).await?.ok_or_else(|| {
        Error::user(format!("dataset `{}` has not been computed yet", read.name.name))
            .with_condition("TABLE_OR_VIEW_NOT_FOUND")
            .with_help("Refresh it together with the datasets that read it.")
    })?;
    let version = InputVersion { table_id: table.id()?, version: table.version() };
    let provider = super::conform::to_schema(table.provider()?, &read.schema)?;
    Ok((version, provider))
}

/// Binds the batch reads of `plan` to `snapshots`.
pub fn bind(plan: LogicalPlan, snapshots: &[Snapshot]) -> Result<LogicalPlan> {
    let providers: Vec<_> = snapshots.iter().map(|snapshot| Arc::clone(&snapshot.provider)).collect();
    bind_tables(plan, &providers)
}
