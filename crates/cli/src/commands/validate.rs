//! `deltaworks validate`: every problem of the definitions in one go.

use deltaworks_spark::Result;
use deltaworks_spark::diagnostic::Severity;

use crate::diagnostics::{self, Folder};
use crate::engine::{Engine, GraphSummary};
use crate::exit::Exit;
use crate::output::Output;

pub(super) async fn run(engine: &dyn Engine, output: &Output) -> Result<Exit> {
    let validation = engine.validate().await?;
    output.error(&diagnostics::render_all(&validation.diagnostics, &Folder(engine.root()), output.color_errors));
    if validation.diagnostics.iter().any(|problem| problem.severity == Severity::Error) {
        return Ok(Exit::InvalidDefinitions);
    }
    output.note(&format!("Pipeline {} is valid: {}.", engine.name(), size(&validation.graph)));
    Ok(Exit::Done)
}

fn size(graph: &GraphSummary) -> String {
    let flows: usize = graph.datasets.iter().map(|dataset| dataset.flows.len()).sum();
    let counted = |count: usize, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
    format!("{} and {}", counted(graph.datasets.len(), "output"), counted(flows, "flow"))
}
