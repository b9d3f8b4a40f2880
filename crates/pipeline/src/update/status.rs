//! What a flow is doing, as its events tell it.

use std::sync::Arc;

use deltaworks_spark::Error;
use parking_lot::Mutex;

use crate::event::{Details, EventEmitter, FlowProgress, FlowStatus, Level};

/// The status of a flow. What did not change is not told again: a flow that is idle for days says so once.
#[derive(Debug, Clone)]
pub struct Status {
    emitter: EventEmitter,
    told: Arc<Mutex<Option<FlowStatus>>>,
}

impl Status {
    /// Nothing was told yet; events go to `emitter`.
    pub fn new(emitter: EventEmitter) -> Self {
        Self { emitter, told: Arc::default() }
    }

    /// Tells that the flow is in `status`, unless that is known.
    pub fn tell(&self, status: FlowStatus) {
        if self.told.lock().replace(status) != Some(status) {
            self.emitter.emit(Details::FlowProgress(FlowProgress::new(status)));
        }
    }

    /// Tells of a failure that will be followed by another attempt.
    pub fn failed_for_now(&self, error: &Error) {
        self.failed(error, Level::Warn);
    }

    /// Tells of a failure; of the same error again, too.
    pub fn failed(&self, error: &Error, level: Level) {
        *self.told.lock() = Some(FlowStatus::Failed);
        let details = Details::FlowProgress(FlowProgress::new(FlowStatus::Failed));
        self.emitter.event(details).level(level).error(error).emit();
    }

    /// Whether `status` was told last.
    pub fn is(&self, status: FlowStatus) -> bool {
        *self.told.lock() == Some(status)
    }
}
