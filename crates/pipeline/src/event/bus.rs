//! How events travel: from whoever does the work, through one bus per update, to every sink.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::clock::{Clock, IdGenerator, RandomIds, SystemClock};
use super::details::{Details, Warning};
use super::error_details::ErrorDetails;
use super::message::message;
use super::model::{Event, Level, Sequence};
use super::origin::Origin;
use super::queue::EventQueue;
use super::redact::Redactor;

/// Events that may wait before a sink until transient ones are dropped.
const QUEUE_CAPACITY: usize = 16_384;

/// Receives events: the event log, a display, JSON lines.
///
/// Each sink has a task of its own, so that a slow one holds up neither flows nor other sinks.
#[async_trait]
pub trait EventSink: Send {
    /// What error messages call it.
    fn name(&self) -> &str;

    /// Takes the next events, in order, at least one.
    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()>;

    /// How often [`EventSink::flush`] is wanted; `None` for never.
    fn flush_interval(&self) -> Option<Duration> {
        None
    }

    /// Makes durable or visible what was taken.
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Ends: flushes, and lets go of what it holds.
    async fn close(&mut self) -> Result<()> {
        self.flush().await
    }
}

/// What the events of one bus have in common, and where time and ids come from.
#[derive(Debug, Clone)]
pub struct BusContext {
    /// The origin of every event: pipeline and update.
    pub origin: Origin,
    /// The source that the sequence numbers count within; unique per bus, so usually the update's id.
    pub instance: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids of events.
    pub ids: Arc<dyn IdGenerator>,
    /// Secrets to keep out.
    pub redactor: Redactor,
}

impl BusContext {
    /// Events of `origin`, with the machine's clock, random ids and no known secrets.
    pub fn new(origin: Origin) -> Self {
        Self {
            instance: origin.update_id.clone().unwrap_or_else(|| "deltaworks".to_owned()),
            origin,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            redactor: Redactor::default(),
        }
    }
}

/// Carries the events of one update to its sinks.
pub struct EventBus {
    emitter: EventEmitter,
    tasks: Vec<SinkTask>,
}

struct SinkTask {
    name: String,
    queue: Arc<EventQueue>,
    handle: JoinHandle<Result<()>>,
}

impl EventBus {
    /// Starts one task per sink; must be called within a tokio runtime.
    pub fn start(context: BusContext, sinks: Vec<Box<dyn EventSink>>) -> Self {
        let tasks: Vec<SinkTask> = sinks.into_iter().map(SinkTask::start).collect();
        let shared = Shared {
            instance: context.instance,
            clock: context.clock,
            ids: context.ids,
            redactor: context.redactor,
            queues: tasks.iter().map(|task| Arc::clone(&task.queue)).collect(),
            last_seq_no: Mutex::new(0),
        };
        Self { emitter: EventEmitter { origin: Arc::new(context.origin), shared: Arc::new(shared) }, tasks }
    }

    /// A handle that emits events of this bus.
    pub fn emitter(&self) -> EventEmitter {
        self.emitter.clone()
    }

