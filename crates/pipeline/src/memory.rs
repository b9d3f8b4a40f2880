//! The memory that the operators of all flows share.

use std::fmt;

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;

/// What is left to operators that cannot spill: a quarter.
const RESERVED: usize = 4;
/// What DataFusion's sorts call the memory in which they merge what they have spilled. Each takes as much as it gets, and works with
/// less, but not with nothing.
const MERGES: &str = "ExternalSorterMerge";

/// Equal shares for all operators that can spill, of what the others leave and is not reserved for them. Merges of what has been
/// spilled leave the reserve free, of which each has its share.
#[derive(Debug)]
pub struct SharedMemory {
    limit: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    spillers: usize,
    merges: usize,
    by_spillers: usize,
    by_others: usize,
}

impl SharedMemory {
    /// So many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: Mutex::default() }
    }
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for all flows", human_readable_size(self.limit))
    }
}

impl MemoryPool for SharedMemory {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        let mut used = self.used.lock();
        used.spillers += usize::from(consumer.can_spill());
        used.merges += usize::from(merges(consumer));
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        let mut used = self.used.lock();
        used.spillers = used.spillers.saturating_sub(usize::from(consumer.can_spill()));
        used.merges = used.merges.saturating_sub(usize::from(merges(consumer)));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let mut used = self.used.lock();
        match reservation.consumer().can_spill() {
            true => used.by_spillers += additional,
            false => used.by_others += additional,
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut used = self.used.lock();
        match reservation.consumer().can_spill() {
            true => used.by_spillers = used.by_spillers.saturating_sub(shrink),
            false => used.by_others = used.by_others.saturating_sub(shrink),
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut used = self.used.lock();
        let (consumer, held) = (reservation.consumer(), reservation.size());
        let can_spill = consumer.can_spill();
        let reserve = self.limit / RESERVED;
        let free = self.limit.saturating_sub(used.by_others + used.by_spillers);
        let available = if can_spill {
            (self.limit.saturating_sub(used.by_others.max(reserve)) / used.spillers.max(1)).saturating_sub(held)
        } else if merges(consumer) {
            // Beyond its share it leaves the reserve to the others.
            (reserve / used.merges.max(1)).saturating_sub(held).min(free).max(free.saturating_sub(reserve))
        } else {
            free
        };
        if additional > available {
            return Err(resources_datafusion_err!(
                "{} has {} and needs {} more; {} of {self} are left to it",
                consumer.name(),
                human_readable_size(held),
                human_readable_size(additional),
                human_readable_size(available)
            ));
        }
        match can_spill {
            true => used.by_spillers += additional,
            false => used.by_others += additional,
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        let used = self.used.lock();
        used.by_spillers + used.by_others
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

/// Whether it is a merge of what has been spilled.
fn merges(consumer: &MemoryConsumer) -> bool {
    consumer.name().starts_with(MERGES)
}

/// How many rows a batch has where so many bytes are shared: operators that merge what they have spilled hold a batch of each
/// file.
pub fn batch_size(usual: usize, limit: usize) -> usize {
    const BYTES_PER_ROW: usize = 32 << 10;
    const LEAST: usize = 512;
    (limit / BYTES_PER_ROW).clamp(LEAST.min(usual), usual)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn spillers_leave_a_reserve_and_share_what_others_leave() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::new(1000));
        let consumer = |name: &str, can_spill| MemoryConsumer::new(name).with_can_spill(can_spill).register(&pool);
        let (one, two, other) = (consumer("one", true), consumer("two", true), consumer("other", false));
        one.try_grow(375).unwrap();
        assert!(one.try_grow(1).is_err());
        two.try_grow(375).unwrap();
        other.try_grow(250).unwrap();
        let error = other.try_grow(1).unwrap_err().to_string();
        assert!(error.contains("other has 250.0 B and needs 1.0 B more; 0.0 B of 1000.0 B for all flows"), "{error}");
        drop(two);
        other.try_grow(100).unwrap();
        one.try_grow(275).unwrap();
        assert!(one.try_grow(1).is_err());
        drop((one, other));
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn merges_share_the_reserve() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::new(1000));
        let merge = |name: &str| MemoryConsumer::new(name).register(&pool);
        let (one, two) = (merge("ExternalSorterMerge[0]"), merge("ExternalSorterMerge[1]"));
        one.try_grow(750).unwrap();
        assert!(one.try_grow(1).is_err());
        two.try_grow(125).unwrap();
        assert!(two.try_grow(1).is_err());
        drop(one);
        two.try_grow(625).unwrap();
        assert!(two.try_grow(1).is_err());
    }

    #[test]
    fn batches_are_small_where_memory_is() {
        assert_eq!(
            [16 << 20, 48 << 20, 1 << 30, 4 << 30].map(|limit| batch_size(8192, limit)),
            [512, 1536, 8192, 8192]
        );
    }
}
