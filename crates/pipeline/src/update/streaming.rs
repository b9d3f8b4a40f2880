//! Flows into streaming tables: what is new since the last batch, a slice at a time.

use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_incremental::{StatefulOperator, bind_state, bind_watermarks, stateful_operators, watermark_delays};
use deltaworks_lake::{Lake, Table};
use deltaworks_spark::error::OUT_OF_MEMORY;
use deltaworks_spark::session::{sorts_joins, with_sorted_joins};
use deltaworks_spark::streaming::{
    Backlog, OpenContext, Slice, StreamReader, StreamSource, replace_streams, streaming_sources,
};
use deltaworks_spark::{Error, Kind, Result};

use super::batch::{Batch, BatchReport, Effect, Remembered};
use super::checkpoint::{Checkpoint, Progress, SourceProgress};
use super::compaction::AutoCompaction;
use super::conform::to_schema;
use super::continuous::BatchSize;
use super::delivery;
use super::flow::{FlowRun, bind};
use super::input::InputRows;
use super::report;
use super::stateful::{OperatorTable, StreamWatermarks, WatermarkPolicy};
use crate::event::FlowStatus;
use crate::graph::{Environment, ResolvedFlow};

/// Runs a streaming flow until everything that is there now has been processed. What it opens stays in `opened` for the
/// next time, when the sources are asked for what has come since. After an error `opened` is of no use any more.
///
/// # Errors
/// Those of a batch; batches committed before stay.
pub async fn run(run: &FlowRun, opened: &mut Option<OpenedFlow>) -> Result<()> {
    let has_news = tokio::select! {
        biased;
        // A broker may take its time to answer.
        () = run.stop.cancelled() => return run.check_stop(),
        asked = ask_sources(run, opened) => asked?,
    };
    let Some(opened) = opened.as_mut().filter(|_| has_news) else { return Ok(()) };
    opened.stream.asks_clock = true;
    while let Some(slices) = opened.stream.next_batch(run).await? {
        run.check_stop()?;
        run.status.tell(FlowStatus::Running);
        let report = opened.stream.run_batch(run, &mut opened.table, slices).await?;
        report::batch(&run.emitter, opened.stream.number - 1, &report.0, report.1);
        if opened.appends {
            opened.compaction.batch_committed(&opened.stream.ctx, &opened.table);
        }
    }
    if opened.appends && run.repeats.is_none() {
        opened.compaction.finish(&opened.stream.ctx, &opened.table).await;
    }
    Ok(())
}

/// Opens the flow, or asks the sources of the one that is open; whether there may be something to process.
async fn ask_sources(run: &FlowRun, opened: &mut Option<OpenedFlow>) -> Result<bool> {
    match opened {
        Some(opened) => opened.stream.look_again(run).await,
        None => {
            *opened = Some(OpenedFlow::open(run).await?);
            Ok(true)
        }
    }
}

/// A streaming flow between two batches: its target, its sources and its state.
pub struct OpenedFlow {
    table: Table,
    stream: FlowStream,
    /// Whether its batches only add rows to the table, whose files may be put together at any time then.
    appends: bool,
    compaction: AutoCompaction,
}

impl OpenedFlow {
    async fn open(run: &FlowRun) -> Result<Self> {
        let mut table = run.open_target().await?;
        let checkpoint = run.checkpoint(&table).await?;
        let mut committed = checkpoint.committed(&table).await?;
        if let Some(delivered) = delivery::keep_promise(run, &mut table, &checkpoint, committed.as_ref()).await? {
            check_goes_on(run.flow()?, &delivered)?;
            committed = Some(delivered);
        }
        let stream = FlowStream::open(run, checkpoint, committed).await?;
        let appends = matches!(run.effect(stream.number)?, Effect::Append(_));
        Ok(Self { table, stream, appends, compaction: AutoCompaction::default() })
    }
}

/// Fails if `flow` cannot go on where its last batch into `table` stopped.
///
/// # Errors
/// `STREAMING_CHECKPOINT_INCOMPATIBLE` (`User`) if its sources or stateful operators are others now.
pub async fn check_continues(environment: &Environment, flow: &ResolvedFlow, table: &Table) -> Result<()> {
    if streaming_sources(&flow.plan).is_empty() {
        return Ok(());
    }
    let folder = environment.storage.checkpoint(&flow.flow.name, &flow.flow.target)?;
    let checkpoint = Checkpoint::open(&folder, &environment.pipeline_id, &flow.flow.name, table).await?;
    match checkpoint.committed(table).await? {
        Some(progress) => check_goes_on(flow, &progress),
        None => Ok(()),
    }
}

