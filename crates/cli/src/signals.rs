//! Ctrl-C and termination: the first request ends the update in order, the second one ends the process.

use tokio_util::sync::CancellationToken;

/// What shells expect of a process ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Listens from now on; the token is cancelled by the first signal.
pub(crate) fn cancellation_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        if next_signal().await {
            cancelled.cancel();
        }
        if next_signal().await {
            std::process::exit(INTERRUPTED);
        }
    });
    token
}

/// Waits for SIGINT or SIGTERM; `false` if signals cannot be listened to.
#[cfg(unix)]
async fn next_signal() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.is_ok(),
        received = terminate.recv() => received.is_some(),
    }
}

#[cfg(not(unix))]
async fn next_signal() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
