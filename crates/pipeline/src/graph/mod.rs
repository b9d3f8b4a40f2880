//! The dataflow graph: every flow resolved to a plan, every problem of the pipeline found in one go.
//!
//! Start at [`resolve`]. Dependencies come from resolved plans, never from the text of a query: a flow
//! depends on what its plan reads.

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use deltaworks_spark::conf::SparkConf;
use indexmap::IndexMap;
use url::Url;

use crate::definitions::{Flow, Output, OutputKind};
use crate::name::DatasetName;

pub mod dataset;
mod guard;
mod order;
mod relations;
mod resolve;
mod schema;
mod stored;
mod suggest;

pub use dataset::DatasetRead;
pub use resolve::{Environment, resolve};
pub use stored::{plan_partial, plan_stored};
pub(crate) use suggest::nearest;

/// Everything a pipeline computes, ready to be run.
#[derive(Debug, Default)]
pub struct Graph {
    /// By name, in the order of definition.
    pub outputs: IndexMap<DatasetName, ResolvedOutput>,
    /// By name, inputs before those that read them.
    pub flows: IndexMap<DatasetName, ResolvedFlow>,
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
    /// Where it is stored; `None` for views and sinks.
    pub location: Option<Url>,
    /// The flows that write it.
    pub flows: Vec<DatasetName>,
}

/// A flow whose query is a plan.
#[derive(Debug, Clone)]
pub struct ResolvedFlow {
    /// As declared.
    pub flow: Flow,
    /// The query, expectations included, in the columns of the target. Reads of datasets are not bound yet.
    pub plan: LogicalPlan,
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
