//! ExecutePlan and what belongs to it: queries, commands, reattaching, releasing, interrupting.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::TryStreamExt;
use tonic::Status;
use tonic::codegen::BoxStream;
use uuid::Uuid;

use super::batches::{chunk_bytes, plain_batch, plain_schema, send_batch, send_text, split};
use super::operation::{Operation, Terms};
use super::show::{self, Shown};
use super::{ConnectService, Session, analysis_context, compressed, relation_of, rows};
use crate::connect::artifacts::Checkpoint;
use crate::connect::host::{AnalysisContext, PipelineReply, Purpose};
use crate::connect::proto::CheckpointCommandResult;
use crate::connect::proto::execute_plan_response::{ResponseType, SqlCommandResult};
use crate::connect::proto::{self, ExecutePlanResponse, command::CommandType, plan, relation::RelType};
use crate::connect::status::status;
use crate::connect::types;
use crate::error::{Error, Result};
use crate::streaming::is_streaming;

impl ConnectService {
    pub async fn execute_plan(
        &self,
        request: proto::ExecutePlanRequest,
    ) -> Result<BoxStream<ExecutePlanResponse>, Status> {
        let session = self.session_of(&request).await?;
        if let Some(id) = &request.operation_id
            && let Some(operation) = session.operations.lock().get(id)
        {
            return Ok(operation.responses(None));
        }
        let analysis = analysis_context(request.user_context.as_ref());
        let mut terms = Terms { progress_interval: self.progress_interval, ..Terms::default() };
        for option in request.request_options.into_iter().filter_map(|option| option.request_option) {
            use proto::execute_plan_request::request_option::RequestOption;
            match option {
                RequestOption::ReattachOptions(options) => terms.reattachable = options.reattachable,
                RequestOption::ResultChunkingOptions(options) => terms.chunk_bytes = chunk_bytes(&options),
                RequestOption::Extension(_) => {}
            }
        }
        let reattachable = terms.reattachable;
        let operation = Operation::new(&session, request.operation_id, request.tags, terms);
        session.operations.lock().insert(operation.id.clone(), Arc::clone(&operation));
        let (worker, of) = (Arc::clone(&operation), Arc::clone(&session));
        operation.start(async move {
            let result = of.execute(&worker, request.plan, analysis.as_ref()).await;
            if !reattachable {
                of.operations.lock().remove(&worker.id);
            }
            result
        });
        Ok(operation.responses(None))
    }

    pub async fn reattach_execute(
        &self,
        request: proto::ReattachExecuteRequest,
    ) -> Result<BoxStream<ExecutePlanResponse>, Status> {
        let session = self.session_of(&request).await?;
        let operation = session.operations.lock().get(&request.operation_id).cloned();
        let operation = operation.ok_or_else(|| {
            status(
                &Error::user(format!("operation `{}` does not exist", request.operation_id))
                    .with_condition("INVALID_HANDLE.OPERATION_NOT_FOUND"),
            )
        })?;
        Ok(operation.responses(request.last_response_id.as_deref()))
    }

    pub async fn release_execute(
        &self,
        request: proto::ReleaseExecuteRequest,
    ) -> Result<proto::ReleaseExecuteResponse, Status> {
        use proto::release_execute_request::Release;
        let session = self.session_of(&request).await?;
        let operation = session.operations.lock().get(&request.operation_id).cloned();
        if let Some(operation) = &operation {
            match &request.release {
                Some(Release::ReleaseUntil(until)) => operation.release_until(&until.response_id),
                Some(Release::ReleaseAll(_)) | None => {
                    session.operations.lock().remove(&request.operation_id);
                    if !operation.is_finished() {
                        operation.cancel();
                    }
                }
            }
        }
        Ok(proto::ReleaseExecuteResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            operation_id: operation.map(|operation| operation.id.clone()),
        })
    }

    pub async fn interrupt(&self, request: proto::InterruptRequest) -> Result<proto::InterruptResponse, Status> {
        use proto::interrupt_request::Interrupt;
        let session = self.session_of(&request).await?;
        let operations: Vec<_> = session.operations.lock().values().cloned().collect();
        let meant = |operation: &Arc<Operation>| match &request.interrupt {
            None => true,
            Some(Interrupt::OperationTag(tag)) => operation.tags.contains(tag),
            Some(Interrupt::OperationId(id)) => operation.id == *id,
        };
        let mut interrupted_ids = Vec::new();
        for operation in operations.iter().filter(|operation| !operation.is_finished()).filter(|o| meant(o)) {
            operation.cancel();
            interrupted_ids.push(operation.id.clone());
        }
        Ok(proto::InterruptResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            interrupted_ids,
        })
    }
}

