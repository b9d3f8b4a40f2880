//! The Spark Connect host that a definition process talks to: it collects what the process defines, and
//! answers questions about schemas from what is defined so far, and about rows from what is up to date.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::catalog::Catalog;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{
    AnalysisContext, ConnectHost, ConnectSession, PipelineReply, Purpose, dataset_not_materialized, dataset_not_ready,
};
use deltaworks_spark::connect::proto;
use deltaworks_spark::python::{NamedFunction, PythonWorkers};
use deltaworks_spark::relation::{ObjectName, RelationRequest, RelationResolver, UnresolvedRelation};
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use proto::pipeline_command::CommandType;
use proto::pipeline_command_result::{CreateDataflowGraphResult, DefineFlowResult, DefineOutputResult, ResultType};

use super::batches::Batches;
use super::register;
use crate::definitions::{Definitions, Flow, sql};
use crate::graph::dataset::{bind_tables, dataset_tables};
use crate::graph::{Environment, is_pending, plan_partial};
use crate::name::DatasetName;
use crate::update::snapshot;

/// The id of the only graph a definition process has.
const GRAPH_ID: &str = "pipeline";

/// Collects the definitions of one process.
pub struct DefinitionHost {
    session: Arc<DefinitionSession>,
}

impl DefinitionHost {
    /// A host that starts from `definitions`, those of the SQL files.
    pub fn new(environment: Arc<Environment>, definitions: Definitions) -> Result<Self> {
        let conf = environment.conf.clone();
        let context = environment.sessions.context(&conf)?;
        Ok(Self {
            session: Arc::new(DefinitionSession {
                environment,
                context: Mutex::new(context),
                conf: Mutex::new(conf),
                definitions: Arc::new(Mutex::new(Arc::new(definitions))),
                evaluation: Mutex::default(),
                asked: Arc::default(),
                batches: Arc::default(),
            }),
        })
    }

    /// Everything defined so far.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.session.definitions.lock())
    }

    /// The datasets that the function of `flow` asked for, as the client names the flow.
    pub fn asked(&self, flow: &str) -> Vec<DatasetName> {
        self.session.asked.lock().get(flow).cloned().unwrap_or_default()
    }

    /// The batches that functions are called with.
    pub(super) fn batches(&self) -> Arc<Batches> {
        Arc::clone(&self.session.batches)
    }

    /// From now on, functions see `definitions` and the rows of the datasets in `settled`; the flow that the
    /// client defines next is kept for [`Self::end_evaluation`].
    pub fn begin_evaluation(&self, definitions: Arc<Definitions>, settled: HashSet<DatasetName>) {
        *self.session.definitions.lock() = definitions;
        self.session.asked.lock().clear();
        *self.session.evaluation.lock() = Some(Evaluation { settled: Arc::new(settled), defined: None });
    }

    /// The flow that was defined since [`Self::begin_evaluation`].
    pub fn end_evaluation(&self) -> Option<Flow> {
        self.session.evaluation.lock().take().and_then(|evaluation| evaluation.defined)
    }
}

/// A call of a function during an update.
struct Evaluation {
    /// The stored datasets that are up to date.
    settled: Arc<HashSet<DatasetName>>,
    defined: Option<Flow>,
}

/// What each flow's function asked for, by the name the client gives the flow.
type Asked = Arc<Mutex<HashMap<String, Vec<DatasetName>>>>;

#[async_trait]
impl ConnectHost for DefinitionHost {
    async fn session(&self, _user: &str, _session_id: &str) -> Result<Arc<dyn ConnectSession>> {
        Ok(Arc::clone(&self.session) as Arc<dyn ConnectSession>)
    }

    async fn release(&self, _user: &str, _session_id: &str) {}
}

struct DefinitionSession {
    environment: Arc<Environment>,
    context: Mutex<SessionContext>,
    conf: Mutex<SparkConf>,
    /// Replaced as a whole by each definition, so that readers keep a consistent view.
    definitions: Arc<Mutex<Arc<Definitions>>>,
    /// `None` while the source files are read.
    evaluation: Mutex<Option<Evaluation>>,
    asked: Asked,
    batches: Arc<Batches>,
}

