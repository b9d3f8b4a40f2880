//! Pipeline commands of the Spark Connect protocol, to outputs and flows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use deltaworks_spark::connect::extension::{self, Action};
use deltaworks_spark::connect::{proto, types};
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::{Error, Result, sql};
use proto::pipeline_command::define_flow::Details as FlowDetails;
use proto::pipeline_command::define_output::Details as OutputDetails;
use proto::pipeline_command::define_output::table_details::Schema as DeclaredSchema;
use proto::pipeline_command::{DefineFlow, DefineOutput};

use crate::definitions::{
    AutoCdc, Condition, Expectation, ExpectationAction, Flow, FlowQuery, Language, Output, OutputKind, SinkDefinition,
    check_format,
};
use crate::name::{DatasetName, Namespace};

/// The format of sinks that a function writes.
const FOREACH_BATCH: &str = "foreach_batch";

/// The output that a command declares.
///
/// # Errors
/// `User` for names and schemas that are not valid; `Unsupported` for output types we do not know.
pub fn output(command: &DefineOutput, namespace: &Namespace) -> Result<Output> {
    let location = location(command.source_code_location.as_ref());
    let name = resolve(command.output_name.as_deref(), namespace)?;
    let additions = extension::output_extension(command)?;
    if additions.row_filter.is_some() {
        // Left out, it would show rows that must not be seen.
        return Err(Error::unsupported("`row_filter`").at(location));
    }
    let kind = match command.output_type() {
        _ if additions.kind_by_query => OutputKind::Table,
        proto::OutputType::Table => OutputKind::StreamingTable,
        proto::OutputType::MaterializedView => OutputKind::MaterializedView,
        proto::OutputType::TemporaryView => OutputKind::TemporaryView,
        proto::OutputType::Sink => OutputKind::Sink,
        proto::OutputType::Unspecified => return Err(Error::internal("an output has no type").at(location)),
    };
    let mut output = Output::new(name, kind, Language::Python, location.clone());
    output.comment = command.comment.clone();
    output.private = additions.private;
    output.path = additions.path;
    match &command.details {
        Some(OutputDetails::TableDetails(table)) => {
            if let Some(format) = &table.format {
                check_format(format, "format").map_err(|error| error.at(location.clone()))?;
            }
            output.properties = table.table_properties.clone().into_iter().collect();
            output.partition_columns = table.partition_cols.clone();
            output.clustering_columns = table.clustering_columns.clone();
            output.schema = match &table.schema {
                Some(DeclaredSchema::SchemaString(text)) => {
                    Some(deltaworks_spark::types::parse_schema(text).map(Arc::new)?)
                }
                Some(DeclaredSchema::SchemaDataType(data_type)) => {
                    Some(types::to_arrow_schema(data_type).map(Arc::new)?)
                }
                None => None,
            };
        }
        Some(OutputDetails::SinkDetails(sink)) => {
            output.sink = Some(SinkDefinition {
                format: sink.format.clone().unwrap_or_default(),
                options: sink.options.clone().into_iter().collect(),
                function: None,
            });
        }
        _ => {}
    }
    if additions.foreach_batch {
        output.sink = Some(SinkDefinition {
            format: FOREACH_BATCH.to_owned(),
            options: BTreeMap::new(),
            function: command.output_name.clone(),
        });
    }
    output.expectations =
        additions.expectations.into_iter().map(|declared| expectation(declared, &location)).collect::<Result<_>>()?;
    Ok(output)
}

fn expectation(declared: extension::Expectation, location: &SourceLocation) -> Result<Expectation> {
    let condition = match &declared.condition {
        extension::Condition::Sql(text) => Condition::Sql(text.clone()),
        column @ extension::Condition::Expression(_) => Condition::Column(Box::new(column.to_expression()?)),
    };
    let action = match declared.action {
        Action::Warn => ExpectationAction::Allow,
        Action::Drop => ExpectationAction::Drop,
        Action::Fail => ExpectationAction::Fail,
    };
    let place = declared.place.as_deref().and_then(|place| place.rsplit_once(':'));
    let place = place.and_then(|(file, line)| Some(SourceLocation::new(file, line.parse().ok()?, 0)));
    Ok(Expectation { name: declared.name, condition, action, location: place.unwrap_or_else(|| location.clone()) })
}

/// The flow that a command declares.
///
/// # Errors
/// `User` for names that are not valid.
pub fn flow(command: &DefineFlow, namespace: &Namespace) -> Result<Flow> {
    let location = location(command.source_code_location.as_ref());
    let target = resolve(command.target_dataset_name.as_deref(), namespace)?;
    let name = match &command.flow_name {
        Some(name) => resolve(Some(name), namespace)?,
        None => target.clone(),
    };
    let additions = extension::flow_extension(command)?;
    let query = match (&command.details, additions.waits_for) {
        (_, Some(dataset)) => FlowQuery::Deferred { waits_for: resolve(Some(&dataset), namespace)? },
        _ if let Some(snapshot) = &additions.snapshot_cdc => {
            let relation = match &command.details {
                Some(FlowDetails::RelationFlowDetails(details)) => details.relation.as_ref(),
                _ => None,
            };
            let flow = command.flow_name.as_deref().unwrap_or_default();
            let cdc = AutoCdc::from_snapshot(snapshot, flow, relation).map_err(|error| error.at(location.clone()))?;
            FlowQuery::AutoCdc(Box::new(cdc))
        }
        (Some(FlowDetails::AutoCdcFlowDetails(details)), _) => {
            let cdc = AutoCdc::from_command(details, additions.auto_cdc.as_ref(), &location)
                .map_err(|error| error.at(location.clone()))?;
            FlowQuery::AutoCdc(Box::new(cdc))
        }
        (Some(FlowDetails::RelationFlowDetails(details)), _) => match &details.relation {
            Some(relation) => FlowQuery::Relation(Box::new(relation.clone())),
            None => return Err(Error::internal(format!("flow `{}` has no relation", name.name)).at(location)),
        },
        _ => return Err(Error::unsupported(format!("the kind of flow `{}`", name.name)).at(location)),
    };
    if let Some(mode @ ("update" | "replace")) = additions.mode.as_deref() {
        return Err(Error::unsupported(format!("`{mode}_flow`")).at(location));
    }
    Ok(Flow {
        name,
        target,
        query,
        once: command.once.unwrap_or(false),
        comment: additions.comment,
        conf: command.sql_conf.clone().into_iter().collect(),
        namespace: namespace.clone(),
        asked: Vec::new(),
        language: Language::Python,
        location,
    })
}

fn resolve(name: Option<&str>, namespace: &Namespace) -> Result<DatasetName> {
    let name = name.ok_or_else(|| Error::internal("a definition has no name"))?;
    DatasetName::resolve(&sql::parse_name(name)?, namespace)
}

/// The user's file and line, as the client recorded them.
pub fn location(location: Option<&proto::SourceCodeLocation>) -> SourceLocation {
    let file = location.and_then(|location| location.file_name.clone()).unwrap_or_else(|| "<python>".to_owned());
    let line = location.and_then(|location| location.line_number).and_then(|line| u32::try_from(line).ok());
    SourceLocation::new(PathBuf::from(file), line.unwrap_or(0), 0)
}
