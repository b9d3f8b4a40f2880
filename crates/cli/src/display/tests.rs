#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::{DateTime, TimeDelta, Utc};
use deltaworks_pipeline::event::{
    DataQuality, DatasetDefinition, DatasetType, Details, ErrorDetails, Event, ExpectationMetrics, FlowMetrics,
    FlowProgress, FlowStatus, MaintenanceType, Origin, PlanningInformation, Sequence, Technique, UpdateProgress,
    UpdateState, Warning,
};
use deltaworks_spark::Error;

use super::live::flow_line;
use super::numbers::{duration, grouped, rate};
use super::plain::{event_lines, is_shown};
use super::*;
use crate::output::Verbosity;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::milliseconds(ms)
}

fn event(ms: i64, dataset: Option<&str>, message: &str, details: Details) -> Event {
    Event {
        id: ms.to_string(),
        sequence: Sequence::data_plane("u", ms.unsigned_abs()),
        origin: Origin {
            pipeline_name: Some("shop".to_owned()),
            update_id: Some("6fc8a8b0".to_owned()),
            dataset_name: dataset.map(str::to_owned),
            flow_name: dataset.map(str::to_owned),
            ..Origin::default()
        },
        timestamp: at(ms),
        message: message.to_owned(),
        level: details.default_level(),
        maturity_level: None,
        error: None,
        details,
    }
}

fn flow(ms: i64, dataset: &str, status: FlowStatus) -> Event {
    event(
        ms,
        Some(dataset),
        &format!("Flow '{dataset}' is {status}."),
        Details::FlowProgress(FlowProgress::new(status)),
    )
}

fn batch(ms: i64, dataset: &str, read: u64, written: u64) -> Event {
    let metrics = FlowMetrics { num_input_rows: Some(read), num_output_rows: Some(written), ..FlowMetrics::default() };
    let quality = DataQuality {
        dropped_records: read - written,
        expectations: vec![ExpectationMetrics {
            name: "valid_id".to_owned(),
            dataset: dataset.to_owned(),
            passed_records: written,
            failed_records: read - written,
        }],
    };
    let details = Details::FlowProgress(FlowProgress::batch(metrics, Some(quality)));
    event(ms, Some(dataset), &format!("Flow '{dataset}' is RUNNING."), details)
}

fn state(ms: i64, state: UpdateState) -> Event {
    event(ms, None, &format!("Update 6fc8a8 is {state}."), Details::UpdateProgress(UpdateProgress::new(state)))
}

/// An update in which a stream does its work, a view fails, and what reads it is skipped.
fn events() -> Vec<Event> {
    let definition = DatasetDefinition {
        dataset_type: DatasetType::StreamingTable,
        num_flows: 1,
        expectations: Vec::new(),
        comment: None,
    };
    let planning =
        PlanningInformation { technique_information: vec![Technique::chosen(MaintenanceType::CompleteRecompute)] };
    let mut failed = flow(9_000, "gold", FlowStatus::Failed);
    failed.error = Some(ErrorDetails::from(&Error::data("division by zero").with_condition("DIVIDE_BY_ZERO")));
    vec![
        state(0, UpdateState::Initializing),
        event(1, Some("clean"), "Dataset 'clean' defined.", Details::DatasetDefinition(definition)),
        flow(10, "clean", FlowStatus::Queued),
        flow(10, "gold", FlowStatus::Queued),
        flow(10, "top", FlowStatus::Queued),
        flow(1_000, "clean", FlowStatus::Running),
        batch(2_000, "clean", 1_000_000, 999_000),
        batch(3_000, "clean", 500, 500),
        flow(3_500, "clean", FlowStatus::Completed),
        event(3_600, Some("gold"), "planned", Details::PlanningInformation(planning)),
        flow(4_000, "gold", FlowStatus::Running),
        failed,
        flow(9_001, "top", FlowStatus::Skipped),
        event(
            9_002,
            None,
            "table `x` is not read",
            Details::Warning(Warning { message: "table `x` is not read".to_owned(), ..Warning::default() }),
        ),
        state(9_100, UpdateState::Failed),
    ]
}

#[test]
fn view_sums_batches_and_expectations() {
    let view = UpdateView::of(&events());
    let clean = &view.flows["clean"];
    assert_eq!((clean.rows_read, clean.rows_written, clean.rows_dropped), (Some(1_000_500), Some(999_500), 1_000));
    assert_eq!(clean.status, FlowStatus::Completed);
    assert_eq!(clean.elapsed(at(0)), Some(TimeDelta::milliseconds(2_500)));
    let counts = view.expectations[&("clean".to_owned(), "valid_id".to_owned())];
    assert_eq!((counts.passed, counts.failed), (999_500, 1_000));
    assert_eq!(view.state, Some(UpdateState::Failed));
    assert_eq!(view.flows["gold"].error.as_deref(), Some("division by zero"));
}

#[test]
fn retried_flow_forgets_its_error() {
    let mut all = events();
    all.push(flow(9_200, "gold", FlowStatus::Running));
    let view = UpdateView::of(&all);
    assert_eq!(view.flows["gold"].error, None);
    assert_eq!(view.flows["gold"].ended, None);
}

#[test]
fn summary_shows_flows_expectations_and_the_end() {
    insta::assert_snapshot!("summary", render_summary(&UpdateView::of(&events()), at(20_000), false));
}

#[test]
fn summary_of_a_running_update_counts_until_now() {
    insta::assert_snapshot!("summary_running", render_summary(&UpdateView::of(&events()[..7]), at(5_000), false));
}

#[test]
fn live_lines_follow_the_events() {
    let all = events();
    let frames: Vec<String> = [5, 7, 15]
        .iter()
        .map(|seen| {
            let view = UpdateView::of(&all[..*seen]);
            let lines = view.flows.iter().map(|(name, flow)| flow_line(name, flow, at(2_000), 5, false));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    insta::assert_snapshot!("live_lines", frames.join("\n\n"));
}

#[test]
fn plain_lines_leave_out_metrics_unless_verbose() {
    let lines = |verbosity| {
        let all = events();
        let shown = all.iter().filter(|event| is_shown(event, verbosity)).map(event_lines);
        shown.collect::<Vec<_>>().join("\n")
    };
    // Errors are shown once, with their source lines, by the command.
    assert_eq!(lines(Verbosity::Quiet), "");
    insta::assert_snapshot!("plain_normal", lines(Verbosity::Normal));
    insta::assert_snapshot!("plain_verbose", lines(Verbosity::Verbose));
}

#[test]
fn numbers_are_for_people() {
    assert_eq!(
        ["0", "999", "1,000", "1,234,567"],
        [0, 999, 1000, 1_234_567].map(grouped).each_ref().map(String::as_str)
    );
    let spans = [420, 12_000, 185_000, 7_380_000].map(|ms| duration(TimeDelta::milliseconds(ms)));
    assert_eq!(["0.4s", "12s", "3m 05s", "2h 03m"], spans.each_ref().map(String::as_str));
    assert_eq!(rate(1_000, TimeDelta::zero()), None);
    assert_eq!(rate(1_000, TimeDelta::seconds(2)).as_deref(), Some("500/s"));
    assert_eq!(rate(3_400_000, TimeDelta::seconds(1)).as_deref(), Some("3.4M/s"));
}
