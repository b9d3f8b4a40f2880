//! The Spark Connect host that a definition process talks to: it collects what the process defines, and
//! answers questions about schemas from what is defined so far.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::host::{
    AnalysisContext, ConnectHost, ConnectSession, PipelineReply, Purpose, dataset_not_materialized, dataset_not_ready,
};
use deltaworks_spark::connect::proto;
use deltaworks_spark::relation::{RelationRequest, RelationResolver, UnresolvedRelation};
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use proto::pipeline_command::CommandType;
use proto::pipeline_command_result::{CreateDataflowGraphResult, DefineFlowResult, DefineOutputResult, ResultType};

use super::register;
use crate::definitions::{Definitions, sql};
use crate::graph::{Environment, plan_partial};
use crate::name::DatasetName;

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
            }),
        })
    }

    /// Everything defined so far.
    pub fn definitions(&self) -> Arc<Definitions> {
        Arc::clone(&self.session.definitions.lock())
    }
}

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
    fn context(&self) -> SessionContext {
        self.context.lock().clone()
    }

    fn resolver(&self, purpose: Purpose, _analysis: Option<&AnalysisContext>) -> Arc<dyn RelationResolver> {
        Arc::new(PartialRelations {
            environment: Arc::clone(&self.environment),
            definitions: Arc::clone(&self.definitions.lock()),
            purpose,
        })
    }

    fn conf(&self) -> SparkConf {
        self.conf.lock().clone()
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
                self.define(|definitions| {
                    definitions.flows.push(flow);
                    Ok(())
                })?;
                Some(ResultType::DefineFlowResult(DefineFlowResult { resolved_identifier }))
            }
            Some(CommandType::DefineSqlGraphElements(command)) => {
                let file = command.sql_file_path.clone().unwrap_or_else(|| "<sql>".to_owned());
                let text = command.sql_text.clone().unwrap_or_default();
                let configuration = self.conf.lock().all.clone();
                self.define(|definitions| {
                    sql::define(&text, file.as_ref(), namespace, &configuration, definitions);
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

/// What a DataFrame may read while definitions are still coming in.
struct PartialRelations {
    environment: Arc<Environment>,
    definitions: Arc<Definitions>,
    purpose: Purpose,
}

#[async_trait]
impl RelationResolver for PartialRelations {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        if let UnresolvedRelation::Table { name, .. } = &request.relation
            && let Ok(name) = DatasetName::resolve(name, &self.environment.namespace)
            && self.definitions.outputs.iter().any(|output| output.name == name)
        {
            if self.purpose == Purpose::Execute {
                return Err(dataset_not_materialized(&name.name));
            }
            if !self.definitions.flows.iter().any(|flow| flow.target == name) {
                return Err(dataset_not_ready(&name.name));
            }
        }
        plan_partial(request, &self.definitions, &self.environment).await
    }
}
