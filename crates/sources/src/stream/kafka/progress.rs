//! Where reading goes on, given what was read before and what there is now.

use std::collections::BTreeMap;

use deltaworks_spark::{Error, Result};

use super::errors::{DataLoss, OnDataLoss};
use super::offsets::{Offsets, TopicPartition};
use super::options::Subscription;

/// The records a partition has now: offsets `first` up to, but not including, `end`. Some may be missing in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: i64,
    pub(crate) end: i64,
}

/// The partitions that are read, and what they have.
pub(crate) type Available = BTreeMap<TopicPartition, Extent>;

/// The position to go on from after `stored`; partitions that are new begin with their first record.
///
/// # Errors
/// `KAFKA_DATA_LOSS.*` (`Data`) if records were deleted before they were read, unless they may be;
/// `STREAMING_CHECKPOINT_INCOMPATIBLE` (`User`) if nothing of what was read is subscribed any more.
pub(crate) fn resume(
    stored: &Offsets,
    available: &Available,
    subscription: &Subscription,
    policy: OnDataLoss,
) -> Result<Offsets> {
    if !stored.is_empty() && !stored.keys().any(|at| subscription.covers(at)) {
        return Err(Error::user(format!(
            "the checkpoint is of other topics: `{}` was read before, and `{subscription}` is subscribed now",
            stored.keys().next().map(|at| at.topic.as_ref()).unwrap_or_default()
        ))
        .with_condition("STREAMING_CHECKPOINT_INCOMPATIBLE")
        .with_help("Run a full refresh of the reading table."));
    }
    let deleted: Vec<_> = stored.keys().filter(|at| !available.contains_key(at)).cloned().collect();
    if !deleted.is_empty() {
        DataLoss::PartitionsDeleted(deleted).report(policy)?;
    }
    let mut next = Offsets::new();
    for (at, extent) in available {
        let offset = match stored.get(at) {
            Some(offset) => within(at, *offset, *extent, policy)?,
            None => {
                if extent.first > 0 {
                    DataLoss::AddedPartition { at: at.clone(), first: extent.first }.report(policy)?;
                }
                extent.first
            }
        };
        next.insert(at.clone(), offset);
    }
    Ok(next)
}

/// An offset to start from, moved to where there are records if it may be.
///
/// A partition that ends before the offset lost its last records, or was created again. As in Spark, reading goes on
/// with what comes next: from the beginning, records could be read twice.
pub(crate) fn within(at: &TopicPartition, offset: i64, extent: Extent, policy: OnDataLoss) -> Result<i64> {
    let Extent { first, end } = extent;
    if offset < first {
        DataLoss::StartReset { at: at.clone(), wanted: offset, first }.report(policy)?;
    }
    if offset > end {
        DataLoss::OffsetChanged { at: at.clone(), wanted: offset, end }.report(policy)?;
    }
    Ok(offset.clamp(first, end.max(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(given: &[(i32, i64, i64)]) -> Available {
        let all = given
            .iter()
            .map(|(partition, first, end)| (TopicPartition::new("t", *partition), Extent { first: *first, end: *end }));
        all.collect()
    }

    fn offsets(given: &[(i32, i64)]) -> Offsets {
        given.iter().map(|(partition, offset)| (TopicPartition::new("t", *partition), *offset)).collect()
    }

    fn check(stored: &[(i32, i64)], now: &[(i32, i64, i64)], expected: &[(i32, i64)], condition: Option<&str>) {
        let topics = Subscription::Topics(["t".to_owned()].into());
        let resumed = |policy| resume(&offsets(stored), &available(now), &topics, policy);
        assert_eq!(resumed(OnDataLoss::Warn).unwrap(), offsets(expected));
        match condition {
            None => assert_eq!(resumed(OnDataLoss::Fail).unwrap(), offsets(expected)),
            Some(condition) => assert_eq!(
                resumed(OnDataLoss::Fail).unwrap_err().condition().unwrap().strip_prefix("KAFKA_DATA_LOSS."),
                Some(condition)
            ),
        }
    }

    #[test]
    fn reading_goes_on_where_it_ended() {
        check(&[(0, 5), (1, 9)], &[(0, 5, 7), (1, 0, 9)], &[(0, 5), (1, 9)], None);
    }

    #[test]
    fn new_partitions_begin_with_their_first_record() {
        check(&[(0, 5)], &[(0, 0, 7), (1, 0, 3)], &[(0, 5), (1, 0)], None);
        check(
            &[(0, 5)],
            &[(0, 0, 7), (1, 2, 3)],
            &[(0, 5), (1, 2)],
            Some("ADDED_PARTITION_DOES_NOT_START_FROM_OFFSET_ZERO"),
        );
    }

    #[test]
    fn records_that_are_gone_are_data_loss() {
        check(&[(0, 5)], &[(0, 6, 7)], &[(0, 6)], Some("START_OFFSET_RESET"));
        check(&[(0, 5)], &[(0, 0, 4)], &[(0, 4)], Some("PARTITION_OFFSET_CHANGED"));
        check(&[(0, 5), (1, 5)], &[(0, 0, 5)], &[(0, 5)], Some("PARTITIONS_DELETED"));
    }

    #[test]
    fn other_topics_need_a_full_refresh() {
        let other = Subscription::Topics(["other".to_owned()].into());
        let error = resume(&offsets(&[(0, 5)]), &available(&[]), &other, OnDataLoss::Warn).unwrap_err();
        assert_eq!(error.condition(), Some("STREAMING_CHECKPOINT_INCOMPATIBLE"));
    }
}
