#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use clap::Parser as _;
use deltaworks_pipeline::Console;
use deltaworks_pipeline::event::log::EventFilter;
use deltaworks_pipeline::event::{
    BusContext, Details, Event, EventBus, EventSink, FlowProgress, FlowStatus, Origin, UpdateProgress, UpdateState,
};
use deltaworks_spark::connect::service::ServeOptions;
use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::{Error, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::engine::{GraphSummary, UpdateOutcome, UpdateRequest, Validation};

/// A pipeline of one flow that does as told, or is cancelled.
#[derive(Default)]
struct Scripted {
    problems: Vec<Diagnostic>,
}

#[async_trait]
impl Engine for Scripted {
    fn name(&self) -> &str {
        "shop"
    }

    fn root(&self) -> &Path {
        Path::new("/nowhere")
    }

    async fn validate(&self) -> Result<Validation> {
        Ok(Validation { graph: GraphSummary::default(), diagnostics: self.problems.clone() })
    }

    async fn update(
        &self,
        _request: UpdateRequest,
        sinks: Vec<Box<dyn EventSink>>,
        _console: Console,
        cancel: CancellationToken,
    ) -> Result<UpdateOutcome> {
        let origin = Origin { update_id: Some("6fc8a8b0".to_owned()), ..Origin::default() };
        let bus = EventBus::start(BusContext::new(origin), sinks);
        let state = match (cancel.is_cancelled(), self.problems.is_empty()) {
            (true, _) => UpdateState::Canceled,
            (_, true) => UpdateState::Completed,
            (_, false) => UpdateState::Failed,
        };
        let flow = bus.emitter().for_flow("f", "clean", "clean");
        flow.emit(Details::FlowProgress(FlowProgress::new(FlowStatus::Completed)));
        bus.emitter().emit(Details::UpdateProgress(UpdateProgress::new(state)));
        bus.close().await?;
        Ok(UpdateOutcome {
            update_id: "6fc8a8b0".to_owned(),
            state,
            diagnostics: self.problems.clone(),
            definitions_valid: self.problems.is_empty(),
            continuous: false,
        })
    }

    async fn serve(&self, _: TcpListener, _: ServeOptions, stop: CancellationToken) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    async fn query(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        if sql != "SELECT 1 AS one" {
            return Err(Error::user("cannot parse the query").with_condition("PARSE_SYNTAX_ERROR"));
        }
        let batch = RecordBatch::try_from_iter([("one", Arc::new(Int64Array::from(vec![1])) as _)])?;
        Ok((batch.schema(), vec![batch]))
    }

    async fn events(&self, _filter: &EventFilter) -> Result<Vec<Event>> {
        Ok(Vec::new())
    }
}

/// Runs a command line against `engine`: exit code, stdout, stderr.
async fn command(engine: &Scripted, line: &[&str], cancelled: bool) -> (Result<Exit>, String, String) {
    let (output, out, err) = Output::captured();
    let cli = Cli::try_parse_from(["deltaworks"].iter().chain(line)).unwrap();
    let cancel = CancellationToken::new();
    if cancelled {
        cancel.cancel();
    }
    let exit = match &cli.command {
        Command::Validate(_) => validate::run(engine, &output).await,
        Command::Run(args) => run::run_until(engine, args, &output, cancel).await,
        Command::Sql(args) => sql::run(engine, args, &output).await,
        Command::Status(_) => status::run(engine, &output).await,
        other => panic!("{other:?}"),
    };
    (exit, out.text(), err.text())
}

fn invalid() -> Scripted {
    Scripted { problems: vec![Diagnostic::error("dataset `a` is defined twice")] }
}

#[tokio::test]
async fn exit_codes_tell_how_it_went() {
    let valid = Scripted::default();
    let cases = [
        (&valid, false, Exit::Done),
        (&valid, true, Exit::UpdateFailed),
        (&invalid(), false, Exit::InvalidDefinitions),
    ];
    for (engine, cancelled, expected) in cases {
        let (exit, _, _) = command(engine, &["run"], cancelled).await;
        assert_eq!(exit.unwrap(), expected);
    }
}

#[tokio::test]
async fn run_shows_events_and_the_summary() {
    let (_, out, err) = command(&Scripted::default(), &["run"], false).await;
    assert!(out.contains(": Flow 'clean' has COMPLETED.\n"), "{out}");
    assert!(out.contains("FLOW   STATUS"), "{out}");
    assert!(out.contains("Update 6fc8a8 is COMPLETED after"), "{out}");
    assert_eq!(err, "");
}

#[tokio::test]
async fn run_with_json_writes_events_only() {
    let (_, out, _) = command(&Scripted::default(), &["run", "--json"], false).await;
    let types: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event_type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types, ["flow_progress", "update_progress"]);
}

#[tokio::test]
async fn validate_shows_problems_on_stderr() {
    let (exit, out, err) = command(&invalid(), &["validate"], false).await;
    assert_eq!((exit.unwrap(), out.as_str()), (Exit::InvalidDefinitions, ""));
    assert_eq!(err, "error: dataset `a` is defined twice\n\nFound 1 error.\n");
    let (exit, out, _) = command(&Scripted::default(), &["dry-run"], false).await;
    assert_eq!((exit.unwrap(), out.as_str()), (Exit::Done, "Pipeline shop is valid: 0 outputs and 0 flows.\n"));
}

#[tokio::test]
async fn sql_writes_rows() {
    let (_, out, _) = command(&Scripted::default(), &["sql", "SELECT 1 AS one", "--format", "csv"], false).await;
    assert_eq!(out, "one\n1\n");
    let (exit, _, _) = command(&Scripted::default(), &["sql", "SELEC"], false).await;
    assert_eq!(exit.unwrap_err().condition(), Some("PARSE_SYNTAX_ERROR"));
}

#[tokio::test]
async fn conflicting_refresh_options_are_wrong_usage() {
    let (output, _, err) = Output::captured();
    let cli = Cli::try_parse_from(["deltaworks", "run", "--full-refresh-all", "--refresh", "a"]).unwrap();
    assert_eq!(dispatch(cli, &output).await, Exit::Usage);
    assert!(err.text().starts_with("error[CONFLICTING_PIPELINE_REFRESH_OPTIONS]: --full-refresh-all option conflicts"));
}

#[tokio::test]
async fn status_before_the_first_update_says_so() {
    let (_, out, _) = command(&Scripted::default(), &["status"], false).await;
    assert_eq!(out, "Pipeline shop has not run yet.\n");
}
