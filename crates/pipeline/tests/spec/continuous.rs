//! Ends a continuous update once it has caught up with its input.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_pipeline::event::{Details, Event, EventSink, FlowStatus, Level};
use deltaworks_spark::Result;
use tokio_util::sync::CancellationToken;

/// Cancels the update when every flow has caught up, or does not run any more. Flows start after those that write what
/// they read have caught up, so that all input has been through all of them by then.
pub struct StopWhenIdle {
    cancel: CancellationToken,
    /// Whether each flow has caught up.
    flows: HashMap<String, bool>,
    once: HashSet<String>,
}

impl StopWhenIdle {
    pub fn new(cancel: CancellationToken) -> Self {
        Self { cancel, flows: HashMap::new(), once: HashSet::new() }
    }
}

#[async_trait]
impl EventSink for StopWhenIdle {
    fn name(&self) -> &str {
        "the specification"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        for event in events {
            let Some(flow) = event.origin.flow_name.clone() else { continue };
            match &event.details {
                Details::FlowDefinition(definition) if definition.once => {
                    self.once.insert(flow);
                }
                // The query of a view may have to be found, but nothing of it runs.
                Details::FlowProgress(progress) if progress.status != FlowStatus::Planning => {
                    let caught_up = match progress.status {
                        FlowStatus::Idle | FlowStatus::Skipped | FlowStatus::Excluded => true,
                        FlowStatus::Failed => event.level == Level::Error,
                        // What completes before all queries are known runs again with the others.
                        FlowStatus::Completed => self.once.contains(&flow),
                        _ => false,
                    };
                    // Nothing that has caught up once is waited for again.
                    *self.flows.entry(flow).or_default() |= caught_up;
                }
                _ => {}
            }
        }
        if !self.flows.is_empty() && self.flows.values().all(|caught_up| *caught_up) {
            self.cancel.cancel();
        }
        Ok(())
    }
}
