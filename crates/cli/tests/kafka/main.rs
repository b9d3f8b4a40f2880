//! Pipelines that read from Kafka and write to it, against a broker of Apache Kafka that the tests start (`tools/setup_kafka.sh`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod broker;
mod continuous;
mod crash;
mod loss;
mod medallion;
mod outages;
mod records;
#[path = "../e2e/running.rs"]
mod running;
mod secrets;
mod sinks;
mod slices;
mod starts;
#[path = "../e2e/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;
mod topics;
