//! Which datasets an update refreshes, and which it clears first.

use deltaworks_spark::{Error, Result};
use indexmap::IndexMap;

use crate::definitions::{Output, OutputKind};
use crate::graph::Graph;
use crate::name::{DatasetName, Namespace};

/// The table property that protects a streaming table from full refreshes.
const RESET_ALLOWED: &str = "pipelines.reset.allowed";

/// What an update was asked to do. Empty selections mean everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateRequest {
    /// Only these datasets are refreshed.
    pub refresh: Vec<String>,
    /// Only these are refreshed, and cleared first.
    pub full_refresh: Vec<String>,
    /// Every dataset is cleared and recomputed.
    pub full_refresh_all: bool,
    /// Definitions are analysed; nothing is read or written.
    pub validate_only: bool,
    /// Who asks for it, for the event log.
    pub user_name: Option<String>,
}

/// What happens to one dataset in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Not selected: left as it is.
    Excluded,
    /// New input is processed.
    Incremental,
    /// Cleared, then recomputed from the beginning of its sources.
    Full,
}

/// Decides for every stored dataset of the graph, and every sink.
///
/// # Errors
/// `INVALID_REFRESH_SELECTION` if a selected name is not a stored dataset of the pipeline;
/// `CONFLICTING_PIPELINE_REFRESH_OPTIONS` if everything and a selection are asked for.
pub fn select(graph: &Graph, request: &UpdateRequest, namespace: &Namespace) -> Result<IndexMap<DatasetName, Refresh>> {
    if request.full_refresh_all && !(request.refresh.is_empty() && request.full_refresh.is_empty()) {
        return Err(Error::user("a full refresh of everything cannot be combined with a selection")
            .with_condition("CONFLICTING_PIPELINE_REFRESH_OPTIONS")
            .with_help("Use either --full-refresh-all, or --refresh and --full-refresh."));
    }
    let refresh = named(graph, &request.refresh, namespace)?;
    let full = named(graph, &request.full_refresh, namespace)?;
    let everything = refresh.is_empty() && full.is_empty();
    let mut selection = IndexMap::new();
    for (name, output, kind) in graph.declared().filter(|(.., kind)| is_written(*kind)) {
        let wanted = if request.full_refresh_all || full.contains(name) {
            Refresh::Full
        } else if everything || refresh.contains(name) {
            Refresh::Incremental
        } else {
            Refresh::Excluded
        };
        // What a `@dlt.table` is may not be known yet; then it is better not to clear it.
        let protected = matches!(kind, OutputKind::StreamingTable | OutputKind::Table) && is_protected(output);
        let decided = match wanted {
            Refresh::Full if protected && full.contains(name) => {
                return Err(Error::user(format!("`{}` is protected from full refreshes", name.name))
                    .with_condition("INVALID_REFRESH_SELECTION.RESET_NOT_ALLOWED")
                    .with_help(format!("Leave it out of the selection, or set `{RESET_ALLOWED}` to true.")));
            }
            Refresh::Full if protected => Refresh::Incremental,
            wanted => wanted,
        };
        selection.insert(name.clone(), decided);
    }
    Ok(selection)
}

/// Refuses to select datasets of a pipeline that runs until it is stopped. Clearing all of them at its start is no selection.
///
/// # Errors
/// `INVALID_REFRESH_SELECTION.CONTINUOUS_PIPELINE_NOT_SUPPORTED` (`User`)
pub fn check_continuous(request: &UpdateRequest) -> Result<()> {
    if request.refresh.is_empty() && request.full_refresh.is_empty() {
        return Ok(());
    }
    Err(Error::user("a continuous pipeline refreshes all of its datasets, not a selection")
        .with_condition("INVALID_REFRESH_SELECTION.CONTINUOUS_PIPELINE_NOT_SUPPORTED")
        .with_help("Leave the selection out, or run a triggered update: `--set continuous=false`."))
}

/// Whether the definition keeps full refreshes away from a streaming table.
pub fn is_protected(output: &Output) -> bool {
    let mut properties = output.properties.iter();
    properties.any(|(key, value)| key.eq_ignore_ascii_case(RESET_ALLOWED) && value.eq_ignore_ascii_case("false"))
}

/// Whether flows write it.
fn is_written(kind: OutputKind) -> bool {
    !kind.is_view()
}

fn named(graph: &Graph, names: &[String], namespace: &Namespace) -> Result<Vec<DatasetName>> {
    names.iter().map(|name| find(graph, name, namespace)).collect()
}

fn find(graph: &Graph, written: &str, namespace: &Namespace) -> Result<DatasetName> {
    let parts = deltaworks_spark::sql::parse_name(written)?;
    let name = DatasetName::resolve(&parts, namespace)?;
    match graph.declared().find(|(declared, ..)| **declared == name) {
        Some((name, _, kind)) if is_written(kind) => Ok(name.clone()),
        Some((.., kind)) => {
            Err(Error::user(format!("{} `{written}` is not stored and cannot be refreshed", kind.noun()))
                .with_condition("INVALID_REFRESH_SELECTION.FLOW_WRITES_TO_VIEW_NOT_SUPPORTED")
                .with_help("Select the tables that read it."))
        }
        None => {
            let error = Error::user(format!("the pipeline has no dataset `{written}`"))
                .with_condition("INVALID_REFRESH_SELECTION.FLOW_NOT_FOUND");
            let names = graph.declared().map(|(name, ..)| name.name.as_str());
            Err(match crate::graph::nearest(written, names) {
                Some(near) => error.with_help(format!("Did you mean `{near}`?")),
                None => error,
            })
        }
    }
}
