//! Flows that follow snapshots: what changed since the last one is found by comparing it with what is stored.
//!
//! | Key | Event |
//! |---|---|
//! | only in the snapshot | upsert |
//! | in both, with other values | upsert |
//! | only in the table | delete |
//!
//! All events of a snapshot have its version as their sequence.

use arrow::array::AsArray;
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use deltaworks_incremental::cdc::{END_AT, OPERATION, Operation, SEQUENCE};
use deltaworks_lake::Table;
use deltaworks_spark::streaming::Backlog;
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result};

use super::function::other_source;
use super::in_schema;
use crate::definitions::cdc::ScdType;
use crate::event::FlowStatus;
use crate::graph::Changes;
use crate::update::batch::Batch;
use crate::update::checkpoint::{Checkpoint, Progress};
use crate::update::complete::{computed_from, is_deterministic};
use crate::update::flow::{FlowRun, Snapshot, bind};
use crate::update::report;

/// Applies what the latest snapshot changes; nothing if what it is read from is the same as last time.
///
/// # Errors
/// `APPLY_CHANGES_FROM_SNAPSHOT_ERROR.DUPLICATE_KEY_VIOLATION` (`Data`) if the snapshot has a key twice; those of
/// a batch.
pub async fn run(run: &FlowRun) -> Result<()> {
    let mut table = run.open_target().await?;
    let checkpoint = run.checkpoint(&table).await?;
    let committed = checkpoint.committed(&table).await?;
    if committed.as_ref().is_some_and(|progress| progress.source_version.is_some()) {
        return Err(other_source(
            &run.flow()?.flow.target,
            "its snapshots are a dataset now, which a function gave before",
        ));
    }
    let changes = changes_of(run)?;
    let plan = run.plan().await?;
    let snapshots = run.snapshots(&plan).await?;
    let computed_from = computed_from(run, &plan, &snapshots)?;
    let before = committed.as_ref().and_then(|progress| progress.computed_from.as_ref());
    if computed_from.others.is_some() && before == Some(&computed_from) && is_deterministic(&plan, &run.session()?)? {
        return Ok(());
    }
    run.status.tell(FlowStatus::Running);
    let number = committed.as_ref().map_or(0, |progress| progress.batch + 1);
    let latest = committed.and_then(|progress| progress.snapshot_version);
    let version = match changes.sequence_type.is_integer() {
        true => latest.map_or(0, |latest| latest + 1),
        // The clock may have been set back: versions ascend all the same.
        false => {
            let now = run.environment.clock.now().timestamp_micros();
            latest.map_or(now, |latest| now.max(latest + 1))
        }
    };
    let progress =
        Progress { computed_from: Some(computed_from), snapshot_version: Some(version), ..Progress::new(number) };
    let version = match &changes.sequence_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(version), zone.clone())
        }
        _ => ScalarValue::Int64(Some(version)),
    };
    apply(run, &mut table, &checkpoint, Arrived { plan, snapshots, version, progress }).await
}

/// A snapshot that is to be compared with what is stored.
pub(super) struct Arrived {
    /// Its rows; reads of datasets are not bound yet.
    pub plan: LogicalPlan,
    /// What those reads are bound to.
    pub snapshots: Vec<Snapshot>,
    /// The sequence of what it changes.
    pub version: ScalarValue,
    /// What the batch leaves behind.
    pub progress: Progress,
}

/// Applies what a snapshot changes, as one batch.
///
/// # Errors
/// As [`run`].
pub(super) async fn apply(run: &FlowRun, table: &mut Table, checkpoint: &Checkpoint, arrived: Arrived) -> Result<()> {
    let (ctx, changes, number) = (run.session()?, changes_of(run)?, arrived.progress.batch);
    let snapshot = bind(arrived.plan, &arrived.snapshots)?;
    check_keys(&ctx, &snapshot, changes, &run.name.name).await?;
    let version = cast_version(&arrived.version, changes)?;
    let batch = Batch {
        ctx: &ctx,
        plan: events(snapshot, table, changes, version)?,
        checkpoint,
        effect: run.effect(number)?,
        cancel: &run.cancel,
    };
    let outcome = batch.run(table, async || Ok(arrived.progress)).await?;
    report::batch(&run.emitter, number, &outcome, Backlog::default());
    Ok(())
}

/// How the flow changes its target, in the types and names of that.
fn changes_of(run: &FlowRun) -> Result<&Changes> {
    let own = run.flow()?.changes.as_ref().ok_or_else(|| Error::internal("the flow has no snapshots"))?;
    Ok(run.output()?.changes.as_ref().unwrap_or(own))
}

