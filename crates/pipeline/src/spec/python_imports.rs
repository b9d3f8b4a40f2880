//! Which modules a Python source imports, as far as that can be said without running it.
//!
//! Only statements count: `import dlt` in a string, a docstring or a comment imports nothing.

/// Whether a Python file imports `dlt` or `pyspark.pipelines`.
pub(super) fn imports_pipelines(text: &str) -> bool {
    statements(text).iter().any(|statement| is_pipelines_import(statement))
}

/// Whether a cell of code of a Jupyter notebook does.
pub(super) fn notebook_imports_pipelines(text: &str) -> bool {
    let Ok(notebook) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let cells = notebook["cells"].as_array().into_iter().flatten();
    let is_code = |cell: &&serde_json::Value| cell["cell_type"].as_str().is_none_or(|kind| kind == "code");
    cells.filter(is_code).any(|cell| imports_pipelines(&cell_text(&cell["source"])))
}

/// The Python of a cell: lines of magic are the notebook's.
fn cell_text(source: &serde_json::Value) -> String {
    let text: String = match source {
        serde_json::Value::Array(lines) => lines.iter().filter_map(|line| line.as_str()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    text.lines().filter(|line| !line.trim_start().starts_with(['%', '!'])).map(|line| format!("{line}\n")).collect()
}

fn is_pipelines_import(statement: &str) -> bool {
    let is_module = |name: &str| name == "dlt" || name.starts_with("dlt.") || is_spark_pipelines(name);
    let mut words = statement.split_whitespace();
    match words.next() {
        Some("import") => {
            let modules = statement.trim_start().trim_start_matches("import").split(',');
            modules.filter_map(|module| module.split_whitespace().next()).any(is_module)
        }
        Some("from") => {
            let module = words.next().unwrap_or_default();
            let names = words.skip(1).flat_map(|word| word.split(|c: char| !(c.is_alphanumeric() || c == '_')));
            is_module(module) || (module == "pyspark" && names.into_iter().any(|name| name == "pipelines"))
        }
        _ => false,
    }
}

fn is_spark_pipelines(name: &str) -> bool {
    name.strip_prefix("pyspark.pipelines").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The simple statements of a source, strings and comments left out.
fn statements(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '#' => length = rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                length = string_length(rest);
                push(&mut statements, '"');
            }
            // The line goes on.
            '\\' => {
                length = if rest.starts_with("\\\r\n") { 3 } else { 2.min(rest.len()) };
                length = (length..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
                push(&mut statements, ' ');
            }
            '(' | '[' | '{' => {
                depth += 1;
                push(&mut statements, c);
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                push(&mut statements, c);
            }
            // A colon ends the head of a compound statement: `try: import dlt`.
            '\n' | ';' | ':' if depth == 0 => statements.push(String::new()),
            _ => push(&mut statements, c),
        }
        rest = &rest[length..];
    }
    statements
}

fn push(statements: &mut [String], c: char) {
    if let Some(last) = statements.last_mut() {
        last.push(c);
    }
}

/// How many bytes the string at the start of `text` takes. One that does not end takes its line, or all if it is of
/// the kind that spans lines.
fn string_length(text: &str) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let (end, spans_lines) = if text.starts_with(&triple) { (triple.as_str(), true) } else { (quote, false) };
    let mut at = end.len();
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with(end) {
            return at + end.len();
        }
        match c {
            '\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            '\n' if !spans_lines => return at,
            _ => at += c.len_utf8(),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_import_pipelines_are_found() {
        for text in [
            "import dlt",
            "import os, dlt as d  # tables",
            "from dlt import table",
            "import pyspark.pipelines as dp",
            "from pyspark import pipelines as dp",
            "from pyspark import (\n    sql,\n    pipelines,\n)",
            "from pyspark.pipelines import table",
            "x = 'it''s'; import dlt",
            "try:\n    import dlt\nexcept ImportError: pass",
            "try: import dlt\nexcept ImportError: pass",
            "from pyspark \\\n    import pipelines",
            "\"\"\"A pipeline's \"tables\".\"\"\"\nimport dlt\n",
        ] {
            assert!(imports_pipelines(text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_none() {
        for text in [
            "TEXT = 'import dlt'",
            "TEXT = \"\"\"\nimport dlt\nfrom pyspark import pipelines\n\"\"\"",
            "TEXT = r'\\'\nx = 1 # import dlt",
            "# import dlt",
            "import dlthub, my.dlt",
            "from pyspark.sql import functions as pipelines_",
            "from pyspark import sql",
            "from mydlt import table",
            "import pyspark.pipelines_of_mine",
            "print(\n'import dlt\\\nimport dlt')",
            "f('''\\''' \nimport dlt''')",
        ] {
            assert!(!imports_pipelines(text), "{text}");
        }
    }

    #[test]
    fn notebooks_are_looked_at_cell_by_cell() {
        let notebook = |source: &str, kind: &str| {
            serde_json::json!({"cells": [{"cell_type": kind, "source": [source]}]}).to_string()
        };
        assert!(notebook_imports_pipelines(&notebook("%pip install x\nimport dlt\n", "code")));
        assert!(!notebook_imports_pipelines(&notebook("import dlt", "markdown")));
        assert!(!notebook_imports_pipelines(&notebook("x = 'import dlt'", "code")));
        assert!(!notebook_imports_pipelines("import dlt"));
    }
}
