//! The names of Spark's own functions, which no function of a user takes the place of.

use std::collections::HashSet;
use std::sync::LazyLock;

use datafusion::execution::SessionState;

use crate::error::Error;

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
const SYNTAX: [&str; 45] = [
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
    "collations",
    "exists",
];

/// Functions of Spark that are known, and refused with advice.
const REFUSED: [&str; 2] = ["input_file_block_start", "input_file_block_length"];

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

/// The error of a call of Spark's function of that name, which a session has not; `None` if Spark has none of that name.
pub(crate) fn refusal(name: &str) -> Option<Error> {
    let lower = name.to_ascii_lowercase();
    let (_, group) = groups().find(|(known, _)| *known == lower)?;
    let error = Error::unsupported(format!("the function `{lower}`"));
    let help = match group {
        _ if matches!(lower.as_str(), "java_method" | "reflect" | "try_reflect") => {
            "There is no Java: write a function in Python."
        }
        _ if lower.starts_with("approx_top_k") => {
            "Count the values by GROUP BY, and take the first by ORDER BY and LIMIT."
        }
        "agg_funcs" | "sketch_funcs" if is_sketch(&lower) => {
            "The sketches that there are: `hll_sketch_agg` and its kin. `approx_count_distinct` and `percentile_approx` are exact."
        }
        "st_funcs" => "There are no types of GEOMETRY and GEOGRAPHY: keep coordinates in columns of DOUBLE.",
        "datetime_funcs" => "There are no values of TIME: keep times of day as text or as seconds.",
        _ => return Some(error),
    };
    Some(error.with_help(help))
}

fn is_sketch(name: &str) -> bool {
    ["theta_", "tuple_", "kll_", "count_min_sketch"].iter().any(|family| name.starts_with(family))
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

    #[test]
    fn functions_that_are_not_there_are_refused_by_name() {
        for (name, help) in [
            ("theta_union", Some("hll_sketch_agg")),
            ("COUNT_MIN_SKETCH", Some("hll_sketch_agg")),
            ("approx_top_k", Some("GROUP BY")),
            ("st_srid", Some("DOUBLE")),
            ("reflect", Some("Python")),
            ("measure", None),
        ] {
            let error = refusal(name).map(|error| (error.message().to_owned(), error.help().unwrap_or("").to_owned()));
            let (message, given) = error.unwrap_or_default();
            assert_eq!(message, format!("the function `{}` is not supported yet", name.to_ascii_lowercase()));
            assert!(given.contains(help.unwrap_or("")), "{name}: {given}");
        }
        assert!(refusal("my_function").is_none());
    }
}