/// Fails if `flow` cannot go on after the batch of `progress`.
fn check_goes_on(flow: &ResolvedFlow, progress: &Progress) -> Result<()> {
    check_sources(flow, &streaming_sources(&flow.plan), progress)?;
    check_operators(flow, &stateful_operators(&flow.plan)?, progress)
}

/// Runs a flow declared ONCE: a batch query, if it has not run since the last full refresh.
pub async fn run_once(run: &FlowRun) -> Result<()> {
    let mut table = run.open_target().await?;
    let checkpoint = run.checkpoint(&table).await?;
    if checkpoint.committed(&table).await?.is_some() {
        return Ok(());
    }
    let ctx = run.session()?;
    let plan = run.plan().await?;
    let snapshots = run.snapshots(&plan).await?;
    let batch = Batch {
        ctx: &ctx,
        plan: bind(plan, &snapshots)?,
        checkpoint: &checkpoint,
        effect: run.effect(0)?,
        cancel: &run.cancel,
    };
    let outcome = batch.run(&mut table, async || Ok(Progress::new(0))).await?;
    report::batch(&run.emitter, 0, &outcome, Backlog::default());
    Ok(())
}

/// The sources and the state of a flow, between two batches.
struct FlowStream {
    ctx: SessionContext,
    plan: LogicalPlan,
    checkpoint: Checkpoint,
    sources: Vec<SourceState>,
    operators: Vec<OperatorTable>,
    watermarks: StreamWatermarks,
    /// The number of the next batch.
    number: i64,
    /// Whether the batch that ran last has got as far as its state.
    has_remembered: bool,
    /// Whether a batch may run for no other reason than that state has timed out: once each time that the sources are
    /// asked, since what times out may do so again at once.
    asks_clock: bool,
}

struct SourceState {
    source: Arc<dyn StreamSource>,
    reader: Box<dyn StreamReader>,
    offset: Option<serde_json::Value>,
    ledger: Remembered,
    /// Whether the batch that was planned last has a slice of it.
    in_batch: bool,
    /// How large that slice is, if the reader tells.
    taken: Option<u64>,
    /// How large the next one should be: flows that run again and again, whose user has said nothing of it.
    batch_size: Option<BatchSize>,
}

impl FlowStream {
    async fn open(run: &FlowRun, checkpoint: Checkpoint, committed: Option<Progress>) -> Result<Self> {
        let plan = run.plan().await?;
        let sources = streaming_sources(&plan);
        let operators = stateful_operators(&plan)?;
        let mut opened = Vec::with_capacity(sources.len());
        for (index, source) in sources.into_iter().enumerate() {
            let progress = committed.as_ref().and_then(|progress| progress.sources.get(index));
            let mut source = open_source(&run.environment.lake, source, index, progress, &checkpoint).await?;
            let unit = source.reader.adapts();
            source.batch_size = run.repeats.zip(unit).map(|(interval, unit)| BatchSize::new(unit, interval));
            opened.push(source);
        }
        let mut tables = Vec::with_capacity(operators.len());
        for (index, operator) in operators.into_iter().enumerate() {
            let progress = committed.as_ref().and_then(|progress| progress.operators.get(index));
            let folder = checkpoint.state_folder("state", index);
            tables.push(OperatorTable::open(&run.environment, &folder, operator, progress).await?);
        }
        let policy =
            WatermarkPolicy::read(run.flow()?.conf.get("spark.sql.streaming.multipleWatermarkPolicy").as_deref())?;
        let last = committed.as_ref().and_then(|progress| progress.watermark.clone());
        let watermarks = StreamWatermarks::new(watermark_delays(&plan)?, policy, last);
        Ok(Self {
            ctx: run.session()?,
            plan,
            checkpoint,
            sources: opened,
            operators: tables,
            watermarks,
            number: committed.map_or(0, |progress| progress.batch + 1),
            has_remembered: false,
            asks_clock: true,
        })
    }

    /// Opens the sources that may have something new, after what was read last. Whether there is one, or state has timed
    /// out.
    async fn look_again(&mut self, run: &FlowRun) -> Result<bool> {
        let mut has_news = false;
        for source in &mut self.sources {
            if source.reader.has_news().await? {
                source.reopen().await?;
                has_news = true;
            }
        }
        let has_news = has_news || have_timed_out(&self.operators, &self.ctx, run).await?;
        if has_news {
            self.plan = run.plan().await?;
        }
        Ok(has_news)
    }