impl DefinitionSession {
    fn change_conf(&self, change: impl FnOnce(&mut SparkConf) -> Result<()>) -> Result<()> {
        let mut conf = self.conf.lock();
        let mut changed = conf.clone();
        change(&mut changed)?;
        *self.context.lock() = self.environment.sessions.context(&changed)?;
        *conf = changed;
        Ok(())
    }

    fn define(&self, add: impl FnOnce(&mut Definitions) -> Result<()>) -> Result<()> {
        let mut shared = self.definitions.lock();
        add(Arc::make_mut(&mut shared))
    }
}

#[async_trait]
impl ConnectSession for DefinitionSession {
    fn function_registered(&self, function: &NamedFunction) {
        Arc::make_mut(&mut self.definitions.lock()).functions.push(function.clone());
    }

    fn context(&self) -> SessionContext {
        self.context.lock().clone()
    }

    fn resolver(&self, purpose: Purpose, analysis: Option<&AnalysisContext>) -> Arc<dyn RelationResolver> {
        if let Some(resolver) = self.batches.resolver(self.conf()) {
            return resolver;
        }
        Arc::new(PartialRelations {
            environment: Arc::clone(&self.environment),
            definitions: Arc::clone(&self.definitions.lock()),
            purpose,
            settled: self.evaluation.lock().as_ref().map(|evaluation| Arc::clone(&evaluation.settled)),
            flow: analysis.and_then(|analysis| analysis.flow_name.clone()),
            asked: Arc::clone(&self.asked),
            batches: Arc::clone(&self.batches),
        })
    }

    fn catalog(&self) -> Option<Arc<dyn Catalog>> {
        self.batches.catalog().map(|catalog| catalog as Arc<dyn Catalog>)
    }

    fn conf(&self) -> SparkConf {
        self.conf.lock().clone()
    }

    fn python(&self) -> Option<Arc<PythonWorkers>> {
        Some(Arc::clone(&self.environment.python))
    }

    fn set_conf(&self, key: &str, value: &str) -> Result<()> {
        self.change_conf(|conf| conf.set(key, value))
    }

    fn unset_conf(&self, key: &str) -> Result<()> {
        let default = self.environment.conf.get(key);
        self.change_conf(|conf| {
            conf.all.remove(key);
            match default {
                Some(value) => conf.set(key, &value),
                None => Ok(()),
            }
        })
    }

    async fn pipeline_command(
        &self,
        command: &proto::PipelineCommand,
        _analysis: Option<&AnalysisContext>,
    ) -> Result<PipelineReply> {
        let namespace = &self.environment.namespace;
        let result = match &command.command_type {
            Some(CommandType::CreateDataflowGraph(_)) => {
                Some(ResultType::CreateDataflowGraphResult(CreateDataflowGraphResult {
                    dataflow_graph_id: Some(GRAPH_ID.to_owned()),
                }))
            }
            Some(CommandType::DefineOutput(command)) => {
                let output = register::output(command, namespace)?;
                let resolved_identifier = Some(identifier(&output.name));
                self.define(|definitions| {
                    definitions.outputs.push(output);
                    Ok(())
                })?;
                Some(ResultType::DefineOutputResult(DefineOutputResult { resolved_identifier }))
            }
            Some(CommandType::DefineFlow(command)) => {
                let flow = register::flow(command, namespace)?;
                let resolved_identifier = Some(identifier(&flow.name));
                let mut evaluation = self.evaluation.lock();
                match evaluation.as_mut() {
                    Some(evaluation) => evaluation.defined = Some(flow),
                    None => self.define(|definitions| {
                        definitions.flows.push(flow);
                        Ok(())
                    })?,
                }
                Some(ResultType::DefineFlowResult(DefineFlowResult { resolved_identifier }))
            }
            Some(CommandType::DefineSqlGraphElements(command)) => {
                let file = command.sql_file_path.clone().unwrap_or_else(|| "<sql>".to_owned());
                let text = command.sql_text.clone().unwrap_or_default();
                let configuration = self.conf.lock().all.clone();
                self.define(|definitions| {
                    sql::define(
                        &text,
                        file.as_ref(),
                        namespace,
                        &configuration,
                        &self.environment.parameters,
                        definitions,
                    );
                    Ok(())
                })?;
                None
            }
            Some(CommandType::DropDataflowGraph(_)) => None,
            _ => return Err(Error::unsupported("this pipeline command, while a pipeline is being defined,")),
        };
        Ok(PipelineReply::Result(result.map(|result| proto::PipelineCommandResult { result_type: Some(result) })))
    }
}

