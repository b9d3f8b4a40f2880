//! The product as its users have it: the program, run in folders of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commands;
mod compaction;
mod continuous;
mod diagnostics;
mod file_sinks;
mod guide;
mod hooks;
mod memory;
mod monitoring;
mod running;
mod secrets;
mod settings;
mod signals;
mod sinks;
mod snapshots;
mod storage;
mod support;
mod views;
