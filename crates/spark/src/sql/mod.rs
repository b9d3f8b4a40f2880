//! Spark SQL text: scripts, pipeline statements, queries and expressions.
//!
//! Text goes through [`script::split`], [`substitute::substitute`], [`statement::parse`]; queries are
//! planned by [`query::plan_query`]. Parsing is sqlparser's with a dialect of our own, planning is
//! DataFusion's: this module rewrites the syntax tree, with the schemas at hand, into one whose names
//! are exact, so that what DataFusion plans is what Spark means.

mod data_types;
mod dialect;
mod name;
mod pipes;
pub mod query;
pub mod script;
mod spellings;
pub mod statement;
pub mod substitute;
mod table_arguments;
mod tokens;

pub use dialect::SparkDialect;
pub use name::parse_name;
pub use query::{
    Parameters, SqlQuery, calls, check_body, parse_query, plan_expression, plan_expression_with, plan_expressions,
    plan_query,
};
pub use script::{StatementText, split};
pub use statement::PipelineStatement;
pub use substitute::substitute;
