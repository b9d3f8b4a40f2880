//! What a streaming flow remembers between batches besides offsets: the state of operators, and watermarks.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::{
    DigestKey, EXPIRES, LatestEventTime, OperatorKind, OperatorState, Spooled, StatefulOperator, Watermarks, first_due,
    first_timer, latest_entries, newest,
};
use deltaworks_lake::state::files_to_merge;
use deltaworks_lake::{DataFile, Replacement, Table};
use deltaworks_spark::python::Variable;
use deltaworks_spark::{Error, Result};
use uuid::Uuid;

use super::batch::Remembered;
use super::checkpoint::{OperatorProgress, WatermarkProgress};
use super::conform::to_schema;
use crate::graph::Environment;

/// A stateful operator and the table that holds its state.
pub struct OperatorTable {
    operator: StatefulOperator,
    table: Remembered,
    /// With what the digests of its state are made.
    key: Uuid,
    /// What a stateful processor has declared.
    variables: BTreeMap<String, Variable>,
}

impl OperatorTable {
    /// The operator with the state in `folder` that the last batch named; before the first one, state begins with a key
    /// of its own.
    pub async fn open(
        environment: &Environment,
        folder: &Path,
        operator: StatefulOperator,
        progress: Option<&OperatorProgress>,
    ) -> Result<Self> {
        let version = progress.and_then(|progress| progress.state_version);
        let key = match progress.and_then(|progress| progress.digest_key.as_deref()) {
            Some(text) => Uuid::parse_str(text)
                .map_err(|error| Error::internal(format!("digest key `{text}` of a progress file: {error}")))?,
            None => environment.ids.next_id(),
        };
        let variables = progress.map(|progress| progress.variables.clone()).unwrap_or_default();
        Ok(Self { operator, table: Remembered::open(&environment.lake, folder, version).await?, key, variables })
    }

    /// The state for a batch, of its number, that runs at a time in milliseconds since the epoch.
    pub async fn state(&self, watermarks: Watermarks, batch: i64, now_ms: i64) -> Result<OperatorState> {
        let prior = self.table.provider().await?;
        let state = self.operator.state(prior, watermarks, DigestKey::new(self.key.into_bytes()));
        Ok(state.at(batch, now_ms).with_variables(self.variables.clone()))
    }

    /// Whether a part of its state has timed out by the clock.
    pub async fn is_due(&self, ctx: &SessionContext, now_ms: i64) -> Result<bool> {
        match self.table.provider().await? {
            Some(prior) if self.operator.times_out => {
                let due = match self.operator.kind {
                    OperatorKind::Processor => first_timer(&prior, now_ms)?,
                    _ => first_due(&prior, now_ms)?,
                };
                let due = ctx.execute_logical_plan(due).await?;
                Ok(due.collect().await?.iter().any(|rows| rows.num_rows() > 0))
            }
            _ => Ok(false),
        }
    }

    /// Whether it gives out rows when the watermark has moved, even without new ones.
    pub fn waits_for_watermark(&self) -> bool {
        self.operator.waits_for_watermark()
    }

    /// Whether its rows are joined with its state.
    pub fn joins(&self) -> bool {
        matches!(self.operator.kind, OperatorKind::Deduplicate | OperatorKind::JoinSide)
    }

    /// What the progress file says of it.
    pub fn progress(&self) -> OperatorProgress {
        OperatorProgress {
            fingerprint: self.operator.fingerprint.clone(),
            state_version: self.table.version(),
            digest_key: matches!(
                self.operator.kind,
                OperatorKind::Deduplicate | OperatorKind::UserState | OperatorKind::Processor
            )
            .then(|| self.key.to_string()),
            variables: self.variables.clone(),
        }
    }

