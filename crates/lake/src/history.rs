//! The commits of a table, as its log tells them.

use std::collections::BTreeMap;

use deltalake::kernel::CommitInfo;
use deltaworks_spark::catalog::TableCommit;
use deltaworks_spark::error::Result;
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::error::from_delta;
use crate::table::Table;

impl Table {
    /// The commits up to this version that the log still has, the newest first, at most `limit`.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub async fn history(&self, limit: Option<usize>) -> Result<Vec<TableCommit>> {
        let commits: Vec<CommitInfo> = self.inner().history(limit).try_collect().await.map_err(from_delta)?;
        let versions = (0..=self.version()).rev();
        Ok(commits.into_iter().zip(versions).map(|(commit, version)| entry(commit, version)).collect())
    }
}

fn entry(commit: CommitInfo, version: u64) -> TableCommit {
    let number = |value: u64| i64::try_from(value).ok();
    TableCommit {
        version: number(version).unwrap_or(i64::MAX),
        timestamp_us: commit.timestamp.map(|milliseconds| milliseconds * 1000),
        user_name: commit.user_name,
        operation: commit.operation,
        parameters: commit.operation_parameters.into_iter().flatten().map(|(key, value)| (key, text(value))).collect(),
        read_version: commit.read_version.and_then(number),
        isolation_level: commit.isolation_level.map(|level| level.as_ref().to_owned()),
        is_blind_append: commit.is_blind_append,
        metrics: match commit.info.get("operationMetrics") {
            Some(Value::Object(metrics)) => {
                metrics.iter().map(|(key, value)| (key.clone(), text(value.clone()))).collect()
            }
            _ => BTreeMap::new(),
        },
        user_metadata: commit.user_metadata,
        engine_info: commit.engine_info,
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
