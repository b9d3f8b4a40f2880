//! Cuts what is new into slices, and slices into pieces that are read side by side.

use super::offsets::{Offsets, TopicPartition};

/// Offsets `from` up to, but not including, `to` of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) at: TopicPartition,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Range {
    pub(crate) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from).max(0) as u64
    }
}

/// What lies between two positions, partition by partition; partitions without anything are left out.
pub(crate) fn ranges(from: &Offsets, to: &Offsets) -> Vec<Range> {
    let all = to.iter().filter_map(|(at, to)| {
        let from = *from.get(at)?;
        (from < *to).then(|| Range { at: at.clone(), from, to: *to })
    });
    all.collect()
}

/// The offsets that lie between two positions.
pub(crate) fn distance(from: &Offsets, to: &Offsets) -> u64 {
    ranges(from, to).iter().map(Range::len).sum()
}

/// The end of a slice of about `limit` offsets: each partition gives in proportion to what it has, and at least one.
///
/// # Source
/// Spark's Kafka source: "the specified total number of offsets will be proportionally split across
/// topicPartitions of different volume".
pub(crate) fn end_of_slice(from: &Offsets, end: &Offsets, limit: Option<u64>) -> Offsets {
    let total = distance(from, end);
    let Some(limit) = limit.filter(|limit| *limit < total) else { return end.clone() };
    let mut slice = end.clone();
    for range in ranges(from, end) {
        let share = u128::from(limit) * u128::from(range.len()) / u128::from(total);
        let share = i64::try_from(share.max(1)).unwrap_or(i64::MAX);
        slice.insert(range.at, range.from.saturating_add(share).min(range.to));
    }
    slice
}

/// Cuts ranges so that none is longer than `max_records` and there are at least `min_pieces` where there are so many
/// offsets: longer ranges are cut into more pieces.
pub(crate) fn pieces(ranges: Vec<Range>, min_pieces: Option<u64>, max_records: Option<u64>) -> Vec<Range> {
    let total: u64 = ranges.iter().map(Range::len).sum();
    let wanted = min_pieces.filter(|wanted| *wanted > ranges.len() as u64).unwrap_or(0);
    let mut all = Vec::with_capacity(ranges.len());
    for range in ranges {
        let by_share = (u128::from(wanted) * u128::from(range.len())).div_ceil(u128::from(total.max(1)));
        let by_length = max_records.map_or(1, |most| range.len().div_ceil(most.max(1)));
        let count = u64::try_from(by_share).unwrap_or(u64::MAX).max(by_length).clamp(1, range.len().max(1));
        all.extend(equal_parts(&range, count));
    }
    all
}

fn equal_parts(range: &Range, count: u64) -> impl Iterator<Item = Range> {
    let cut = move |part: u64| {
        range.from + i64::try_from(u128::from(range.len()) * u128::from(part) / u128::from(count)).unwrap_or(i64::MAX)
    };
    (0..count).map(move |part| Range { at: range.at.clone(), from: cut(part), to: cut(part + 1) })
}

/// Distributes pieces over at most `groups` readers, so that each has about the same to read.
pub(crate) fn groups(mut pieces: Vec<Range>, groups: usize) -> Vec<Vec<Range>> {
    let mut all: Vec<(u64, Vec<Range>)> = vec![(0, Vec::new()); groups.min(pieces.len())];
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    for piece in pieces {
        if let Some((length, group)) = all.iter_mut().min_by_key(|(length, _)| *length) {
            *length += piece.len();
            group.push(piece);
        }
    }
    all.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets(given: &[(i32, i64)]) -> Offsets {
        given.iter().map(|(partition, offset)| (TopicPartition::new("t", *partition), *offset)).collect()
    }

    #[test]
    fn a_slice_takes_from_partitions_in_proportion() {
        let end = end_of_slice(&offsets(&[(0, 0), (1, 10), (2, 5)]), &offsets(&[(0, 90), (1, 20), (2, 5)]), Some(10));
        assert_eq!(end, offsets(&[(0, 9), (1, 11), (2, 5)]));
    }

    #[test]
    fn without_a_limit_a_slice_takes_all() {
        let end = offsets(&[(0, 90)]);
        assert_eq!(end_of_slice(&offsets(&[(0, 0)]), &end, None), end);
        assert_eq!(end_of_slice(&offsets(&[(0, 0)]), &end, Some(90)), end);
    }

    fn positions() -> impl Strategy<Value = (Offsets, Offsets)> {
        prop::collection::vec((0i64..1000, 0i64..300), 1..12).prop_map(|parts| {
            let at = |index: usize| TopicPartition::new("t", index as i32);
            let from = parts.iter().enumerate().map(|(index, (from, _))| (at(index), *from)).collect();
            let to = parts.iter().enumerate().map(|(index, (from, len))| (at(index), from + len)).collect();
            (from, to)
        })
    }

    proptest! {
        /// Slice after slice, every offset is in exactly one, and none is empty.
        #[test]
        fn slices_partition_the_offsets((from, end) in positions(), limit in 1u64..500) {
            let partitions = from.len() as u64;
            let mut at = from.clone();
            let mut read = 0;
            while at != end {
                let next = end_of_slice(&at, &end, Some(limit));
                let taken = distance(&at, &next);
                prop_assert!(taken > 0 && taken <= limit + partitions);
                for (partition, offset) in &next {
                    prop_assert!(at[partition] <= *offset && *offset <= end[partition]);
                }
                read += taken;
                at = next;
            }
            prop_assert_eq!(read, distance(&from, &end));
        }

        /// Pieces cover a range without gaps or overlaps, and no reader gets one twice.
        #[test]
        fn pieces_partition_a_slice(
            (from, end) in positions(), min in prop::option::of(1u64..40), max in prop::option::of(1u64..50), readers in 1usize..9
        ) {
            let whole = ranges(&from, &end);
            let cut = pieces(whole.clone(), min, max);
            if let Some(max) = max {
                prop_assert!(cut.iter().all(|piece| piece.len() <= max));
            }
            if let Some(min) = min {
                prop_assert!(cut.len() as u64 >= min.min(distance(&from, &end)));
            }
            let mut read: Vec<Range> = groups(cut, readers).into_iter().flatten().collect();
            read.sort_by(|a, b| (&a.at, a.from).cmp(&(&b.at, b.from)));
            let mut joined: Vec<Range> = Vec::new();
            for piece in read {
                prop_assert!(piece.from < piece.to);
                match joined.last_mut() {
                    Some(last) if last.at == piece.at => {
                        prop_assert_eq!(last.to, piece.from);
                        last.to = piece.to;
                    }
                    _ => joined.push(piece),
                }
            }
            prop_assert_eq!(joined, whole);
        }
    }
}
