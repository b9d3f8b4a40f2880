//! What the tests of this crate share: temporary tables and their rows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use tempfile::TempDir;
use url::Url;

use crate::{Lake, Table, TableDefinition, Writer, WriterOptions, WrittenFiles, location};

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn url(&self, name: &str) -> Url {
        location::below(&location::from_path(self.0.path()).unwrap(), name).unwrap()
    }
}

pub(crate) fn people_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
}

pub(crate) fn people(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|(id, _)| *id).collect();
    let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
    RecordBatch::try_new(people_schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

pub(crate) async fn people_table(folder: &Folder) -> Table {
    Lake::default().create(&folder.url("people"), &TableDefinition::new(people_schema())).await.unwrap()
}

pub(crate) async fn write(table: &Table, batch: RecordBatch) -> WrittenFiles {
    let mut writer = Writer::new(table, WriterOptions::for_table(table).unwrap()).unwrap();
    writer.write(batch).await.unwrap();
    writer.close().await.unwrap()
}

/// The rows as sorted lines of cells separated by `|`.
pub(crate) async fn rows(provider: Arc<dyn TableProvider>) -> Vec<String> {
    let batches = SessionContext::new().read_table(provider).unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<_> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect();
    lines.sort();
    lines
}
