//! AnalyzePlan: schemas and other questions about a plan that need no rows.

use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::logical_expr::LogicalPlan;
use tonic::Status;

use super::{ConnectService, Session, analysis_context, tree};
use crate::connect::host::{AnalysisContext, Purpose};
use crate::connect::proto::analyze_plan_request::{Analyze, explain::ExplainMode};
use crate::connect::proto::analyze_plan_response::{self as answer, Result as Answer};
use crate::connect::proto::{self, plan};
use crate::connect::{faces, types};
use crate::error::{Error, Result};
use crate::streaming::is_streaming;

/// The version of Spark whose protocol and semantics these are.
const SPARK_VERSION: &str = "4.2.0";

impl ConnectService {
    pub async fn analyze_plan(&self, request: proto::AnalyzePlanRequest) -> Result<proto::AnalyzePlanResponse, Status> {
        let session = self.session(request.user_context.as_ref(), &request.session_id).await?;
        let analysis = analysis_context(request.user_context.as_ref());
        let result = match request.analyze {
            Some(question) => session.answer(question, analysis.as_ref()).await,
            None => Err(Error::internal("an analysis without a question")),
        };
        Ok(proto::AnalyzePlanResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            result: Some(result.map_err(|error| session.errors.status(&error))?),
        })
    }
}

impl Session {
    async fn answer(&self, question: Analyze, analysis: Option<&AnalysisContext>) -> Result<Answer> {
        Ok(match question {
            Analyze::Schema(schema) => {
                let plan = self.analyzed(schema.plan, analysis).await?;
                Answer::Schema(answer::Schema { schema: Some(types::from_arrow_schema(plan.schema().as_arrow())?) })
            }
            Analyze::Explain(explain) => {
                let mode = explain.explain_mode();
                let plan = self.analyzed(explain.plan, analysis).await?;
                Answer::Explain(answer::Explain { explain_string: self.explained(&plan, mode).await? })
            }
            Analyze::TreeString(request) => {
                let plan = self.analyzed(request.plan, analysis).await?;
                Answer::TreeString(answer::TreeString {
                    tree_string: tree::text(plan.schema().as_arrow(), request.level),
                })
            }
            Analyze::IsLocal(_) => Answer::IsLocal(answer::IsLocal { is_local: false }),
            Analyze::IsStreaming(request) => {
                let plan = self.analyzed(request.plan, analysis).await?;
                Answer::IsStreaming(answer::IsStreaming { is_streaming: is_streaming(&plan) })
            }
            Analyze::InputFiles(request) => {
                self.analyzed(request.plan, analysis).await?;
                Answer::InputFiles(answer::InputFiles { files: Vec::new() })
            }
            Analyze::SparkVersion(_) => {
                Answer::SparkVersion(answer::SparkVersion { version: SPARK_VERSION.to_owned() })
            }
            Analyze::DdlParse(request) => {
                Answer::DdlParse(answer::DdlParse { parsed: Some(parse_ddl(&request.ddl_string)?) })
            }
            Analyze::SameSemantics(request) => {
                let target = self.analyzed(request.target_plan, analysis).await?;
                let other = self.analyzed(request.other_plan, analysis).await?;
                Answer::SameSemantics(answer::SameSemantics { result: target == other })
            }
            Analyze::SemanticHash(request) => {
                let mut hasher = DefaultHasher::new();
                self.analyzed(request.plan, analysis).await?.hash(&mut hasher);
                Answer::SemanticHash(answer::SemanticHash { result: hasher.finish() as i32 })
            }
            // Caching has no effect on rows; plans are run when they are needed.
            Analyze::Persist(_) => Answer::Persist(answer::Persist {}),
            Analyze::Unpersist(_) => Answer::Unpersist(answer::Unpersist {}),
            Analyze::GetStorageLevel(_) => {
                let none = proto::StorageLevel { replication: 1, ..Default::default() };
                Answer::GetStorageLevel(answer::GetStorageLevel { storage_level: Some(none) })
            }
            Analyze::JsonToDdl(request) => {
                let schema = types::parse_schema(&request.json_string)?;
                Answer::JsonToDdl(answer::JsonToDdl { ddl_string: faces::ddl(&schema) })
            }
        })
    }

    async fn analyzed(&self, plan: Option<proto::Plan>, analysis: Option<&AnalysisContext>) -> Result<LogicalPlan> {
        match plan.and_then(|plan| plan.op_type) {
            Some(plan::OpType::Root(relation)) => self.plan(&relation, Purpose::Analyze, analysis).await,
            _ => Err(Error::user("only a relation can be analysed")),
        }
    }

    async fn explained(&self, plan: &LogicalPlan, mode: ExplainMode) -> Result<String> {
        let mut text = String::new();
        if !matches!(mode, ExplainMode::Simple | ExplainMode::Unspecified) {
            text.push_str(&format!("== Analyzed Logical Plan ==\n{}\n\n", plan.display_indent_schema()));
        }
        let state = self.host.context().state();
        let optimized = state.optimize(plan)?;
        text.push_str(&format!("== Optimized Logical Plan ==\n{}\n", optimized.display_indent()));
        if !is_streaming(&optimized) {
            let physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
            let shown = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
            text.push_str(&format!("\n== Physical Plan ==\n{shown}"));
        }
        Ok(text)
    }
}

/// A schema, or else a single type.
fn parse_ddl(text: &str) -> Result<proto::DataType> {
    match types::parse_schema(text) {
        Ok(schema) => types::from_arrow_schema(&schema),
        Err(error) => match faces::parse_type(text) {
            Ok(data_type) => types::from_arrow(&data_type),
            Err(_) => Err(error),
        },
    }
}
