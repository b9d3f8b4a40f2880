//! Spark's front end on DataFusion: dialect, types, functions, Spark Connect relations.
//!
//! Text or protocol messages come in, a resolved DataFusion `LogicalPlan` with Spark's semantics goes
//! out. This crate knows nothing of pipelines, Delta or files: what a query names is resolved by a
//! [`relation::RelationResolver`] that the caller passes in.

pub mod cancel;
pub mod cast;
pub mod catalog;
pub mod coercion;
pub mod conf;
pub mod connect;
pub mod diagnostic;
mod dml;
pub mod edit;
pub mod error;
mod error_from_datafusion;
pub mod functions;
mod grand_total;
pub mod json;
mod kept;
mod multiset;
pub mod naming;
pub mod null_structs;
pub mod operators;
mod optimizer;
mod orderable;
mod ordered;
mod plan_problem;
pub mod progress;
pub mod python;
mod recursion;
pub mod relation;
pub mod session;
pub mod sql;
pub mod sql_function;
pub mod streaming;
pub mod subquery;
mod table_functions;
pub mod text_table;
pub mod types;
mod units;
mod values;
pub mod variant;
pub mod windowing;
mod windows;

pub use error::{Error, Kind, Result};
