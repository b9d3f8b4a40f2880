//! Analysis without an update: functions that need rows are called with what is stored already.

use std::collections::HashSet;
use std::sync::Arc;

use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::{Error, Result};

use crate::definitions::Definitions;
use crate::definitions::python::{Evaluated, PythonSession};
use crate::graph::{Environment, Graph, PendingFlow, resolve};
use crate::name::DatasetName;
use crate::pipeline::Validation;
use crate::update::changes::latest_version;

/// Resolves everything that `definitions` declare, as far as that is possible before an update.
pub(crate) async fn analyse(
    mut definitions: Definitions,
    mut python: Option<PythonSession>,
    environment: &Arc<Environment>,
) -> Validation {
    let mut given_up: HashSet<DatasetName> = HashSet::new();
    let (graph, mut diagnostics) = loop {
        let (graph, diagnostics) = resolve(&definitions, environment).await;
        let flows = graph.pending.values().flat_map(|pending| &pending.flows);
        let next = flows.into_iter().find(|flow| flow.is_deferred() && !given_up.contains(&flow.flow.name)).cloned();
        let (Some(pending), Some(python)) = (next, python.as_mut()) else { break (graph, diagnostics) };
        match call(python, &pending, &definitions, &graph, environment).await {
            Ok(Evaluated::Query(flow)) => definitions.replace(*flow),
            Ok(Evaluated::WaitsFor(dataset)) => {
                given_up.insert(pending.flow.name.clone());
                let mut flow = pending.flow;
                flow.query.defer(dataset);
                definitions.replace(flow);
            }
            Err(error) => {
                given_up.insert(pending.flow.name.clone());
                definitions.diagnostics.push(error.at(pending.flow.location.clone()).to_diagnostic());
            }
        }
    };
    if diagnostics.is_empty() {
        let flows = graph.pending.values().flat_map(|pending| &pending.flows);
        diagnostics.extend(flows.filter(|flow| flow.is_deferred()).map(only_in_an_update));
    }
    if let Some(python) = python {
        python.close().await;
    }
    Validation { graph, diagnostics }
}

async fn call(
    python: &mut PythonSession,
    pending: &PendingFlow,
    definitions: &Definitions,
    graph: &Graph,
    environment: &Environment,
) -> Result<Evaluated> {
    let mut stored = HashSet::new();
    for (name, output) in &graph.outputs {
        if let Some(location) = &output.location
            && environment.lake.open(location, None).await?.is_some()
        {
            stored.insert(name.clone());
        }
    }
    if pending.flow.query.snapshot_function().is_some() {
        let output = definitions.outputs.iter().find(|output| output.name == pending.flow.target);
        let output = output.ok_or_else(|| Error::internal("a pending flow has no target"))?;
        let latest = latest_version(environment, output, &pending.flow).await?;
        let functions = python.snapshot_functions(Arc::new(definitions.clone()));
        return functions.next(&pending.flow, latest.as_ref(), stored).await;
    }
    python.evaluate(&pending.flow, &Arc::new(definitions.clone()), stored).await
}

fn only_in_an_update(pending: &PendingFlow) -> Diagnostic {
    let read = pending.waits_for.as_ref().map_or("a dataset".to_owned(), |dataset| format!("`{}`", dataset.name));
    let message = format!(
        "flow `{}` can be analysed in an update only: its function reads rows of {read}, which has not been computed yet",
        pending.flow.name.name
    );
    Diagnostic::warning(message).at(pending.flow.location.clone())
}
