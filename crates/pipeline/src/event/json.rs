//! Events as JSON lines.

use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_spark::Result;

use super::bus::EventSink;
use super::model::Event;

/// Writes each event as one line of JSON, in the form of the REST API.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`, which is flushed after each group of events.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

#[async_trait]
impl<W: Write + Send> EventSink for JsonLines<W> {
    fn name(&self) -> &str {
        "JSON lines"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events {
            let mut line = event.to_json()?;
            line.push('\n');
            self.out.write_all(line.as_bytes())?;
        }
        Ok(self.out.flush()?)
    }
}
