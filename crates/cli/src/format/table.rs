//! Rows as a table, as `show(truncate=False)` of a Spark DataFrame draws it.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use deltaworks_spark::Result;
use unicode_width::UnicodeWidthStr as _;

use super::value::shown;

/// Spark makes no column narrower than this.
const MIN_WIDTH: usize = 3;

pub(super) fn render(schema: &Schema, batches: &[RecordBatch]) -> Result<String> {
    let header: Vec<String> = schema.fields().iter().map(|field| one_line(field.name())).collect();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| Ok(one_line(&shown(column.as_ref(), row)?)));
            rows.push(cells.collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(text_table(&header, &rows))
}

/// A table with a frame, cells left-aligned.
pub(crate) fn text_table(header: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).chain(header.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or_default().max(MIN_WIDTH)
        })
        .collect();
    let frame: String = widths.iter().map(|width| format!("+{}", "-".repeat(*width))).collect::<String>() + "+\n";
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("|{cell}{}", " ".repeat(width.saturating_sub(cell.width()))));
        padded.collect::<String>() + "|\n"
    };
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{frame}{}{frame}{body}{frame}", line(header))
}

fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}
