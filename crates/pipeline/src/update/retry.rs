//! Tries a flow again after errors that may pass by themselves.

use std::future::Future;
use std::time::Duration;

use deltaworks_spark::{Error, Kind, Result};
use tokio_util::sync::CancellationToken;

use crate::event::{Details, EventEmitter, FlowProgress, FlowStatus, Level};

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

    fn wait(self, retry: u32) -> Duration {
        self.first_wait.saturating_mul(2u32.saturating_pow(retry)).min(self.longest_wait)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or has used up its retries.
pub async fn with_retries<F, A>(
    retries: Retries,
    emitter: &EventEmitter,
    cancel: &CancellationToken,
    attempt: A,
) -> Result<()>
where
    A: Fn() -> F,
    F: Future<Output = Result<()>>,
{
    let (mut transient, mut conflicts) = (0, 0);
    loop {
        let Err(error) = attempt().await else { return Ok(()) };
        let wait = match error.kind() {
            Kind::Conflict if conflicts < CONFLICT_RETRIES => {
                conflicts += 1;
                Duration::ZERO
            }
            Kind::Unavailable if transient < retries.max_retries => {
                transient += 1;
                retries.wait(transient - 1)
            }
            _ => return Err(error),
        };
        emitter
            .event(Details::FlowProgress(FlowProgress::new(FlowStatus::Failed)))
            .level(Level::Warn)
            .error(&error)
            .emit();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the update was cancelled")),
        }
        emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Running)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    async fn attempts(retries: Retries, kind: Kind, failures: u32) -> (u32, bool) {
        let retries = Retries { first_wait: Duration::ZERO, ..retries };
        let tried = Cell::new(0);
        let outcome = with_retries(retries, &EventEmitter::disconnected(), &CancellationToken::new(), || {
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
    }
}
