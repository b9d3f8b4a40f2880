//! What the runners of flows tell the event log.

use deltaworks_spark::streaming::Backlog;

use super::batch::BatchReport;
use crate::event::{
    DataQuality, Details, EventEmitter, ExpectationMetrics, FlowMetrics, FlowProgress, IncrementalizationIssue,
    IssueType, MaintenanceType, PlanningInformation, Technique,
};

/// Why a materialized view is recomputed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// There is no earlier result.
    FirstTime,
    /// The user asked for it.
    FullRefresh,
    /// The query, the table's definition or a setting changed.
    DefinitionChanged,
    /// The query gives another result each time (`current_timestamp()`).
    NotDeterministic,
    /// It reads files or tables whose changes are not tracked.
    InputNotInDelta,
    /// An input has new rows.
    InputChanged,
    /// The stored result is the result.
    NothingChanged,
}

impl Recompute {
    fn issue(self) -> Option<IssueType> {
        match self {
            Self::FirstTime => Some(IssueType::ChangeSetMissing),
            Self::FullRefresh | Self::InputChanged => Some(IssueType::PlanNotIncrementalizable),
            Self::DefinitionChanged => Some(IssueType::QueryFingerprintChanged),
            Self::NotDeterministic => Some(IssueType::PlanNotDeterministic),
            Self::InputNotInDelta => Some(IssueType::InputNotInDelta),
            Self::NothingChanged => None,
        }
    }
}

/// Emits how a materialized view is refreshed and why.
pub fn planned(emitter: &EventEmitter, reason: &Recompute) {
    let chosen = match reason {
        Recompute::NothingChanged => MaintenanceType::NoOp,
        _ => MaintenanceType::CompleteRecompute,
    };
    let issues = reason.issue().map(IncrementalizationIssue::preventing).into_iter().collect();
    emitter.emit(Details::PlanningInformation(PlanningInformation {
        technique_information: vec![Technique { incrementalization_issues: issues, ..Technique::chosen(chosen) }],
    }));
}

/// Emits the numbers of a committed batch.
pub fn batch(emitter: &EventEmitter, number: i64, report: &BatchReport, backlog: Backlog) {
    let metrics = FlowMetrics {
        // Rows written again because they share a file with one that changed are nobody's output.
        num_output_rows: report.changes.is_none().then_some(report.output_rows),
        num_upserted_rows: report.changes.map(|changes| changes.upserted),
        num_deleted_rows: report.changes.map(|changes| changes.deleted),
        num_output_bytes: Some(report.output_bytes),
        num_rows_dropped_by_watermark: (report.late_rows > 0).then_some(report.late_rows),
        num_input_rows: Some(report.input_rows),
        backlog_bytes: backlog.bytes,
        backlog_files: backlog.files,
        backlog_records: backlog.records,
        executor_time_ms: Some(report.duration_ms),
        ..FlowMetrics::default()
    };
    let expectations: Vec<ExpectationMetrics> = report
        .expectations
        .iter()
        .map(|count| ExpectationMetrics {
            name: count.name.clone(),
            dataset: count.dataset.clone(),
            passed_records: count.passed,
            failed_records: count.failed,
        })
        .collect();
    let quality =
        (!expectations.is_empty()).then_some(DataQuality { dropped_records: report.dropped_rows, expectations });
    emitter.for_batch(number).emit(Details::FlowProgress(FlowProgress::batch(metrics, quality)));
}
