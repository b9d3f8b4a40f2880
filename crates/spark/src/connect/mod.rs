//! Spark Connect: the protocol's messages as plans, and the service that stock clients talk to.
//!
//! [`plan::plan_relation`] turns a relation into a resolved `LogicalPlan`. [`service::serve`] is the
//! gRPC service over any [`host::ConnectHost`]: who the sessions are, what tables exist and what
//! pipeline commands do is the host's business. [`extension`] reads what our Python package adds to
//! the pipeline commands of the protocol.

pub mod artifacts;
mod column_pattern;
mod context;
mod correlated;
mod dropped;
mod expression;
pub mod extension;
mod faces;
mod function;
mod generator;
mod grpc;
pub mod host;
mod literal;
mod name;
mod persisted;
pub mod plan;
mod relation_aggregate;
mod relation_columns;
mod relation_join;
mod relation_lateral;
mod relation_na;
mod relation_nearest;
mod relation_parse;
mod relation_processor;
mod relation_python;
mod relation_rows;
mod relation_source;
mod relation_stat;
mod relation_transpose;
mod relation_with_state;
mod scope;
pub mod service;
mod sql_arguments;
mod sql_function;
pub mod status;
pub mod types;
mod user_function;

pub use spark_connect_proto as proto;
