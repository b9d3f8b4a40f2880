//! The table at the end of an update.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use deltaworks_pipeline::event::UpdateState;
use owo_colors::OwoColorize as _;
use unicode_width::UnicodeWidthStr as _;

use super::live::status_style;
use super::model::{FlowView, UpdateView};
use super::numbers::{duration, grouped};

/// Flows, expectations, warnings, and how it ended. `now` counts for what has not ended.
pub(crate) fn render(view: &UpdateView, now: DateTime<Utc>, color: bool) -> String {
    let mut out = if view.flows.is_empty() { String::new() } else { flows(view, now, color) };
    if !view.expectations.is_empty() {
        let _ = write!(out, "\n{}", expectations(view));
    }
    if !view.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &view.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for (name, flow) in &view.flows {
        if let Some(error) = &flow.error {
            let _ = write!(out, "\nFlow {name} failed: {error}\n");
        }
    }
    if !view.errors.is_empty() {
        out.push('\n');
    }
    for error in &view.errors {
        let _ = writeln!(out, "error: {error}");
    }
    let _ = writeln!(out, "\n{}", conclusion(view, now));
    out
}

fn conclusion(view: &UpdateView, now: DateTime<Utc>) -> String {
    let short: String = view.update_id.as_deref().unwrap_or("unknown").chars().take(6).collect();
    let state = view.state.map_or("not started", UpdateState::as_str);
    let pipeline = view.pipeline.as_ref().map(|name| format!(" of pipeline {name}")).unwrap_or_default();
    let time = view.elapsed(now).map(|span| format!(" after {}", duration(span))).unwrap_or_default();
    format!("Update {short}{pipeline} is {state}{time}.")
}

const FLOW_HEADER: [&str; 7] = ["FLOW", "STATUS", "READ", "WRITTEN", "DROPPED", "REFRESH", "TIME"];

fn flows(view: &UpdateView, now: DateTime<Utc>, color: bool) -> String {
    let rows: Vec<[String; 7]> = view.flows.iter().map(|(name, flow)| flow_row(name, flow, now)).collect();
    let mut out = String::new();
    let widths = widths(&FLOW_HEADER, &rows);
    let _ = writeln!(out, "{}", line(&FLOW_HEADER.map(str::to_owned), &widths, 2..5));
    for (row, flow) in rows.iter().zip(view.flows.values()) {
        let text = line(row, &widths, 2..5);
        let status = row[1].as_str();
        let colored = text.replacen(status, &status.style(status_style(flow.status, color)).to_string(), 1);
        // A flow's own name may contain the word of its status; then the line stays plain.
        let _ = writeln!(out, "{}", if row[0].contains(status) { text } else { colored });
    }
    out
}

fn flow_row(name: &str, flow: &FlowView, now: DateTime<Utc>) -> [String; 7] {
    let shown = if name == flow.dataset { name.to_owned() } else { format!("{name} -> {}", flow.dataset) };
    let number = |number: Option<u64>| number.map(grouped).unwrap_or_default();
    [
        shown,
        flow.status.to_string(),
        number(flow.rows_read),
        number(flow.rows_changed()),
        number(Some(flow.rows_dropped).filter(|rows| *rows > 0)),
        flow.technique.map(|technique| technique.short().to_ascii_lowercase().replace('_', " ")).unwrap_or_default(),
        flow.elapsed(now).map(duration).unwrap_or_default(),
    ]
}

const EXPECTATION_HEADER: [&str; 5] = ["DATASET", "EXPECTATION", "PASSED", "FAILED", "RATE"];

fn expectations(view: &UpdateView) -> String {
    let rows: Vec<[String; 5]> = view
        .expectations
        .iter()
        .map(|((dataset, name), counts)| {
            let total = counts.passed + counts.failed;
            // Rounded down, so that only a perfect result says 100%.
            let tenths = counts.passed.saturating_mul(1000).checked_div(total).unwrap_or(1000);
            let rate = format!("{}.{}%", tenths / 10, tenths % 10);
            [dataset.clone(), name.clone(), grouped(counts.passed), grouped(counts.failed), rate]
        })
        .collect();
    let widths = widths(&EXPECTATION_HEADER, &rows);
    let mut out = line(&EXPECTATION_HEADER.map(str::to_owned), &widths, 2..5) + "\n";
    for row in &rows {
        let _ = writeln!(out, "{}", line(row, &widths, 2..5));
    }
    out
}

fn widths<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> [usize; N] {
    std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].width()).chain([header[column].width()]).max().unwrap_or_default()
    })
}

/// Cells with two blanks between them; columns in `right` are aligned to the right.
fn line<const N: usize>(cells: &[String; N], widths: &[usize; N], right: std::ops::Range<usize>) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let padding = " ".repeat(width.saturating_sub(cell.width()));
        if right.contains(&column) { format!("{padding}{cell}") } else { format!("{cell}{padding}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
