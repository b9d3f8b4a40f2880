//! Functions that give snapshots: called for the snapshot after the last one that is stored.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result};
use serde_json::json;

use super::host::DefinitionHost;
use super::process::{DefinitionProcess, FunctionPlace};
use super::{Evaluated, problem_error, process_error};
use crate::definitions::snapshots::{SnapshotAnswer, SnapshotVersion};
use crate::definitions::{Definitions, Flow};
use crate::graph::Environment;
use crate::name::DatasetName;

/// Calls the functions that give snapshots, one at a time.
#[derive(Clone)]
pub struct SnapshotFunctions {
    pub(super) host: Arc<DefinitionHost>,
    pub(super) process: Arc<DefinitionProcess>,
    pub(super) environment: Arc<Environment>,
    /// Held by who has the process do something.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// What functions see of the pipeline.
    pub(super) definitions: Arc<Definitions>,
}

impl fmt::Debug for SnapshotFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFunctions").finish_non_exhaustive()
    }
}

impl SnapshotFunctions {
    /// What the pipeline declares, with `flow` in the place of the flow of that name.
    pub fn definitions_with(&self, flow: Flow) -> Definitions {
        let mut definitions = self.definitions.as_ref().clone();
        definitions.replace(flow);
        definitions
    }

    /// Calls the function of `flow` for the snapshot after version `latest`, or the first one. It may read rows of the
    /// datasets in `settled`.
    ///
    /// # Errors
    /// What the function raised, with the user's own lines; `APPLY_CHANGES_FROM_SNAPSHOT_ERROR.*` (`User`) for what it
    /// must not return.
    pub async fn next(
        &self,
        flow: &Flow,
        latest: Option<&SnapshotVersion>,
        settled: HashSet<DatasetName>,
    ) -> Result<Evaluated> {
        let Some(function) = flow.query.snapshot_function() else {
            return Err(Error::internal(format!("flow `{}` has no function of snapshots", flow.name.name)));
        };
        let _turn = self.turn.lock().await;
        self.host.begin_evaluation(Arc::clone(&self.definitions), settled);
        let answer = self.process.call(json!({ "snapshot": function.flow, "latest_version": latest })).await;
        let asked = self.host.asked(&function.flow);
        let defined = self.host.end_evaluation();
        let answer =
            answer.map_err(|error| error.context(format!("while flow `{}` asked for a snapshot", flow.name.name)))?;
        if let Some(dataset) = answer.waits_for {
            return Ok(Evaluated::WaitsFor(self.environment.named(&dataset, &self.definitions)?));
        }
        if let Some(problem) = answer.problem.filter(|_| !answer.ok) {
            return Err(problem_error(problem));
        }
        let (true, Some(place)) = (answer.ok, answer.function) else {
            return Err(process_error(format!("the function of flow `{}` was not called", flow.name.name)));
        };
        let next = defined.and_then(|mut defined| defined.query.snapshot_function_mut()?.answer.take()?.next);
        match (&next, latest) {
            (None, None) => return Err(first_is_missing(&place, flow)),
            (Some(next), Some(latest)) => check_order(latest, &next.version, &place, flow)?,
            _ => {}
        }
        let mut flow = flow.clone();
        flow.asked.extend(asked.into_iter().filter(|dataset| !flow.asked.contains(dataset)).collect::<Vec<_>>());
        if let Some(function) = flow.query.snapshot_function_mut() {
            function.answer = Some(SnapshotAnswer { after: latest.cloned(), next });
            function.waits_for = None;
        }
        Ok(Evaluated::Query(Box::new(flow)))
    }
}

fn first_is_missing(place: &FunctionPlace, flow: &Flow) -> Error {
    problem(
        "FIRST_SNAPSHOT_EMPTY",
        format!("function `{}` of flow `{}` has no first snapshot", place.name, flow.name.name),
        place,
    )
    .with_help("Called with None it must return the first snapshot; None says that there is no other after one.")
}

/// Snapshots come in the order of their versions.
fn check_order(latest: &SnapshotVersion, next: &SnapshotVersion, place: &FunctionPlace, flow: &Flow) -> Result<()> {
    let (name, flow) = (&place.name, &flow.name.name);
    match next.compare(latest)? {
        Some(Ordering::Greater) => Ok(()),
        Some(_) => Err(problem(
            "OUT_OF_ORDER_SNAPSHOT_VERSION",
            format!("function `{name}` of flow `{flow}` returned version {next} after version {latest}"),
            place,
        )
        .with_help("Called with a version it must return a snapshot of a greater one, or None.")),
        None => Err(problem(
            "INVALID_SNAPSHOT_VERSION_TYPE",
            format!(
                "function `{name}` of flow `{flow}` returned version {next} of type {} after version {latest} of type {}",
                type_name(&next.version_type.data_type()),
                type_name(&latest.version_type.data_type()),
            ),
            place,
        )
        .with_help("All versions have one type; for another one, run a full refresh of the table.")),
    }
}

fn problem(condition: &str, message: String, place: &FunctionPlace) -> Error {
    Error::user(message)
        .with_condition(format!("APPLY_CHANGES_FROM_SNAPSHOT_ERROR.{condition}"))
        .at(SourceLocation::new(&place.file, place.line, 0))
}
