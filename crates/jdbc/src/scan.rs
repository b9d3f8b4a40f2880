//! A table or query of a database as a table that DataFusion scans.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use deltaworks_spark::Result;
use futures::StreamExt;
use tokio::sync::mpsc::Sender;

use crate::cells::Rows;
use crate::column::{Column, customised, schema};
use crate::dialect::Dialect;
use crate::errors;
use crate::options::{Connecting, ReadJob};
use crate::pushdown::{Pushed, compile};
use crate::query::{Wanted, describe, select};
use crate::url::Target;
use crate::{mysql, partition, postgres, sqlite};

/// Batches that wait for whoever takes them, in each part.
const WAITING_BATCHES: usize = 2;

/// Where batches go.
pub(crate) type Batches = Sender<DataFusionResult<RecordBatch>>;

/// What is read, with its columns.
#[derive(Debug)]
pub(crate) struct JdbcTable {
    job: ReadJob,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// The conditions of the parts.
    parts: Vec<Option<String>>,
}

impl JdbcTable {
    /// Asks the database for the columns.
    pub(crate) async fn open(job: ReadJob) -> Result<Self> {
        let statement = describe(&job);
        let columns = match job.connecting.target.dialect {
            Dialect::Postgres => postgres::describe(&job, &statement).await,
            Dialect::MySql => mysql::describe(&job, &statement).await,
            Dialect::Sqlite => sqlite::describe(&job, &statement).await,
        };
        let columns = customised(columns?, job.custom_schema.as_ref())?;
        let Connecting { target, zone, .. } = &job.connecting;
        let parts = partition::conditions(job.stride.as_ref(), &job.predicates, &columns, target.dialect, *zone)?;
        Ok(Self { schema: schema(&columns), job, columns, parts })
    }

    /// Whether this is a table of a database, or a query that names it.
    pub(crate) fn is_of(&self, target: &Target, table: &str) -> bool {
        let same_place = |a: &Target, b: &Target| a.to_string() == b.to_string();
        same_place(&self.job.connecting.target, target) && self.job.from.contains(table)
    }

    fn pushed(&self, filter: &Expr) -> Option<Pushed> {
        self.job.push_predicates.then(|| compile(filter, &self.columns, self.job.connecting.target.dialect)).flatten()
    }
}

#[async_trait]
impl TableProvider for JdbcTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let support = filters.iter().map(|filter| match self.pushed(filter) {
            Some(Pushed { exact: true, .. }) => TableProviderFilterPushDown::Exact,
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        });
        Ok(support.collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns: Vec<Column> = match projection {
            Some(projection) => projection.iter().map(|at| self.columns[*at].clone()).collect(),
            None => self.columns.clone(),
        };
        let pushed: Vec<Pushed> = filters.iter().filter_map(|filter| self.pushed(filter)).collect();
        let are_exact = pushed.len() == filters.len() && pushed.iter().all(|filter| filter.exact);
        let filters: Vec<String> = pushed.into_iter().map(|filter| filter.sql).collect();
        let limit = limit.filter(|_| self.job.push_limit && are_exact);
        let statements = self
            .parts
            .iter()
            .map(|part| select(&self.job, &columns, &Wanted { filters: &filters, part: part.as_deref(), limit }))
            .collect();
        Ok(Arc::new(JdbcExec::new(self.job.clone(), columns, statements)))
    }
}

/// Runs statements, one in each partition.
struct JdbcExec {
    job: Arc<ReadJob>,
    columns: Vec<Column>,
    statements: Vec<String>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl JdbcExec {
    fn new(job: ReadJob, columns: Vec<Column>, statements: Vec<String>) -> Self {
        let schema = schema(&columns);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(statements.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            job: Arc::new(job),
            columns,
            statements,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl fmt::Debug for JdbcExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JdbcExec").field("statements", &self.statements).finish_non_exhaustive()
    }
}

impl DisplayAs for JdbcExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JdbcExec: {}, statements=[{}]", self.job.connecting.target, self.statements.join("; "))
    }
}

impl ExecutionPlan for JdbcExec {
    fn name(&self) -> &str {
        "JdbcExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size();
        let batch_rows = self.job.fetch_rows.map_or(batch_rows, |rows| rows.clamp(1, batch_rows));
        let rows = Rows::new(&self.columns, batch_rows)?;
        let statement = self.statements[partition].clone();
        let job = Arc::clone(&self.job);
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), WAITING_BATCHES);
        let batches = stream.tx();
        tracing::debug!(database = %job.connecting.target, statement, "reading");
        match job.connecting.target.dialect {
            Dialect::Sqlite => stream.spawn_blocking(move || Ok(sqlite::read(&job, &statement, rows, &batches)?)),
            Dialect::Postgres => {
                stream.spawn(async move { Ok(postgres::read(&job, &statement, rows, &batches).await?) });
            }
            Dialect::MySql => stream.spawn(async move { Ok(mysql::read(&job, &statement, rows, &batches).await?) }),
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counted = stream.build().inspect(move |batch| {
            if let Ok(batch) = batch {
                metrics.record_output(batch.num_rows());
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Hands a batch over; whether somebody still wants more.
pub(crate) async fn send(batches: &Batches, batch: Option<RecordBatch>) -> bool {
    match batch {
        Some(batch) => batches.send(Ok(batch)).await.is_ok(),
        None => true,
    }
}

/// Hands a batch over from a thread that may wait.
pub(crate) fn send_blocking(batches: &Batches, batch: Option<RecordBatch>) -> bool {
    match batch {
        Some(batch) => batches.blocking_send(Ok(batch)).is_ok(),
        None => true,
    }
}

/// A blocking task's result.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(errors::lost_task(&error)),
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
