//! Topics of Kafka as streams, as tables that are read at once, and as sinks.
//!
//! Options become typed in `options`, those for the client in `properties` and `jaas`. `cluster` asks brokers what there
//! is, `positions` and `progress` say where reading starts, `slices` what a batch takes, `fetch` reads it and `decode`
//! makes rows. `sink` is what writes: `records` takes rows apart, `producer` sends them. The checkpoint alone says what was read: no offsets are committed to Kafka. Values of the client's
//! options may be secret; nothing here shows them.

mod cluster;
mod decode;
mod errors;
mod fetch;
mod jaas;
mod offsets;
mod options;
mod positions;
mod producer;
mod producer_properties;
mod progress;
mod properties;
mod records;
mod scan;
mod sink;
mod slices;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::streaming::{Backlog, OpenContext, SizeUnit, Slice, StreamReader, StreamSource};
use deltaworks_spark::{Error, Result};

use self::cluster::Cluster;
use self::decode::kafka_schema;
use self::fetch::Fetching;
use self::offsets::{Offsets, from_json, to_json};
use self::options::{Bound, KafkaOptions};
use self::scan::KafkaTable;
use self::slices::{distance, end_of_slice, ranges};

pub use self::sink::{KafkaSink, KafkaWriter};

/// The name of the format.
pub(crate) const KAFKA: &str = "kafka";

/// A read of Kafka topics at once. Nothing is asked of the brokers before it is scanned.
///
/// # Errors
/// Wrong options (`User`), and what needs a JVM (`Unsupported`).
pub(crate) fn batch_provider(schema: Option<&SchemaRef>, options: &ReadOptions) -> Result<Arc<dyn TableProvider>> {
    refuse_schema(schema)?;
    let options = Arc::new(KafkaOptions::batch(options)?);
    let cluster = Arc::new(Cluster::new(&options));
    Ok(Arc::new(KafkaTable::new(fetching(&cluster, &options), options, None)))
}

/// Topics of Kafka as a stream.
pub(crate) struct KafkaStreamSource {
    options: Arc<KafkaOptions>,
    schema: SchemaRef,
    /// One for all readers, so that a source that is opened again and again does not log in each time.
    cluster: Arc<Cluster>,
}

impl KafkaStreamSource {
    /// The stream that `options` describe. Nothing is asked of the brokers before it is opened.
    ///
    /// # Errors
    /// Those of [`batch_provider`].
    pub(crate) fn new(schema: Option<&SchemaRef>, options: &ReadOptions) -> Result<Self> {
        refuse_schema(schema)?;
        let options = Arc::new(KafkaOptions::streaming(options)?);
        let cluster = Arc::new(Cluster::new(&options));
        Ok(Self { schema: kafka_schema(options.headers), options, cluster })
    }
}

impl fmt::Debug for KafkaStreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaStreamSource").field(&self.description()).finish()
    }
}

#[async_trait]
impl StreamSource for KafkaStreamSource {
    fn description(&self) -> String {
        format!("kafka[{}]", self.options.subscription)
    }

    /// Topics may be added and servers may move; whether a checkpoint still fits is told by its offsets.
    fn identity(&self) -> String {
        KAFKA.to_owned()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn open(&self, context: OpenContext) -> Result<Box<dyn StreamReader>> {
        let (options, cluster) = (&self.options, &self.cluster);
        let stored = context.start.as_ref().map(stored_offsets).transpose()?;
        let available = cluster.available(&options.subscription, stored.as_ref()).await?;
        let position = match &stored {
            Some(stored) => progress::resume(stored, &available, &options.subscription, options.on_data_loss)?,
            None => positions::start(cluster, options, &available).await?,
        };
        let seen = positions::ends(&available);
        let mut end = seen.clone();
        for (at, offset) in &mut end {
            // A partition may end before the offset that was asked for.
            *offset = (*offset).max(position.get(at).copied().unwrap_or(0));
        }
        let anchor = match &stored {
            None => options.start != Bound::Earliest,
            // What was lost is lost once: the next update goes on from here, whatever comes until then.
            Some(stored) => stored.iter().any(|(at, offset)| position.get(at) != Some(offset)),
        };
        Ok(Box::new(KafkaReader {
            fetching: fetching(cluster, options),
            options: Arc::clone(options),
            seen,
            position,
            end,
            anchor,
            aim: None,
        }))
    }
}

fn fetching(cluster: &Arc<Cluster>, options: &KafkaOptions) -> Fetching {
    Fetching { cluster: Arc::clone(cluster), on_data_loss: options.on_data_loss, poll_timeout: options.poll_timeout }
}

fn stored_offsets(json: &serde_json::Value) -> Result<Offsets> {
    from_json(json).ok_or_else(|| {
        Error::data(format!("`{json}` is not an offset of Kafka topics"))
            .with_help("Run a full refresh of the reading table.")
    })
}

fn refuse_schema(schema: Option<&SchemaRef>) -> Result<()> {
    match schema {
        None => Ok(()),
        Some(_) => Err(Error::user("Kafka has a fixed schema, and cannot be read with another one")
            .with_help("Leave the schema out; take values apart by `from_json(CAST(value AS STRING), ...)`.")),
    }
}

/// Plans what was there when it was opened.
struct KafkaReader {
    fetching: Fetching,
    options: Arc<KafkaOptions>,
    /// Where partitions ended when the reader was opened.
    seen: Offsets,
    position: Offsets,
    end: Offsets,
    /// Whether a slice without rows is still needed, to remember a start that could not be found again.
    anchor: bool,
    /// How many offsets a slice shall have, unless the user has said how many it may have.
    aim: Option<u64>,
}

#[async_trait]
impl StreamReader for KafkaReader {
    async fn next_slice(&mut self) -> Result<Option<Slice>> {
        let has_rows = distance(&self.position, &self.end) > 0;
        if !has_rows && !self.anchor {
            return Ok(None);
        }
        self.anchor = false;
        let end = end_of_slice(&self.position, &self.end, self.options.max_offsets.or(self.aim));
        let size = Some(distance(&self.position, &end));
        let input: Arc<dyn TableProvider> = match has_rows {
            true => {
                let ranges = ranges(&self.position, &end);
                Arc::new(KafkaTable::new(self.fetching.clone(), Arc::clone(&self.options), Some(ranges)))
            }
            false => Arc::new(EmptyTable::new(kafka_schema(self.options.headers))),
        };
        let backlog = Backlog { records: Some(distance(&end, &self.end)), ..Backlog::default() };
        self.position = end;
        Ok(Some(Slice { end: to_json(&self.position), input, rows: None, size, ledger: None, backlog }))
    }

    fn adapts(&self) -> Option<SizeUnit> {
        self.options.max_offsets.is_none().then_some(SizeUnit::Records)
    }

    fn aim_at(&mut self, size: u64) {
        self.aim = Some(size);
    }

    async fn has_news(&mut self) -> Result<bool> {
        let cluster = &self.fetching.cluster;
        let available = cluster.available(&self.options.subscription, Some(&self.position)).await?;
        Ok(positions::ends(&available) != self.seen)
    }
}