impl Session {
    async fn execute(
        &self,
        operation: &Operation,
        plan: Option<proto::Plan>,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        match compressed::operation(plan)? {
            Some(plan::OpType::Root(relation)) => self.execute_relation(operation, &relation, analysis).await,
            Some(plan::OpType::Command(command)) => self.execute_command(operation, command, analysis).await,
            _ => Err(Error::internal("a request without a plan")),
        }
    }

    async fn execute_relation(
        &self,
        operation: &Operation,
        relation: &proto::Relation,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        match &relation.rel_type {
            Some(RelType::ShowString(message)) => {
                let rows = self.shown(&message.input, message.num_rows, analysis).await?;
                let what = Shown { rows: message.num_rows, truncate: message.truncate, tz: self.host.conf().time_zone };
                send_text(operation, "show_string", show::text(&rows, what, message.vertical)?).await
            }
            Some(RelType::HtmlString(message)) => {
                let rows = self.shown(&message.input, message.num_rows, analysis).await?;
                let what = Shown { rows: message.num_rows, truncate: message.truncate, tz: self.host.conf().time_zone };
                send_text(operation, "html_string", show::html(&rows, what)?).await
            }
            Some(RelType::Tail(message)) => {
                let plan = self.input_plan(&message.input, analysis).await?;
                self.run_tail(operation, plan, usize::try_from(message.limit).unwrap_or(0)).await
            }
            Some(RelType::Catalog(call)) => {
                let rows = self.catalog_call(call).await?;
                operation.push_schema(types::from_arrow_schema(rows.schema_ref())?).await;
                send_batch(operation, &rows, 0).await.map(|_| ())
            }
            _ => {
                // Some clients send commands in the place of queries.
                let command = sql_text(relation).filter(|text| !is_query(text));
                let done = match command {
                    Some(text) => Some(self.execute_command_text(relation, text).await?),
                    None => None,
                };
                let relation = done.as_ref().unwrap_or(relation);
                let plan = self.plan(relation, Purpose::Execute, analysis).await?;
                self.run(operation, plan).await?;
                self.observe(operation, relation, analysis).await
            }
        }
    }

    async fn input_plan(
        &self,
        input: &Option<Box<proto::Relation>>,
        analysis: Option<&AnalysisContext>,
    ) -> Result<LogicalPlan> {
        let input = input.as_deref().ok_or_else(|| Error::internal("a relation without its input"))?;
        self.plan(input, Purpose::Execute, analysis).await
    }

    /// The rows that `show` prints, and one more if there are more.
    async fn shown(
        &self,
        input: &Option<Box<proto::Relation>>,
        rows: i32,
        analysis: Option<&AnalysisContext>,
    ) -> Result<RecordBatch> {
        let plan = self.input_plan(input, analysis).await?;
        refuse_streams(&plan)?;
        let limit = usize::try_from(rows).unwrap_or(0).saturating_add(1);
        let plan = LogicalPlanBuilder::from(plan).limit(0, Some(limit))?.build()?;
        let schema = plain_schema(plan.schema().as_arrow());
        let batches: Vec<RecordBatch> = rows::in_order(&self.context(), plan).await?.try_collect().await?;
        let plain = batches.iter().map(|batch| plain_batch(batch, &schema)).collect::<Result<Vec<_>>>()?;
        let nullable = plain.first().map_or_else(|| Arc::clone(&schema), RecordBatch::schema);
        Ok(arrow::compute::concat_batches(&nullable, &plain)?)
    }

