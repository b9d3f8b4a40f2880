//! The dataflow graph: every flow resolved to a plan, every problem of the pipeline found in one go.
//!
//! Start at [`resolve`]. Dependencies come from resolved plans, never from the text of a query: a flow
//! depends on what its plan reads.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use deltaworks_spark::conf::SparkConf;
use indexmap::IndexMap;
use url::Url;

use crate::definitions::{Flow, Output, OutputKind};
use crate::name::DatasetName;

mod changes;
mod checks;
mod constants;
pub mod dataset;
mod environment;
mod grouping;
mod guard;
mod lints;
mod order;
mod pending;
mod positions;
mod relations;
mod resolve;
mod rules;
mod schema;
mod schema_store;
mod set_columns;
mod sinks;
mod snapshots;
mod stored;
mod streams;
mod suggest;
mod views;

pub use changes::Changes;
pub(crate) use checks::property_of;
pub use dataset::DatasetRead;
pub use environment::Environment;
pub use pending::{is_pending, waiting_on};
pub use resolve::resolve;
pub use schema_store::Resets;
pub use set_columns::SetColumns;
pub(crate) use sinks::{FileSink, SinkKind};
pub use snapshots::replan;
pub use stored::{plan_partial, plan_stored};
pub(crate) use suggest::nearest;

/// Everything a pipeline computes, ready to be run.
#[derive(Debug, Default)]
pub struct Graph {
    /// By name, in the order of definition.
    pub outputs: IndexMap<DatasetName, ResolvedOutput>,
    /// By name, inputs before those that read them.
    pub flows: IndexMap<DatasetName, ResolvedFlow>,
    /// Outputs whose queries are not known before other datasets are up to date.
    pub pending: IndexMap<DatasetName, PendingOutput>,
}

/// An output that cannot be resolved yet.
#[derive(Debug, Clone)]
pub struct PendingOutput {
    /// As declared.
    pub output: Output,
    /// Its flows that are not known yet.
    pub flows: Vec<PendingFlow>,
}

/// A flow that cannot be resolved yet.
#[derive(Debug, Clone)]
pub struct PendingFlow {
    /// As declared.
    pub flow: Flow,
    /// The dataset that must be up to date (a deferred function), or resolved (a query that reads it); `None` if its
    /// function can be called at once.
    pub waits_for: Option<DatasetName>,
}

impl PendingFlow {
    /// Whether its function must be called; otherwise it is resolved as soon as its input is.
    pub fn is_deferred(&self) -> bool {
        self.flow.query.is_deferred()
    }
}

/// An output whose flows are known.
#[derive(Debug, Clone)]
pub struct ResolvedOutput {
    /// As declared.
    pub output: Output,
    /// What it is, now that its flows are known; never [`OutputKind::Table`].
    pub kind: OutputKind,
    /// Its columns.
    pub schema: SchemaRef,
    /// Where it is stored, or (a sink that is no table) where its batches are counted; `None` for views.
    pub location: Option<Url>,
    /// The flows that write it.
    pub flows: Vec<DatasetName>,
    /// How they change it; `None` if they append or replace.
    pub changes: Option<Changes>,
    /// Held by the flow whose batch must see what the others did: it merges changes into the table, or numbers its rows.
    pub merging: Arc<tokio::sync::Mutex<()>>,
}

/// A flow whose query is a plan.
#[derive(Debug, Clone)]
pub struct ResolvedFlow {
    /// As declared.
    pub flow: Flow,
    /// The query, expectations included, in the columns of the target. Reads of datasets are not bound yet.
    pub plan: LogicalPlan,
    /// How the rows of the plan change the target; `None` if they are added to it, or replace it.
    pub changes: Option<Changes>,
    /// Whether it reads a stream.
    pub streaming: bool,
    /// The stored datasets it reads.
    pub reads: Vec<DatasetRead>,
    /// The datasets its text names, views included: what a picture of the graph shows.
    pub references: Vec<DatasetName>,
    /// The settings in force.
    pub conf: SparkConf,
}

impl ResolvedFlow {
    /// The streams it reads that are no datasets of the pipeline, as people know them: `cloudFiles[/data/orders]`.
    pub fn outside_streams(&self) -> Vec<String> {
        let sources = deltaworks_spark::streaming::streaming_sources(&self.plan);
        let outside = sources.iter().filter(|source| !source.identity().starts_with(dataset::IDENTITY));
        outside.map(|source| source.description()).collect()
    }
}

impl Graph {
    /// The outputs, each after those its flows read.
    pub fn outputs_in_order(&self) -> Vec<(&DatasetName, &ResolvedOutput)> {
        let place = |name: &DatasetName| self.flows.values().rposition(|flow| flow.flow.target == *name);
        let mut outputs: Vec<_> = self.outputs.iter().collect();
        // Stable: what has no flow yet comes first.
        outputs.sort_by_key(|(name, _)| place(name).map_or(0, |at| at + 1));
        outputs
    }

    /// Every output with what it is, as far as that is known yet.
    pub fn declared(&self) -> impl Iterator<Item = (&DatasetName, &Output, OutputKind)> {
        let resolved = self.outputs.iter().map(|(name, resolved)| (name, &resolved.output, resolved.kind));
        resolved.chain(self.pending.iter().map(|(name, pending)| (name, &pending.output, pending.output.kind)))
    }

    /// The stored datasets that must be up to date before the rows of `name` are; `None` while that is unknown.
    pub fn stored_below(&self, name: &DatasetName) -> Option<Vec<DatasetName>> {
        if self.pending.contains_key(name) {
            return None;
        }
        match self.outputs.get(name) {
            Some(output) if output.kind.is_view() => Some(self.upstream(name).into_iter().cloned().collect()),
            _ => Some(vec![name.clone()]),
        }
    }

    /// The stored datasets that the flows of `name` read.
    pub fn upstream(&self, name: &DatasetName) -> Vec<&DatasetName> {
        let Some(output) = self.outputs.get(name) else { return Vec::new() };
        let mut upstream: Vec<&DatasetName> = Vec::new();
        for flow in output.flows.iter().filter_map(|flow| self.flows.get(flow)) {
            for read in &flow.reads {
                if !upstream.contains(&&read.name) {
                    upstream.push(&read.name);
                }
            }
        }
        upstream
    }
}