    /// The next slice of each source; `None` when no source has anything left.
    ///
    /// Once nothing is left, one batch without slices follows if the watermark has moved and groups wait for it, and one
    /// if state has timed out.
    async fn next_batch(&mut self, run: &FlowRun) -> Result<Option<Vec<Option<Slice>>>> {
        let mut slices = Vec::with_capacity(self.sources.len());
        for source in &mut self.sources {
            if let Some(batch_size) = &source.batch_size {
                source.reader.aim_at(batch_size.size());
            }
            let slice = source.reader.next_slice().await?;
            source.in_batch = slice.is_some();
            source.taken = slice.as_ref().and_then(|slice| slice.size);
            slices.push(slice);
        }
        let waiting = self.watermarks.have_moved() && self.operators.iter().any(OperatorTable::waits_for_watermark);
        let mut runs = waiting || slices.iter().any(Option::is_some);
        // Whatever a batch runs for, it looks at the clock.
        if std::mem::take(&mut self.asks_clock) && !runs {
            runs = have_timed_out(&self.operators, &self.ctx, run).await?;
        }
        Ok(runs.then_some(slices))
    }

    /// Runs a batch. Joins keep one of their inputs in memory; where it does not fit, the batch runs again, and those after
    /// it run, with joins that sort their inputs, which spill to disk.
    async fn run_batch(
        &mut self,
        run: &FlowRun,
        table: &mut Table,
        slices: Vec<Option<Slice>>,
    ) -> Result<(BatchReport, Backlog)> {
        let backlog = total_backlog(&slices);
        let report = match self.try_batch(run, table, &slices).await {
            Err(full) if full.condition() == Some(OUT_OF_MEMORY) && self.may_sort_joins() => {
                tracing::debug!(error = %full, "joins of this flow are sorted from now on");
                self.ctx = with_sorted_joins(&self.ctx);
                match self.try_batch(run, table, &slices).await {
                    Err(error) if error.kind() == Kind::Unsupported => return Err(full),
                    outcome => outcome?,
                }
            }
            outcome => outcome?,
        };
        self.number += 1;
        Ok((report, backlog))
    }

    /// Whether the last batch can run again with joins that sort: it has some, of the query or of rows with keys that have been
    /// seen, and has changed no state.
    fn may_sort_joins(&self) -> bool {
        if self.has_remembered || sorts_joins(&self.ctx) {
            return false;
        }
        let of_query = self.plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_)))).unwrap_or_default();
        of_query || self.operators.iter().any(OperatorTable::joins)
    }

    async fn try_batch(&mut self, run: &FlowRun, table: &mut Table, slices: &[Option<Slice>]) -> Result<BatchReport> {
        let batch = self.number;
        let input_rows = InputRows::default();
        let inputs = self.sources.iter().zip(slices).map(|(source, slice)| input(source, slice.as_ref(), &input_rows));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let mut states = Vec::with_capacity(self.operators.len());
        for operator in &self.operators {
            states.push(operator.state(self.watermarks.of_batch(), batch, now_ms(run)).await?);
        }
        let latest = self.watermarks.observers();
        // State is bound first: which operators have state is told by the streams and watermarks below them.
        let plan = bind_watermarks(bind_state(self.plan.clone(), &states)?, &latest)?;
        let plan = replace_streams(plan, &inputs)?;
        let snapshots = run.snapshots(&plan).await?;
        let ready = Batch {
            ctx: &self.ctx,
            plan: bind(plan, &snapshots)?,
            checkpoint: &self.checkpoint,
            effect: run.effect(batch)?,
            cancel: &run.cancel,
        };
        let (sources, operators, watermarks) = (&mut self.sources, &mut self.operators, &mut self.watermarks);
        let (ctx, checkpoint, has_remembered) = (&self.ctx, &self.checkpoint, &mut self.has_remembered);
        *has_remembered = false;
        let remember = async || {
            *has_remembered = true;
            let mut progress = Progress::new(batch);
            progress.sources = remember_sources(sources, checkpoint, slices, batch).await?;
            for (operator, state) in operators.iter_mut().zip(&states) {
                state.finished().await?;
                operator.remember(ctx, state, checkpoint.app_id(), batch).await?;
                progress.operators.push(operator.progress());
            }
            progress.watermark = watermarks.advance(&latest);
            Ok(progress)
        };
        let mut report = ready.run(table, remember).await?;
        for source in self.sources.iter_mut().filter(|source| source.in_batch) {
            source.reader.committed().await;
            if let (Some(batch_size), Some(taken)) = (&mut source.batch_size, source.taken) {
                batch_size.observe(taken, Duration::from_millis(report.duration_ms));
            }
        }
        report.input_rows = input_rows.count();
        report.late_rows = states.iter().map(|state| state.late_rows.count()).sum();
        Ok(report)
    }
}

