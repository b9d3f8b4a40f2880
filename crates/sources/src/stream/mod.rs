//! Sources that are read a slice at a time.

pub(crate) mod files;
pub(crate) mod rate;
