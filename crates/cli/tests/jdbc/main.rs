//! Pipelines and clients that read tables of PostgreSQL, MariaDB and SQLite, and write them, against servers that the tests
//! start (`tools/setup_databases.sh`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../connect/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod client;
mod pipelines;
mod reads;
mod refusals;
mod servers;
#[path = "../e2e/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;
mod writes;
