//! How a dataset of the pipeline stands in the plan of a flow that reads it.
//!
//! At analysis time a dataset is its name and schema; the table behind it may not exist yet. Before a flow
//! runs, batch reads are bound to table snapshots ([`bind_tables`]) and streaming reads to slices.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, provider_as_source, source_as_provider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use deltaworks_lake::feed::CHANGE_TYPE;
use deltaworks_spark::relation::TimeTravel;
use deltaworks_spark::streaming::{OpenContext, StreamReader, StreamSource, StreamingTable, streaming_source};
use deltaworks_spark::{Error, Result};

use crate::name::DatasetName;

/// What the identity of a stream of a dataset of the pipeline begins with.
pub(super) const IDENTITY: &str = "dataset:";

/// A batch read of a stored dataset, not yet bound to a snapshot.
#[derive(Debug, Clone)]
pub struct DatasetTable {
    /// What is read.
    pub name: DatasetName,
    /// The schema that the reading plan was made for.
    pub schema: SchemaRef,
    /// The state to read; the latest if `None`.
    pub time_travel: Option<TimeTravel>,
}

#[async_trait]
impl TableProvider for DatasetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(Error::internal(format!("read of dataset `{}` was not bound to a snapshot", self.name)).into())
    }
}

/// A streaming read of a stored dataset. The source itself is made when the flow starts: only then does
/// the table surely exist.
#[derive(Debug, Clone)]
pub struct DatasetStream {
    /// What is read.
    pub name: DatasetName,
    /// The schema that the reading plan was made for.
    pub schema: SchemaRef,
    /// Makes the reader of the table behind it.
    pub opener: Arc<dyn DatasetOpener>,
}

/// Makes streaming readers of stored datasets.
#[async_trait]
pub trait DatasetOpener: std::fmt::Debug + Send + Sync {
    /// The source that reads the table, in the table's schema.
    async fn source(&self) -> Result<Arc<dyn StreamSource>>;
}

#[async_trait]
impl StreamSource for DatasetStream {
    fn description(&self) -> String {
        format!("dataset[{}]", self.name)
    }

    fn identity(&self) -> String {
        format!("{IDENTITY}{}", self.name.to_string().to_lowercase())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        self.opener.source().await?.open(context).await
    }
}

/// The plan that reads a stored dataset as it is now.
pub fn batch_scan(table: DatasetTable) -> Result<LogicalPlan> {
    scan(table.name.name.clone(), Arc::new(table))
}

/// The plan that reads a stored dataset as a stream.
pub fn streaming_scan(stream: DatasetStream) -> Result<LogicalPlan> {
    scan(stream.name.name.clone(), Arc::new(StreamingTable::new(Arc::new(stream))))
}

/// A scan of any provider under a name.
pub fn scan(name: String, provider: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(provider), None)?.build()?)
}

/// What a plan reads of the pipeline's stored datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRead {
    /// The dataset.
    pub name: DatasetName,
    /// As a stream, or as it is now.
    pub streaming: bool,
    /// What commits change, instead of the rows.
    pub changes: bool,
}

/// Every read of a stored dataset, subqueries included, in the order of a pre-order walk.
pub fn dataset_reads(plan: &LogicalPlan) -> Result<Vec<DatasetRead>> {
    let mut reads = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            if let Some(table) = dataset_table(scan) {
                reads.push(DatasetRead { name: table.name.clone(), streaming: false, changes: false });
            } else if let Some((name, changes)) = streaming_dataset(scan) {
                reads.push(DatasetRead { name, streaming: true, changes });
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}

/// The batch reads of a plan.
pub fn dataset_tables(plan: &LogicalPlan) -> Result<Vec<DatasetTable>> {
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = dataset_table(scan)
        {
            tables.push(table);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// Binds the batch reads of a plan, in the order of [`dataset_tables`], to `snapshots`.
pub fn bind_tables(plan: LogicalPlan, snapshots: &[Arc<dyn TableProvider>]) -> Result<LogicalPlan> {
    let mut next = snapshots.iter();
    let bound = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if dataset_table(&scan).is_some() => {
            let snapshot = next.next().ok_or_else(|| Error::internal("fewer snapshots than dataset reads"))?;
            let source = Arc::new(DefaultTableSource::new(Arc::clone(snapshot)));
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bound.data)
}

fn dataset_table(scan: &TableScan) -> Option<DatasetTable> {
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn Any = provider.as_ref();
    any.downcast_ref::<DatasetTable>().cloned()
}

/// The dataset that is streamed, and whether its changes are.
fn streaming_dataset(scan: &TableScan) -> Option<(DatasetName, bool)> {
    let source = streaming_source(scan)?;
    let any: &dyn Any = source.as_ref();
    let stream = any.downcast_ref::<DatasetStream>()?;
    Some((stream.name.clone(), stream.schema.fields().iter().any(|field| field.name() == CHANGE_TYPE)))
}

/// What the reads of anything but the pipeline's datasets see, as texts in the order of a pre-order walk; `None`
/// if one of them cannot tell. As long as the texts are the same, so is what is read.
pub fn other_reads(plan: &LogicalPlan) -> Result<Option<Vec<String>>> {
    let mut states = Some(Vec::new());
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && dataset_table(scan).is_none()
        {
            match (state_of(scan), &mut states) {
                (Some(state), Some(states)) => states.push(state),
                _ => {
                    states = None;
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(states)
}

/// The plan with the reads of anything but the pipeline's datasets, which saw what was there when it was made, looking at
/// what is there now.
///
/// # Errors
/// `DELTA_SCHEMA_CHANGED` (`Conflict`) if a table has other columns now; `PATH_NOT_FOUND` (`User`) if files are gone.
pub async fn with_latest_reads(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut providers = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            providers.push(source_as_provider(&scan.source).ok());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut latest = Vec::with_capacity(providers.len());
    for provider in &providers {
        latest.push(match provider {
            Some(provider) => latest_of(provider.as_ref()).await?,
            None => None,
        });
    }
    if latest.iter().all(Option::is_none) {
        return Ok(plan);
    }
    let mut latest = latest.into_iter();
    let renewed = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => Ok(match latest.next().flatten() {
            Some(provider) => {
                let source = Arc::new(DefaultTableSource::new(provider));
                Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))
            }
            None => Transformed::no(LogicalPlan::TableScan(scan)),
        }),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(renewed.data)
}

async fn latest_of(provider: &dyn TableProvider) -> Result<Option<Arc<dyn TableProvider>>> {
    match deltaworks_lake::latest_of(provider).await? {
        Some(table) => Ok(Some(table)),
        None => deltaworks_sources::latest_of(provider).await,
    }
}

/// Whether everything that is read at once is a Delta table.
pub fn reads_only_delta(plan: &LogicalPlan) -> Result<bool> {
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && dataset_table(scan).is_none()
            && !source_as_provider(&scan.source)
                .is_ok_and(|table| deltaworks_lake::snapshot_of(table.as_ref()).is_some())
        {
            only = false;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(only)
}

fn state_of(scan: &TableScan) -> Option<String> {
    let provider = source_as_provider(&scan.source).ok()?;
    match deltaworks_lake::snapshot_of(provider.as_ref()) {
        Some((id, version)) => Some(format!("delta {id} {version}")),
        None => {
            deltaworks_sources::state_of(provider.as_ref()).or_else(|| super::constants::state_of(provider.as_ref()))
        }
    }
}
