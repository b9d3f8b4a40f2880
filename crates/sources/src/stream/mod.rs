//! Sources that are read a slice at a time.

pub(crate) mod age;
pub(crate) mod clean;
pub(crate) mod delta;
pub(crate) mod files;
pub(crate) mod kafka;
pub(crate) mod limit;
pub(crate) mod rate;
