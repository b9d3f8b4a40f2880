//! Table functions whose rows are known: `sql_keywords` and `collations`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::MemTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use crate::error::{Error, Result};

/// Spark's keywords, in order.
const KEYWORDS: &str = include_str!("sql/keywords.txt");

/// Whether [`known_rows`] knows the function.
pub(crate) fn has_known_rows(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "sql_keywords" | "collations")
}

/// The rows of a table function that takes no arguments; `None` if it is not one of these.
///
/// # Errors
/// `WRONG_NUM_ARGS.WITHOUT_SUGGESTION` (`User`) if it is called with arguments.
pub(crate) fn known_rows(name: &str, arguments: usize) -> Result<Option<LogicalPlan>> {
    let columns = match name.to_ascii_lowercase().as_str() {
        "sql_keywords" => sql_keywords(),
        "collations" => collations(),
        _ => return Ok(None),
    };
    if arguments > 0 {
        return Err(Error::user(format!("`{name}` takes no arguments, got {arguments}"))
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
    }
    let fields =
        columns.iter().map(|(name, nullable, values)| Field::new(*name, values.data_type().clone(), *nullable));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let values = columns.into_iter().map(|(_, _, values)| values).collect();
    let table = MemTable::try_new(Arc::clone(&schema), vec![vec![RecordBatch::try_new(schema, values)?]])?;
    Ok(Some(LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()?))
}

/// Name, whether there are NULLs, values.
type Column = (&'static str, bool, ArrayRef);

/// No word is reserved: all can be names, as in Spark unless `spark.sql.ansi.enforceReservedKeywords` is set.
fn sql_keywords() -> Vec<Column> {
    let words: Vec<&str> = KEYWORDS.lines().collect();
    let reserved = BooleanArray::from(vec![false; words.len()]);
    vec![("keyword", false, Arc::new(StringArray::from(words))), ("reserved", false, Arc::new(reserved))]
}

/// The one collation that text is compared by.
fn collations() -> Vec<Column> {
    let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    vec![
        ("CATALOG", false, text(Some("SYSTEM"))),
        ("SCHEMA", false, text(Some("BUILTIN"))),
        ("NAME", false, text(Some("UTF8_BINARY"))),
        ("LANGUAGE", true, text(None)),
        ("COUNTRY", true, text(None)),
        ("ACCENT_SENSITIVITY", false, text(Some("ACCENT_SENSITIVE"))),
        ("CASE_SENSITIVITY", false, text(Some("CASE_SENSITIVE"))),
        ("PAD_ATTRIBUTE", false, text(Some("NO_PAD"))),
        ("ICU_VERSION", true, text(None)),
    ]
}
