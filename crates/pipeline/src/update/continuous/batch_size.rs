//! How much a batch of a continuous flow takes from a source that has more than enough.
//!
//! A batch shall take about as long as the interval between triggers: shorter ones pay for their commits over and over, longer
//! ones keep what has just come waiting, and whoever stops the update. Nothing here measures anything: what it is told decides
//! what it says.

use std::time::Duration;

use deltaworks_spark::streaming::SizeUnit;

/// Batches are not aimed to be shorter: they would be all commits.
const SHORTEST: Duration = Duration::from_secs(1);

/// From one batch to the next, the size grows or shrinks by no more than this.
const LARGEST_STEP: f64 = 4.0;

/// The size of the next batch, after what the ones before took.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchSize {
    unit: SizeUnit,
    aim: Duration,
    size: u64,
    /// So much of the unit in a second, newer batches weighing more; `None` before one has told.
    rate: Option<f64>,
}

impl BatchSize {
    /// The first batch, for a flow that is triggered once in `interval`.
    pub fn new(unit: SizeUnit, interval: Duration) -> Self {
        let size = match unit {
            SizeUnit::Bytes => 64 << 20,
            SizeUnit::Records => 100_000,
        };
        Self { unit, aim: interval.max(SHORTEST), size, rate: None }
    }

    /// The size that the next batch should have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Learns from a batch that was `taken` large and `took` so long.
    pub fn observe(&mut self, taken: u64, took: Duration) {
        // Of a small batch, most is what every batch costs.
        let is_telling = taken >= self.size / 2 || took > self.aim;
        if !is_telling {
            return;
        }
        let measured = taken as f64 / took.as_secs_f64().max(0.001);
        let rate = self.rate.map_or(measured, |before| (before + measured) / 2.0);
        self.rate = Some(rate);
        let (size, (least, most)) = (self.size as f64, self.bounds());
        let wanted = (rate * self.aim.as_secs_f64()).clamp(size / LARGEST_STEP, size * LARGEST_STEP);
        self.size = (wanted as u64).clamp(least, most);
    }

    /// Whatever was measured.
    fn bounds(&self) -> (u64, u64) {
        match self.unit {
            SizeUnit::Bytes => (1 << 20, 16 << 30),
            SizeUnit::Records => (1_000, 100_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// The sizes of batches of a backlog without an end, of a flow that takes `overhead` seconds and handles `rate` records in a
    /// second.
    fn sizes(interval: f64, overhead: f64, rate: f64) -> Vec<u64> {
        let mut batch = BatchSize::new(SizeUnit::Records, seconds(interval));
        let mut sizes = vec![batch.size()];
        for _ in 0..8 {
            batch.observe(batch.size(), seconds(overhead + batch.size() as f64 / rate));
            sizes.push(batch.size());
        }
        sizes
    }

    #[test]
    fn batches_come_to_take_an_interval() {
        let check = |rate: f64, expected: [u64; 3]| {
            let sizes = sizes(5.0, 0.0, rate);
            assert_eq!(sizes[..3], expected, "{rate}");
            assert_eq!(sizes[8] as f64, rate * 5.0);
        };
        check(100_000.0, [100_000, 400_000, 500_000]);
        check(20_000.0, [100_000, 100_000, 100_000]);
        check(2_000.0, [100_000, 25_000, 10_000]);
    }

    #[test]
    fn what_every_batch_costs_counts() {
        let last = sizes(5.0, 1.0, 100_000.0)[8];
        let took = 1.0 + last as f64 / 100_000.0;
        assert!((4.5..5.5).contains(&took), "{took}");
    }

    #[test]
    fn sizes_stay_within_bounds() {
        assert_eq!(sizes(5.0, 60.0, 1_000.0)[8], 1_000);
        let mut batch = BatchSize::new(SizeUnit::Bytes, seconds(5.0));
        for _ in 0..20 {
            batch.observe(batch.size(), Duration::ZERO);
        }
        assert_eq!(batch.size(), 16 << 30);
        for _ in 0..40 {
            batch.observe(0, seconds(3_600.0));
        }
        assert_eq!(batch.size(), 1 << 20);
    }

    #[test]
    fn an_interval_may_be_too_short_for_a_batch() {
        assert_eq!(sizes(0.05, 0.2, 100_000.0), sizes(1.0, 0.2, 100_000.0));
    }

    #[test]
    fn small_batches_tell_nothing_unless_they_are_slow() {
        let first = BatchSize::new(SizeUnit::Records, seconds(5.0));
        let mut batch = first.clone();
        batch.observe(10, seconds(0.3));
        assert_eq!(batch, first);
        batch.observe(10, seconds(6.0));
        assert_eq!(batch.size(), 25_000);
    }

    #[test]
    fn one_slow_batch_among_others_counts_half() {
        let mut batch = BatchSize::new(SizeUnit::Records, seconds(5.0));
        batch.observe(100_000, seconds(5.0));
        batch.observe(100_000, seconds(10.0));
        assert_eq!(batch.size(), 75_000);
        batch.observe(75_000, seconds(3.75));
        assert_eq!(batch.size(), 87_500);
    }
}
