//! Jupyter notebooks in SQL, as the notebook text that Databricks exports.

use std::path::Path;

use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::{Error, Result};
use serde::Deserialize;

#[derive(Deserialize)]
struct Notebook {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    cell_type: String,
    #[serde(default)]
    source: Lines,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    Text(String),
    Lines(Vec<String>),
}

impl Default for Lines {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// The statements of `text`, the JSON of a notebook: its code cells one after the other. Those in other languages
/// (`%python`, `%md`, …) are left out. Lines are counted in what this returns.
///
/// # Errors
/// `User` if it is no notebook.
pub fn statements(text: &str, display_path: &Path) -> Result<String> {
    let notebook: Notebook =
        serde_json::from_str(text).map_err(|error| {
            Error::user(format!("`{}` is not a Jupyter notebook: {error}", display_path.display()))
                .at(SourceLocation::new(display_path, u32::try_from(error.line()).unwrap_or(0), 0))
        })?;
    let mut cells = Vec::new();
    for cell in notebook.cells.into_iter().filter(|cell| cell.cell_type == "code") {
        let source = match cell.source {
            Lines::Text(text) => text,
            Lines::Lines(lines) => lines.concat(),
        };
        match source.trim_start().strip_prefix("%sql") {
            Some(statement) => cells.push(statement.to_owned()),
            None if source.trim_start().starts_with('%') => {}
            None => cells.push(source),
        }
    }
    Ok(cells.join("\n-- COMMAND ----------\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn code_cells_in_sql_are_statements() {
        let text = r##"{"cells": [
            {"cell_type": "markdown", "source": ["# Orders"]},
            {"cell_type": "code", "source": ["CREATE MATERIALIZED VIEW a AS\n", "SELECT 1 AS x"], "outputs": []},
            {"cell_type": "code", "source": "%python\nprint(1)"},
            {"cell_type": "code", "source": "%sql\nCREATE MATERIALIZED VIEW b AS SELECT x FROM a"}
        ], "metadata": {"language_info": {"name": "sql"}}, "nbformat": 4}"##;
        let expected = "CREATE MATERIALIZED VIEW a AS\nSELECT 1 AS x\n-- COMMAND ----------\n\n\
                        CREATE MATERIALIZED VIEW b AS SELECT x FROM a";
        assert_eq!(statements(text, Path::new("n.ipynb")).unwrap(), expected);
        assert!(statements("[]", Path::new("n.ipynb")).unwrap_err().to_string().contains("not a Jupyter notebook"));
    }
}
