//! The queue before a sink: emitting never waits, and what may be lost is lost before memory is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::model::Event;

/// Events on their way to one sink, in order.
///
/// Once `capacity` events wait, transient ones are dropped and counted. All others are always kept: an
/// update has a handful of them per batch.
#[derive(Debug)]
pub(crate) struct EventQueue {
    capacity: usize,
    state: Mutex<State>,
    dropped: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Event>>,
    closed: bool,
}

impl EventQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), dropped: AtomicU64::new(0), changed: Notify::new() }
    }

    /// Adds an event, unless the queue is closed, or full and the event transient.
    pub(crate) fn push(&self, event: Arc<Event>) {
        {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            if state.waiting.len() >= self.capacity && event.details.is_transient() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            state.waiting.push_back(event);
        }
        self.changed.notify_one();
    }

    /// Everything that waits, as soon as there is something; `None` once closed and empty.
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn take_all(&self) -> Option<Vec<Arc<Event>>> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.waiting.is_empty() {
                    return Some(state.waiting.drain(..).collect());
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Takes no more events.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// How many transient events were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
