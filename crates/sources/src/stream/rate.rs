//! Test sources: `rate` counts rows per second of the clock, `rate-micro-batch` rows per batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::datasource::MemTable;
use deltaworks_spark::Result;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::streaming::{Backlog, Offset, OpenContext, Slice, StreamReader, StreamSource};

use crate::context::{Clock, SourceContext};
use crate::errors::invalid_option;
use crate::options::Options;
use deltaworks_spark::types;

/// How rows come about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    PerSecond { rows: u64 },
    PerBatch { rows: u64, start_ms: i64, advance_ms: i64 },
}

/// `rate` or `rate-micro-batch`.
pub(crate) struct RateSource {
    pace: Pace,
    clock: Clock,
}

impl std::fmt::Debug for RateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateSource").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl RateSource {
    pub(crate) fn per_second(options: &ReadOptions, context: &SourceContext) -> Result<Self> {
        let options = Options::new(options, false);
        options.refuse(&["rampUpTime"])?;
        let rows = options.positive("rowsPerSecond")?.unwrap_or(1);
        Ok(Self { pace: Pace::PerSecond { rows }, clock: Arc::clone(&context.clock) })
    }

    pub(crate) fn per_batch(options: &ReadOptions, context: &SourceContext) -> Result<Self> {
        let options = Options::new(options, false);
        let rows = options
            .positive("rowsPerBatch")?
            .ok_or_else(|| invalid_option("rowsPerBatch", "", "a whole number of at least 1"))?;
        let start_ms = options.count("startTimestamp")?.unwrap_or(0) as i64;
        let advance_ms = options.count("advanceMillisPerBatch")?.unwrap_or(1000) as i64;
        Ok(Self { pace: Pace::PerBatch { rows, start_ms, advance_ms }, clock: Arc::clone(&context.clock) })
    }
}

fn rate_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", types::timestamp(), true),
        Field::new("value", DataType::Int64, true),
    ]))
}

#[async_trait]
impl StreamSource for RateSource {
    fn description(&self) -> String {
        match self.pace {
            Pace::PerSecond { rows } => format!("rate[rowsPerSecond={rows}]"),
            Pace::PerBatch { rows, .. } => format!("rate-micro-batch[rowsPerBatch={rows}]"),
        }
    }

    fn identity(&self) -> String {
        match self.pace {
            Pace::PerSecond { .. } => "rate".to_owned(),
            Pace::PerBatch { .. } => "rate-micro-batch".to_owned(),
        }
    }

    fn schema(&self) -> SchemaRef {
        rate_schema()
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        let now_us = (self.clock)().timestamp_micros();
        Ok(Box::new(RateReader { pace: self.pace, now_us, start: context.start, done: false }))
    }
}

struct RateReader {
    pace: Pace,
    now_us: i64,
    start: Option<Offset>,
    done: bool,
}

impl RateReader {
    fn number(&self, key: &str) -> Option<i64> {
        self.start.as_ref()?.get(key)?.as_i64()
    }

    /// Times and values of the rows since the last batch, and where they end.
    fn rows(&self) -> (Vec<i64>, Vec<i64>, Offset) {
        match self.pace {
            Pace::PerSecond { rows } => {
                let begun_us = self.number("begun_us").unwrap_or(self.now_us);
                let from = self.number("seconds").unwrap_or(0);
                let to = ((self.now_us - begun_us) / 1_000_000).max(from);
                let first = from * rows as i64;
                let values: Vec<i64> = (first..to * rows as i64).collect();
                let times = values.iter().map(|value| begun_us + value * 1_000_000 / rows as i64).collect();
                (times, values, serde_json::json!({"begun_us": begun_us, "seconds": to}))
            }
            Pace::PerBatch { rows, start_ms, advance_ms } => {
                let batch = self.number("batches").unwrap_or(0);
                let first = batch * rows as i64;
                let values: Vec<i64> = (first..first + rows as i64).collect();
                let times = vec![(start_ms + batch * advance_ms) * 1000; values.len()];
                (times, values, serde_json::json!({"batches": batch + 1}))
            }
        }
    }
}

#[async_trait]
impl StreamReader for RateReader {
    async fn next_slice(&mut self) -> Result<Option<Slice>> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        let (times, values, end) = self.rows();
        // The first batch remembers when counting began, even if no second has passed.
        if values.is_empty() && self.start.is_some() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Int64Array::from(values)),
        ];
        let batch = RecordBatch::try_new(rate_schema(), columns)?;
        let input = Arc::new(MemTable::try_new(rate_schema(), vec![vec![batch]])?);
        Ok(Some(Slice { end, input, rows: None, size: None, ledger: None, backlog: Backlog::default() }))
    }
}
