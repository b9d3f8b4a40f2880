//! A live line per flow, on a terminal.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use deltaworks_pipeline::event::{Clock, Event, EventSink, FlowStatus, SystemClock};
use deltaworks_spark::{Error, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::{OwoColorize as _, Style};
use unicode_width::UnicodeWidthStr as _;

use super::SharedView;
use super::model::FlowView;
use super::numbers::{duration, grouped, rate};

/// How often running times are drawn anew.
const REDRAW: Duration = Duration::from_millis(250);

/// Widest name that others are aligned to.
const MAX_NAME_WIDTH: usize = 48;

/// The line of a flow; names are padded to `name_width`.
pub(super) fn flow_line(name: &str, flow: &FlowView, now: DateTime<Utc>, name_width: usize, color: bool) -> String {
    let padding = " ".repeat(name_width.min(MAX_NAME_WIDTH).saturating_sub(name.width()));
    let status = format!("{:<9}", flow.status);
    let mark = match flow.status {
        FlowStatus::Completed => "✓",
        FlowStatus::Failed => "✗",
        FlowStatus::Skipped | FlowStatus::Excluded | FlowStatus::Stopped => "-",
        FlowStatus::Queued | FlowStatus::Idle => "·",
        FlowStatus::Planning | FlowStatus::Starting | FlowStatus::Running => "›",
    };
    let style = status_style(flow.status, color);
    let mut line = format!("{} {name}{padding}  {}", mark.style(style), status.style(style));
    let elapsed = flow.elapsed(now);
    let rows = flow.rows_changed();
    let parts = [
        flow.rows_read.map(|rows| format!("{} in", grouped(rows))),
        rows.map(|rows| format!("{} written", grouped(rows))),
        (flow.rows_dropped > 0).then(|| format!("{} dropped", grouped(flow.rows_dropped))),
        rows.zip(elapsed).and_then(|(rows, span)| rate(rows, span)),
        elapsed.map(duration),
    ];
    let details: Vec<String> = parts.into_iter().flatten().collect();
    if !details.is_empty() {
        line.push_str("  ");
        line.push_str(&details.join("  "));
    }
    line.trim_end().to_owned()
}

pub(super) fn status_style(status: FlowStatus, color: bool) -> Style {
    if !color {
        return Style::new();
    }
    match status {
        FlowStatus::Completed => Style::new().green(),
        FlowStatus::Failed => Style::new().red().bold(),
        FlowStatus::Skipped | FlowStatus::Stopped => Style::new().yellow(),
        FlowStatus::Queued | FlowStatus::Idle | FlowStatus::Excluded => Style::new().dimmed(),
        FlowStatus::Planning | FlowStatus::Starting | FlowStatus::Running => Style::new().cyan(),
    }
}

/// Draws a line per flow and one for the update.
pub(crate) struct LiveDisplay {
    bars: MultiProgress,
    style: ProgressStyle,
    update: ProgressBar,
    flows: HashMap<String, ProgressBar>,
    view: SharedView,
    clock: Arc<dyn Clock>,
    color: bool,
}

impl LiveDisplay {
    /// Draws to stderr, so that results on stdout stay clean.
    pub(crate) fn new(view: SharedView, color: bool) -> Result<Self> {
        let style = ProgressStyle::with_template("{msg}")
            .map_err(|error| Error::internal("the template of progress lines is wrong").with_source(error))?;
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let update = bars.add(ProgressBar::new_spinner().with_style(style.clone()));
        Ok(Self { bars, style, update, flows: HashMap::new(), view, clock: Arc::new(SystemClock), color })
    }

    /// The lines, which must make room for anything else that is written.
    pub(crate) fn lines(&self) -> MultiProgress {
        self.bars.clone()
    }

    fn redraw(&mut self) {
        let now = self.clock.now();
        let view = self.view.lock().clone();
        let width = view.flows.keys().map(|name| name.width()).max().unwrap_or_default();
        for (name, flow) in &view.flows {
            let bar = self.flows.entry(name.clone()).or_insert_with(|| {
                self.bars.insert_before(&self.update, ProgressBar::new_spinner().with_style(self.style.clone()))
            });
            bar.set_message(flow_line(name, flow, now, width, self.color));
        }
        let state = view.state.map_or("STARTING", |state| state.as_str());
        let elapsed = view.elapsed(now).map(duration).unwrap_or_default();
        self.update.set_message(format!("Update {state}  {elapsed}"));
    }
}

#[async_trait]
impl EventSink for LiveDisplay {
    fn name(&self) -> &str {
        "the terminal"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        {
            let mut view = self.view.lock();
            events.iter().for_each(|event| view.apply(event));
        }
        self.redraw();
        Ok(())
    }

    fn flush_interval(&self) -> Option<Duration> {
        Some(REDRAW)
    }

    async fn flush(&mut self) -> Result<()> {
        self.redraw();
        Ok(())
    }

    /// Clears the lines: the summary takes their place.
    async fn close(&mut self) -> Result<()> {
        self.flows.values().for_each(ProgressBar::finish_and_clear);
        self.update.finish_and_clear();
        Ok(self.bars.clear()?)
    }
}