    /// Stores what a batch adds to the state, and forgets what the batch's watermark has passed.
    pub async fn remember(
        &mut self,
        ctx: &SessionContext,
        state: &OperatorState,
        app_id: &str,
        batch: i64,
    ) -> Result<()> {
        match self.operator.kind {
            OperatorKind::Deduplicate if !self.operator.expires => {
                let new = state.new_rows.take();
                return match new.in_memory() {
                    Some(batches) => self.table.append(batches.to_vec(), app_id, batch).await,
                    None => self.add(&new, state.new_rows.schema(), app_id, batch).await,
                };
            }
            OperatorKind::JoinSide if !self.operator.expires => {
                // The query may have got columns since the table was made.
                return self.add(&state.new_rows.take(), state.new_rows.schema(), app_id, batch).await;
            }
            OperatorKind::UserState | OperatorKind::Processor => {
                return self.remember_changes(ctx, state, app_id, batch).await;
            }
            OperatorKind::Deduplicate | OperatorKind::Aggregate | OperatorKind::JoinSide => {}
        }
        let base = self.table.open_table().await?;
        let leave = match &base {
            Some(base) => Leaving::of(base, &self.operator, state)?,
            None => Leaving::default(),
        };
        let rows = match self.operator.kind {
            OperatorKind::Aggregate => {
                if state.groups.is_empty() && leave.gone.is_empty() {
                    return Ok(());
                }
                let stored = match &base {
                    Some(base) if !leave.merged.is_empty() => Some(base.provider_for_files(&leave.merged).await?),
                    _ => None,
                };
                let (schema, rows) = state.groups.merged(ctx, stored, state.watermarks.final_us).await?;
                (schema, vec![rows])
            }
            OperatorKind::Deduplicate | OperatorKind::JoinSide | OperatorKind::UserState | OperatorKind::Processor => {
                let new = state.new_rows.take();
                if new.is_empty() && leave.gone.is_empty() {
                    return Ok(());
                }
                let schema = state.new_rows.schema();
                let mut rows = vec![new.stream(SchemaRef::clone(&schema))];
                if let (Some(base), false) = (&base, leave.merged.is_empty()) {
                    rows.push(alive(ctx, base, &leave.merged, &schema, state.watermarks.final_us).await?);
                }
                (schema, rows)
            }
        };
        let (schema, rows) = rows;
        let replaced = leave.gone.into_iter().chain(leave.merged).collect();
        self.table.replace(Replacement { replaced, rows, schema }, app_id, batch).await
    }

    /// Adds rows, if there are any.
    async fn add(&mut self, rows: &Spooled, schema: SchemaRef, app_id: &str, batch: i64) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = vec![rows.stream(SchemaRef::clone(&schema))];
        self.table.replace(Replacement { replaced: Vec::new(), rows, schema }, app_id, batch).await
    }

    /// Adds the states that a batch has changed, and takes out those that they and others have overtaken where files are
    /// merged anyway.
    async fn remember_changes(
        &mut self,
        ctx: &SessionContext,
        state: &OperatorState,
        app_id: &str,
        batch: i64,
    ) -> Result<()> {
        self.variables = state.variables.all();
        let (schema, new) = (state.new_rows.schema(), state.new_rows.take());
        if new.is_empty() {
            return Ok(());
        }
        let base = self.table.open_table().await?;
        let files = base.as_ref().map_or(Ok(Vec::new()), Table::files)?;
        let replaced = overtaken(&files, new.rows() as u64);
        let mut log = ctx.read_table(new.table(SchemaRef::clone(&schema))?)?;
        if let (Some(base), false) = (&base, replaced.is_empty()) {
            let old = ctx.read_table(to_schema(base.provider_for_files(&replaced).await?, &schema)?)?;
            log = log.union(old)?;
        }
        let whole = replaced.len() == files.len();
        let log = match self.operator.kind {
            OperatorKind::Processor => latest_entries(log, state, whole)?,
            _ => newest(log, whole)?,
        };
        let rows = vec![execute_stream(log.create_physical_plan().await?, ctx.task_ctx())?];
        self.table.replace(Replacement { replaced, rows, schema }, app_id, batch).await
    }
}

/// The files of a log that are merged with `added` rows: each that has no more rows than what it is merged with.
///
/// What stays has more rows than all smaller files together: so there are few files, a row is rewritten as often as the
/// log doubles, and the log is less than twice as long as its largest file.
fn overtaken(files: &[DataFile], added: u64) -> Vec<DataFile> {
    let mut files: Vec<(u64, &DataFile)> = files.iter().map(|file| (file.rows.unwrap_or_default(), file)).collect();
    files.sort_by_key(|(rows, _)| *rows);
    let mut total = added;
    let mut merged = Vec::new();
    for (rows, file) in files {
        if rows > total {
            break;
        }
        total += rows;
        merged.push(file.clone());
    }
    merged
}

