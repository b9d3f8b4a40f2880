//! The names of Spark's own functions, which no function of a user takes the place of.

use std::collections::HashSet;
use std::sync::LazyLock;

use datafusion::execution::SessionState;

/// What `SHOW SYSTEM FUNCTIONS` of Apache Spark 4.2 lists, operators included, each with the group Spark puts it into.
const LISTED: &str = include_str!("builtins.txt");

static NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| names().collect());

/// The names, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    groups().map(|(name, _)| name)
}

/// The names and their groups, in order of the names.
pub(super) fn groups() -> impl Iterator<Item = (&'static str, &'static str)> {
    LISTED.lines().filter_map(|line| line.split_once('\t'))
}

/// Whether Spark has a function of that name, whether this program has it or not.
pub fn is_spark_builtin(name: &str) -> bool {
    NAMES.contains(name.to_ascii_lowercase().as_str())
}

/// Operators and words of the grammar that are listed as functions, and table functions.
const SYNTAX: [&str; 44] = [
    "!",
    "!=",
    "%",
    "&",
    "*",
    "+",
    "-",
    "/",
    "<",
    "<<",
    "<=",
    "<=>",
    "<>",
    "=",
    "==",
    ">",
    ">=",
    ">>",
    ">>>",
    "^",
    "|",
    "||",
    "~",
    "and",
    "between",
    "case",
    "cast",
    "div",
    "ilike",
    "in",
    "like",
    "not",
    "or",
    "regexp",
    "rlike",
    "when",
    "extract",
    "position",
    "struct",
    "map",
    "range",
    "sql_keywords",
    "python_worker_logs",
    "exists",
];

/// Functions of Spark that are known, and refused with advice.
const REFUSED: [&str; 5] = ["from_xml", "to_xml", "schema_of_xml", "input_file_block_start", "input_file_block_length"];

/// Whether a session has Spark's function of that name, or the construct that goes by it.
pub fn is_supported(name: &str, session: &SessionState) -> bool {
    let name = name.to_ascii_lowercase();
    if REFUSED.contains(&name.as_str()) {
        return false;
    }
    super::kind(&name, session).is_some()
        || session.higher_order_functions().contains_key(&name)
        || crate::sql::query::is_cast_function(&name)
        || SYNTAX.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert!(is_spark_builtin("ABS"));
        assert!(is_spark_builtin("theta_union"));
        assert!(!is_spark_builtin("to_hex"), "DataFusion's, not Spark's");
    }
}
