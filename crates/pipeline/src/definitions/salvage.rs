//! What text that cannot be read was going to define, so that one mistake is not told again by everything that
//! depends on it.
//!
//! Only names are taken from it, generously: a name too many hides a second problem until the first is solved.

use std::sync::LazyLock;

use deltaworks_spark::sql;
use regex::Regex;

use super::Definitions;
use crate::name::{DatasetName, Namespace};

/// A pattern of this file; `None` never happens, as a test sees to.
type Pattern = LazyLock<Option<Regex>>;

/// `CREATE OR REFRESH STREAMING TABLE IF NOT EXISTS a.b`, and what looks like it: the words before the name are any.
static CREATED: Pattern = LazyLock::new(|| {
    Regex::new(
        r"(?imx) ^ \s* CREATE \s+ (?: \w+ \s+ )*?
          (?: (?: TABLE | VIEW ) \s+ (?: IF \s+ NOT \s+ EXISTS \s+ )?
              ( (?: `[^`]+` | \w+ ) (?: \s*\.\s* (?: `[^`]+` | \w+ ) )* )
            | ( (?: `[^`]+` | \w+ ) (?: \.(?: `[^`]+` | \w+ ) )* ) \s* (?: \( | AS\b | ; | $ ) )",
    )
    .ok()
});
/// `INSERT INTO a.b`, `AUTO CDC INTO a.b`, `APPLY CHANGES INTO a.b`
static WRITTEN: Pattern = LazyLock::new(|| {
    Regex::new(
        r"(?ix) \b (?: INSERT | CDC | CHANGES ) \s+ (?: ONCE \s+ )? INTO \s+ (?: TABLE \s+ )?
          ( (?: `[^`]+` | \w+ ) (?: \s*\.\s* (?: `[^`]+` | \w+ ) )* )",
    )
    .ok()
});
/// `def orders(`, `name="orders"`, `create_streaming_table("orders"`
static PYTHON: Pattern = LazyLock::new(|| {
    Regex::new(
        r#"(?mx) ^ \s* def \s+ (\w+) \s* \( | \b name \s* = \s* ["']([^"'\n]+)["'] | _table \s* \( \s* ["']([^"'\n]+)["']"#,
    )
    .ok()
});

impl Definitions {
    /// Notes what the SQL `text`, which has a problem, was going to define.
    pub(super) fn note_broken_sql(&mut self, text: &str, namespace: &Namespace) {
        let created = names(&CREATED, text, namespace);
        self.failed.extend(names(&WRITTEN, text, namespace).into_iter().chain(created.iter().cloned()));
        self.broken.extend(created);
    }

    /// Notes what a Python file that has raised may have been going to define.
    pub(super) fn note_broken_python(&mut self, text: &str, namespace: &Namespace) {
        let defined = names(&PYTHON, text, namespace);
        self.failed.extend(defined.iter().cloned());
        self.broken.extend(defined);
    }
}

fn names(pattern: &Pattern, text: &str, namespace: &Namespace) -> Vec<DatasetName> {
    let Some(pattern) = pattern.as_ref() else { return Vec::new() };
    let written = pattern.captures_iter(text).filter_map(|found| found.iter().skip(1).flatten().next());
    written.filter_map(|name| DatasetName::resolve(&sql::parse_name(name.as_str()).ok()?, namespace).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn check(text: &str, broken: &[&str], failed: &[&str]) {
        let mut definitions = Definitions::default();
        definitions.note_broken_sql(text, &Namespace::default());
        let shown = |names: &[DatasetName]| -> Vec<String> {
            names.iter().map(|name| name.display_in(&Namespace::default())).collect()
        };
        assert_eq!(shown(&definitions.broken), broken, "{text}");
        assert_eq!(shown(&definitions.failed), failed, "{text}");
    }

    #[test]
    fn datasets_of_broken_statements_are_known() {
        check("CREATE OR REFRESH STREAMING TABLE a AS SELEC 1", &["a"], &["a"]);
        check(
            "create materialized view if not exists s.`b c` (x INT,,) AS SELECT 1",
            &["spark_catalog.s.b c"],
            &["spark_catalog.s.b c"],
        );
        check("CREATE OR REFRESH MATERIALISED VEIW v AS SELECT 1", &["v"], &["v"]);
        check(
            "CREATE MATERIALIZED VIEW a AS SELECT 1\n\nCREATE MATERIALIZED VIEW b AS SELECT 2",
            &["a", "b"],
            &["a", "b"],
        );
        check("CREATE PRIVATE MATERIALIZED VIEW a\nCOMMENT 'open\nAS SELECT 1", &["a"], &["a"]);
    }

    #[test]
    fn targets_of_broken_flows_are_not_without_flow() {
        check("APPLY CHANGES INTO live.t FROM STREAM s KEYS", &[], &["t"]);
        check("SELECT 1", &[], &[]);
    }

    #[test]
    fn python_files_define_functions_and_names() {
        let mut definitions = Definitions::default();
        let text = "@dlt.table(name=\"a\")\ndef f(:\n    pass\ndlt.create_streaming_table('b')\n";
        definitions.note_broken_python(text, &Namespace::default());
        let names: Vec<&str> = definitions.broken.iter().map(|name| name.name.as_str()).collect();
        assert_eq!(names, ["a", "f", "b"]);
    }
}