    async fn run(&self, operation: &Operation, plan: LogicalPlan) -> Result<()> {
        refuse_streams(&plan)?;
        let schema = plain_schema(plan.schema().as_arrow());
        operation.push_schema(types::from_arrow_schema(&schema)?).await;
        let mut stream = rows::in_order(&self.context(), plan).await?;
        let mut offset = 0;
        let mut sent = false;
        while let Some(batch) = stream.try_next().await? {
            for part in split(&plain_batch(&batch, &schema)?) {
                offset = send_batch(operation, &part, offset).await?;
                sent = true;
            }
        }
        if !sent {
            send_batch(operation, &RecordBatch::new_empty(schema), 0).await?;
        }
        operation.push_metrics().await;
        Ok(())
    }

    /// The last `count` rows; no more than these and the batch being read are held.
    async fn run_tail(&self, operation: &Operation, plan: LogicalPlan, count: usize) -> Result<()> {
        refuse_streams(&plan)?;
        let schema = plain_schema(plan.schema().as_arrow());
        operation.push_schema(types::from_arrow_schema(&schema)?).await;
        let mut stream = rows::in_order(&self.context(), plan).await?;
        let mut kept: VecDeque<RecordBatch> = VecDeque::new();
        let mut rows = 0;
        while let Some(batch) = stream.try_next().await? {
            rows += batch.num_rows();
            kept.push_back(plain_batch(&batch, &schema)?);
            while let Some(first) = kept.front()
                && rows - first.num_rows() >= count
            {
                rows -= first.num_rows();
                kept.pop_front();
            }
        }
        let mut surplus = rows.saturating_sub(count);
        let mut offset = 0;
        for batch in kept.iter().filter(|batch| batch.num_rows() > 0) {
            let skipped = surplus.min(batch.num_rows());
            surplus -= skipped;
            for part in split(&batch.slice(skipped, batch.num_rows() - skipped)) {
                offset = send_batch(operation, &part, offset).await?;
            }
        }
        if offset == 0 {
            send_batch(operation, &RecordBatch::new_empty(schema), 0).await?;
        }
        Ok(())
    }

    async fn execute_command(
        &self,
        operation: &Operation,
        command: proto::Command,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        match command.command_type {
            Some(CommandType::SqlCommand(sql)) => self.execute_sql(operation, sql).await,
            Some(CommandType::CreateDataframeView(view)) => self.create_view(&view),
            Some(CommandType::PipelineCommand(command)) => self.execute_pipeline(operation, command, analysis).await,
            Some(CommandType::RegisterFunction(function)) => self.register_function(&function),
            Some(CommandType::WriteOperation(write)) => {
                self.write(&write, analysis).await?;
                self.artifacts.persisted().refresh();
                Ok(())
            }
            Some(CommandType::WriteOperationV2(write)) => {
                self.write_v2(&write, analysis).await?;
                self.artifacts.persisted().refresh();
                Ok(())
            }
            Some(CommandType::WriteStreamOperationStart(_)) => Err(Error::unsupported("`DataFrame.writeStream`")
                .with_help("Declare a streaming table or a sink: flows write to them.")),
            Some(CommandType::MergeIntoTableCommand(merge)) => {
                self.merge_into(&merge, analysis).await?;
                self.artifacts.persisted().refresh();
                Ok(())
            }
            Some(CommandType::RegisterTableFunction(function)) => self.register_table_function(&function),
            Some(CommandType::RegisterDataSource(_)) => Err(Error::unsupported("a Python data source")),
            Some(CommandType::CheckpointCommand(command)) => {
                self.checkpoint(operation, &command.relation, analysis).await
            }
            Some(CommandType::RemoveCachedRemoteRelationCommand(command)) => {
                if let Some(relation) = &command.relation {
                    self.artifacts.forget(&relation.relation_id);
                }
                Ok(())
            }
            Some(CommandType::MlCommand(_)) => Err(Error::unsupported("`pyspark.ml`")),
            Some(_) => Err(Error::unsupported("this command of Spark Connect")),
            None => Err(Error::internal("a command without a kind")),
        }
    }

    /// Runs a relation and keeps its rows in memory, as long as the session lives or the client needs them.
    async fn checkpoint(
        &self,
        operation: &Operation,
        relation: &Option<proto::Relation>,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        let relation = relation.as_ref().ok_or_else(|| Error::internal("a checkpoint of nothing"))?;
        let plan = self.plan(relation, Purpose::Execute, analysis).await?;
        refuse_streams(&plan)?;
        let schema = plain_schema(plan.schema().as_arrow());
        let rows: Vec<RecordBatch> = rows::in_order(&self.context(), plan).await?.try_collect().await?;
        let batches = rows.iter().map(|batch| plain_batch(batch, &schema)).collect::<Result<Vec<_>>>()?;
        let relation_id = Uuid::new_v4().to_string();
        self.artifacts.keep(relation_id.as_str(), Checkpoint { schema, batches });
        let relation = Some(proto::CachedRemoteRelation { relation_id });
        operation.push(ResponseType::CheckpointCommandResult(CheckpointCommandResult { relation })).await;
        Ok(())
    }

