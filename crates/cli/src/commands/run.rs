//! `deltaworks run`: one update, shown while it runs and summed up at the end.

use std::sync::Arc;

use deltaworks_pipeline::Console;
use deltaworks_pipeline::event::{Clock as _, EventSink, SystemClock, UpdateState};
use deltaworks_spark::Result;
use deltaworks_spark::diagnostic::Severity;
use tokio_util::sync::CancellationToken;

use crate::args::RunArgs;
use crate::diagnostics::{self, Folder};
use crate::display::{JsonDisplay, LiveDisplay, PlainDisplay, SharedView, render_summary};
use crate::engine::{Engine, UpdateOutcome};
use crate::exit::Exit;
use crate::output::{Output, Verbosity};
use crate::signals;

pub(super) async fn run(engine: &dyn Engine, args: &RunArgs, output: &Output) -> Result<Exit> {
    run_until(engine, args, output, signals::cancellation_on_signal()).await
}

/// Runs the update until it ends or `cancel` is cancelled.
pub(super) async fn run_until(
    engine: &dyn Engine,
    args: &RunArgs,
    output: &Output,
    cancel: CancellationToken,
) -> Result<Exit> {
    let view = SharedView::default();
    let (display, console) = display(args, output, &view)?;
    let outcome = engine.update(args.request()?, vec![display], console, cancel).await?;
    if !args.json && output.verbosity > Verbosity::Quiet {
        let mut view = view.lock().clone();
        if !outcome.diagnostics.is_empty() {
            // They follow with their source lines.
            view.flows.values_mut().for_each(|flow| flow.error = None);
            view.errors.clear();
        }
        output.result(&format!("\n{}", render_summary(&view, SystemClock.now(), output.color)));
    }
    let shown = |severity: Severity| severity == Severity::Error || output.verbosity > Verbosity::Quiet;
    let diagnostics: Vec<_> =
        outcome.diagnostics.iter().filter(|diagnostic| shown(diagnostic.severity)).cloned().collect();
    if !diagnostics.is_empty() {
        output.error(&diagnostics::render_all(&diagnostics, &Folder(engine.root()), output.color_errors));
    }
    Ok(exit_of(&outcome))
}

/// What shows the events, and what shows the batches of sinks of format `console`: beside JSON, not among it.
fn display(args: &RunArgs, output: &Output, view: &SharedView) -> Result<(Box<dyn EventSink>, Console)> {
    let shown = output.clone();
    if args.json {
        let console = Console::new(move |text| shown.error(text));
        return Ok((Box::new(JsonDisplay::new(output.clone())), console));
    }
    if output.interactive && output.verbosity == Verbosity::Normal {
        let display = LiveDisplay::new(Arc::clone(view), output.color_errors)?;
        let lines = display.lines();
        let console = Console::new(move |text| lines.suspend(|| shown.result(text)));
        return Ok((Box::new(display), console));
    }
    let console = Console::new(move |text| shown.result(text));
    Ok((Box::new(PlainDisplay::new(output.clone(), Arc::clone(view))), console))
}

/// Whether flows failed before the update was stopped.
fn has_errors(outcome: &UpdateOutcome) -> bool {
    outcome.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

fn exit_of(outcome: &UpdateOutcome) -> Exit {
    match outcome.state {
        UpdateState::Completed => Exit::Done,
        UpdateState::Canceled if outcome.continuous && !has_errors(outcome) => Exit::Done,
        _ if !outcome.definitions_valid => Exit::InvalidDefinitions,
        _ => Exit::UpdateFailed,
    }
}
