//! Streaming reads in a plan, and the contract of what can be read a slice at a time.
//!
//! A streaming read is a table scan whose provider is a [`StreamingTable`]. Such a plan can be
//! analysed, but not run: a flow first replaces each streaming scan by the slice it takes in this
//! batch ([`replace_streams`]). This module knows how streams stand in plans; what a file or a
//! broker is, it must not know.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, source_as_provider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::{Error, Result};

/// How far a source has been read, in the source's own terms. Stored in progress files as it is.
pub type Offset = serde_json::Value;

/// Something that can be read a bounded slice at a time: files, a Delta table, a broker.
#[async_trait]
pub trait StreamSource: Any + fmt::Debug + Send + Sync {
    /// What the event log calls it: `cloudFiles[/data/orders]`, `delta[bronze_orders]`.
    fn description(&self) -> String;

    /// What makes it the same source in the next update: format and path, not options that may change.
    ///
    /// A checkpoint whose source has another identity cannot be continued (full refresh needed).
    fn identity(&self) -> String;

    /// The rows' schema, metadata columns included.
    fn schema(&self) -> SchemaRef;

    /// Starts reading after `context.start`, up to what is there at this moment.
    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>>;
}

/// Where a reader starts and what it may use.
#[derive(Debug, Clone, Default)]
pub struct OpenContext {
    /// The end of the last committed batch; `None` for the first batch of a checkpoint.
    pub start: Option<Offset>,
    /// The source's own records of earlier batches ([`Slice::ledger`]), as of the last committed batch.
    pub ledger: Option<Arc<dyn TableProvider>>,
}

/// Plans slices one after the other.
#[async_trait]
pub trait StreamReader: Send {
    /// The next slice, or `None` once all that was there when the reader was opened has been planned.
    async fn next_slice(&mut self) -> Result<Option<Slice>>;

    /// In what sizes of slices are counted, if they may be chosen ([`Self::aim_at`]): the user has set no limit.
    fn adapts(&self) -> Option<SizeUnit> {
        None
    }

    /// Slices shall be of about this size from now on, but never empty.
    fn aim_at(&mut self, _size: u64) {}

    /// Told once the batch of the last slice counts: the source may clear away what it has given out.
    async fn committed(&mut self) {}

    /// Whether the source may have something that was not there when the reader was opened: asked again and again
    /// once there is no slice left, so it must cost little. If it has, the source is opened anew.
    ///
    /// A reader that cannot tell says yes.
    async fn has_news(&mut self) -> Result<bool> {
        Ok(true)
    }
}

/// A bounded part of a stream: the input of one batch.
#[derive(Debug)]
pub struct Slice {
    /// Where it ends.
    pub end: Offset,
    /// Its rows, in the schema of the source.
    pub input: Arc<dyn TableProvider>,
    /// How many rows that are, if the source knows it without reading them.
    pub rows: Option<u64>,
    /// How large it is, if the reader [`adapts`](StreamReader::adapts).
    pub size: Option<u64>,
    /// What the source wants to remember of this slice, atomically with the batch; `None` for nothing.
    ///
    /// Every batch of one source has the same schema.
    pub ledger: Option<RecordBatch>,
    /// What is left to read after this slice.
    pub backlog: Backlog,
}

/// What the size of a slice counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeUnit {
    /// Bytes of files.
    Bytes,
    /// Records of a broker.
    Records,
}

/// What a source still has to offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Backlog {
    /// Bytes, where the source knows them.
    pub bytes: Option<u64>,
    /// Files, where the source has files.
    pub files: Option<u64>,
    /// Records, where the source counts them.
    pub records: Option<u64>,
}

/// The provider that marks a scan as a streaming read.
#[derive(Debug, Clone)]
pub struct StreamingTable {
    source: Arc<dyn StreamSource>,
    schema: SchemaRef,
}

impl StreamingTable {
    /// A streaming read of `source`.
    pub fn new(source: Arc<dyn StreamSource>) -> Self {
        let schema = source.schema();
        Self { source, schema }
    }

    /// What is read.
    pub fn source(&self) -> &Arc<dyn StreamSource> {
        &self.source
    }
}

#[async_trait]
impl TableProvider for StreamingTable {
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
        Err(DataFusionError::from(
            Error::user(format!(
                "queries with streaming sources must be run by a flow: `{}`",
                self.source.description()
            ))
            .with_help("Read it without STREAM (spark.read instead of spark.readStream)."),
        ))
    }
}

/// The streaming source a scan reads, if it is a streaming scan.
pub fn streaming_source(scan: &TableScan) -> Option<Arc<dyn StreamSource>> {
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn Any = provider.as_ref();
    any.downcast_ref::<StreamingTable>().map(|table| Arc::clone(table.source()))
}

/// All streaming sources of a plan, subqueries included, in the order of a pre-order walk.
pub fn streaming_sources(plan: &LogicalPlan) -> Vec<Arc<dyn StreamSource>> {
    let mut found = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = streaming_source(scan)
        {
            found.push(source);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}

/// Whether a plan reads a stream anywhere.
pub fn is_streaming(plan: &LogicalPlan) -> bool {
    !streaming_sources(plan).is_empty()
}

/// Replaces the streaming scans of a plan, in the order of [`streaming_sources`], by `slices`.
///
/// # Errors
/// `Internal` if there are fewer slices than streaming scans, or a slice has another schema than its source.
pub fn replace_streams(plan: LogicalPlan, slices: &[Arc<dyn TableProvider>]) -> Result<LogicalPlan> {
    let mut next = slices.iter();
    let replaced = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if streaming_source(&scan).is_some() => {
            let slice = next.next().ok_or_else(|| Error::internal("fewer slices than streaming reads"))?;
            let source = Arc::new(DefaultTableSource::new(Arc::clone(slice)));
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}
