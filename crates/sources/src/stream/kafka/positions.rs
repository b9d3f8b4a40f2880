//! Starting and ending offsets of options as offsets of the partitions that there are.

use std::sync::Arc;

use deltaworks_spark::{Error, Result};

use super::cluster::Cluster;
use super::errors::DataLoss;
use super::offsets::{EARLIEST, LATEST, Offsets, TopicPartition};
use super::options::{Bound, KafkaOptions, NoMatch};
use super::progress::{Available, within};
use super::slices::{Range, ranges};

/// Where a new checkpoint, or a read at once, starts.
///
/// # Errors
/// `KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED` and its like (`User`) if offsets or times are given, but not for
/// exactly the partitions there are; `User` if no record is as young as a starting timestamp; `KAFKA_DATA_LOSS.*`
/// (`Data`) if a partition does not have its offset.
pub(crate) async fn start(cluster: &Arc<Cluster>, options: &KafkaOptions, available: &Available) -> Result<Offsets> {
    match &options.start {
        Bound::Earliest => Ok(firsts(available)),
        Bound::Latest => Ok(ends(available)),
        Bound::Offsets(given) => {
            check_partitions(given, available, "KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED", "offsets")?;
            let at = available.iter().map(|(at, extent)| {
                let offset = match given.get(at).copied().unwrap_or(EARLIEST) {
                    EARLIEST => extent.first,
                    LATEST => extent.end,
                    offset => within(at, offset, *extent, options.on_data_loss)?,
                };
                Ok((at.clone(), offset))
            });
            at.collect()
        }
        Bound::Timestamp(_) | Bound::Timestamps(_) => {
            let times = times(&options.start, available)?;
            let found = cluster.at_times(times.clone()).await?;
            let at = available.iter().map(|(at, extent)| match found.get(at) {
                Some(offset) if *offset >= 0 => Ok((at.clone(), *offset)),
                _ if options.no_match == NoMatch::Latest => Ok((at.clone(), extent.end)),
                _ => Err(no_record_since(at, times.get(at).copied().unwrap_or_default())),
            });
            at.collect()
        }
    }
}

/// What a read at once reads.
///
/// # Errors
/// Those of [`start`], and `RESOLVED_START_OFFSET_GREATER_THAN_END_OFFSET` (`User`).
pub(crate) async fn batch_ranges(cluster: &Arc<Cluster>, options: &KafkaOptions) -> Result<Vec<Range>> {
    let available = cluster.available(&options.subscription, None).await?;
    let start = start(cluster, options, &available).await?;
    let end = match &options.end {
        Bound::Latest => ends(&available),
        Bound::Earliest => firsts(&available),
        Bound::Offsets(given) => {
            check_partitions(given, &available, "KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED", "offsets")?;
            let at = available.iter().map(|(at, extent)| {
                let offset = given.get(at).copied().filter(|offset| *offset >= 0).unwrap_or(extent.end);
                if offset > extent.end {
                    let missing = DataLoss::EndMissing { at: at.clone(), wanted: offset, end: extent.end };
                    missing.report(options.on_data_loss)?;
                }
                Ok((at.clone(), offset.min(extent.end)))
            });
            at.collect::<Result<Offsets>>()?
        }
        Bound::Timestamp(_) | Bound::Timestamps(_) => {
            let found = cluster.at_times(times(&options.end, &available)?).await?;
            let at = available.iter().map(|(at, extent)| {
                // All records are older: all are read.
                let offset = found.get(at).copied().filter(|offset| *offset >= 0).unwrap_or(extent.end);
                (at.clone(), offset)
            });
            at.collect()
        }
    };
    let wrong = start.iter().find_map(|(at, from)| Some((at, from, *end.get(at)?)).filter(|(_, from, to)| *from > to));
    match wrong {
        None => Ok(ranges(&start, &end)),
        Some((at, from, to)) => Err(Error::user(format!("`{at}` starts at offset {from} and ends before, at {to}"))
            .with_condition("RESOLVED_START_OFFSET_GREATER_THAN_END_OFFSET")
            .with_help("Choose a start that is not behind the end.")),
    }
}

/// The first offset of each partition.
pub(crate) fn firsts(available: &Available) -> Offsets {
    available.iter().map(|(at, extent)| (at.clone(), extent.first)).collect()
}

/// The offset behind the last record of each partition.
pub(crate) fn ends(available: &Available) -> Offsets {
    available.iter().map(|(at, extent)| (at.clone(), extent.end)).collect()
}

fn times(bound: &Bound, available: &Available) -> Result<Offsets> {
    match bound {
        Bound::Timestamp(time) => Ok(available.keys().map(|at| (at.clone(), *time)).collect()),
        Bound::Timestamps(times) => {
            check_partitions(times, available, "KAFKA_TIMESTAMP_OFFSET_DOES_NOT_MATCH_ASSIGNED", "timestamps")?;
            Ok(times.clone())
        }
        _ => Ok(Offsets::new()),
    }
}

fn check_partitions(given: &Offsets, available: &Available, condition: &str, what: &str) -> Result<()> {
    if given.keys().eq(available.keys()) {
        return Ok(());
    }
    let names =
        |partitions: Vec<&TopicPartition>| partitions.iter().map(|at| format!("`{at}`")).collect::<Vec<_>>().join(", ");
    Err(Error::user(format!(
        "{what} are given for partitions [{}], but the partitions read are [{}]",
        names(given.keys().collect()),
        names(available.keys().collect())
    ))
    .with_condition(condition)
    .with_help("Give one for each partition; -2 stands for the earliest offset, -1 for the latest."))
}

fn no_record_since(at: &TopicPartition, time: i64) -> Error {
    Error::user(format!("`{at}` has no record at or after the starting timestamp {time}"))
        .with_condition("INVALID_PARAMETER_VALUE")
        .with_help("Choose an earlier time, or set `startingOffsetsByTimestampStrategy` to latest.")
}
