//! The cancellation that a task works under.
//!
//! A task that is aborted ends where it next waits. One that waits in a thread of its own, as for a user's function in
//! Python, does not get there: it asks here what would cancel it. Tasks that DataFusion spawns work under the
//! cancellation of the task that spawned them, and so do those of [`datafusion::common::runtime::JoinSet`].

use std::any::Any;
use std::sync::Once;

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static CANCEL: CancellationToken;
}

/// Runs `future`, and the tasks spawned by it, as work that `cancel` cancels.
pub async fn under<F: Future>(cancel: CancellationToken, future: F) -> F::Output {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if set_join_set_tracer(&Inherit).is_err() {
            tracing::warn!(
                "another tracer of tasks is installed: Python functions are not killed when they are cancelled"
            );
        }
    });
    CANCEL.scope(cancel, future).await
}

/// What cancels the present task, if anything does.
pub fn current() -> Option<CancellationToken> {
    CANCEL.try_with(CancellationToken::clone).ok()
}

/// Hands the cancellation of a task to those that it spawns.
struct Inherit;

type Output = Box<dyn Any + Send>;

impl JoinSetTracer for Inherit {
    fn trace_future(&self, future: BoxFuture<'static, Output>) -> BoxFuture<'static, Output> {
        match current() {
            Some(cancel) => Box::pin(CANCEL.scope(cancel, future)),
            None => future,
        }
    }

    fn trace_block(&self, block: Box<dyn FnOnce() -> Output + Send>) -> Box<dyn FnOnce() -> Output + Send> {
        match current() {
            Some(cancel) => Box::new(move || CANCEL.sync_scope(cancel, block)),
            None => block,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::common::runtime::{JoinSet, SpawnedTask};

    use super::*;

    #[tokio::test]
    async fn spawned_tasks_inherit_the_cancellation() {
        let cancel = CancellationToken::new();
        let seen = under(cancel.clone(), async {
            let mut set = JoinSet::new();
            set.spawn(async { current() });
            set.spawn_blocking(current);
            let mut seen = set.join_all().await;
            seen.push(SpawnedTask::spawn(async { current() }).await.unwrap());
            seen
        });
        let seen = seen.await;
        cancel.cancel();
        assert_eq!(seen.iter().flatten().filter(|seen| seen.is_cancelled()).count(), 3);
        assert!(current().is_none());
    }
}
