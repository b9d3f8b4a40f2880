#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use deltaworks_lake::Lake;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use uuid::Uuid;

use super::queue::EventQueue;
use super::*;

/// One second later each time it is asked.
#[derive(Debug, Default)]
struct SteppingClock(AtomicU64);

impl Clock for SteppingClock {
    fn now(&self) -> DateTime<Utc> {
        let seconds = self.0.fetch_add(1, Ordering::Relaxed);
        DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::seconds(i64::try_from(seconds).unwrap())
    }
}

#[derive(Debug, Default)]
struct CountingIds(AtomicU64);

impl IdGenerator for CountingIds {
    fn next_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

#[derive(Default, Clone)]
struct Collected(Arc<Mutex<Vec<Arc<Event>>>>);

#[async_trait]
impl EventSink for Collected {
    fn name(&self) -> &str {
        "a test"
    }

    async fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        self.0.lock().extend(events.iter().cloned());
        Ok(())
    }
}

fn context() -> BusContext {
    let origin = Origin {
        pipeline_id: Some("p-1".to_owned()),
        pipeline_name: Some("orders".to_owned()),
        update_id: Some("6fc8a8b0-0000-4000-8000-000000000000".to_owned()),
        ..Origin::default()
    };
    BusContext {
        clock: Arc::new(SteppingClock::default()),
        ids: Arc::new(CountingIds::default()),
        ..BusContext::new(origin)
    }
}

/// The events that `emit` emits, as a sink gets them.
async fn emitted(context: BusContext, emit: impl FnOnce(&EventEmitter)) -> Vec<Arc<Event>> {
    let sink = Collected::default();
    let bus = EventBus::start(context, vec![Box::new(sink.clone())]);
    emit(&bus.emitter());
    bus.close().await.unwrap();
    sink.0.lock().clone()
}

fn failure() -> Error {
    Error::user("cannot evaluate `clean`")
        .with_condition("PYTHON_EXCEPTION")
        .with_help("Read the traceback.")
        .at(SourceLocation::new("pipeline.py", 7, 1))
        .with_traceback("Traceback (most recent call last):\n  File \"pipeline.py\", line 7, in clean\n    x()\n  File \"util.py\", line 2, in x\nKeyError: 'a'")
}

fn one_of_each() -> Vec<Details> {
    let batch = FlowMetrics {
        num_output_rows: Some(8),
        num_output_bytes: Some(1024),
        num_input_rows: Some(10),
        num_input_files: Some(2),
        backlog_files: Some(0),
        executor_time_ms: Some(12),
        ..FlowMetrics::default()
    };
    let quality = DataQuality {
        dropped_records: 2,
        expectations: vec![ExpectationMetrics {
            name: "valid_id".to_owned(),
            dataset: "main.shop.clean".to_owned(),
            passed_records: 8,
            failed_records: 2,
        }],
    };
    vec![
        Details::CreateUpdate(CreateUpdate { refresh_selection: vec!["clean".to_owned()], ..CreateUpdate::default() }),
        Details::UserAction(UserAction { action: "START".to_owned(), user_name: Some("ada".to_owned()) }),
        Details::UpdateProgress(UpdateProgress::new(UpdateState::WaitingForResources)),
        Details::UpdateProgress(UpdateProgress::new(UpdateState::Canceled)),
        Details::UpdateProgress(UpdateProgress::new(UpdateState::Failed)),
        Details::RuntimeDetails(RuntimeDetails { dbr_version: "0.1.0".to_owned(), python_version: None }),
        Details::GraphCreated(GraphCreated { num_datasets: 2, num_flows: 1, num_sinks: 0 }),
        Details::DatasetDefinition(DatasetDefinition {
            dataset_type: DatasetType::StreamingTable,
            num_flows: 1,
            expectations: vec![ExpectationDefinition {
                name: "valid_id".to_owned(),
                expression: "id IS NOT NULL".to_owned(),
                action: "DROP".to_owned(),
            }],
            comment: None,
        }),
        Details::SinkDefinition(SinkDefinition {
            format: "kafka".to_owned(),
            options: Redactor::default().redact_options([("topic", "t"), ("kafka.ssl.key.password", "hunter2")]),
        }),
        Details::FlowDefinition(FlowDefinition {
            output_dataset: Some("main.shop.clean".to_owned()),
            output_sink: None,
            input_datasets: vec!["main.shop.raw".to_owned()],
            flow_type: FlowType::Append,
            schema_json: None,
            explain_text: None,
            comment: None,
            spark_conf: std::collections::BTreeMap::new(),
            language: Some(Language::Sql),
            once: false,
        }),
        Details::FlowProgress(FlowProgress::new(FlowStatus::Queued)),
        Details::FlowProgress(FlowProgress::batch(batch, Some(quality))),
        Details::FlowProgress(FlowProgress::new(FlowStatus::Completed)),
        Details::FlowProgress(FlowProgress::new(FlowStatus::Skipped)),
        Details::FlowProgress(FlowProgress::new(FlowStatus::Stopped)),
        Details::PlanningInformation(PlanningInformation {
            technique_information: vec![
                Technique::chosen(MaintenanceType::CompleteRecompute),
                Technique {
                    is_chosen: false,
                    is_applicable: false,
                    incrementalization_issues: vec![IncrementalizationIssue::preventing(IssueType::ChangeSetMissing)],
                    ..Technique::chosen(MaintenanceType::GroupAggregate)
                },
            ],
        }),
        Details::OperationProgress(OperationProgress {
            operation_type: OperationType::AutoLoaderListing,
            status: OperationStatus::Completed,
            duration_ms: Some(3),
            auto_loader_details: Some(AutoLoaderDetails { source_path: "/in".to_owned(), num_files_listed: Some(2) }),
        }),
        Details::StreamProgress(StreamProgress { progress_json: "{}".to_owned() }),
        Details::HookProgress(HookProgress { name: "notify".to_owned(), status: OperationStatus::Failed }),
        Details::Deprecation(Deprecation { message: "PYTHON_CREATE_VIEW".to_owned() }),
        Details::Warning(Warning { message: "`path` is deprecated".to_owned(), ..Warning::default() }),
    ]
}

