//! `deltaworks graph`: the dataflow graph, drawn as far as the definitions resolve.

use deltaworks_spark::Result;
use deltaworks_spark::diagnostic::Severity;

use crate::args::GraphArgs;
use crate::diagnostics::{self, Folder};
use crate::engine::Engine;
use crate::exit::Exit;
use crate::graph;
use crate::output::Output;

pub(super) async fn run(engine: &dyn Engine, args: &GraphArgs, output: &Output) -> Result<Exit> {
    let validation = engine.validate().await?;
    output.result(&graph::render(&validation.graph, args.format));
    output.error(&diagnostics::render_all(&validation.diagnostics, &Folder(engine.root()), output.color_errors));
    let invalid = validation.diagnostics.iter().any(|problem| problem.severity == Severity::Error);
    Ok(if invalid { Exit::InvalidDefinitions } else { Exit::Done })
}