fn identifier(name: &DatasetName) -> proto::ResolvedIdentifier {
    proto::ResolvedIdentifier {
        catalog_name: name.catalog.clone(),
        namespace: vec![name.schema.clone()],
        table_name: name.name.clone(),
    }
}

/// What a DataFrame may read while definitions are still coming in, and in a call during an update.
struct PartialRelations {
    environment: Arc<Environment>,
    definitions: Arc<Definitions>,
    purpose: Purpose,
    /// The stored datasets whose rows may be read.
    settled: Option<Arc<HashSet<DatasetName>>>,
    /// The flow whose function asks.
    flow: Option<String>,
    asked: Asked,
    batches: Arc<Batches>,
}

impl PartialRelations {
    /// The dataset of the pipeline that is asked for, if it is one.
    fn dataset(&self, request: &RelationRequest) -> Option<DatasetName> {
        let UnresolvedRelation::Table { name, .. } = &request.relation else { return None };
        let name = DatasetName::resolve(name, &self.environment.namespace).ok()?;
        self.definitions.outputs.iter().any(|output| output.name == name).then_some(name)
    }

    fn shown(&self, name: &DatasetName) -> String {
        name.display_in(&self.environment.namespace)
    }

    /// The plan over the tables as they are stored now.
    ///
    /// # Errors
    /// `DELTAWORKS_DATASET_NOT_MATERIALIZED` if one of them is not up to date.
    async fn bound(&self, plan: LogicalPlan, settled: &HashSet<DatasetName>) -> Result<LogicalPlan> {
        let mut providers = Vec::new();
        for read in dataset_tables(&plan)? {
            let ours = self.definitions.outputs.iter().any(|output| output.name == read.name);
            if ours && !settled.contains(&read.name) {
                return Err(dataset_not_materialized(&self.shown(&read.name)));
            }
            providers.push(snapshot(&self.environment, &read).await?.1);
        }
        bind_tables(plan, &providers)
    }
}

#[async_trait]
impl RelationResolver for PartialRelations {
    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        self.environment.function(name, &self.environment.namespace)
    }

    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        if let Some(plan) = self.batches.resolve(request) {
            return plan;
        }
        let Some(name) = self.dataset(request) else {
            return plan_partial(request, &self.definitions, &self.environment).await;
        };
        if let Some(flow) = &self.flow {
            let mut asked = self.asked.lock();
            let asked = asked.entry(flow.clone()).or_default();
            if !asked.contains(&name) {
                asked.push(name.clone());
            }
        }
        if self.settled.is_none() {
            if self.purpose == Purpose::Execute {
                return Err(dataset_not_materialized(&self.shown(&name)));
            }
            if !self.definitions.flows.iter().any(|flow| flow.target == name) {
                return Err(dataset_not_ready(&self.shown(&name)));
            }
        }
        let plan = plan_partial(request, &self.definitions, &self.environment)
            .await
            .map_err(|error| if is_pending(&error) { dataset_not_materialized(&self.shown(&name)) } else { error })?;
        match (&self.settled, self.purpose) {
            (Some(settled), Purpose::Execute) => self.bound(plan, settled).await,
            _ => Ok(plan),
        }
    }
}
