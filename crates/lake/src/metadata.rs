//! The log actions that say what a table is: `metaData` and `protocol`.
//!
//! Both are built through their JSON form, which is what the Delta protocol specifies and what the
//! types of delta-rs can be made from.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Schema};
use deltalake::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::{Metadata, Protocol, StructType};
use deltaworks_spark::error::{Error, Result};
use serde_json::{Value, json};

use crate::definition::{CONSTRAINT_PREFIX, GENERATION_KEY};
use crate::variant::{any_variant, with_variants};

/// The change of a table's metadata in one commit; `None` keeps what is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetadataChange {
    pub schema: Option<arrow::datatypes::SchemaRef>,
    pub partition_columns: Option<Vec<String>>,
    pub properties: Option<BTreeMap<String, String>>,
    pub comment: Option<Option<String>>,
}

impl MetadataChange {
    pub(crate) fn is_empty(&self) -> bool {
        self.schema.is_none() && self.partition_columns.is_none() && self.properties.is_none() && self.comment.is_none()
    }

    /// The metadata after the change.
    pub(crate) fn apply(&self, current: &Metadata) -> Result<Metadata> {
        let mut value = serde_json::to_value(current).map_err(invalid)?;
        if let Some(schema) = &self.schema {
            let schema = serde_json::to_string(&to_kernel(schema)?).map_err(invalid)?;
            value["schemaString"] = Value::String(schema);
        }
        if let Some(columns) = &self.partition_columns {
            value["partitionColumns"] = json!(columns);
        }
        if let Some(properties) = &self.properties {
            value["configuration"] = json!(properties);
        }
        if let Some(comment) = &self.comment {
            value["description"] = json!(comment);
        }
        serde_json::from_value(value).map_err(invalid)
    }
}

/// The schema as Delta stores it.
pub(crate) fn to_kernel(schema: &Schema) -> Result<StructType> {
    let columns: Result<StructType, _> = schema.try_into_kernel();
    columns
        .map_err(DeltaTableError::from)
        .and_then(|columns| with_variants(columns, schema))
        .map_err(|error| Error::unsupported(format!("a table with the schema `{schema}`")).context(error.to_string()))
}

/// The protocol of a new table.
pub(crate) fn initial_protocol(schema: &Schema, properties: &BTreeMap<String, String>) -> Result<Protocol> {
    let base: Protocol =
        serde_json::from_value(json!({"minReaderVersion": 1, "minWriterVersion": 2})).map_err(invalid)?;
    Ok(upgraded_protocol(&base, schema, properties)?.unwrap_or(base))
}

/// The protocol a table needs for `schema` and `properties`, if `current` is not enough.
pub(crate) fn upgraded_protocol(
    current: &Protocol,
    schema: &Schema,
    properties: &BTreeMap<String, String>,
) -> Result<Option<Protocol>> {
    let needed = needed_features(schema, properties);
    let mut value = serde_json::to_value(current).map_err(invalid)?;
    let has = |key: &str| -> BTreeSet<String> {
        value[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (mut readers, mut writers) = (has("readerFeatures"), has("writerFeatures"));
    let writer_version = value["minWriterVersion"].as_u64().unwrap_or(2);
    if writer_version < 7 {
        writers = legacy_writer_features(writer_version);
    }
    let missing: Vec<_> = needed.iter().filter(|feature| !writers.contains(**feature)).copied().collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let legacy = missing.iter().filter_map(|feature| legacy_version(feature)).max();
    if writer_version < 7 && missing.iter().all(|feature| legacy_version(feature).is_some()) {
        value["minWriterVersion"] = json!(legacy);
    } else {
        writers.extend(missing.iter().map(|feature| (*feature).to_owned()));
        value["minWriterVersion"] = json!(7);
        value["writerFeatures"] = json!(writers);
        let of_readers: Vec<_> = READER_FEATURES.into_iter().filter(|feature| missing.contains(feature)).collect();
        if !of_readers.is_empty() {
            if value["minReaderVersion"].as_u64() == Some(2) {
                readers.insert("columnMapping".to_owned());
            }
            readers.extend(of_readers.into_iter().map(str::to_owned));
            value["minReaderVersion"] = json!(3);
            value["readerFeatures"] = json!(readers);
        }
    }
    serde_json::from_value(value).map(Some).map_err(invalid)
}

/// The features that readers, too, must know of.
const READER_FEATURES: [&str; 2] = ["timestampNtz", "variantType"];

fn needed_features(schema: &Schema, properties: &BTreeMap<String, String>) -> BTreeSet<&'static str> {
    let mut needed = BTreeSet::new();
    if schema.fields().iter().any(|field| has_timestamp_ntz(field.data_type())) {
        needed.insert("timestampNtz");
    }
    if any_variant(schema) {
        needed.insert("variantType");
    }
    if schema.fields().iter().any(|field| field.metadata().contains_key(GENERATION_KEY)) {
        needed.insert("generatedColumns");
    }
    if properties.keys().any(|key| key.starts_with(CONSTRAINT_PREFIX)) {
        needed.insert("checkConstraints");
    }
    if properties.get("delta.enableChangeDataFeed").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        needed.insert("changeDataFeed");
    }
    if properties.get("delta.appendOnly").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        needed.insert("appendOnly");
    }
    needed
}

/// The writer version that brought a feature, before features were named.
fn legacy_version(feature: &str) -> Option<u64> {
    match feature {
        "appendOnly" | "invariants" => Some(2),
        "checkConstraints" => Some(3),
        "changeDataFeed" | "generatedColumns" => Some(4),
        _ => None,
    }
}

fn legacy_writer_features(version: u64) -> BTreeSet<String> {
    let by_version = [
        (2, &["appendOnly", "invariants"][..]),
        (3, &["checkConstraints"][..]),
        (4, &["changeDataFeed", "generatedColumns"][..]),
        (5, &["columnMapping"][..]),
        (6, &["identityColumns"][..]),
    ];
    by_version
        .iter()
        .filter(|(since, _)| *since <= version)
        .flat_map(|(_, features)| features.iter().map(|feature| (*feature).to_owned()))
        .collect()
}

fn has_timestamp_ntz(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_timestamp_ntz(field.data_type())),
        DataType::List(field) | DataType::Map(field, _) => has_timestamp_ntz(field.data_type()),
        _ => false,
    }
}

fn invalid(error: serde_json::Error) -> Error {
    Error::internal(format!("table metadata is not valid: {error}")).with_source(error)
}
