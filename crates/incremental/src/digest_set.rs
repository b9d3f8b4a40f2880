//! A set of digests, in shards that grow one after the other.

use std::collections::HashSet;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;

use crate::digest::DIGEST_BYTES;

type Digest = [u8; DIGEST_BYTES as usize];

/// A table that doubles is there twice for a moment; of a shard that is little.
const SHARDS: usize = 32;

/// Digests, or whatever else is 16 bytes long and has evenly distributed first bytes.
#[derive(Debug, Default)]
pub(crate) struct DigestSet {
    shards: [HashSet<u128, RandomState>; SHARDS],
}

impl DigestSet {
    /// Whether `digest` was not in the set yet.
    pub(crate) fn insert(&mut self, digest: &Digest) -> bool {
        self.shards[usize::from(digest[0]) % SHARDS].insert(u128::from_ne_bytes(*digest))
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        // One byte of bookkeeping per slot.
        let bytes = |shard: &HashSet<_, _>| shard.capacity() * 8 / 7 * (size_of::<u128>() + 1);
        self.shards.iter().map(bytes).sum()
    }

    /// The digests as arrays of `FixedSizeBinary(16)`, in no order. What has been given out is freed.
    pub(crate) fn into_arrays(self) -> impl Iterator<Item = Result<ArrayRef, ArrowError>> {
        self.shards.into_iter().filter(|shard| !shard.is_empty()).map(|shard| {
            let mut digests = FixedSizeBinaryBuilder::with_capacity(shard.len(), DIGEST_BYTES);
            shard.into_iter().try_for_each(|digest| digests.append_value(digest.to_ne_bytes()))?;
            Ok(std::sync::Arc::new(digests.finish()) as ArrayRef)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::AsArray as _;

    use super::*;

    #[test]
    fn digests_are_kept_once_and_come_out_again() {
        let digests: Vec<Digest> = (0..1000_u128).map(|i| (i * 0x1_0000_0001).to_be_bytes()).collect();
        let mut set = DigestSet::default();
        assert!(digests.iter().all(|digest| set.insert(digest)));
        assert!(digests.iter().all(|digest| !set.insert(digest)));
        assert!(set.bytes() >= 1000 * (size_of::<Digest>() + 1));
        let mut out = BTreeSet::new();
        for array in set.into_arrays() {
            let array = array.unwrap();
            let array = array.as_fixed_size_binary();
            assert!(array.iter().flatten().all(|digest| out.insert(digest.to_vec())));
        }
        assert!(out.iter().eq(digests.iter().map(|digest| digest.as_slice()).collect::<BTreeSet<_>>()));
    }
}
