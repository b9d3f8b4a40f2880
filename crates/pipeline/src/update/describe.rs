//! Tells the event log what the graph is, before anything runs.

use std::collections::HashSet;

use deltaworks_incremental::{OutputMode, output_mode};

use crate::definitions::{Condition, ExpectationAction, Language, OutputKind};
use crate::event::{
    DatasetDefinition, DatasetType, Details, EventEmitter, ExpectationDefinition, FlowDefinition, FlowType,
    GraphCreated, Language as EventLanguage, Redactor, SinkDefinition,
};
use crate::graph::{Graph, ResolvedFlow, ResolvedOutput};
use crate::name::{DatasetName, Namespace};

/// Emits the graph, its datasets and its flows, but for the datasets in `described`.
pub fn describe(graph: &Graph, namespace: &Namespace, emitter: &EventEmitter, described: &mut HashSet<DatasetName>) {
    if described.is_empty() {
        let sinks = graph.outputs.values().filter(|output| output.output.sink.is_some()).count();
        let pending: usize = graph.pending.values().map(|pending| pending.flows.len()).sum();
        emitter.emit(Details::GraphCreated(GraphCreated {
            num_datasets: (graph.outputs.len() - sinks + graph.pending.len()) as u64,
            num_flows: (graph.flows.len() + pending) as u64,
            num_sinks: sinks as u64,
        }));
    }
    for (name, output) in graph.outputs.iter().filter(|(name, _)| !described.contains(*name)) {
        let name = name.display_in(namespace);
        match &output.output.sink {
            Some(sink) => emitter.for_sink(&name).emit(Details::SinkDefinition(SinkDefinition {
                format: sink.format.clone(),
                options: Redactor::default()
                    .redact_options(sink.options.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            })),
            None => emitter.for_dataset(&name).emit(Details::DatasetDefinition(dataset(output))),
        }
    }
    for (name, flow) in graph.flows.iter().filter(|(_, flow)| !described.contains(&flow.flow.target)) {
        let target = flow.flow.target.display_in(namespace);
        let flow_name = name.display_in(namespace);
        let details = Details::FlowDefinition(flow_definition(graph, flow, namespace));
        emitter.for_flow(&flow_name, &flow_name, &target).emit(details);
    }
    described.extend(graph.outputs.keys().cloned());
}

fn dataset(output: &ResolvedOutput) -> DatasetDefinition {
    DatasetDefinition {
        dataset_type: match output.kind {
            OutputKind::MaterializedView => DatasetType::MaterializedView,
            kind if kind.is_view() => DatasetType::View,
            _ => DatasetType::StreamingTable,
        },
        num_flows: output.flows.len() as u64,
        expectations: output.output.expectations.iter().map(expectation).collect(),
        comment: output.output.comment.clone(),
    }
}

fn expectation(expectation: &crate::definitions::Expectation) -> ExpectationDefinition {
    ExpectationDefinition {
        name: expectation.name.clone(),
        expression: match &expectation.condition {
            Condition::Sql(text) => text.clone(),
            Condition::Column(_) => "<Column>".to_owned(),
        },
        action: match expectation.action {
            ExpectationAction::Allow => "WARN",
            ExpectationAction::Drop => "DROP",
            ExpectationAction::Fail => "FAIL",
        }
        .to_owned(),
    }
}

fn flow_definition(graph: &Graph, flow: &ResolvedFlow, namespace: &Namespace) -> FlowDefinition {
    let output = graph.outputs.get(&flow.flow.target);
    let kind = output.map(|output| output.kind);
    let (is_sink, target) = (kind == Some(OutputKind::Sink), flow.flow.target.display_in(namespace));
    let schema = match (&flow.changes, output) {
        // The rows of the plan are events, not those of the table.
        (Some(_), Some(output)) => output.schema.as_ref(),
        _ => flow.plan.schema().as_arrow(),
    };
    FlowDefinition {
        output_dataset: (!is_sink).then(|| target.clone()),
        output_sink: is_sink.then_some(target),
        input_datasets: flow.references.iter().map(|name| name.display_in(namespace)).collect(),
        flow_type: match kind {
            Some(OutputKind::MaterializedView) => FlowType::MaterializedView,
            Some(kind) if kind.is_view() => FlowType::View,
            _ => match &flow.changes {
                Some(changes) if changes.snapshot => FlowType::SnapshotChange,
                Some(_) => FlowType::Change,
                None if output_mode(&flow.plan) == OutputMode::Complete => FlowType::Complete,
                None => FlowType::Append,
            },
        },
        schema_json: Some(deltaworks_spark::types::schema_to_json(schema)),
        explain_text: Some(flow.plan.display_indent().to_string()),
        comment: flow.flow.comment.clone(),
        spark_conf: flow.flow.conf.clone(),
        language: Some(match flow.flow.language {
            Language::Sql => EventLanguage::Sql,
            Language::Python => EventLanguage::Python,
        }),
        once: flow.flow.once,
    }
}
