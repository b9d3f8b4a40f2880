//! A pipeline's catalog over Spark Connect: any client reads the stored tables, and files.
//!
//! The service itself is `spark::connect::service`; this module says what sessions there are ([`CatalogHost`])
//! and what their queries read.

mod catalog;
mod files;
mod lines;
mod session;
mod views;

use std::sync::Arc;

use async_trait::async_trait;
use deltaworks_spark::Result;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{ConnectHost, ConnectSession};
use deltaworks_spark::connect::service::{ServeOptions, serve_with};
use tokio::net::TcpListener;

use crate::Pipeline;
use crate::graph::Environment;
use session::CatalogSession;

/// The setting that decides between Spark's two ways to treat values that do not fit.
const ANSI: &str = "spark.sql.ansi.enabled";

/// Makes sessions over the catalog of one pipeline. They share nothing but the stored tables.
pub struct CatalogHost {
    environment: Arc<Environment>,
    conf: SparkConf,
}

impl CatalogHost {
    /// A host over `pipeline`. Its sessions start from the pipeline's settings, with ANSI mode as in Spark 4
    /// unless the settings say otherwise.
    pub fn new(pipeline: &Pipeline) -> Self {
        let environment = pipeline.environment();
        let mut conf = environment.conf.clone();
        conf.ansi |= !conf.all.contains_key(ANSI);
        Self { environment, conf }
    }
}

#[async_trait]
impl ConnectHost for CatalogHost {
    async fn session(&self, _user: &str, _session_id: &str) -> Result<Arc<dyn ConnectSession>> {
        Ok(Arc::new(CatalogSession::new(Arc::clone(&self.environment), self.conf.clone())?))
    }

    async fn release(&self, _user: &str, _session_id: &str) {}
}

/// Serves the catalog of `pipeline` on `listener` until `shutdown` is done.
///
/// # Errors
/// `Unavailable` if the listener fails.
pub async fn serve(
    pipeline: &Pipeline,
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_with(Arc::new(CatalogHost::new(pipeline)), listener, options, shutdown).await
}