    /// Closes the sinks, in their order, each after it has got all events. What happens while one is being closed is an
    /// event for those after it.
    ///
    /// # Errors
    /// The first error of a sink; the other sinks got their events all the same.
    pub async fn close(self) -> Result<()> {
        let mut first_error = None;
        for task in self.tasks {
            task.queue.close();
            if let Err(error) = task.finish().await {
                tracing::error!(error = %error, "an event sink failed");
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

impl SinkTask {
    fn start(sink: Box<dyn EventSink>) -> Self {
        let name = sink.name().to_owned();
        let queue = Arc::new(EventQueue::new(QUEUE_CAPACITY));
        let handle = tokio::spawn(deliver(sink, Arc::clone(&queue)));
        Self { name, queue, handle }
    }

    async fn finish(self) -> Result<()> {
        let delivered = self.handle.await.unwrap_or_else(|error| {
            Err(Error::internal("the task of an event sink ended unexpectedly").with_source(error))
        });
        let dropped = self.queue.dropped();
        if dropped > 0 {
            tracing::warn!(sink = self.name, dropped, "progress events were dropped: the sink could not keep up");
        }
        delivered.map_err(|error| error.context(format!("while writing events to {}", self.name)))
    }
}

/// Moves events from the queue to the sink until the queue is closed; the sink is closed even after an error.
async fn deliver(mut sink: Box<dyn EventSink>, queue: Arc<EventQueue>) -> Result<()> {
    let delivered = deliver_until_closed(sink.as_mut(), &queue).await;
    if delivered.is_err() {
        queue.close();
    }
    let closed = sink.close().await;
    delivered.and(closed)
}

async fn deliver_until_closed(sink: &mut dyn EventSink, queue: &EventQueue) -> Result<()> {
    let Some(interval) = sink.flush_interval() else {
        while let Some(events) = queue.take_all().await {
            sink.write(&events).await?;
        }
        return Ok(());
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            taken = queue.take_all() => match taken {
                Some(events) => sink.write(&events).await?,
                None => return Ok(()),
            },
            _ = ticks.tick() => sink.flush().await?,
        }
    }
}

#[derive(Debug)]
struct Shared {
    instance: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    redactor: Redactor,
    queues: Vec<Arc<EventQueue>>,
    /// Held while an event goes to all queues, so that every sink sees the same order.
    last_seq_no: Mutex<u64>,
}

/// Emits events of one origin. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct EventEmitter {
    origin: Arc<Origin>,
    shared: Arc<Shared>,
}

impl EventEmitter {
    /// An emitter that goes nowhere, for work outside an update.
    pub fn disconnected() -> Self {
        let context = BusContext::new(Origin::default());
        let shared = Shared {
            instance: context.instance,
            clock: context.clock,
            ids: context.ids,
            redactor: context.redactor,
            queues: Vec::new(),
            last_seq_no: Mutex::new(0),
        };
        Self { origin: Arc::new(context.origin), shared: Arc::new(shared) }
    }

    /// The origin of this emitter's events.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The clock of the update.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// An emitter whose origin is this one's with `change` applied.
    #[must_use]
    pub fn with_origin(&self, change: impl FnOnce(&mut Origin)) -> Self {
        let mut origin = Origin::clone(&self.origin);
        change(&mut origin);
        Self { origin: Arc::new(origin), shared: Arc::clone(&self.shared) }
    }

    /// An emitter for a dataset.
    #[must_use]
    pub fn for_dataset(&self, name: &str) -> Self {
        self.with_origin(|origin| origin.dataset_name = Some(name.to_owned()))
    }

    /// An emitter for a sink of the pipeline.
    #[must_use]
    pub fn for_sink(&self, name: &str) -> Self {
        self.with_origin(|origin| origin.sink_name = Some(name.to_owned()))
    }

    /// An emitter for a flow that writes `dataset`.
    #[must_use]
    pub fn for_flow(&self, flow_id: &str, flow_name: &str, dataset: &str) -> Self {
        self.with_origin(|origin| {
            origin.flow_id = Some(flow_id.to_owned());
            origin.flow_name = Some(flow_name.to_owned());
            origin.dataset_name = Some(dataset.to_owned());
        })
    }

    /// An emitter for a batch of a flow.
    #[must_use]
    pub fn for_batch(&self, batch_id: i64) -> Self {
        self.with_origin(|origin| origin.batch_id = Some(batch_id))
    }

    /// Emits an event with the message and level that follow from its details.
    pub fn emit(&self, details: Details) {
        self.event(details).emit();
    }

    /// Emits a warning.
    pub fn warn(&self, warning: Warning) {
        self.emit(Details::Warning(warning));
    }

    /// Begins an event, to give it an error, another message or level.
    pub fn event(&self, details: Details) -> EventBuilder<'_> {
        EventBuilder { emitter: self, details, message: None, level: None, error: None }
    }
}

/// An event that is not emitted yet.
#[derive(Debug)]
#[must_use = "an event that is built goes nowhere until `emit` is called"]
pub struct EventBuilder<'a> {
    emitter: &'a EventEmitter,
    details: Details,
    message: Option<String>,
    level: Option<Level>,
    error: Option<ErrorDetails>,
}

impl EventBuilder<'_> {
    /// Says something else than follows from the details.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Has another level than follows from the details: `WARN` for a failure that is tried again.
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Says what went wrong.
    pub fn error(mut self, error: &Error) -> Self {
        self.error = Some(ErrorDetails::from(error));
        self
    }

    /// Sends the event to every sink.
    pub fn emit(self) {
        let shared = &self.emitter.shared;
        let origin = &self.emitter.origin;
        let mut event = Event {
            id: shared.ids.next_id().to_string(),
            sequence: Sequence::default(),
            timestamp: shared.clock.now(),
            message: self.message.unwrap_or_else(|| message(&self.details, origin)),
            level: self.level.unwrap_or_else(|| self.details.default_level()),
            maturity_level: Some(self.details.maturity_level()),
            error: self.error,
            origin: Origin::clone(origin),
            details: self.details,
        };
        if let Err(error) = shared.redactor.redact_event(&mut event) {
            tracing::error!(error = %error, "an event was not emitted");
            return;
        }
        let mut last = shared.last_seq_no.lock();
        *last += 1;
        event.sequence = Sequence::data_plane(shared.instance.as_str(), *last);
        let event = Arc::new(event);
        for queue in &shared.queues {
            queue.push(Arc::clone(&event));
        }
    }
}