async fn one_event_of_each() -> Vec<Arc<Event>> {
    emitted(context(), |emitter| {
        let flow = emitter.for_flow("f-1", "main.shop.clean", "main.shop.clean").for_batch(3);
        for details in one_of_each() {
            flow.emit(details);
        }
        flow.event(Details::FlowProgress(FlowProgress::new(FlowStatus::Failed))).error(&failure()).emit();
    })
    .await
}

#[tokio::test]
async fn every_event_has_its_json_form() {
    let events = one_event_of_each().await;
    insta::assert_json_snapshot!("first_event", *events[0]);
    insta::assert_json_snapshot!("failed_flow", **events.last().unwrap());
    let shown: Vec<_> = events
        .iter()
        .map(|event| serde_json::json!([event.level, event.maturity_level, event.message, event.details]))
        .collect();
    insta::assert_json_snapshot!("details_of_each_event", shown);
}

#[tokio::test]
async fn details_have_exactly_one_key_and_it_is_the_event_type() {
    for event in one_event_of_each().await {
        let details = serde_json::to_value(&event.details).unwrap();
        let keys: Vec<_> = details.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, [event.event_type()]);
    }
}

#[tokio::test]
async fn events_survive_json_and_arrow() {
    let events = one_event_of_each().await;
    let owned: Vec<Event> = events.iter().map(|event| Event::clone(event)).collect();
    let through_json: Vec<Event> =
        owned.iter().map(|event| serde_json::from_str(&event.to_json().unwrap()).unwrap()).collect();
    assert_eq!(through_json, owned);
    let batch = to_record_batch(&events).unwrap();
    assert_eq!(batch.schema(), schema());
    assert_eq!(batch.num_rows(), events.len());
    assert_eq!(from_record_batch(&batch).unwrap(), owned);
}

#[test]
fn event_types_of_other_programs_are_kept() {
    let text = r#"{"cluster_resources":{"num_executors":2}}"#;
    let details: Details = serde_json::from_str(text).unwrap();
    assert_eq!(details.event_type(), "cluster_resources");
    assert_eq!(serde_json::to_string(&details).unwrap(), text);
}

#[tokio::test]
async fn numbers_ascend_from_one_and_all_sinks_see_the_same_order() {
    let (first, second) = (Collected::default(), Collected::default());
    let bus = EventBus::start(context(), vec![Box::new(first.clone()), Box::new(second.clone())]);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let emitter = bus.emitter().for_dataset(&format!("d{task}"));
            tokio::spawn(async move {
                for _ in 0..50 {
                    emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Completed)));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    bus.close().await.unwrap();
    let numbers: Vec<u64> =
        first.0.lock().iter().map(|event| event.sequence.data_plane_id.as_ref().unwrap().seq_no).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
    assert_eq!(*first.0.lock(), *second.0.lock());
}

