//! What the Python package adds to the pipeline commands of the protocol.
//!
//! Spark's `DefineOutput` and `DefineFlow` have no place for expectations, private tables, one-time
//! backfills and the like. They travel as a `google.protobuf.Struct` in an `Any`: in the
//! `source_code_location.extension` list of the command, which is the protocol's own field for
//! additions and stays out of the way of `details`. The JSON shapes are those of [`OutputExtension`]
//! and [`FlowExtension`]; the Python side is `deltaworks/registry.py`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::proto;
use crate::error::{Error, Result};

/// Additions to `DefineOutput`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputExtension {
    /// Constraints on the rows.
    pub expectations: Vec<Expectation>,
    /// Not published (`temporary=True`, `private=True`).
    pub private: bool,
    /// Where the table is stored, if not where the pipeline puts its tables.
    pub path: Option<String>,
    /// The engine chooses the clustering keys.
    pub cluster_by_auto: bool,
    /// `ROW FILTER f ON (columns)`.
    pub row_filter: Option<String>,
    /// How a materialized view is refreshed: `auto`, `incremental`, `incremental_strict`, `full`.
    pub refresh_policy: Option<String>,
    /// The decorator left it to the query whether this is a streaming table or a materialized view.
    pub kind_by_query: bool,
    /// A sink that a Python function writes (`foreach_batch_sink`).
    pub foreach_batch: bool,
}

/// Additions to `DefineFlow`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowExtension {
    /// What the flow is for.
    pub comment: Option<String>,
    /// `append`, `update` (`update_flow`) or `replace` (`replace_flow`).
    pub mode: Option<String>,
    /// The columns whose values are replaced, for `replace`.
    pub replace_using: Vec<String>,
    /// The checkpoint of another engine to start from.
    pub import_checkpoint: Option<String>,
    /// The function asked for rows of this dataset: evaluate it again once the dataset is there.
    pub waits_for: Option<String>,
    /// What `apply_changes` has beyond the protocol's `AutoCdcFlowDetails`.
    pub auto_cdc: Option<AutoCdcExtension>,
    /// `apply_changes_from_snapshot`.
    pub snapshot_cdc: Option<SnapshotCdc>,
}

/// Additions to `AutoCdcFlowDetails`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoCdcExtension {
    /// A predicate every source row satisfies.
    pub condition: Option<Condition>,
    /// NULL in a column of an update keeps the old value.
    pub ignore_null_updates: bool,
    /// The column that lists which columns an event sets.
    pub columns_to_update: Option<Condition>,
    /// The system time of bitemporal history.
    pub system_sequence_by: Option<Condition>,
    /// SCD type as written, if it is not 1: older clients know no other.
    pub stored_as_scd_type: Option<String>,
    /// The columns whose change opens a new version.
    pub track_history_column_list: Vec<Condition>,
    /// All but these columns open a new version.
    pub track_history_except_column_list: Vec<Condition>,
}

/// `apply_changes_from_snapshot` / `create_auto_cdc_from_snapshot_flow`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotCdc {
    /// The dataset that is the latest snapshot; `None` if a function gives the snapshots.
    pub source: Option<String>,
    /// The columns that identify a row.
    pub keys: Vec<String>,
    /// `1` or `2`.
    pub stored_as_scd_type: String,
    /// The columns whose change opens a new version.
    pub track_history_column_list: Option<Vec<String>>,
    /// All but these columns open a new version.
    pub track_history_except_column_list: Option<Vec<String>>,
    /// The version of the snapshot that is the flow's relation, if a function has given one.
    pub version: Option<serde_json::Value>,
}

/// A named constraint and what happens to rows that violate it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Its name, unique within the dataset.
    pub name: String,
    /// What must hold.
    pub condition: Condition,
    /// What happens otherwise.
    pub action: Action,
    /// Where it is declared, as `file:line`.
    #[serde(default)]
    pub place: Option<String>,
}

/// What happens to a row that violates an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is kept and counted.
    Warn,
    /// It is left out and counted.
    Drop,
    /// The update fails.
    Fail,
}

