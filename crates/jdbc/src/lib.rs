//! Tables of databases, read and written as Spark's JDBC source does: PostgreSQL, MySQL (MariaDB) and SQLite.
//!
//! There is no JVM, so no JDBC driver either: `jdbc:` URLs and options mean what they mean there, and Rust's drivers do the
//! work. Start at [`provider`] and [`write`]. Options become typed in `options`, URLs in `url`. A read asks the database for
//! its columns (`column`, and the module of the database), is cut into `partition`s, and takes along what the database can
//! decide just as we would (`pushdown`); `query` makes the statements and `scan` runs them, row by row into batches
//! (`cells`). A write decides in `write` what is to happen, and its database's module makes that one transaction.
//!
//! Nothing here knows flows, files or Delta tables. Passwords are in [`url::Target`] only, which shows none of them.

mod cells;
mod column;
mod decimal;
mod dialect;
mod errors;
mod mysql;
mod options;
mod partition;
mod postgres;
mod pushdown;
mod query;
mod scan;
mod sqlite;
mod time;
mod tls;
mod url;
mod values;
mod write;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};

pub use options::{PathMapper, known_options, unknown_options};
pub use write::write;

use options::ReadJob;
use scan::JdbcTable;

/// The name of the format.
pub const JDBC: &str = "jdbc";

/// A read of a table or query. The database is asked for its columns now, for rows when it is scanned.
///
/// # Schema
/// The columns of the table or query in Spark's types, all nullable; those of `customSchema` in the types given there.
///
/// # Errors
/// Wrong options, and what the database refuses (`User`); a server that does not answer (`Unavailable`); other databases, and
/// types that have no counterpart (`Unsupported`).
pub async fn provider(
    schema: Option<&SchemaRef>,
    options: &ReadOptions,
    conf: &SparkConf,
    paths: &PathMapper,
) -> Result<Arc<dyn TableProvider>> {
    if schema.is_some() {
        return Err(Error::user("format `jdbc` takes its columns from the database, and cannot be read with a schema")
            .with_help("Leave the schema out; option `customSchema` gives columns other types."));
    }
    let job = ReadJob::parse(options, conf, paths)?;
    Ok(Arc::new(JdbcTable::open(job).await?))
}
