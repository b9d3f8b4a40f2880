//! Runs a specification in one mode and compares.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use deltaworks_pipeline::event::EventSink;
use deltaworks_pipeline::spec;
use deltaworks_pipeline::update::UpdateRequest;
use deltaworks_pipeline::{EngineOptions, Pipeline, UpdateOutcome};
use deltaworks_spark::diagnostic::{Diagnostic, Severity};
use deltaworks_spark::types::is_variant;
use deltaworks_spark::variant::json_texts;
use tokio_util::sync::CancellationToken;

use crate::continuous::StopWhenIdle;
use crate::document::{Document, Expected, File, Step};

/// How the steps of a specification are run. The rows at the end do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One update per step, all cores.
    EachStep,
    /// One update per step, one thread.
    OneThread,
    /// All input first, then one update; only the last step is compared.
    AllAtOnce,
    /// One update per step; before each, updates that fail at every step of the batch protocol.
    Interrupted,
    /// One update per step that runs until it is stopped, which happens when all flows are idle.
    Continuous,
}

/// The named steps of the batch protocol.
const FAILPOINTS: [&str; 5] =
    ["batch.files_written", "batch.state_committed", "batch.progress_written", "batch.delivered", "batch.committed"];

impl Mode {
    /// The modes that make sense for `document`.
    pub fn all(document: &Document) -> Vec<Self> {
        let fails = document.steps.iter().any(|step| step.expected.iter().any(|e| matches!(e, Expected::Problems(_))));
        if fails {
            return vec![Self::EachStep];
        }
        let mut modes = vec![Self::EachStep, Self::OneThread, Self::Interrupted, Self::Continuous];
        let joinable = document.steps.iter().all(|step| !step.barrier);
        if document.steps.len() > 1 && joinable {
            modes.push(Self::AllAtOnce);
        }
        modes
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EachStep => "each step",
            Self::OneThread => "one thread",
            Self::AllAtOnce => "all at once",
            Self::Interrupted => "interrupted",
            Self::Continuous => "continuous",
        })
    }
}

type Outcome<T> = Result<T, String>;

/// Runs all steps; says what differs.
pub async fn run(document: &Document, mode: Mode) -> Outcome<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    document.files.iter().for_each(|file| write(folder.path(), file));
    let last = document.steps.len() - 1;
    for (index, step) in document.steps.iter().enumerate() {
        step.files.iter().for_each(|file| write(folder.path(), file));
        if mode == Mode::AllAtOnce && index < last {
            continue;
        }
        let at = |problem: String| format!("after `Update {}`: {problem}", step.title);
        if mode == Mode::Interrupted {
            interrupt(folder.path(), step).await.map_err(at)?;
        }
        let before = versions(folder.path(), step).await?;
        let outcome = update(folder.path(), step, mode).await.map_err(at)?;
        check(folder.path(), step, mode, &before, outcome).await.map_err(at)?;
    }
    Ok(())
}

fn write(folder: &Path, file: &File) {
    let path = folder.join(&file.path);
    if file.path.ends_with('/') {
        return std::fs::create_dir_all(path).expect("a folder");
    }
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    match &file.content {
        Some(content) => std::fs::write(path, content).expect("a writable file"),
        None => std::fs::remove_file(path).expect("the file to delete"),
    }
}

fn open(folder: &Path, mode: Mode, continuous: bool) -> Result<Pipeline, deltaworks_spark::Error> {
    let source = spec::discover(Some(folder))?;
    let (mut loaded, _) = spec::load(&source, &spec::LoadOptions::default())?;
    loaded.continuous = continuous;
    if let Some(python) = std::env::var_os("DELTAWORKS_TEST_PYTHON") {
        loaded.python = Some(python.into());
    }
    // A selection of datasets is a matter of triggered updates; with other settings, views would be computed anew.
    if mode == Mode::Continuous {
        loaded.configuration.insert(spec::TRIGGER_INTERVAL.to_owned(), "10 ms".to_owned());
    }
    let parallelism = (mode == Mode::OneThread).then_some(std::num::NonZeroUsize::MIN);
    Pipeline::open(loaded, &EngineOptions { parallelism, ..EngineOptions::default() })
}