/// The files that leave a state table with a batch.
#[derive(Debug, Default)]
struct Leaving {
    /// Their rows leave too: the watermark has passed them, or the batch brings all that is left.
    gone: Vec<DataFile>,
    /// Their rows are merged into a new file.
    merged: Vec<DataFile>,
}

impl Leaving {
    fn of(base: &Table, operator: &StatefulOperator, state: &OperatorState) -> Result<Self> {
        if state.groups.replaces_all() {
            return Ok(Self { gone: base.files()?, merged: Vec::new() });
        }
        let gone = match state.watermarks.final_us {
            Some(final_us) if operator.expires => base.files_until(EXPIRES, final_us)?,
            _ => Vec::new(),
        };
        let stay: Vec<_> =
            base.files()?.into_iter().filter(|file| !gone.iter().any(|gone| gone.path == file.path)).collect();
        Ok(Self { gone, merged: files_to_merge(&stay) })
    }
}

/// The rows of some files of a state table that the watermark has not passed, in the columns of `schema`.
async fn alive(
    ctx: &SessionContext,
    table: &Table,
    files: &[DataFile],
    schema: &SchemaRef,
    final_us: Option<i64>,
) -> Result<SendableRecordBatchStream> {
    // The query may have got columns since the files were written.
    let mut rows = ctx.read_table(to_schema(table.provider_for_files(files).await?, schema)?)?;
    if let Some(final_us) = final_us {
        let watermark = ScalarValue::TimestampMicrosecond(Some(final_us), Some("UTC".into()));
        rows = rows.filter(col(EXPIRES).is_null().or(col(EXPIRES).gt(lit(watermark))))?;
    }
    Ok(execute_stream(rows.create_physical_plan().await?, ctx.task_ctx())?)
}

/// Which of several watermarks is that of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatermarkPolicy {
    /// The least: no input's rows are late because another is ahead.
    Min,
    /// The greatest.
    Max,
}

impl WatermarkPolicy {
    /// Reads `spark.sql.streaming.multipleWatermarkPolicy`.
    ///
    /// # Errors
    /// `User` if it is neither `min` nor `max`.
    pub fn read(value: Option<&str>) -> Result<Self> {
        match value.map(str::to_lowercase).as_deref() {
            None | Some("min") => Ok(Self::Min),
            Some("max") => Ok(Self::Max),
            Some(other) => Err(Error::user(format!(
                "`spark.sql.streaming.multipleWatermarkPolicy` must be `min` or `max`, not `{other}`"
            ))),
        }
    }

    fn choose(self, inputs_us: &[Option<i64>]) -> Option<i64> {
        match self {
            // An input that has not been heard of may have rows of any age.
            Self::Min => inputs_us.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().min(),
            Self::Max => inputs_us.iter().copied().flatten().max(),
        }
    }
}

/// The watermarks that a query declares, and how far they have come.
#[derive(Debug)]
pub struct StreamWatermarks {
    delays_us: Vec<i64>,
    policy: WatermarkPolicy,
    progress: WatermarkProgress,
}

impl StreamWatermarks {
    /// As the last batch left them. A delay may have changed since; a watermark never falls.
    pub fn new(delays_us: Vec<i64>, policy: WatermarkPolicy, last: Option<WatermarkProgress>) -> Self {
        let mut progress = last.unwrap_or_default();
        if progress.inputs_us.len() != delays_us.len() {
            progress.inputs_us = vec![None; delays_us.len()];
        }
        Self { delays_us, policy, progress }
    }

    /// What the next batch works with.
    pub fn of_batch(&self) -> Watermarks {
        Watermarks { late_us: self.progress.current_us, final_us: self.progress.next_us }
    }

    /// Whether the next batch works with a later watermark than the last.
    pub fn have_moved(&self) -> bool {
        self.progress.next_us > self.progress.current_us
    }

