//! Reads ranges of offsets, one after the other, on a thread of its own.
//!
//! The last offset of a range need not be a record: transactions leave marks in the log, compaction leaves gaps, and
//! records of aborted transactions are not delivered. So a range also ends with the first record behind it, and with
//! the end of the partition, which was behind the range when the range was planned.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use deltaworks_spark::{Error, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::Sender;

use super::cluster::{Client, Cluster};
use super::decode::Rows;
use super::errors::{DataLoss, OnDataLoss, describe, failed, is_refusal, is_unknown, is_unreadable, unreadable};
use super::offsets::{EARLIEST, Offsets, TopicPartition};
use super::slices::Range;

/// A reader looks up from waiting this often, to see whether anybody still wants its rows.
const STEP: Duration = Duration::from_millis(100);

/// A batch has no more keys, values and headers than this, but for one record.
const BATCH_BYTES: usize = 8 << 20;

/// What all readers of a slice share.
#[derive(Clone, Debug)]
pub(crate) struct Fetching {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) on_data_loss: OnDataLoss,
    /// How long a reader waits for the next record.
    pub(crate) poll_timeout: Duration,
}

/// Why reading ends early.
enum Stop {
    /// Nobody wants the rows any more.
    Unwanted,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The rows of `ranges`, sent as batches of at most `batch_rows`.
///
/// # Errors
/// `Unavailable` if Kafka does not answer in time; `KAFKA_DATA_LOSS.*` (`Data`) if records vanish meanwhile.
pub(crate) fn fetch(
    fetching: &Fetching,
    ranges: &[Range],
    rows: Rows,
    batch_rows: usize,
    batches: Sender<DataFusionResult<RecordBatch>>,
) -> DataFusionResult<()> {
    let mut reader = Reader { fetching, client: None, assigned: HashSet::new(), rows, batch_rows, batches };
    let read = ranges.iter().try_for_each(|range| reader.read(range)).and_then(|()| reader.flush());
    reader.close();
    match read {
        Ok(()) | Err(Stop::Unwanted) => Ok(()),
        Err(Stop::Failed(error)) => Err(DataFusionError::from(error)),
    }
}

/// What becomes of a range after its records.
enum Next {
    /// It is read.
    Done,
    /// Its next record is at this offset; the client is of no use any more.
    GoOnAt(i64),
}

struct Reader<'a> {
    fetching: &'a Fetching,
    client: Option<Arc<Client>>,
    /// What the client was told to read so far.
    assigned: HashSet<TopicPartition>,
    rows: Rows,
    batch_rows: usize,
    batches: Sender<DataFusionResult<RecordBatch>>,
}

impl Reader<'_> {
    fn read(&mut self, range: &Range) -> Result<(), Stop> {
        let mut from = range.from;
        while from < range.to {
            let client = self.assign(range, from)?;
            match self.read_from(&client, range, from)? {
                Next::Done => break,
                Next::GoOnAt(offset) => from = offset,
            }
        }
        Ok(())
    }

    /// A client that reads the partition of a range, and nothing else.
    ///
    /// No client is told twice to read a partition: librdkafka aborts the process if it is told to stop while it still
    /// does so from the time before.
    fn assign(&mut self, range: &Range, from: i64) -> Result<Arc<Client>, Stop> {
        if self.assigned.contains(&range.at) {
            self.close();
        }
        let client = match &self.client {
            Some(client) => Arc::clone(client),
            None => Arc::new(self.fetching.cluster.client()?),
        };
        let assign = || {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&range.at.topic, range.at.partition, Offset::Offset(from))?;
            client.assign(&list)
        };
        assign().map_err(|error| {
            Stop::Failed(Error::internal(format!("`{}` cannot be assigned: {}", range.at, describe(&error))))
        })?;
        self.assigned.insert(range.at.clone());
        self.client = Some(Arc::clone(&client));
        Ok(client)
    }

    fn close(&mut self) {
        self.assigned.clear();
        if let Some(client) = self.client.take() {
            self.fetching.cluster.close(client);
        }
    }

    fn read_from(&mut self, client: &Client, range: &Range, from: i64) -> Result<Next, Stop> {
        let mut next = from;
        let mut heard = Instant::now();
        while next < range.to {
            if self.batches.is_closed() {
                return Err(Stop::Unwanted);
            }
            match client.poll(STEP) {
                Some(Ok(record)) => {
                    let is_of_range =
                        record.partition() == range.at.partition && record.topic() == range.at.topic.as_ref();
                    if !is_of_range || record.offset() < next {
                        continue;
                    }
                    heard = Instant::now();
                    if record.offset() < range.to {
                        self.rows.append(&record);
                    }
                    next = record.offset() + 1;
                    if self.rows.len() >= self.batch_rows || self.rows.bytes() >= BATCH_BYTES {
                        self.flush()?;
                        // Whoever takes the rows may have taken long.
                        heard = Instant::now();
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == range.at.partition => break,
                Some(Err(error)) => {
                    if let Some(offset) = self.after_error(client, &error, range, next)? {
                        return Ok(Next::GoOnAt(offset));
                    }
                }
                None => {}
            }
            self.check_patience(client, heard, range, next)?;
        }
        client.context().clear();
        Ok(Next::Done)
    }

    /// What an error means for a range that is read up to `next`: go on from an offset, go on waiting, or fail.
    fn after_error(&self, client: &Client, error: &KafkaError, range: &Range, next: i64) -> Result<Option<i64>, Stop> {
        let servers = self.fetching.cluster.servers();
        let Some(code) = error.rdkafka_error_code() else { return Ok(None) };
        tracing::debug!(?code, at = %range.at, next, "poll");
        if is_refusal(code) {
            let reason = client.context().complaint().map_or_else(|| code.to_string(), |(_, reason)| reason);
            return Err(failed(servers, Some(code), &reason).into());
        }
        if matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange) || is_unknown(code) {
            let lost = DataLoss::Unreadable { at: range.at.clone(), from: next, to: range.to };
            lost.report(self.fetching.on_data_loss)?;
            // What is left, if anything is.
            let wanted = Offsets::from([(range.at.clone(), EARLIEST)]);
            let first = match is_unknown(code) {
                true => range.to,
                false => self.fetching.cluster.offsets(wanted)?.get(&range.at).copied().unwrap_or(range.to),
            };
            return Ok(Some(if first > next { first } else { range.to }));
        }
        if is_unreadable(code) {
            return Err(unreadable(&range.at, next, code).into());
        }
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(failed(servers, Some(code), &describe(error)).into());
        }
        Ok(None)
    }

    fn check_patience(&self, client: &Client, heard: Instant, range: &Range, next: i64) -> Result<(), Stop> {
        let complaint = client.context().complaint();
        let answer = self.fetching.cluster.answer_timeout();
        let patience =
            if complaint.is_some() { self.fetching.poll_timeout.min(answer) } else { self.fetching.poll_timeout };
        let refused = complaint.as_ref().is_some_and(|(code, _)| is_refusal(*code));
        if heard.elapsed() < patience && !refused {
            return Ok(());
        }
        let (code, reason) = match complaint {
            Some((code, reason)) => (Some(code), reason),
            None => (None, format!("offset {next} of `{}` did not come within {} s", range.at, patience.as_secs())),
        };
        Err(failed(self.fetching.cluster.servers(), code, &reason).into())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let batch = self.rows.finish()?;
        self.batches.blocking_send(Ok(batch)).map_err(|_| Stop::Unwanted)
    }
}