    /// `spark.sql`: a query is handed back as a relation, to be planned when it is used.
    async fn execute_sql(&self, operation: &Operation, command: proto::SqlCommand) -> Result<()> {
        #[allow(deprecated, reason = "clients before 4.0 send the text and not a relation")]
        let relation = command.input.unwrap_or_else(|| {
            relation_of(RelType::Sql(proto::Sql {
                query: command.sql,
                args: command.args,
                pos_args: command.pos_args,
                named_arguments: command.named_arguments,
                pos_arguments: command.pos_arguments,
            }))
        });
        let text = sql_text(&relation).unwrap_or_default();
        let relation = if is_query(text) { relation } else { self.execute_command_text(&relation, text).await? };
        operation.push(ResponseType::SqlCommandResult(SqlCommandResult { relation: Some(relation) })).await;
        Ok(())
    }

    /// Runs the command that `relation` is; gives the relation of its rows.
    async fn execute_command_text(&self, relation: &proto::Relation, text: &str) -> Result<proto::Relation> {
        let references = self.keep_references(relation);
        let done = self.run_command(text).await;
        self.forget_references(&references);
        done
    }

    async fn execute_pipeline(
        &self,
        operation: &Operation,
        mut command: proto::PipelineCommand,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        use proto::pipeline_command::{CommandType, define_flow::Details};
        if let Some(CommandType::DefineFlow(flow)) = &mut command.command_type
            && let Some(Details::RelationFlowDetails(details)) = &mut flow.details
        {
            details.relation = details.relation.take().map(|relation| self.with_views(relation));
        }
        match self.host.pipeline_command(&command, analysis).await? {
            PipelineReply::Result(result) => {
                if let Some(result) = result {
                    operation.push(ResponseType::PipelineCommandResult(result)).await;
                }
            }
            PipelineReply::Events(mut events) => {
                while let Some(event) = events.try_next().await? {
                    let timestamp = Some(prost_types::Timestamp {
                        seconds: event.timestamp.timestamp(),
                        nanos: event.timestamp.timestamp_subsec_nanos() as i32,
                    });
                    let event = proto::PipelineEvent { timestamp, message: Some(event.message) };
                    let result = proto::PipelineEventResult { event: Some(event) };
                    operation.push(ResponseType::PipelineEventResult(result)).await;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn refuse_streams(plan: &LogicalPlan) -> Result<()> {
    if is_streaming(plan) {
        return Err(Error::user("queries with streaming sources must be run by a flow")
            .with_condition("STREAMING_QUERY_WITHOUT_WRITE")
            .with_help("Return the DataFrame from a dataset function; to look at the rows, read without streaming."));
    }
    Ok(())
}

/// The text of a SQL relation, also below the relations it comes with.
fn sql_text(relation: &proto::Relation) -> Option<&str> {
    match relation.rel_type.as_ref()? {
        RelType::Sql(sql) => Some(&sql.query),
        RelType::WithRelations(with) => sql_text(with.root.as_deref()?),
        _ => None,
    }
}

/// Whether a statement is a query: by its first word, comments skipped.
pub fn is_query(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest).trim_start();
        } else {
            break;
        }
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    rest.starts_with('(')
        || matches!(
            word.to_ascii_lowercase().as_str(),
            "select" | "with" | "from" | "values" | "table" | "map" | "reduce"
        )
}

#[cfg(test)]
mod tests {
    use super::is_query;

    #[test]
    fn queries_are_told_from_statements() {
        assert!(is_query("-- c\n SELECT 1"));
        assert!(is_query("/* c */ with x as (select 1) select * from x"));
        assert!(is_query("(select 1)"));
        assert!(!is_query("CREATE TABLE t (a int)"));
        assert!(!is_query("SET x = 1"));
    }
}
