//! How much one slice takes.

use std::collections::VecDeque;

/// The most a slice takes: files as a hard limit, bytes as a soft one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Limit {
    /// Limits as options give them; `None` is unlimited.
    pub(crate) fn new(files: Option<u64>, bytes: Option<u64>) -> Self {
        Self { files: files.unwrap_or(u64::MAX), bytes: bytes.unwrap_or(u64::MAX) }
    }

    /// Takes the files of the next slice off the front of `pending`: at least one if there is any, whatever
    /// its size.
    pub(crate) fn take<T>(&self, pending: &mut VecDeque<T>, size: impl Fn(&T) -> u64) -> Vec<T> {
        let mut taken = Vec::new();
        let mut bytes = 0_u64;
        while let Some(file) = pending.front() {
            let after = bytes.saturating_add(size(file));
            if taken.len() as u64 >= self.files || (!taken.is_empty() && after > self.bytes) {
                break;
            }
            bytes = after;
            taken.extend(pending.pop_front());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(limit: Limit, pending: &[u64]) -> Vec<u64> {
        limit.take(&mut pending.iter().copied().collect(), |size| *size)
    }

    #[test]
    fn whichever_limit_comes_first_ends_the_slice() {
        assert_eq!(sizes(Limit::new(Some(2), None), &[1, 1, 1]), [1, 1]);
        assert_eq!(sizes(Limit::new(Some(9), Some(5)), &[2, 3, 1]), [2, 3]);
        assert_eq!(sizes(Limit::new(None, None), &[7, u64::MAX, 7]), [7, u64::MAX, 7]);
    }

    #[test]
    fn file_over_the_limit_is_taken_alone() {
        assert_eq!(sizes(Limit::new(None, Some(5)), &[9, 1]), [9]);
    }
}
