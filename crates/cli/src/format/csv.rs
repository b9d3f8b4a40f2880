//! Rows as CSV: a header, quotes where needed, nothing for NULL, `""` for empty text.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use deltaworks_spark::Result;
use itertools::Itertools as _;

use super::value::shown;

pub(super) fn render(schema: &Schema, batches: &[RecordBatch]) -> Result<String> {
    let mut out = schema.fields().iter().map(|field| quoted(field.name())).join(",") + "\n";
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    Ok(String::new())
                } else {
                    shown(column.as_ref(), row).map(|text| quoted(&text))
                }
            });
            out.push_str(&cells.collect::<Result<Vec<_>>>()?.join(","));
            out.push('\n');
        }
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']) && text.trim() == text;
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
