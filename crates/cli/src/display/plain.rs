//! Events as plain lines, for logs and pipes: `2026-01-01 12:00:00: Flow 'orders' is RUNNING.`

use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_pipeline::event::{Details, Event, EventSink, Level};
use deltaworks_spark::Result;

use super::SharedView;
use super::model::shown;
use crate::output::{Output, Verbosity};

/// The lines of an event: its message as Spark's client prints it, numbers where there are some, errors below.
pub(super) fn event_lines(event: &Event) -> String {
    let text = match &event.details {
        Details::Warning(warning) => format!("warning: {}", shown(warning)),
        _ => event.message.clone(),
    };
    let mut line = format!("{}: {text}", event.timestamp.format("%Y-%m-%d %H:%M:%S"));
    if let Details::FlowProgress(progress) = &event.details
        && let Some(metrics) = &progress.metrics
    {
        let numbers = [
            ("read", metrics.num_input_rows),
            ("written", metrics.num_output_rows),
            ("upserted", metrics.num_upserted_rows),
            ("deleted", metrics.num_deleted_rows),
            ("dropped", progress.data_quality.as_ref().map(|quality| quality.dropped_records).filter(|n| *n > 0)),
        ];
        let shown: Vec<String> =
            numbers.iter().filter_map(|(word, number)| number.map(|number| format!("{word} {number}"))).collect();
        if !shown.is_empty() {
            line.push_str(&format!(" ({})", shown.join(", ")));
        }
    }
    for exception in event.error.iter().flat_map(|error| &error.exceptions) {
        // Where an error has no condition one can look up, its class is no more than its kind.
        let condition = Some(&exception.class_name).filter(|name| !name.contains(char::is_lowercase));
        let condition = condition.map(|name| format!("[{name}] ")).unwrap_or_default();
        line.push_str(&format!("\n    Error: {condition}{}", exception.message));
    }
    line
}

/// Whether an event is shown at all.
pub(super) fn is_shown(event: &Event, verbosity: Verbosity) -> bool {
    match verbosity {
        // What went wrong is shown in full when the update has ended.
        Verbosity::Quiet => false,
        Verbosity::Normal => event.level != Level::Metrics && !is_definition(&event.details),
        Verbosity::Verbose => true,
    }
}

/// What the update is about, rather than how it goes.
fn is_definition(details: &Details) -> bool {
    matches!(
        details,
        Details::DatasetDefinition(_)
            | Details::FlowDefinition(_)
            | Details::SinkDefinition(_)
            | Details::OperationProgress(_)
            | Details::UserAction(_)
            | Details::RuntimeDetails(_)
    )
}

/// Shows events as lines.
pub(crate) struct PlainDisplay {
    output: Output,
    view: SharedView,
}

impl PlainDisplay {
    pub(crate) fn new(output: Output, view: SharedView) -> Self {
        Self { output, view }
    }
}

#[async_trait]
impl EventSink for PlainDisplay {
    fn name(&self) -> &str {
        "the terminal"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events {
            self.view.lock().apply(event);
            if is_shown(event, self.output.verbosity) {
                self.output.line(&event_lines(event));
            }
        }
        Ok(())
    }
}
