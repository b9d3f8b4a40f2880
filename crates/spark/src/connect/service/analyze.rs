//! AnalyzePlan: schemas and other questions about a plan that need no rows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::AsArray as _;
use datafusion::logical_expr::LogicalPlan;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{ConnectService, Session, analysis_context, compressed, relation_of, tree};
use crate::cancel;
use crate::connect::host::{AnalysisContext, Purpose};
use crate::connect::proto::analyze_plan_request::{Analyze, explain::ExplainMode};
use crate::connect::proto::analyze_plan_response::{self as answer, Result as Answer};
use crate::connect::proto::expression::{ExprType, UnresolvedAttribute};
use crate::connect::proto::relation::RelType;
use crate::connect::proto::{self, plan};
use crate::connect::{faces, types};
use crate::error::{Error, Result};
use crate::streaming::is_streaming;

/// The version of Spark whose protocol and semantics these are.
const SPARK_VERSION: &str = "4.2.0";

impl ConnectService {
    pub async fn analyze_plan(&self, request: proto::AnalyzePlanRequest) -> Result<proto::AnalyzePlanResponse, Status> {
        let session = self.session_of(&request).await?;
        let analysis = analysis_context(request.user_context.as_ref());
        let question = request.analyze;
        let asked = Arc::clone(&session);
        let answer = async move {
            match question {
                Some(question) => asked.answer(question, analysis.as_ref()).await,
                None => Err(Error::internal("an analysis without a question")),
            }
        };
        let cancel = CancellationToken::new();
        // Functions in Python that tell of a call are killed when the client is gone.
        let _gone = cancel.clone().drop_guard();
        let result = tokio::spawn(cancel::under(cancel, answer)).await;
        let result = result.unwrap_or_else(|died| Err(Error::internal(format!("an analysis died: {died}"))));
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
            Analyze::IsLocal(request) => {
                Answer::IsLocal(answer::IsLocal { is_local: root(request.plan)?.as_ref().is_some_and(is_local) })
            }
            Analyze::IsStreaming(request) => {
                let plan = self.analyzed(request.plan, analysis).await?;
                Answer::IsStreaming(answer::IsStreaming { is_streaming: is_streaming(&plan) })
            }
            Analyze::InputFiles(request) => {
                let relation = root(request.plan)?.ok_or_else(not_a_relation)?;
                Answer::InputFiles(answer::InputFiles { files: self.input_files(&relation, analysis).await? })
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
            Analyze::Persist(request) => {
                let level = request.storage_level.unwrap_or(proto::StorageLevel {
                    use_disk: true,
                    use_memory: true,
                    use_off_heap: false,
                    deserialized: true,
                    replication: 1,
                });
                self.artifacts.persisted().insert(request.relation.ok_or_else(not_a_relation)?, level);
                Answer::Persist(answer::Persist {})
            }
            Analyze::Unpersist(request) => {
                self.artifacts.persisted().remove(&request.relation.ok_or_else(not_a_relation)?);
                Answer::Unpersist(answer::Unpersist {})
            }
            Analyze::GetStorageLevel(request) => {
                let kept = self.artifacts.persisted().level(&request.relation.ok_or_else(not_a_relation)?);
                let none = proto::StorageLevel { replication: 1, ..Default::default() };
                Answer::GetStorageLevel(answer::GetStorageLevel { storage_level: Some(kept.unwrap_or(none)) })
            }
            Analyze::JsonToDdl(request) => {
                let schema = types::parse_schema(&request.json_string)?;
                Answer::JsonToDdl(answer::JsonToDdl { ddl_string: faces::ddl(&schema) })
            }
        })
    }

    async fn analyzed(&self, plan: Option<proto::Plan>, analysis: Option<&AnalysisContext>) -> Result<LogicalPlan> {
        match compressed::operation(plan)? {
            Some(plan::OpType::Root(relation)) => self.plan(&relation, Purpose::Analyze, analysis).await,
            _ => Err(not_a_relation()),
        }
    }

    /// The files that the rows of a relation come from, where its source tells.
    async fn input_files(&self, relation: &proto::Relation, analysis: Option<&AnalysisContext>) -> Result<Vec<String>> {
        let attribute = UnresolvedAttribute {
            unparsed_identifier: "_metadata.file_path".to_owned(),
            ..UnresolvedAttribute::default()
        };
        let paths = relation_of(RelType::Project(Box::new(proto::Project {
            input: Some(Box::new(relation.clone())),
            expressions: vec![proto::Expression {
                common: None,
                expr_type: Some(ExprType::UnresolvedAttribute(attribute)),
            }],
        })));
        let distinct = relation_of(RelType::Deduplicate(Box::new(proto::Deduplicate {
            input: Some(Box::new(paths)),
            all_columns_as_keys: Some(true),
            ..proto::Deduplicate::default()
        })));
        let rows = match self.rows_for(&distinct, analysis).await {
            Ok(rows) => rows,
            Err(error) if error.condition().is_some_and(|c| c.starts_with("UNRESOLVED_COLUMN")) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let text = arrow::compute::cast(rows.column(0), &arrow::datatypes::DataType::Utf8)?;
        Ok(text.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
    }

    /// Spark's sections; `formatted` and `codegen` add nothing that this engine has.
    pub(super) async fn explained(&self, plan: &LogicalPlan, mode: ExplainMode) -> Result<String> {
        let state = self.context().state();
        let optimized = state.optimize(plan)?;
        let mut text = String::new();
        if mode == ExplainMode::Cost {
            let physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
            let costs = datafusion::physical_plan::displayable(physical.as_ref()).set_show_statistics(true);
            text.push_str(&format!(
                "== Optimized Logical Plan ==\n{}\n\nStatistics of the physical plan:\n{}\n",
                optimized.display_indent(),
                costs.indent(false)
            ));
        }
        if mode == ExplainMode::Extended {
            let shown = plan.display_indent();
            text.push_str(&format!("== Parsed Logical Plan ==\n{shown}\n\n"));
            text.push_str(&format!("== Analyzed Logical Plan ==\n{}\n\n", plan.display_indent_schema()));
            text.push_str(&format!("== Optimized Logical Plan ==\n{}\n\n", optimized.display_indent()));
        }
        text.push_str("== Physical Plan ==\n");
        if is_streaming(&optimized) {
            text.push_str(&format!("{}\n", optimized.display_indent()));
        } else {
            let physical = state.query_planner().create_physical_plan(&optimized, &state).await?;
            text.push_str(&datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string());
        }
        Ok(text)
    }
}

/// The relation of a plan.
fn root(plan: Option<proto::Plan>) -> Result<Option<proto::Relation>> {
    Ok(match compressed::operation(plan)? {
        Some(plan::OpType::Root(relation)) => Some(relation),
        _ => None,
    })
}

fn not_a_relation() -> Error {
    Error::user("only a relation can be analysed")
}

/// Whether the rows came with the request.
fn is_local(relation: &proto::Relation) -> bool {
    match &relation.rel_type {
        Some(RelType::LocalRelation(_) | RelType::CachedLocalRelation(_) | RelType::ChunkedCachedLocalRelation(_)) => {
            true
        }
        Some(RelType::ToDf(m)) => m.input.as_deref().is_some_and(is_local),
        Some(RelType::Sql(sql)) => !super::execute::is_query(&sql.query),
        _ => false,
    }
}

/// A schema, or else a single type.
fn parse_ddl(text: &str) -> Result<proto::DataType> {
    match types::parse_schema(text) {
        Ok(schema) => types::declared_schema(&schema),
        Err(error) => match faces::parse_type(text) {
            Ok(data_type) => types::from_arrow(&data_type),
            Err(_) => Err(error),
        },
    }
}
