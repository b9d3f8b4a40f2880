//! The rows of `DESCRIBE HISTORY`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};

use crate::catalog::TableCommit;
use crate::error::Result;

/// One row per commit, in Delta Lake's columns but for those of Databricks' jobs, notebooks and clusters.
pub(super) fn rows(commits: &[TableCommit]) -> Result<RecordBatch> {
    let texts = |of: fn(&TableCommit) -> Option<&str>| -> ArrayRef {
        Arc::new(commits.iter().map(of).collect::<StringArray>())
    };
    let numbers =
        |of: fn(&TableCommit) -> Option<i64>| -> ArrayRef { Arc::new(commits.iter().map(of).collect::<Int64Array>()) };
    let times: TimestampMicrosecondArray = commits.iter().map(|commit| commit.timestamp_us).collect();
    let appends: BooleanArray = commits.iter().map(|commit| commit.is_blind_append).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("version", numbers(|commit| Some(commit.version))),
        ("timestamp", Arc::new(times.with_timezone("UTC"))),
        ("userName", texts(|commit| commit.user_name.as_deref())),
        ("operation", texts(|commit| commit.operation.as_deref())),
        ("operationParameters", maps(commits.iter().map(|commit| &commit.parameters))?),
        ("readVersion", numbers(|commit| commit.read_version)),
        ("isolationLevel", texts(|commit| commit.isolation_level.as_deref())),
        ("isBlindAppend", Arc::new(appends)),
        ("operationMetrics", maps(commits.iter().map(|commit| &commit.metrics))?),
        ("userMetadata", texts(|commit| commit.user_metadata.as_deref())),
        ("engineInfo", texts(|commit| commit.engine_info.as_deref())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn maps<'a>(all: impl Iterator<Item = &'a BTreeMap<String, String>>) -> Result<ArrayRef> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for map in all {
        for (key, value) in map {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}
