//! One client's session: settings of its own over the pipeline's catalog.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::Result;
use deltaworks_spark::catalog::Catalog;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{AnalysisContext, ConnectSession, PipelineReply, Purpose};
use deltaworks_spark::connect::proto;
use deltaworks_spark::python::{NamedFunction, PythonWorkers};
use deltaworks_spark::relation::{ObjectName, RelationRequest, RelationResolver};
use deltaworks_spark::sql_function::SqlFunction;
use parking_lot::Mutex;

use super::catalog::StoredCatalog;
use super::graphs::Graphs;
use crate::Pipeline;
use crate::definitions::Definitions;
use crate::graph::{Environment, plan_partial};

/// A session over stored tables and files.
pub(super) struct CatalogSession {
    environment: Arc<Environment>,
    catalog: Arc<StoredCatalog>,
    graphs: Graphs,
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
    pub(super) fn new(pipeline: &Pipeline, defaults: SparkConf) -> Result<Self> {
        let environment = pipeline.environment();
        let context = environment.sessions.context(&defaults)?;
        let state = Mutex::new(State { conf: defaults.clone(), context });
        let catalog = Arc::new(StoredCatalog::new(Arc::clone(&environment)));
        Ok(Self { environment, catalog, graphs: Graphs::new(pipeline.clone()), defaults, state })
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

    fn resolver(&self, purpose: Purpose, analysis: Option<&AnalysisContext>) -> Arc<dyn RelationResolver> {
        if let Some(resolver) = self.graphs.resolver(purpose, analysis) {
            return resolver;
        }
        let environment = Environment { conf: self.conf(), ..self.catalog.environment().as_ref().clone() };
        Arc::new(StoredRelations::new(Arc::new(environment)))
    }

    fn python(&self) -> Option<Arc<PythonWorkers>> {
        Some(Arc::clone(&self.environment.python))
    }

    fn catalog(&self) -> Option<Arc<dyn Catalog>> {
        Some(Arc::clone(&self.catalog) as Arc<dyn Catalog>)
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

    fn function_registered(&self, function: &NamedFunction) {
        self.graphs.function_registered(function);
    }

    async fn pipeline_command(
        &self,
        command: &proto::PipelineCommand,
        analysis: Option<&AnalysisContext>,
    ) -> Result<PipelineReply> {
        self.graphs.run(command, analysis, self.conf()).await
    }
}

/// What is stored in the pipeline's catalog now, and files.
pub(crate) struct StoredRelations {
    environment: Arc<Environment>,
}

impl StoredRelations {
    /// What the storage of `environment` has, and what names mean in its namespace.
    pub(crate) fn new(environment: Arc<Environment>) -> Self {
        Self { environment }
    }
}

#[async_trait]
impl RelationResolver for StoredRelations {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        plan_partial(request, &Definitions::default(), &self.environment).await
    }

    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        self.environment.function(name, &self.environment.namespace)
    }
}