/// The version in the type that the table declares for it.
fn cast_version(version: &ScalarValue, changes: &Changes) -> Result<ScalarValue> {
    let cast = version.cast_to_with_options(&changes.sequence_type, &CastOptions { safe: false, ..Default::default() });
    cast.map_err(|error| {
        Error::data(format!("version {version} of a snapshot does not fit type {}", type_name(&changes.sequence_type)))
            .with_condition("APPLY_CHANGES_FROM_SNAPSHOT_ERROR.INVALID_SNAPSHOT_VERSION")
            .with_help("Declare `__START_AT` and `__END_AT` with the type of the versions.")
            .with_source(error)
    })
}

/// A snapshot has one row per key.
async fn check_keys(ctx: &SessionContext, snapshot: &LogicalPlan, changes: &Changes, flow: &str) -> Result<()> {
    let keys: Vec<Expr> = changes.keys.iter().map(|key| Expr::Column(Column::from_name(key))).collect();
    let rows = "rows of the key";
    let plan = LogicalPlanBuilder::from(snapshot.clone())
        .aggregate(keys, [count(lit(1)).alias(rows)])?
        .filter(Expr::Column(Column::from_name(rows)).gt(lit(1_i64)))?
        .limit(0, Some(1))?
        .build()?;
    let found = ctx.execute_logical_plan(plan).await?.collect().await?;
    let Some(first) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
    let options = FormatOptions::default().with_null("NULL");
    let shown = changes
        .keys
        .iter()
        .zip(first.columns())
        .map(|(key, column)| Ok(format!("{key}: {}", ArrayFormatter::try_new(column, &options)?.value(0))));
    let shown = shown.collect::<Result<Vec<_>>>()?.join(", ");
    let rows = first.column(first.num_columns() - 1).as_primitive::<Int64Type>().value(0);
    Err(Error::data(format!(
        "found {rows} rows for key {{{shown}}} in the snapshot of flow `{flow}`, expected one row per key"
    ))
    .with_condition("APPLY_CHANGES_FROM_SNAPSHOT_ERROR.DUPLICATE_KEY_VIOLATION")
    .with_help("Name all columns that identify a row as keys, or remove the duplicates in a view."))
}

/// What must happen to `table` to be like `snapshot`.
fn events(snapshot: LogicalPlan, table: &Table, changes: &Changes, version: ScalarValue) -> Result<LogicalPlan> {
    const PRESENT: &str = "__deltaworks_present";
    let columns: Vec<(String, DataType)> =
        snapshot.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    let schema = snapshot.schema().as_arrow().clone();
    let new = with_marker(snapshot, PRESENT, "new")?;
    let old = with_marker(in_schema(current(table, changes)?, &schema)?, PRESENT, "old")?;
    let of = |side: &str, name: &str| Expr::Column(Column::new(Some(side), name));
    let keys = |side: &str| changes.keys.iter().map(|key| Column::new(Some(side), key)).collect::<Vec<_>>();
    let (gone, arrived) = (of("new", PRESENT).is_null(), of("old", PRESENT).is_null());
    let mut differs = gone.clone().or(arrived);
    for (name, data_type) in &columns {
        if changes.keys.contains(name) {
            continue;
        }
        // Maps cannot be compared by the engine; the merge finds those that are equal.
        differs = differs.or(match data_type {
            DataType::Map(..) => lit(true),
            _ => datafusion::logical_expr::binary_expr(
                of("new", name),
                datafusion::logical_expr::Operator::IsDistinctFrom,
                of("old", name),
            ),
        });
    }
    let mut projection = Vec::with_capacity(columns.len() + 2);
    for (name, _) in &columns {
        projection.push(when(gone.clone(), of("old", name)).otherwise(of("new", name))?.alias(name));
    }
    projection.push(lit(version).alias(SEQUENCE));
    let operation = when(gone, lit(Operation::Delete.code())).otherwise(lit(Operation::Upsert.code()))?;
    projection.push(operation.alias(OPERATION));
    Ok(LogicalPlanBuilder::from(new)
        .join_detailed(old, JoinType::Full, (keys("new"), keys("old")), None, NullEquality::NullEqualsNothing)?
        .filter(differs)?
        .project(projection)?
        .build()?)
}

/// The rows of the table that a snapshot is compared with.
fn current(table: &Table, changes: &Changes) -> Result<LogicalPlan> {
    let stored = LogicalPlanBuilder::scan("stored", provider_as_source(table.provider()?), None)?;
    Ok(match changes.scd_type {
        ScdType::One => stored.build()?,
        ScdType::Two => stored.filter(Expr::Column(Column::from_name(END_AT)).is_null())?.build()?,
    })
}

fn with_marker(plan: LogicalPlan, marker: &str, alias: &str) -> Result<LogicalPlan> {
    let mut columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))).alias(field.name()))
        .collect();
    columns.push(lit(true).alias(marker));
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.alias(alias)?.build()?)
}
