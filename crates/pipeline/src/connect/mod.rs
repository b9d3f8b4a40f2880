//! A pipeline's catalog over Spark Connect: any client reads the stored tables, and files, and may define and run
//! pipelines of its own that write tables there.
//!
//! The service itself is `spark::connect::service`; this module says what sessions there are ([`CatalogHost`]), what
//! their queries read, and what becomes of the dataflow graphs they define.

mod catalog;
mod edit;
mod files;
mod graphs;
mod session;
mod upkeep;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use deltaworks_spark::Result;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{ConnectHost, ConnectSession};
use deltaworks_spark::connect::service::{ServeOptions, run_statement, serve_with};
use tokio::net::TcpListener;

use crate::Pipeline;
pub(crate) use catalog::StoredCatalog;
use session::CatalogSession;
pub(crate) use session::StoredRelations;

/// The setting that decides between Spark's two ways to treat values that do not fit.
const ANSI: &str = "spark.sql.ansi.enabled";

/// Makes sessions over the catalog of one pipeline. They share nothing but the stored tables.
pub struct CatalogHost {
    pipeline: Pipeline,
    conf: SparkConf,
}

impl CatalogHost {
    /// A host over `pipeline`. Its sessions start from the pipeline's settings, with ANSI mode as in Spark 4
    /// unless the settings say otherwise.
    pub fn new(pipeline: &Pipeline) -> Self {
        let mut conf = pipeline.environment().conf.clone();
        conf.ansi |= !conf.all.contains_key(ANSI);
        Self { pipeline: pipeline.clone(), conf }
    }
}

#[async_trait]
impl ConnectHost for CatalogHost {
    async fn session(&self, _user: &str, _session_id: &str) -> Result<Arc<dyn ConnectSession>> {
        Ok(Arc::new(CatalogSession::new(&self.pipeline, self.conf.clone())?))
    }

    async fn release(&self, _user: &str, _session_id: &str) {}
}

/// Runs a command, such as `SHOW TABLES`, with the settings of `pipeline`.
///
/// # Errors
/// Those of parsing and running it.
pub(crate) async fn run_command(pipeline: &Pipeline, text: &str) -> Result<DataFrame> {
    let session = CatalogSession::new(pipeline, pipeline.environment().conf.clone())?;
    run_statement(Arc::new(session), text).await
}

/// Serves the catalog of `pipeline` on `listener` until `shutdown` is done.
///
/// # Errors
/// `Unavailable` if the listener fails; `INVALID_CONF_VALUE` (`User`) if the settings have a time that is none.
pub async fn serve(
    pipeline: &Pipeline,
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let options = options.with_conf(&pipeline.environment().conf)?;
    serve_with(Arc::new(CatalogHost::new(pipeline)), listener, options, shutdown).await
}
