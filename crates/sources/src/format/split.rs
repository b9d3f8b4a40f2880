//! Divides files among threads: by bytes, in order, large files by ranges.

use std::sync::Arc;

use super::{FileTask, Format};
use crate::listing::FileEntry;

/// Smaller ranges are not worth a task.
const MIN_RANGE_BYTES: u64 = 1 << 20;

/// Tasks for at most `partitions` partitions, each a contiguous part of the files in their order.
pub(crate) fn split(files: &[Arc<FileEntry>], format: &dyn Format, partitions: usize) -> Vec<Vec<FileTask>> {
    let total: u64 = files.iter().map(|file| file.size).sum();
    let share = (total.div_ceil(partitions.max(1) as u64)).max(MIN_RANGE_BYTES);
    let mut groups: Vec<Vec<FileTask>> = vec![Vec::new()];
    let mut filled = 0;
    for file in files {
        let splittable = format.splittable(file);
        let mut start = 0;
        loop {
            let rest = file.size - start;
            if filled >= share && groups.len() < partitions {
                groups.push(Vec::new());
                filled = 0;
            }
            let room = share.saturating_sub(filled);
            let last = groups.len() >= partitions || !splittable || rest <= room + MIN_RANGE_BYTES / 2;
            let length = if last { rest } else { room };
            if let Some(group) = groups.last_mut() {
                group.push(FileTask { file: Arc::clone(file), start, end: start + length });
            }
            filled += length;
            start += length;
            if last {
                break;
            }
        }
    }
    groups
}
