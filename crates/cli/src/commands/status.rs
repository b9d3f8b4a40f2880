//! `deltaworks status`: how the latest update went, from the event log alone.

use deltaworks_pipeline::event::log::{EventFilter, UpdateFilter};
use deltaworks_pipeline::event::{Clock as _, SystemClock};
use deltaworks_spark::Result;

use crate::display::{UpdateView, render_summary};
use crate::engine::Engine;
use crate::exit::Exit;
use crate::output::Output;

pub(super) async fn run(engine: &dyn Engine, output: &Output) -> Result<Exit> {
    let filter = EventFilter { update: UpdateFilter::Latest, ..EventFilter::default() };
    let events = engine.events(&filter).await?;
    if events.is_empty() {
        output.line(&format!("Pipeline {} has not run yet.", engine.name()));
    } else {
        output.result(&render_summary(&UpdateView::of(&events), SystemClock.now(), output.color));
    }
    Ok(Exit::Done)
}
