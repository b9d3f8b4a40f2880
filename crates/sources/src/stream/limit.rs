//! How much one slice takes.

use std::collections::VecDeque;

/// The most a slice takes: files as a hard limit, bytes as a soft one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    files: u64,
    bytes: u64,
    /// Whether the user has left it open.
    adapts: bool,
}

impl Limit {
    /// Limits as options give them. Without them it is `default_files` (`None`: unlimited), and somebody else may limit the bytes.
    pub(crate) fn new(files: Option<u64>, bytes: Option<u64>, default_files: Option<u64>) -> Self {
        Self {
            files: files.or(default_files).unwrap_or(u64::MAX),
            bytes: bytes.unwrap_or(u64::MAX),
            adapts: files.is_none() && bytes.is_none(),
        }
    }

    /// Whether the user has left it open.
    pub(crate) fn adapts(&self) -> bool {
        self.adapts
    }

    /// Limits the bytes, if the user has left it open.
    pub(crate) fn aim_at(&mut self, bytes: u64) {
        if self.adapts {
            self.bytes = bytes;
        }
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
        assert_eq!(sizes(Limit::new(Some(2), None, Some(9)), &[1, 1, 1]), [1, 1]);
        assert_eq!(sizes(Limit::new(Some(9), Some(5), None), &[2, 3, 1]), [2, 3]);
        assert_eq!(sizes(Limit::new(None, None, None), &[7, u64::MAX, 7]), [7, u64::MAX, 7]);
        assert_eq!(sizes(Limit::new(None, None, Some(1)), &[7, 7]), [7]);
    }

    #[test]
    fn file_over_the_limit_is_taken_alone() {
        assert_eq!(sizes(Limit::new(None, Some(5), None), &[9, 1]), [9]);
    }

    #[test]
    fn bytes_can_be_aimed_at_where_the_user_has_left_it_open() {
        let aimed = |mut limit: Limit| {
            limit.aim_at(5);
            sizes(limit, &[2, 3, 1, 1])
        };
        assert_eq!(aimed(Limit::new(None, None, Some(1000))), [2, 3]);
        assert_eq!(aimed(Limit::new(None, Some(6), None)), [2, 3, 1]);
        assert_eq!(aimed(Limit::new(Some(4), None, None)), [2, 3, 1, 1]);
    }
}
