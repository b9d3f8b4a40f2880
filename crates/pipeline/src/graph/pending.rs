//! Outputs that cannot be resolved before others are up to date.

use deltaworks_spark::Error;
use deltaworks_spark::diagnostic::Diagnostic;

use super::Graph;
use crate::name::DatasetName;

/// The condition of errors for datasets whose query is not known yet.
const PENDING: &str = "DELTAWORKS_DATASET_PENDING";

/// The error for a read of `name`, whose query is not known yet.
pub fn waiting_on(name: &DatasetName) -> Error {
    Error::user(format!("the query of `{}` is not known yet", name.name)).with_condition(PENDING)
}

/// Whether an error says that a dataset has no query yet.
pub fn is_pending(error: &Error) -> bool {
    error.condition() == Some(PENDING)
}

/// The circles among pending outputs: none of them could ever be resolved.
pub(super) fn cycles(graph: &Graph) -> Vec<Diagnostic> {
    let mut reported: Vec<DatasetName> = Vec::new();
    let mut problems = Vec::new();
    for start in graph.pending.keys() {
        let Some(path) = cycle_from(graph, start) else { continue };
        if path.iter().any(|name| reported.contains(name)) {
            continue;
        }
        let shown: Vec<&str> = path.iter().chain([start]).map(|name| name.name.as_str()).collect();
        let location = graph.pending.get(start).map(|pending| pending.output.location.clone());
        let mut problem = Diagnostic::error(format!("the pipeline has a cycle: {}", shown.join(" -> ")))
            .with_condition("PIPELINE_GRAPH_CYCLE")
            .with_help("A dataset cannot read itself, directly or through others; count() and collect() read too.");
        if let Some(location) = location {
            problem = problem.at(location);
        }
        problems.push(problem);
        reported.extend(path);
    }
    problems
}

/// The outputs from `start` back to it, if it waits for itself.
fn cycle_from(graph: &Graph, start: &DatasetName) -> Option<Vec<DatasetName>> {
    let mut open = vec![vec![start.clone()]];
    let mut seen: Vec<DatasetName> = Vec::new();
    while let Some(path) = open.pop() {
        let last = path.last()?;
        for next in inputs(graph, last) {
            if next == *start {
                return Some(path);
            }
            if !seen.contains(&next) {
                seen.push(next.clone());
                open.push(path.iter().cloned().chain([next]).collect());
            }
        }
    }
    None
}

/// What a pending output waits for. Nothing that is resolved stands on what is pending.
fn inputs(graph: &Graph, name: &DatasetName) -> Vec<DatasetName> {
    let pending = graph.pending.get(name).into_iter().flat_map(|pending| &pending.flows);
    pending.filter_map(|flow| flow.waits_for.clone()).collect()
}
