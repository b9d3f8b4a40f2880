//! What clients leave behind: sessions nobody uses, executions nobody listens to.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ConnectService;

/// How long sessions and executions are kept for clients that do not show up.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A session without requests and running executions ends after this time.
    pub idle_session: Duration,
    /// A reattachable execution without a listener is cancelled after this time.
    pub detached_execution: Duration,
}

impl Default for Lifetimes {
    /// Spark's own defaults.
    fn default() -> Self {
        Self { idle_session: Duration::from_secs(60 * 60), detached_execution: Duration::from_secs(5 * 60) }
    }
}

/// How often is looked, at least.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// How often is looked, at most.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

impl ConnectService {
    /// Cleans up for as long as it is polled.
    pub(super) async fn keep_clean(&self, lifetimes: Lifetimes) {
        let shortest = lifetimes.idle_session.min(lifetimes.detached_execution);
        let mut ticks = interval((shortest / 4).clamp(SHORTEST_INTERVAL, SWEEP_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.sweep(now, lifetimes).await;
        }
    }

    /// Ends what has been left alone for too long at `now`.
    async fn sweep(&self, now: Instant, lifetimes: Lifetimes) {
        let sessions: Vec<_> = self.sessions.lock().iter().map(|(key, s)| (key.clone(), s.clone())).collect();
        for (key, session) in sessions {
            session.operations.lock().retain(|_, operation| {
                let abandoned = operation.detached_for(now).is_some_and(|time| time >= lifetimes.detached_execution);
                if abandoned {
                    operation.cancel();
                }
                !abandoned
            });
            let busy = session.operations.lock().values().any(|operation| !operation.is_finished());
            if !busy && session.idle_for(now) >= lifetimes.idle_session {
                tracing::info!(session = session.id, "idle session ended");
                self.end_session(&key).await;
            }
        }
    }
}
