//! What must hold between the declarations of a pipeline, whatever its queries say.

use std::collections::BTreeMap;

use deltaworks_incremental::{OutputMode, output_mode};
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};
use deltaworks_spark::{Error, Result};

use super::sinks;
use super::suggest::nearest;
use super::{Environment, Graph, ResolvedFlow, ResolvedOutput};
use crate::definitions::{Flow, Output, OutputKind};
use crate::name::DatasetName;
use crate::spec::{TRIGGER_INTERVAL, parse_interval};
use crate::storage::directory_url;

/// The condition of outputs that nothing writes.
pub(super) const WITHOUT_FLOW: &str = "PIPELINE_DATASET_WITHOUT_FLOW";

/// What a `@dlt.table` is depends on its query.
pub(super) fn final_kind(output: &Output, flows: &[ResolvedFlow]) -> Result<OutputKind> {
    Ok(match output.kind {
        OutputKind::Table if flows.is_empty() => OutputKind::StreamingTable,
        OutputKind::Table if flows.iter().any(|flow| flow.streaming || flow.flow.once) => OutputKind::StreamingTable,
        OutputKind::Table => OutputKind::MaterializedView,
        kind => kind,
    })
}

pub(super) fn check_flows(output: &Output, kind: OutputKind, flows: &[ResolvedFlow]) -> Result<()> {
    let name = &output.name.name;
    if flows.is_empty() {
        return Err(Error::user(format!("{} `{name}` has no flow that writes it", kind.noun()))
            .with_condition(WITHOUT_FLOW)
            .with_help("Give it a query (AS SELECT …), or a flow (CREATE FLOW … AS INSERT INTO, @dlt.append_flow)."));
    }
    if kind == OutputKind::Sink {
        return sinks::check(output, flows);
    }
    if kind != OutputKind::StreamingTable && flows.len() > 1 {
        return Err(Error::user(format!(
            "{} `{name}` has {} queries; only streaming tables can have several",
            kind.noun(),
            flows.len()
        ))
        .with_condition("PIPELINE_DUPLICATE_IDENTIFIERS.FLOW"));
    }
    for flow in flows {
        match &flow.changes {
            Some(changes) if kind != OutputKind::StreamingTable => {
                return Err(Error::user(format!(
                    "`{}` applies changes to `{name}`, a {}; it needs a streaming table",
                    changes.construct,
                    kind.noun()
                ))
                .with_condition("AUTOCDC_TARGET_DOES_NOT_SUPPORT_MERGE")
                .with_help("Declare the target: CREATE OR REFRESH STREAMING TABLE … or dp.create_streaming_table(…).")
                .at(flow.flow.location.clone()));
            }
            // A snapshot is read in batch, again and again.
            Some(changes) if changes.snapshot => {}
            _ => check_flow_type(name, kind, flow)?,
        }
        check_output_mode(name, flow, flows.len())?;
    }
    Ok(())
}

/// A flow that replaces all rows of its target is alone there.
fn check_output_mode(name: &str, flow: &ResolvedFlow, flows: usize) -> Result<()> {
    if !flow.streaming || output_mode(&flow.plan) == OutputMode::Append {
        return Ok(());
    }
    let why = match (&flow.changes, flows) {
        (None, 1) => return Ok(()),
        (None, _) => {
            format!("streaming table `{name}` has other flows, whose rows an aggregation without a watermark replaces")
        }
        (Some(changes), _) => {
            format!(
                "`{}` cannot apply the result of an aggregation without a watermark, which is replaced by each batch",
                changes.construct
            )
        }
    };
    Err(Error::user(why)
        .with_condition("STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION")
        .with_help(
            "Give the stream a watermark and group by a window over its column; or aggregate in a table of its own.",
        )
        .at(flow.flow.location.clone()))
}

/// The properties that the table of `output` gets, and warnings of those that it does not.
///
/// # Errors
/// Those of [`deltaworks_lake::properties::supported`].
pub(super) fn table_properties(output: &Output) -> Result<(BTreeMap<String, String>, Vec<Diagnostic>)> {
    let supported = deltaworks_lake::properties::supported(&output.properties)?;
    let ignored = supported.ignored.iter().map(|key| {
        Diagnostic::warning(format!(
            "table property `{key}` of `{}` is ignored: tables are written without the feature of Delta it is about",
            output.name.name
        ))
        .with_help("Rows are the same without it. Remove it to be rid of this warning.")
        .at(output.location.clone())
    });
    Ok((supported.kept, ignored.collect()))
}

/// How often flows are triggered must be a time, wherever it is said. Triggered updates have no use for it.
pub(super) fn check_trigger_intervals(
    output: &Output,
    flows: &[ResolvedFlow],
    environment: &Environment,
) -> Result<()> {
    if !environment.continuous {
        return Ok(());
    }
    if let Some(text) = property_of(output, TRIGGER_INTERVAL) {
        parse_interval(text).map_err(|error| error.at(output.location.clone()))?;
    }
    for flow in flows {
        if let Some(text) = flow.conf.get(TRIGGER_INTERVAL) {
            parse_interval(&text).map_err(|error| error.at(flow.flow.location.clone()))?;
        }
    }
    Ok(())
}

