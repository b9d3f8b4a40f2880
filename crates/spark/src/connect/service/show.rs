//! `show`: rows as a table of text, a list of records, or HTML.

use std::fmt::Write as _;

use arrow::array::{Array as _, ArrayRef, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;

use crate::cast::format::{Style, intervals_to_text, to_text};
use crate::error::Result;
use crate::types::IntervalUnits;

/// Spark's narrowest column.
const MIN_WIDTH: usize = 3;

/// What part of the rows is shown, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub rows: i32,
    /// Cells longer than this are cut; 0: never.
    pub truncate: i32,
    /// The session's time zone.
    pub tz: Tz,
}

/// The first `rows` of a batch as Spark prints them; cells longer than `truncate`, unless that is 0, are cut.
///
/// # Errors
/// For a type that has no text.
pub fn show_rows(batch: &RecordBatch, rows: usize, truncate: usize, tz: Tz) -> Result<String> {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    text(batch, Shown { rows: number(rows), truncate: number(truncate), tz }, false)
}

/// The first rows as Spark prints them, as a table or as one record below the other.
pub(super) fn text(batch: &RecordBatch, what: Shown, vertical: bool) -> Result<String> {
    let (shown, more) = cells(batch, what)?;
    let schema = batch.schema();
    let mut text = if vertical { records(&schema, &shown) } else { table(&schema, &shown, what.truncate > 0) };
    if more {
        let count = shown.len();
        let _ = writeln!(text, "only showing top {count} row{}", if count == 1 { "" } else { "s" });
    }
    Ok(text)
}

/// The first rows as an HTML table.
pub(super) fn html(batch: &RecordBatch, what: Shown) -> Result<String> {
    let (shown, more) = cells(batch, what)?;
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = "<table border='1'>\n<tr>".to_owned();
    for field in batch.schema().fields() {
        let _ = write!(text, "<th>{}</th>", escape(field.name()));
    }
    text.push_str("</tr>\n");
    for row in &shown {
        text.push_str("<tr>");
        for cell in row {
            let _ = write!(text, "<td>{}</td>", escape(cell));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n");
    if more {
        let _ = writeln!(text, "only showing top {} rows", shown.len());
    }
    Ok(text)
}

/// The cells of the rows to show, and whether there are more rows.
fn cells(batch: &RecordBatch, what: Shown) -> Result<(Vec<Vec<String>>, bool)> {
    let count = usize::try_from(what.rows).unwrap_or(0).min(batch.num_rows());
    let columns = batch
        .columns()
        .iter()
        .zip(batch.schema().fields())
        .map(|(column, field)| shown(column, field, what.tz))
        .collect::<Result<Vec<_>>>()?;
    let limit = usize::try_from(what.truncate).unwrap_or(0);
    let mut shown = Vec::with_capacity(count);
    for row in 0..count {
        let cells = columns.iter().map(|column| {
            let cell = if column.is_null(row) { "NULL" } else { column.value(row) };
            cut(cell.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"), limit)
        });
        shown.push(cells.collect());
    }
    Ok((shown, batch.num_rows() > count))
}

/// The values of a column as text; an interval in the units it counts.
fn shown(column: &ArrayRef, field: &Field, tz: Tz) -> Result<StringArray> {
    match IntervalUnits::of_field(field) {
        Some(units) => Ok(intervals_to_text(column, units)),
        None => to_text(column, tz, Style::Shown),
    }
}

fn cut(text: String, limit: usize) -> String {
    if limit == 0 || text.chars().count() <= limit {
        return text;
    }
    match limit.checked_sub(3).filter(|kept| *kept > 0) {
        Some(kept) => text.chars().take(kept).chain("...".chars()).collect(),
        None => text.chars().take(limit).collect(),
    }
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    text.chars().map(|c| if matches!(u32::from(c), 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6) { 2 } else { 1 }).sum()
}

fn table(schema: &Schema, rows: &[Vec<String>], align_right: bool) -> String {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut widths = vec![MIN_WIDTH; names.len()];
    for row in std::iter::once(&names).chain(rows) {
        for (i, cell) in row.iter().enumerate() {
            widths[i] = widths[i].max(width(cell));
        }
    }
    let rule: String = widths.iter().fold("+".to_owned(), |rule, width| rule + &"-".repeat(*width) + "+") + "\n";
    let line = |row: &[String]| {
        let mut line = "|".to_owned();
        for (cell, wanted) in row.iter().zip(&widths) {
            let padding = " ".repeat(wanted - width(cell));
            let _ = if align_right { write!(line, "{padding}{cell}|") } else { write!(line, "{cell}{padding}|") };
        }
        line + "\n"
    };
    let mut text = rule.clone() + &line(&names) + &rule;
    for row in rows {
        text.push_str(&line(row));
    }
    text + &rule
}

fn records(schema: &Schema, rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "(0 rows)\n".to_owned();
    }
    let names = schema.fields().iter().map(|field| width(field.name())).max().unwrap_or(0).max(MIN_WIDTH);
    let cells = rows.iter().flatten().map(|cell| width(cell)).max().unwrap_or(0).max(MIN_WIDTH);
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let header = format!("-RECORD {i}");
        let _ = writeln!(text, "{header}{}", "-".repeat((names + cells + 5).saturating_sub(header.len())));
        for (field, cell) in schema.fields().iter().zip(row) {
            let _ = writeln!(
                text,
                " {}{} | {cell}{} ",
                field.name(),
                " ".repeat(names - width(field.name())),
                " ".repeat(cells - width(cell))
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::Int32Array;
    use arrow::datatypes::DataType;

    use super::*;

    fn batch() -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("id", DataType::Int32, true), Field::new("name", DataType::Utf8, true)]);
        let ids = Int32Array::from(vec![1, 2]);
        let names = StringArray::from(vec![Some("a rather long name of twenty"), None]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(names)]).unwrap()
    }

    fn shown(rows: i32, truncate: i32) -> Shown {
        Shown { rows, truncate, tz: Tz::UTC }
    }

    #[test]
    fn rows_are_printed_as_spark_prints_them() {
        let expected = "\
+---+--------------------+
| id|                name|
+---+--------------------+
|  1|a rather long nam...|
|  2|                NULL|
+---+--------------------+
";
        assert_eq!(text(&batch(), shown(20, 20), false).unwrap(), expected);
    }

    #[test]
    fn more_rows_are_mentioned() {
        assert!(text(&batch(), shown(1, 20), false).unwrap().ends_with("only showing top 1 row\n"));
    }

    #[test]
    fn records_are_printed_one_below_the_other() {
        assert!(text(&batch(), shown(1, 0), true).unwrap().starts_with("-RECORD 0"));
    }
}
