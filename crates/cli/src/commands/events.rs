//! `deltaworks events`: the event log, oldest event first, so that the newest stands where the prompt is.

use deltaworks_pipeline::event::Event;
use deltaworks_pipeline::event::log::{EventFilter, UpdateFilter};
use deltaworks_spark::Result;

use crate::args::{EventFormat, EventsArgs};
use crate::engine::Engine;
use crate::exit::Exit;
use crate::format::text_table;
use crate::output::Output;

pub(super) async fn run(engine: &dyn Engine, args: &EventsArgs, output: &Output) -> Result<Exit> {
    let events = engine.events(&filter(args)).await?;
    match args.format {
        EventFormat::Table if events.is_empty() => output.note("No events."),
        EventFormat::Table => output.result(&table(&events)),
        EventFormat::Json => {
            for event in &events {
                if output.is_closed() {
                    break;
                }
                output.line(&event.to_json()?);
            }
        }
    }
    Ok(Exit::Done)
}

fn filter(args: &EventsArgs) -> EventFilter {
    let update = match args.update_id.as_deref() {
        None => UpdateFilter::All,
        Some("latest") => UpdateFilter::Latest,
        Some(id) => UpdateFilter::Id(id.to_owned()),
    };
    EventFilter { levels: args.level.clone(), event_types: args.event_type.clone(), update, limit: Some(args.number) }
}

fn table(events: &[Event]) -> String {
    let header = ["timestamp", "level", "event_type", "message"].map(str::to_owned);
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            vec![
                event.timestamp.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
                event.level.to_string(),
                event.event_type().to_owned(),
                event.message.replace('\n', " "),
            ]
        })
        .collect();
    text_table(&header, &rows)
}