/// A property of the table, in whichever case.
pub(crate) fn property_of<'a>(output: &'a Output, name: &str) -> Option<&'a str> {
    let mut properties = output.properties.iter();
    properties.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn check_flow_type(name: &str, kind: OutputKind, flow: &ResolvedFlow) -> Result<()> {
    let problem = match (kind, flow.streaming, flow.flow.once) {
        (OutputKind::StreamingTable, false, false) => Some((
            "INVALID_FLOW_QUERY_TYPE.BATCH_RELATION_FOR_STREAMING_TABLE",
            format!("streaming table `{name}` is written by a batch query"),
            "Read the input as a stream (STREAM t, dlt.read_stream), or declare a materialized view.",
        )),
        (OutputKind::StreamingTable, true, true) => Some((
            "INVALID_FLOW_QUERY_TYPE.STREAMING_RELATION_FOR_ONCE_FLOW",
            format!("flow `{}` runs once, but its query is streaming", flow.flow.name.name),
            "Read the input without STREAM, or leave ONCE out.",
        )),
        (OutputKind::MaterializedView, true, _) => Some((
            "INVALID_FLOW_QUERY_TYPE.STREAMING_RELATION_FOR_MATERIALIZED_VIEW",
            format!("materialized view `{name}` is computed by a streaming query"),
            "Read the input without STREAM, or declare a streaming table.",
        )),
        (OutputKind::PersistedView, true, _) => Some((
            "INVALID_FLOW_QUERY_TYPE.STREAMING_RELATION_FOR_PERSISTED_VIEW",
            format!("view `{name}` has a streaming query"),
            "Read the input without STREAM, or declare a TEMPORARY VIEW.",
        )),
        _ => None,
    };
    match problem {
        None => Ok(()),
        Some((condition, message, help)) => {
            Err(Error::user(message).with_condition(condition).with_help(help).at(flow.flow.location.clone()))
        }
    }
}

pub(super) fn duplicate(
    noun: &str,
    class: &str,
    name: &DatasetName,
    first: &SourceLocation,
    second: &SourceLocation,
) -> Diagnostic {
    Diagnostic::error(format!("{noun} `{}` is defined twice; first at {first}", name.name))
        .with_condition(format!("PIPELINE_DUPLICATE_IDENTIFIERS.{class}"))
        .with_help("Rename one of them; names compare without regard to case.")
        .at(second.clone())
}

pub(super) fn unknown_target<'a>(flow: &Flow, outputs: impl Iterator<Item = &'a DatasetName>) -> Diagnostic {
    let (target, outputs) = (&flow.target, outputs.collect::<Vec<_>>());
    let problem = |target: &str, help: String| {
        Diagnostic::error(format!("flow `{}` writes `{target}`, which the pipeline does not define", flow.name.name))
            .with_condition("FLOW_TARGET_NOT_FOUND")
            .with_help(help)
            .at(flow.location.clone())
    };
    if let Some(elsewhere) = outputs.iter().find(|output| output.name.eq_ignore_ascii_case(&target.name)) {
        let qualified = |name: &DatasetName| match elsewhere.catalog.eq_ignore_ascii_case(&target.catalog) {
            true => format!("{}.{}", name.schema, name.name),
            false => name.to_string(),
        };
        return problem(&qualified(target), format!("Did you mean `{}`?", qualified(elsewhere)));
    }
    let help = match nearest(&target.name, outputs.iter().map(|output| output.name.as_str())) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Create the target: CREATE STREAMING TABLE … or dlt.create_streaming_table(…).".to_owned(),
    };
    problem(&target.name, help)
}

/// Tables and folders of sinks of which one would lie in the folder of another.
pub(super) fn shared_locations(graph: &Graph, environment: &Environment) -> Vec<Diagnostic> {
    let outputs = || graph.outputs.values();
    let tables = outputs().filter_map(|output| Some((output, output.location.clone()?)));
    // A folder that cannot be is told where the sink is resolved.
    let folder = |output: &Output| sinks::written_folder(output, environment).ok().flatten();
    let folders = outputs().filter_map(|output| Some((output, directory_url(&folder(&output.output)?).ok()?)));
    let stored: Vec<_> = tables.chain(folders).collect();
    let mut problems = Vec::new();
    for (index, (second, inner)) in stored.iter().enumerate() {
        for (first, outer) in &stored[..index] {
            if !inner.as_str().starts_with(outer.as_str()) && !outer.as_str().starts_with(inner.as_str()) {
                continue;
            }
            let (one, other) = (&first.output.name.name, &second.output.name.name);
            let message = match inner == outer {
                true => format!("`{other}` and `{one}` are both stored at `{}`", inner.path()),
                false => format!(
                    "`{other}` is stored at `{}`, `{one}` at `{}`: one within the other",
                    inner.path(),
                    outer.path()
                ),
            };
            let has_place = |output: &ResolvedOutput| output.output.path.is_some() || output.output.sink.is_some();
            let place = if has_place(second) { second } else { first };
            problems.push(
                Diagnostic::error(message)
                    .with_condition("LOCATION_ALREADY_EXISTS")
                    .with_help("Give each of them a folder of its own; a table without `path` (LOCATION) has one.")
                    .at(place.output.location.clone()),
            );
        }
    }
    problems
}