    /// One for each declared watermark, to be told what a batch sees.
    pub fn observers(&self) -> Vec<LatestEventTime> {
        self.delays_us.iter().map(|_| LatestEventTime::default()).collect()
    }

    /// After a batch that saw `latest`; what its progress file says.
    pub fn advance(&mut self, latest: &[LatestEventTime]) -> Option<WatermarkProgress> {
        if self.delays_us.is_empty() {
            return None;
        }
        let progress = &mut self.progress;
        for ((input, delay_us), latest) in progress.inputs_us.iter_mut().zip(&self.delays_us).zip(latest) {
            let seen = latest.get().map(|latest| whole_ms(latest) - whole_ms(*delay_us));
            *input = (*input).max(seen);
        }
        progress.current_us = progress.next_us;
        progress.next_us = progress.next_us.max(self.policy.choose(&progress.inputs_us));
        Some(progress.clone())
    }
}

/// Spark's watermarks have milliseconds.
fn whole_ms(us: i64) -> i64 {
    us - us.rem_euclid(1000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The watermarks of the batches that see these event times, each per input, with a delay of 10.
    fn watermarks(policy: WatermarkPolicy, batches: &[&[Option<i64>]]) -> Vec<(Option<i64>, Option<i64>)> {
        let ms = |us: Option<i64>| us.map(|us| us / 1000);
        let mut stream = StreamWatermarks::new(vec![10_000; batches[0].len()], policy, None);
        let mut seen = Vec::new();
        for batch in batches {
            let of_batch = stream.of_batch();
            seen.push((ms(of_batch.late_us), ms(of_batch.final_us)));
            let latest = stream.observers();
            for (latest, time) in latest.iter().zip(*batch) {
                time.iter().for_each(|time| latest.see_us(time * 1000 + 999));
            }
            stream.advance(&latest).unwrap();
        }
        seen.push((ms(stream.of_batch().late_us), ms(stream.of_batch().final_us)));
        seen
    }

    #[test]
    fn the_next_batch_works_with_what_this_one_saw() {
        let seen = watermarks(WatermarkPolicy::Min, &[&[Some(100)], &[Some(50)], &[None], &[Some(120)]]);
        let expected =
            [(None, None), (None, Some(90)), (Some(90), Some(90)), (Some(90), Some(90)), (Some(90), Some(110))];
        assert_eq!(seen, expected);
    }

    #[test]
    fn of_several_inputs_the_policy_chooses() {
        let batches: [&[Option<i64>]; 3] = [&[Some(100), None], &[None, Some(50)], &[Some(200), Some(30)]];
        let last = |policy| watermarks(policy, &batches).iter().map(|seen| seen.1).collect::<Vec<_>>();
        assert_eq!(last(WatermarkPolicy::Min), [None, None, Some(40), Some(40)]);
        assert_eq!(last(WatermarkPolicy::Max), [None, Some(90), Some(90), Some(190)]);
        assert!(WatermarkPolicy::read(Some("avg")).is_err());
    }

    #[test]
    fn a_log_is_merged_as_it_doubles() {
        let file = |rows: u64| DataFile {
            path: rows.to_string(),
            size_bytes: rows,
            rows: Some(rows),
            modified_ms: 0,
            data_change: true,
            version: 0,
        };
        let mut log: Vec<DataFile> = Vec::new();
        let mut written = 0;
        for _ in 0..1000 {
            let merged = overtaken(&log, 10);
            let rows = 10 + merged.iter().filter_map(|file| file.rows).sum::<u64>();
            log.retain(|file| !merged.contains(file));
            log.push(file(rows));
            written += rows;
        }
        assert_eq!(log.iter().filter_map(|file| file.rows).sum::<u64>(), 10_000);
        assert!(log.len() <= 10, "{} files", log.len());
        assert!(written <= 10_000 * 10, "each row was written {} times", written / 10_000);
    }

    #[test]
    fn a_stream_without_watermarks_has_no_progress() {
        assert_eq!(StreamWatermarks::new(Vec::new(), WatermarkPolicy::Min, None).advance(&[]), None);
    }
}