/// Whether state of the operators has timed out by the clock.
async fn have_timed_out(operators: &[OperatorTable], ctx: &SessionContext, run: &FlowRun) -> Result<bool> {
    for operator in operators {
        if operator.is_due(ctx, now_ms(run)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The time of the pipeline's clock, in milliseconds since the epoch.
fn now_ms(run: &FlowRun) -> i64 {
    run.environment.clock.now().timestamp_millis()
}

async fn open_source(
    lake: &Lake,
    source: Arc<dyn StreamSource>,
    index: usize,
    progress: Option<&SourceProgress>,
    checkpoint: &Checkpoint,
) -> Result<SourceState> {
    let version = progress.and_then(|progress| progress.ledger_version);
    let ledger = Remembered::open(lake, &checkpoint.state_folder("ledger", index), version).await?;
    let offset = progress.and_then(|progress| progress.offset.clone());
    let reader = source.open(OpenContext { start: offset.clone(), ledger: ledger.provider().await? }).await?;
    Ok(SourceState { source, reader, offset, ledger, in_batch: false, taken: None, batch_size: None })
}

impl SourceState {
    /// Reads on from the last batch, up to what is there now.
    async fn reopen(&mut self) -> Result<()> {
        let context = OpenContext { start: self.offset.clone(), ledger: self.ledger.provider().await? };
        self.reader = self.source.open(context).await?;
        Ok(())
    }
}

/// The slice in the schema of its source, counted in `rows`; none if the source has nothing in this batch.
fn input(source: &SourceState, slice: Option<&Slice>, rows: &InputRows) -> Result<Arc<dyn TableProvider>> {
    let schema = source.source.schema();
    match slice {
        Some(slice) => to_schema(rows.counted(slice), &schema),
        None => Ok(Arc::new(EmptyTable::new(schema))),
    }
}

/// Step 2 of the batch protocol, and what step 3 writes.
async fn remember_sources(
    sources: &mut [SourceState],
    checkpoint: &Checkpoint,
    slices: &[Option<Slice>],
    batch: i64,
) -> Result<Vec<SourceProgress>> {
    let mut progress = Vec::with_capacity(sources.len());
    for (source, slice) in sources.iter_mut().zip(slices) {
        if let Some(slice) = slice {
            source.offset = Some(slice.end.clone());
            source.ledger.append(slice.ledger.iter().cloned().collect(), checkpoint.app_id(), batch).await?;
        }
        progress.push(SourceProgress {
            identity: source.source.identity(),
            offset: source.offset.clone(),
            ledger_version: source.ledger.version(),
        });
    }
    Ok(progress)
}

fn check_sources(flow: &ResolvedFlow, sources: &[Arc<dyn StreamSource>], progress: &Progress) -> Result<()> {
    let now: Vec<String> = sources.iter().map(|source| source.identity()).collect();
    let before: Vec<String> = progress.sources.iter().map(|source| source.identity.clone()).collect();
    if now == before {
        return Ok(());
    }
    Err(incompatible(flow, &format!("its sources were [{}] and are [{}] now", before.join(", "), now.join(", "))))
}

fn check_operators(flow: &ResolvedFlow, operators: &[StatefulOperator], progress: &Progress) -> Result<()> {
    let now: Vec<&str> = operators.iter().map(|operator| operator.fingerprint.as_str()).collect();
    let before: Vec<&str> = progress.operators.iter().map(|operator| operator.fingerprint.as_str()).collect();
    if now == before {
        return Ok(());
    }
    Err(incompatible(
        flow,
        &format!("its stateful operators were [{}] and are [{}] now", before.join(", "), now.join(", ")),
    ))
}

fn incompatible(flow: &ResolvedFlow, why: &str) -> Error {
    let (name, target) = (&flow.flow.name, &flow.flow.target);
    Error::user(format!("flow `{}` cannot continue from its checkpoint: {why}", name.name))
        .with_condition("STREAMING_CHECKPOINT_INCOMPATIBLE")
        .with_help(format!("Run a full refresh of the target: `--full-refresh {}`.", target.name))
}

fn total_backlog(slices: &[Option<Slice>]) -> Backlog {
    let sum = |part: fn(&Backlog) -> Option<u64>| {
        slices.iter().flatten().filter_map(|slice| part(&slice.backlog)).reduce(|a, b| a + b)
    };
    Backlog { bytes: sum(|b| b.bytes), files: sum(|b| b.files), records: sum(|b| b.records) }
}
