//! Time and ids as inputs: the only place of the event system that asks the machine for either.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Says what time it is.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Gives ids that are not given twice.
pub trait IdGenerator: std::fmt::Debug + Send + Sync {
    /// A new id.
    fn next_id(&self) -> Uuid;
}

/// Random ids (UUID version 4).
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdGenerator for RandomIds {
    fn next_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}
