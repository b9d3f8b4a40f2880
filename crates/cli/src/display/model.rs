//! The view model: what is known of an update after its events so far.

use chrono::{DateTime, TimeDelta, Utc};
use deltaworks_pipeline::event::{
    DataQuality, DatasetType, Details, Event, FlowMetrics, FlowProgress, FlowStatus, MaintenanceType, UpdateState,
    Warning,
};
use indexmap::IndexMap;

/// An update.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpdateView {
    pub(crate) update_id: Option<String>,
    pub(crate) pipeline: Option<String>,
    pub(crate) state: Option<UpdateState>,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) ended: Option<DateTime<Utc>>,
    /// Flows by name, in the order they were first heard of.
    pub(crate) flows: IndexMap<String, FlowView>,
    /// Sums by dataset and expectation.
    pub(crate) expectations: IndexMap<(String, String), ExpectationView>,
    pub(crate) warnings: Vec<String>,
    /// Why the update failed as a whole, as far as no flow says it.
    pub(crate) errors: Vec<String>,
    datasets: IndexMap<String, DatasetType>,
}

/// A flow of the update.
#[derive(Debug, Clone)]
pub(crate) struct FlowView {
    pub(crate) dataset: String,
    pub(crate) dataset_type: Option<DatasetType>,
    pub(crate) status: FlowStatus,
    pub(crate) technique: Option<MaintenanceType>,
    pub(crate) rows_read: Option<u64>,
    pub(crate) rows_written: Option<u64>,
    pub(crate) rows_upserted: Option<u64>,
    pub(crate) rows_deleted: Option<u64>,
    pub(crate) rows_dropped: u64,
    pub(crate) bytes_written: Option<u64>,
    pub(crate) backlog_files: Option<u64>,
    pub(crate) started: Option<DateTime<Utc>>,
    pub(crate) ended: Option<DateTime<Utc>>,
    pub(crate) error: Option<String>,
}

/// How an expectation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExpectationView {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl UpdateView {
    /// What is known after these events.
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut view = Self::default();
        for event in events {
            view.apply(event);
        }
        view
    }

    /// Learns from the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.started.get_or_insert(event.timestamp);
        learn(&mut self.update_id, event.origin.update_id.as_ref());
        learn(&mut self.pipeline, event.origin.pipeline_name.as_ref());
        let dataset = event.origin.dataset_name.clone();
        match &event.details {
            Details::UpdateProgress(progress) => {
                self.state = Some(progress.state);
                self.ended = progress.state.is_terminal().then_some(event.timestamp);
                let exceptions = event.error.iter().flat_map(|error| &error.exceptions);
                self.errors = exceptions.map(|exception| exception.message.clone()).collect();
            }
            Details::DatasetDefinition(definition) => {
                if let Some(dataset) = dataset {
                    self.datasets.insert(dataset, definition.dataset_type);
                }
            }
            Details::PlanningInformation(planning) => {
                if let Some(flow) = self.flow(event) {
                    flow.technique = planning.chosen();
                }
            }
            Details::FlowProgress(progress) => {
                if let Some(quality) = &progress.data_quality {
                    self.count(quality);
                }
                if let Some(flow) = self.flow(event) {
                    flow.apply(event, progress);
                }
            }
            Details::Warning(warning) => self.warnings.push(shown(warning)),
            Details::Deprecation(_) => self.warnings.push(event.message.clone()),
            _ => {}
        }
    }

    fn flow(&mut self, event: &Event) -> Option<&mut FlowView> {
        let name = event.origin.flow_name.clone()?;
        let dataset = event.origin.dataset_name.clone().unwrap_or_else(|| name.clone());
        let dataset_type = self.datasets.get(&dataset).copied();
        let flow = self.flows.entry(name).or_insert_with(|| FlowView::new(dataset));
        flow.dataset_type = flow.dataset_type.or(dataset_type);
        Some(flow)
    }

    fn count(&mut self, quality: &DataQuality) {
        for metrics in &quality.expectations {
            let sums = self.expectations.entry((metrics.dataset.clone(), metrics.name.clone())).or_default();
            sums.passed += metrics.passed_records;
            sums.failed += metrics.failed_records;
        }
    }

    /// How long it took, or has taken until `now`.
    pub(crate) fn elapsed(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.started.map(|started| self.ended.unwrap_or(now) - started)
    }
}

impl FlowView {
    fn new(dataset: String) -> Self {
        Self {
            dataset,
            dataset_type: None,
            status: FlowStatus::Queued,
            technique: None,
            rows_read: None,
            rows_written: None,
            rows_upserted: None,
            rows_deleted: None,
            rows_dropped: 0,
            bytes_written: None,
            backlog_files: None,
            started: None,
            ended: None,
            error: None,
        }
    }

    fn apply(&mut self, event: &Event, progress: &FlowProgress) {
        self.status = progress.status;
        if matches!(progress.status, FlowStatus::Planning | FlowStatus::Starting | FlowStatus::Running) {
            self.started.get_or_insert(event.timestamp);
        }
        self.ended = progress.status.is_terminal().then_some(event.timestamp);
        if let Some(metrics) = &progress.metrics {
            self.add(metrics);
        }
        if let Some(quality) = &progress.data_quality {
            self.rows_dropped += quality.dropped_records;
        }
        let first = event.error.as_ref().and_then(|error| error.exceptions.first());
        self.error = first.map(|exception| exception.message.clone());
    }

    fn add(&mut self, metrics: &FlowMetrics) {
        add(&mut self.rows_read, metrics.num_input_rows);
        add(&mut self.rows_written, metrics.num_output_rows);
        add(&mut self.rows_upserted, metrics.num_upserted_rows);
        add(&mut self.rows_deleted, metrics.num_deleted_rows);
        add(&mut self.bytes_written, metrics.num_output_bytes);
        self.backlog_files = metrics.backlog_files.or(self.backlog_files);
    }

    /// Rows written in any way: appended, or inserted, updated and deleted.
    pub(crate) fn rows_changed(&self) -> Option<u64> {
        [self.rows_written, self.rows_upserted, self.rows_deleted].into_iter().flatten().reduce(|a, b| a + b)
    }

    /// How long it ran, or has been running until `now`.
    pub(crate) fn elapsed(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.started.map(|started| self.ended.unwrap_or(now) - started)
    }
}

fn add(sum: &mut Option<u64>, number: Option<u64>) {
    if let Some(number) = number {
        *sum = Some(sum.unwrap_or_default() + number);
    }
}

fn learn(known: &mut Option<String>, new: Option<&String>) {
    if known.is_none() {
        *known = new.cloned();
    }
}

/// A warning in a line: place, message, and what to do.
pub(crate) fn shown(warning: &Warning) -> String {
    let place = warning.location.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    let help = warning.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{place}{}{help}", warning.message)
}
