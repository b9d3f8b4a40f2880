//! Inferred schemas, kept as numbered files in `<location>/_schemas/`: 0, 1, 2 and so on, the newest counts.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use deltaworks_spark::{Error, Result};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use crate::context::Location;
use crate::errors::storage;
use crate::schema::hints::apply_hints;
use deltaworks_spark::types::{parse_data_type, sql_type_name};

/// The first line of a schema file.
const FORMAT_VERSION: &str = "v1";

/// Data and partition columns of a source, as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredSchema {
    /// As the files say.
    pub(crate) data: Schema,
    pub(crate) partition: Vec<Field>,
    /// As the files and hints say, once the schema has grown under these hints.
    pub(crate) hinted: Option<HintedSchema>,
    /// Nested fields and wider types that this schema lacks go together with none of its types: they are rescued.
    pub(crate) settled: bool,
}

/// Data columns after hints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HintedSchema {
    pub(crate) hints: String,
    pub(crate) data: Schema,
}

impl StoredSchema {
    /// A schema that has not grown yet.
    pub(crate) fn new(data: Schema, partition: Vec<Field>) -> Self {
        Self { data, partition, hinted: None, settled: false }
    }

    /// The data columns under `hints`: as they were stored for the same hints, or with these applied anew.
    pub(crate) fn under(&self, hints: Option<&str>) -> Result<Schema> {
        match (hints, &self.hinted) {
            (None, _) => Ok(self.data.clone()),
            (Some(hints), Some(known)) if known.hints == hints => Ok(known.data.clone()),
            (Some(hints), _) => apply_hints(self.data.clone(), hints),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct FileContent {
    columns: Vec<Column>,
    partition_columns: Vec<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema_hints: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hinted_columns: Vec<Column>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settled: bool,
}

#[derive(Serialize, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
}

/// The folder of one source's schemas.
#[derive(Clone, Debug)]
pub(crate) struct SchemaStore {
    store: Arc<dyn ObjectStore>,
    folder: String,
    shown: String,
}

impl SchemaStore {
    pub(crate) fn new(location: &Location) -> Self {
        let folder = format!("{}/_schemas", location.key);
        Self { store: Arc::clone(&location.store), folder, shown: location.written.clone() }
    }

    /// The newest schema and its number.
    pub(crate) async fn latest(&self) -> Result<Option<(u64, StoredSchema)>> {
        let folder = self.path(None)?;
        let listed: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|error| storage(&self.shown, error))?;
        let newest = listed.iter().filter_map(|meta| meta.location.filename()?.parse::<u64>().ok()).max();
        let Some(number) = newest else { return Ok(None) };
        let path = self.path(Some(number))?;
        let read = async { self.store.get(&path).await?.bytes().await };
        let bytes = read.await.map_err(|error| storage(path.as_ref(), error))?;
        Ok(Some((number, decode(&String::from_utf8_lossy(&bytes), path.as_ref())?)))
    }

    /// Writes schema `number`. If somebody else has just written it, theirs stays.
    pub(crate) async fn put(&self, number: u64, schema: &StoredSchema) -> Result<()> {
        let path = self.path(Some(number))?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, encode(schema)?.into(), options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(storage(path.as_ref(), error)),
        }
    }

    fn path(&self, number: Option<u64>) -> Result<Path> {
        let key = match number {
            Some(number) => format!("{}/{number}", self.folder),
            None => self.folder.clone(),
        };
        Path::parse(key).map_err(|error| Error::user(format!("`{}` is not a path: {error}", self.shown)))
    }
}

fn encode(schema: &StoredSchema) -> Result<String> {
    let column = |field: &Field| Column { name: field.name().clone(), data_type: sql_type_name(field.data_type()) };
    let columns = |schema: &Schema| schema.fields.iter().map(|field| column(field)).collect();
    let content = FileContent {
        columns: columns(&schema.data),
        partition_columns: schema.partition.iter().map(column).collect(),
        schema_hints: schema.hinted.as_ref().map(|hinted| hinted.hints.clone()),
        hinted_columns: schema.hinted.as_ref().map(|hinted| columns(&hinted.data)).unwrap_or_default(),
        settled: schema.settled,
    };
    let json = serde_json::to_string_pretty(&content).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("{FORMAT_VERSION}\n{json}\n"))
}

fn decode(text: &str, path: &str) -> Result<StoredSchema> {
    let broken = |why: String| {
        Error::data(format!("stored schema `{path}` cannot be read: {why}"))
            .with_help("Delete the schema files to infer the schema anew.")
    };
    let (version, json) = text.split_once('\n').unwrap_or((text, ""));
    if version != FORMAT_VERSION {
        return Err(broken(format!("unknown version `{version}`")));
    }
    let content: FileContent = serde_json::from_str(json).map_err(|error| broken(error.to_string()))?;
    let field = |column: &Column| Ok(Field::new(&column.name, parse_data_type(&column.data_type)?, true));
    let fields = |columns: &[Column]| columns.iter().map(field).collect::<Result<Vec<_>>>();
    let hinted = match content.schema_hints {
        Some(hints) => Some(HintedSchema { hints, data: Schema::new(fields(&content.hinted_columns)?) }),
        None => None,
    };
    Ok(StoredSchema {
        data: Schema::new(fields(&content.columns)?),
        partition: fields(&content.partition_columns)?,
        hinted,
        settled: content.settled,
    })
}
