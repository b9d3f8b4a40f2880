//! Traces for whoever debugs this program, on stderr, chosen by `DELTAWORKS_LOG`.

use tracing_subscriber::EnvFilter;

/// Without `DELTAWORKS_LOG`, only errors: users read events, not traces.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("DELTAWORKS_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    // A subscriber that is already there (in tests) is as good.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
