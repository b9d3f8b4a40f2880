//! Tries a flow again after errors that may pass by themselves.

use std::future::Future;
use std::time::Duration;

use deltaworks_spark::{Error, Kind, Result};
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::event::FlowStatus;

/// Attempts after a conflict with another writer: it is over as soon as the snapshot is read again.
const CONFLICT_RETRIES: u32 = 5;

/// How often and how soon a flow is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first.
    pub max_retries: u32,
    /// The wait before the second attempt; doubled each time.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
}

impl Retries {
    /// As in development mode: an error is shown at once.
    pub const NONE: Self =
        Self { max_retries: 0, first_wait: Duration::from_secs(5), longest_wait: Duration::from_secs(3600) };

    /// As in production mode, unless configured otherwise.
    pub const PRODUCTION: Self = Self { max_retries: 2, ..Self::NONE };

    /// Of a flow that runs until it is stopped: where Databricks starts the whole update again, as often as
    /// `update_retries` says or without end, the flow alone is tried again.
    #[must_use]
    pub fn continuous(self, update_retries: Option<u32>) -> Self {
        let attempts = |updates: u32| self.max_retries.saturating_add(1).saturating_mul(updates.saturating_add(1)) - 1;
        Self { max_retries: update_retries.map_or(u32::MAX, attempts), ..self }
    }

    fn wait(self, retry: u32) -> Duration {
        self.first_wait.saturating_mul(2u32.saturating_pow(retry)).min(self.longest_wait)
    }
}

/// The attempts of a flow since it last ran well.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    retries: Retries,
    transient: u32,
    conflicts: u32,
}

impl Attempts {
    /// None yet.
    pub fn new(retries: Retries) -> Self {
        Self { retries, transient: 0, conflicts: 0 }
    }

    /// How long to wait until the next attempt after one that ended with `error`; `None` if that is final.
    pub fn next_wait(&mut self, error: &Error) -> Option<Duration> {
        match error.kind() {
            Kind::Conflict if self.conflicts < CONFLICT_RETRIES => {
                self.conflicts += 1;
                Some(Duration::ZERO)
            }
            Kind::Conflict | Kind::Unavailable if self.transient < self.retries.max_retries => {
                self.transient = self.transient.saturating_add(1);
                Some(self.retries.wait(self.transient - 1))
            }
            _ => None,
        }
    }
}

/// Runs `attempt` until it succeeds, fails for good, or has used up its retries.
pub async fn with_retries<F, A>(retries: Retries, status: &Status, stop: &CancellationToken, attempt: A) -> Result<()>
where
    A: Fn() -> F,
    F: Future<Output = Result<()>>,
{
    let mut attempts = Attempts::new(retries);
    loop {
        let Err(error) = attempt().await else { return Ok(()) };
        let Some(wait) = attempts.next_wait(&error) else { return Err(error) };
        status.failed_for_now(&error);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
        }
        status.tell(FlowStatus::Running);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;
    use crate::event::EventEmitter;

    async fn attempts(retries: Retries, kind: Kind, failures: u32) -> (u32, bool) {
        let retries = Retries { first_wait: Duration::ZERO, ..retries };
        let tried = Cell::new(0);
        let status = Status::new(EventEmitter::disconnected());
        let outcome = with_retries(retries, &status, &CancellationToken::new(), || {
            tried.set(tried.get() + 1);
            let fails = tried.get() <= failures;
            async move { if fails { Err(Error::new(kind, "no answer")) } else { Ok(()) } }
        })
        .await;
        (tried.get(), outcome.is_ok())
    }

    #[tokio::test]
    async fn transient_errors_are_retried_and_user_errors_are_not() {
        assert_eq!(attempts(Retries::PRODUCTION, Kind::Unavailable, 2).await, (3, true));
        assert_eq!(attempts(Retries::PRODUCTION, Kind::Unavailable, 3).await, (3, false));
        assert_eq!(attempts(Retries::NONE, Kind::Unavailable, 1).await, (1, false));
        assert_eq!(attempts(Retries::PRODUCTION, Kind::User, 1).await, (1, false));
        assert_eq!(attempts(Retries::NONE, Kind::Conflict, 2).await, (3, true));
        assert_eq!(attempts(Retries::NONE, Kind::Conflict, 9).await, (6, false));
    }

    /// The waits, in seconds, between attempts that all end with an error of `kind`; at most `count`.
    fn waits(retries: Retries, kind: Kind, count: usize) -> Vec<u64> {
        let mut attempts = Attempts::new(retries);
        let error = Error::new(kind, "no answer");
        std::iter::from_fn(|| attempts.next_wait(&error)).map(|wait| wait.as_secs()).take(count).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let continuous = Retries::PRODUCTION.continuous(None);
        assert_eq!(waits(Retries::PRODUCTION, Kind::Unavailable, 9), [5, 10]);
        assert_eq!(
            waits(continuous, Kind::Unavailable, 12),
            [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
        );
        assert_eq!(waits(continuous, Kind::Unavailable, 100).len(), 100);
        assert!(waits(continuous, Kind::Data, 9).is_empty());
    }

    #[test]
    fn a_conflict_that_lasts_is_waited_for() {
        assert_eq!(waits(Retries::PRODUCTION.continuous(None), Kind::Conflict, 8), [0, 0, 0, 0, 0, 5, 10, 20]);
    }

    #[test]
    fn retries_of_the_update_are_retries_of_the_flow() {
        assert_eq!(Retries::PRODUCTION.continuous(Some(0)).max_retries, 2);
        assert_eq!(Retries::PRODUCTION.continuous(Some(1)).max_retries, 5);
        assert_eq!(Retries::NONE.continuous(Some(3)).max_retries, 3);
        assert_eq!(Retries::PRODUCTION.continuous(Some(u32::MAX)).max_retries, u32::MAX - 1);
    }
}
