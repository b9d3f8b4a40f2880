//! Event hooks: functions of a pipeline's Python files that are told the events of an update.
//!
//! An update never waits for a hook while it works. At its end it gives them [`HOOK_TIME`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deltaworks_spark::Result;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use super::problem_error;
use super::process::{DefinitionProcess, HookReport};
use crate::event::{Details, Event, EventEmitter, EventSink, HookProgress, MaturityLevel, OperationStatus, Warning};

/// How long hooks may take after the last event of an update.
const HOOK_TIME: Duration = Duration::from_secs(60);

/// Keeps the events of an update until it is known whether the pipeline has hooks.
pub struct EventHooks {
    events: UnboundedReceiver<Arc<Event>>,
    telling: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Takes the events that hooks are told.
struct HookSink {
    events: Option<UnboundedSender<Arc<Event>>>,
    telling: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl EventHooks {
    /// Hooks that are not known yet, and the sink of their events. The sink must be the first one of its bus: what hooks
    /// do in its last moment is an event for the others.
    pub fn new() -> (Self, Box<dyn EventSink>) {
        let (sender, events) = mpsc::unbounded_channel();
        let telling = Arc::default();
        let sink = HookSink { events: Some(sender), telling: Arc::clone(&telling) };
        (Self { events, telling }, Box::new(sink))
    }

    /// Tells the hooks of `process` every event, also those that have been. How hooks fail goes to `emitter`.
    pub(super) fn start(self, process: Arc<DefinitionProcess>, emitter: EventEmitter) {
        *self.telling.lock() = Some(tokio::spawn(tell(self.events, process, emitter)));
    }
}

#[async_trait]
impl EventSink for HookSink {
    fn name(&self) -> &str {
        "event hooks"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        let Some(sender) = &self.events else { return Ok(()) };
        for event in events.iter().filter(|event| event.maturity_level == Some(MaturityLevel::Stable)) {
            if sender.send(Arc::clone(event)).is_err() {
                // There are no hooks.
                self.events = None;
                break;
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.events = None;
        let telling = self.telling.lock().take();
        if let Some(telling) = telling
            && let Err(error) = telling.await
        {
            tracing::error!(%error, "the task of the event hooks ended unexpectedly");
        }
        Ok(())
    }
}

/// Hands events to the process until there are no more and the hooks have seen all of them.
async fn tell(mut events: UnboundedReceiver<Arc<Event>>, process: Arc<DefinitionProcess>, emitter: EventEmitter) {
    let mut reports = process.hook_reports().await;
    // Handed to the process, and not seen by all hooks yet.
    let mut unseen = 0_usize;
    let mut open = true;
    let deadline = tokio::time::sleep(HOOK_TIME);
    tokio::pin!(deadline);
    while open || unseen > 0 {
        tokio::select! {
            event = events.recv(), if open => match event {
                Some(event) => unseen += usize::from(sent(&process, &event).await),
                None => {
                    open = false;
                    deadline.as_mut().reset(tokio::time::Instant::now() + HOOK_TIME);
                }
            },
            report = reports.recv() => match report {
                Some(HookReport::Told) => unseen = unseen.saturating_sub(1),
                Some(HookReport::Failed(failure)) => {
                    let progress = HookProgress { name: failure.hook.clone(), status: OperationStatus::Failed };
                    let mut event = emitter.event(Details::HookProgress(progress));
                    if failure.disabled {
                        event = event.message(format!(
                            "Event hook '{}' has FAILED too often and is disabled until the next update.",
                            failure.hook
                        ));
                    }
                    event.error(&problem_error(failure.problem)).emit();
                }
                None => return ended_early(&emitter, "the Python process has ended"),
            },
            () = &mut deadline, if !open => return ended_early(&emitter, "they took too long"),
        }
    }
    drop(reports);
    DefinitionProcess::release(process).await;
}

/// Whether `event` was handed to the process.
async fn sent(process: &DefinitionProcess, event: &Event) -> bool {
    let command = match event.to_json() {
        Ok(event) => format!("{{\"event\": {event}}}\n"),
        Err(error) => {
            tracing::error!(%error, "an event was not handed to the event hooks");
            return false;
        }
    };
    process.send(command.as_bytes()).await
}

fn ended_early(emitter: &EventEmitter, why: &str) {
    let message = format!("Event hooks are told nothing more: {why}.");
    emitter.warn(Warning { message, condition: None, help: None, location: None });
}