async fn update(folder: &Path, step: &Step, mode: Mode) -> Outcome<Result<UpdateOutcome, deltaworks_spark::Error>> {
    let request = UpdateRequest {
        full_refresh_all: step.full_refresh.iter().any(|name| name == "all"),
        full_refresh: step.full_refresh.iter().filter(|name| *name != "all").cloned().collect(),
        ..UpdateRequest::default()
    };
    let continuous = mode == Mode::Continuous && request.full_refresh.is_empty();
    let pipeline = match open(folder, mode, continuous) {
        Ok(pipeline) => pipeline,
        Err(error) => return Ok(Err(error)),
    };
    let cancel = CancellationToken::new();
    let sinks: Vec<Box<dyn EventSink>> = match continuous {
        true => vec![Box::new(StopWhenIdle::new(cancel.clone()))],
        false => Vec::new(),
    };
    Ok(pipeline.update(request, sinks, cancel).await)
}

/// Updates that each break off at another step of the protocol, at their first batch and at their second.
async fn interrupt(folder: &Path, step: &Step) -> Outcome<()> {
    for failpoint in FAILPOINTS {
        for action in ["1*return", "1*off->1*return"] {
            fail::cfg(failpoint, action).map_err(|error| error.clone())?;
            let once = Step { full_refresh: Vec::new(), ..Step::default() };
            // The first attempt of a step may include a full refresh, which must be as safe.
            let attempted = if action == "1*return" { step } else { &once };
            let outcome = update(folder, attempted, Mode::Interrupted).await;
            fail::remove(failpoint);
            outcome?.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

async fn versions(folder: &Path, step: &Step) -> Outcome<Vec<(String, Option<u64>)>> {
    let mut versions = Vec::new();
    for expected in &step.expected {
        if let Expected::Unchanged(tables) = expected {
            for table in tables {
                versions.push((table.clone(), version(folder, table)));
            }
        }
    }
    Ok(versions)
}

/// The newest log entry of a table of the pipeline, found as any reader finds it.
fn version(folder: &Path, table: &str) -> Option<u64> {
    let log = find_storage(folder)?.join("tables").join(table.to_lowercase()).join("_delta_log");
    std::fs::read_dir(log)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .max()
}

fn find_storage(folder: &Path) -> Option<std::path::PathBuf> {
    open(folder, Mode::EachStep, false).ok().map(|pipeline| pipeline.storage().root().to_path_buf())
}

async fn check(
    folder: &Path,
    step: &Step,
    mode: Mode,
    before: &[(String, Option<u64>)],
    outcome: Result<UpdateOutcome, deltaworks_spark::Error>,
) -> Outcome<()> {
    let problems = problems(&outcome);
    let expects_problems = step.expected.iter().any(|expected| matches!(expected, Expected::Problems(_)));
    if !expects_problems && !problems.is_empty() {
        return Err(format!("the update has problems:\n{}", problems.join("\n")));
    }
    for expected in &step.expected {
        match expected {
            // How often a flow was triggered until it was stopped is nobody's business.
            Expected::Rows { query, .. } if mode == Mode::Continuous && query.contains("event_log(") => {}
            Expected::Rows { query, table } => compare(folder, query, table).await?,
            Expected::Problems(wanted) => {
                for wanted in wanted.iter().filter(|line| !line.trim().is_empty()) {
                    if !problems.iter().any(|problem| problem.contains(wanted.trim())) {
                        return Err(format!("no problem contains\n  {wanted}\nthey are\n{}", problems.join("\n")));
                    }
                }
            }
            Expected::Warnings(wanted) => {
                let pipeline = open(folder, mode, false).map_err(|error| error.to_string())?;
                let validation = pipeline.validate().await.map_err(|error| error.to_string())?;
                let warnings = shown(&validation.diagnostics, Severity::Warning);
                for wanted in wanted.iter().filter(|line| !line.trim().is_empty()) {
                    if !warnings.iter().any(|warning| warning.contains(wanted.trim())) {
                        return Err(format!("no warning contains\n  {wanted}\nthey are\n{}", warnings.join("\n")));
                    }
                }
            }
            Expected::Unchanged(_) => {
                for (table, version_before) in before {
                    let now = version(folder, table);
                    if now != *version_before {
                        return Err(format!("table {table} went from version {version_before:?} to {now:?}"));
                    }
                }
            }
            Expected::Expectations(rows) if matches!(mode, Mode::EachStep | Mode::OneThread) => {
                compare(folder, EXPECTATION_QUERY, rows).await?;
            }
            Expected::Expectations(_) => {}
        }
    }
    Ok(())
}

/// The monitoring query that the guide shows, for the latest update.
const EXPECTATION_QUERY: &str = "
    WITH latest AS (
      SELECT origin.update_id AS id FROM event_log('self') WHERE event_type = 'create_update'
      ORDER BY timestamp DESC LIMIT 1),
    metrics AS (
      SELECT explode(from_json(get_json_object(details, '$.flow_progress.data_quality.expectations'),
        'array<struct<name string, dataset string, passed_records bigint, failed_records bigint>>')) AS e
      FROM event_log('self') JOIN latest ON origin.update_id = latest.id
      WHERE event_type = 'flow_progress')
    SELECT e.dataset AS dataset, e.name AS name, sum(e.passed_records) AS passed, sum(e.failed_records) AS failed
    FROM metrics GROUP BY e.dataset, e.name";

/// The problems of an update, as text; an update that did not come about is one.
fn problems(outcome: &Result<UpdateOutcome, deltaworks_spark::Error>) -> Vec<String> {
    match outcome {
        Ok(outcome) => shown(&outcome.diagnostics, Severity::Error),
        Err(error) => vec![error.to_string()],
    }
}

fn shown(diagnostics: &[Diagnostic], severity: Severity) -> Vec<String> {
    diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == severity)
        .map(|diagnostic| {
            format!(
                "{} [{}] {} | help: {}",
                diagnostic.location.as_ref().map(ToString::to_string).unwrap_or_default(),
                diagnostic.condition.as_deref().unwrap_or_default(),
                diagnostic.message,
                diagnostic.help.as_deref().unwrap_or_default()
            )
        })
        .collect()
}

async fn compare(folder: &Path, query: &str, expected: &[Vec<String>]) -> Outcome<()> {
    let pipeline = open(folder, Mode::EachStep, false).map_err(|error| error.to_string())?;
    let query = query.replace("'self'", &format!("'{}'", pipeline.spec().id));
    let result = pipeline.query(&query).await.map_err(|error| format!("{query}: {error}"))?;
    let mut found = vec![result.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()];
    let mut rows: Vec<Vec<String>> = result.batches.iter().flat_map(rows).collect();
    rows.sort();
    found.extend(rows);
    let mut wanted = expected.to_vec();
    if let Some(rows) = wanted.get_mut(1..) {
        rows.sort();
    }
    if found == wanted {
        return Ok(());
    }
    let show = |rows: &[Vec<String>]| rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect::<String>();
    Err(format!("{query}\nexpected\n{}found\n{}", show(&wanted), show(&found)))
}

fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let shown = |column: &ArrayRef| match is_variant(column.data_type()) {
        true => Arc::new(json_texts(column).expect("variants")),
        false => Arc::clone(column),
    };
    let columns: Vec<ArrayRef> = batch.columns().iter().map(shown).collect();
    let columns: Vec<ArrayFormatter> =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options).expect("a printable type")).collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column.value(row).to_string().trim().to_owned()).collect())
        .collect()
}
