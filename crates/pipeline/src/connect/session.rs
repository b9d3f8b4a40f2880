//! One client's session: settings of its own over the pipeline's catalog.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{AnalysisContext, ConnectSession, PipelineReply, Purpose};
use deltaworks_spark::connect::proto;
use deltaworks_spark::relation::{RelationRequest, RelationResolver};
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;

use crate::definitions::Definitions;
use crate::graph::{Environment, plan_partial};

/// A session over stored tables and files.
pub(super) struct CatalogSession {
    environment: Arc<Environment>,
    defaults: SparkConf,
    state: Mutex<State>,
}

/// The settings and the engine's session made from them, changed together.
struct State {
    conf: SparkConf,
    context: SessionContext,
}

impl CatalogSession {
    /// A session that starts from the settings `defaults`.
    pub(super) fn new(environment: Arc<Environment>, defaults: SparkConf) -> Result<Self> {
        let context = environment.sessions.context(&defaults)?;
        let state = Mutex::new(State { conf: defaults.clone(), context });
        Ok(Self { environment, defaults, state })
    }

    fn change(&self, change: impl FnOnce(&mut SparkConf) -> Result<()>) -> Result<()> {
        let mut state = self.state.lock();
        let mut conf = state.conf.clone();
        change(&mut conf)?;
        if conf != state.conf {
            *state = State { context: self.environment.sessions.context(&conf)?, conf };
        }
        Ok(())
    }
}

#[async_trait]
impl ConnectSession for CatalogSession {
    fn context(&self) -> SessionContext {
        self.state.lock().context.clone()
    }

    fn resolver(&self, _purpose: Purpose, _analysis: Option<&AnalysisContext>) -> Arc<dyn RelationResolver> {
        Arc::new(StoredRelations(Arc::clone(&self.environment)))
    }

    fn conf(&self) -> SparkConf {
        self.state.lock().conf.clone()
    }

    fn set_conf(&self, key: &str, value: &str) -> Result<()> {
        self.change(|conf| conf.set(key, value))
    }

    fn unset_conf(&self, key: &str) -> Result<()> {
        self.change(|conf| conf.reset(key, &self.defaults))
    }

    async fn pipeline_command(&self, _: &proto::PipelineCommand, _: Option<&AnalysisContext>) -> Result<PipelineReply> {
        Err(Error::unsupported("defining a pipeline over Spark Connect")
            .with_help("Put the definitions into the pipeline's source files and run `deltaworks run`."))
    }
}

/// What is stored in the pipeline's catalog now, and files.
struct StoredRelations(Arc<Environment>);

#[async_trait]
impl RelationResolver for StoredRelations {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        plan_partial(request, &Definitions::default(), &self.0).await
    }
}
