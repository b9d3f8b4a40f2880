//! What happened, for people. The wording follows Databricks and Spark where theirs is known: tools look for it.

use super::details::Details;
use super::origin::Origin;
use super::states::FlowStatus;

/// How many characters of an update's id its messages show.
const SHOWN_ID_CHARACTERS: usize = 6;

/// The message of an event with these details.
pub(crate) fn message(details: &Details, origin: &Origin) -> String {
    let flow = || origin.flow_name.as_deref().unwrap_or("unknown");
    let dataset = || origin.dataset_name.as_deref().unwrap_or("unknown");
    match details {
        Details::CreateUpdate(update) => format!("Update {} started by {}.", short_update_id(origin), update.cause),
        Details::UserAction(action) => match &action.user_name {
            Some(user) => format!("User {user} performed {}.", action.action),
            None => format!("Action {} was performed.", action.action),
        },
        Details::UpdateProgress(progress) => format!("Update {} is {}.", short_update_id(origin), progress.state),
        Details::RuntimeDetails(runtime) => format!("Running with Deltaworks {}.", runtime.dbr_version),
        Details::GraphCreated(graph) => format!(
            "Dataflow graph created with {} and {}.",
            count(graph.num_datasets, "dataset"),
            count(graph.num_flows, "flow")
        ),
        Details::DatasetDefinition(definition) => {
            format!("Dataset '{}' defined as {}.", dataset(), definition.dataset_type)
        }
        Details::SinkDefinition(sink) => {
            format!("Sink '{}' defined as {}.", origin.sink_name.as_deref().unwrap_or("unknown"), sink.format)
        }
        Details::FlowDefinition(definition) => format!("Flow '{}' defined as {}.", flow(), definition.flow_type),
        Details::FlowProgress(progress) => flow_message(flow(), progress.status),
        Details::PlanningInformation(planning) => match planning.chosen() {
            Some(technique) => {
                format!("Flow '{}' has been planned in DLT to be executed as {}.", flow(), technique.short())
            }
            None => format!("Flow '{}' has been planned in DLT.", flow()),
        },
        Details::OperationProgress(operation) => match &operation.auto_loader_details {
            Some(listing) => {
                format!("{} of '{}' is {}.", operation.operation_type, listing.source_path, operation.status)
            }
            None => format!("{} is {}.", operation.operation_type, operation.status),
        },
        Details::StreamProgress(_) => format!("Flow '{}' has made progress.", flow()),
        Details::HookProgress(hook) => format!("Event hook '{}' is {}.", hook.name, hook.status),
        Details::Deprecation(deprecation) => format!("Deprecated: {}.", deprecation.message),
        Details::Warning(warning) => warning.message.clone(),
        Details::Other(_) => format!("Event of type {}.", details.event_type()),
    }
}

fn flow_message(flow: &str, status: FlowStatus) -> String {
    match status {
        FlowStatus::Queued
        | FlowStatus::Planning
        | FlowStatus::Starting
        | FlowStatus::Running
        | FlowStatus::Idle
        | FlowStatus::Excluded => format!("Flow '{flow}' is {status}."),
        FlowStatus::Completed | FlowStatus::Failed => format!("Flow '{flow}' has {status}."),
        FlowStatus::Skipped => format!("Flow '{flow}' SKIPPED due to upstream failure(s)."),
        FlowStatus::Stopped => format!("Flow '{flow}' has been STOPPED."),
    }
}

fn short_update_id(origin: &Origin) -> String {
    origin.update_id.as_deref().unwrap_or("unknown").chars().take(SHOWN_ID_CHARACTERS).collect()
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