#[tokio::test]
async fn known_secrets_are_replaced_everywhere() {
    let secretive = BusContext { redactor: Redactor::new(["s3cret-value".to_owned(), "ab".to_owned()]), ..context() };
    let events = emitted(secretive, |emitter| {
        let warning = Warning { message: "cannot use s3cret-value at abc".to_owned(), ..Warning::default() };
        let error = Error::user("login with s3cret-value failed");
        emitter.for_dataset("s3cret-value").event(Details::Warning(warning)).error(&error).emit();
    })
    .await;
    let json = events[0].to_json().unwrap();
    assert!(!json.contains("s3cret-value"), "{json}");
    assert_eq!(events[0].message, "cannot use [REDACTED] at abc");
}

#[tokio::test]
async fn full_queue_drops_transient_events_only() {
    let events = emitted(context(), |emitter| {
        emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Running)));
        emitter.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Completed)));
    })
    .await;
    let queue = EventQueue::new(1);
    for event in [&events[1], &events[0], &events[1]] {
        queue.push(Arc::clone(event));
    }
    queue.close();
    queue.push(Arc::clone(&events[1]));
    assert_eq!(queue.take_all().await.unwrap().len(), 2);
    assert_eq!(queue.dropped(), 1);
    assert!(queue.take_all().await.is_none());
}

struct Failing;

#[async_trait]
impl EventSink for Failing {
    fn name(&self) -> &str {
        "a broken sink"
    }

    async fn write(&mut self, _events: &[Arc<Event>]) -> Result<()> {
        Err(Error::new(deltaworks_spark::Kind::Unavailable, "disk is full"))
    }

    fn flush_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

#[tokio::test]
async fn failing_sink_is_reported_and_holds_up_no_other() {
    let good = Collected::default();
    let bus = EventBus::start(context(), vec![Box::new(Failing), Box::new(good.clone())]);
    bus.emitter().emit(Details::UpdateProgress(UpdateProgress::new(UpdateState::Running)));
    let error = bus.close().await.unwrap_err();
    assert_eq!(error.to_diagnostic().message, "disk is full, while writing events to a broken sink");
    assert_eq!(good.0.lock().len(), 1);
}

#[tokio::test]
async fn json_lines_are_one_event_each() {
    let mut out = Vec::new();
    let events = one_event_of_each().await;
    JsonLines::new(&mut out).write(&events).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    let types: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event_type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types.len(), events.len());
    assert_eq!(types[0], "create_update");
}

#[tokio::test]
async fn event_log_keeps_events_and_reads_them_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let storage = url::Url::from_directory_path(folder.path()).unwrap();
    for update in ["u-1", "u-2"] {
        let mut context = context();
        context.origin.update_id = Some(update.to_owned());
        context.clock = if update == "u-1" { context.clock } else { Arc::new(SteppingClock(AtomicU64::new(100))) };
        let bus =
            EventBus::start(context, vec![Box::new(log::EventLogWriter::new(&Lake::default(), &storage).unwrap())]);
        for details in one_of_each() {
            bus.emitter().emit(details);
        }
        bus.close().await.unwrap();
    }
    let count = one_of_each().len();
    let all = log::read_events(&Lake::default(), &storage, &log::EventFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2 * count);
    let filter = log::EventFilter {
        update: log::UpdateFilter::Latest,
        event_types: vec!["flow_progress".to_owned()],
        levels: vec![Level::Metrics, Level::Info],
        limit: Some(2),
    };
    let some = log::read_events(&Lake::default(), &storage, &filter).await.unwrap();
    let messages: Vec<&str> = some.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(messages, ["Flow 'unknown' has COMPLETED.", "Flow 'unknown' has been STOPPED."]);
    assert!(some.iter().all(|event| event.origin.update_id.as_deref() == Some("u-2")));
}

#[tokio::test]
async fn before_the_first_update_there_are_no_events() {
    let folder = tempfile::tempdir().unwrap();
    let storage = url::Url::from_directory_path(folder.path()).unwrap();
    let events = log::read_events(&Lake::default(), &storage, &log::EventFilter::default()).await.unwrap();
    assert_eq!(events, []);
}
