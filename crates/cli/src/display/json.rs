//! Events as JSON lines on stdout.

use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_pipeline::event::{Event, EventSink};
use deltaworks_spark::Result;

use crate::output::Output;

/// Writes every event, whatever its level.
pub(crate) struct JsonDisplay {
    output: Output,
}

impl JsonDisplay {
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }
}

#[async_trait]
impl EventSink for JsonDisplay {
    fn name(&self) -> &str {
        "stdout"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events {
            self.output.line(&event.to_json()?);
        }
        Ok(())
    }
}