/// A condition: SQL text, or a serialised `spark.connect.Expression` of a `Column`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// SQL text.
    Sql(String),
    /// Base64 of the encoded expression.
    Expression(String),
}

impl Condition {
    /// The condition as an expression of the protocol.
    ///
    /// # Errors
    /// `Internal` if the bytes are no such expression.
    pub fn to_expression(&self) -> Result<proto::Expression> {
        match self {
            Self::Sql(text) => Ok(proto::Expression {
                common: None,
                expr_type: Some(proto::expression::ExprType::ExpressionString(proto::expression::ExpressionString {
                    expression: text.clone(),
                })),
            }),
            Self::Expression(encoded) => {
                let bytes = BASE64_STANDARD
                    .decode(encoded)
                    .map_err(|error| Error::internal("an expression is not base64").with_source(error))?;
                proto::Expression::decode(bytes.as_slice())
                    .map_err(|error| Error::internal("an expression cannot be decoded").with_source(error))
            }
        }
    }
}

/// What a `DefineOutput` carries beyond the protocol; the default if it comes from the stock client.
///
/// # Errors
/// `Internal` if the Struct has not the expected shape.
pub fn output_extension(output: &proto::pipeline_command::DefineOutput) -> Result<OutputExtension> {
    extension(output.source_code_location.as_ref(), "output")
}

/// What a `DefineFlow` carries beyond the protocol; the default if it comes from the stock client.
///
/// # Errors
/// `Internal` if the Struct has not the expected shape.
pub fn flow_extension(flow: &proto::pipeline_command::DefineFlow) -> Result<FlowExtension> {
    extension(flow.source_code_location.as_ref(), "flow")
}

fn extension<T: DeserializeOwned + Default>(location: Option<&proto::SourceCodeLocation>, key: &str) -> Result<T> {
    for any in location.iter().flat_map(|location| &location.extension) {
        if !any.type_url.ends_with("google.protobuf.Struct") {
            continue;
        }
        let decoded = prost_types::Struct::decode(any.value.as_slice())
            .map_err(|error| Error::internal("an extension is not a Struct").with_source(error))?;
        let mut fields = json_object(decoded);
        if let Some(value) = fields.remove(key) {
            return serde_json::from_value(value).map_err(|error| {
                Error::internal(format!("the `{key}` extension is malformed: {error}")).with_source(error)
            });
        }
    }
    Ok(T::default())
}

fn json_object(fields: prost_types::Struct) -> serde_json::Map<String, serde_json::Value> {
    let sorted: BTreeMap<_, _> = fields.fields.into_iter().collect();
    sorted.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(value: prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect::<Vec<_>>().into(),
        Some(Kind::StructValue(value)) => json_object(value).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost_types::{Struct, Value, value::Kind};

    use super::*;

    fn text(value: &str) -> Value {
        Value { kind: Some(Kind::StringValue(value.to_owned())) }
    }

    fn object(fields: Vec<(&str, Value)>) -> Struct {
        Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    fn nested(fields: Vec<(&str, Value)>) -> Value {
        Value { kind: Some(Kind::StructValue(object(fields))) }
    }

    #[test]
    fn expectations_are_read() {
        let expectation = nested(vec![
            ("name", text("valid id")),
            ("condition", nested(vec![("sql", text("id IS NOT NULL"))])),
            ("action", text("drop")),
        ]);
        let list = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![expectation] })) };
        let root = object(vec![("output", nested(vec![("expectations", list)]))]);
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
            value: root.encode_to_vec(),
        };
        let location = proto::SourceCodeLocation { extension: vec![any], ..Default::default() };
        let output =
            proto::pipeline_command::DefineOutput { source_code_location: Some(location), ..Default::default() };
        let extension = output_extension(&output).unwrap();
        assert_eq!(
            extension.expectations,
            [Expectation {
                name: "valid id".to_owned(),
                condition: Condition::Sql("id IS NOT NULL".to_owned()),
                action: Action::Drop,
                place: None
            }]
        );
        assert!(!extension.private);
    }

    #[test]
    fn stock_commands_have_no_extension() {
        assert_eq!(flow_extension(&Default::default()).unwrap(), FlowExtension::default());
    }
}
