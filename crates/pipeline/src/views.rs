//! Views in the catalog, those that a pipeline publishes and those that clients create: one JSON file each, the
//! query as it was written and what gives it its meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datafusion::scalar::ScalarValue;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::sql::{Parameters, SqlQuery, calls, parse_query};
use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::definitions::{Definitions, Flow, FlowQuery, Output, OutputKind};
use crate::graph::Environment;
use crate::name::{DatasetName, Namespace};
use crate::storage::Storage;

/// The version of the file's layout.
const VERSION: u32 = 2;
/// The settings that are kept with a published view: those that say what a query means.
const MEANING: &str = "spark.sql.";

/// A stored view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredView {
    version: u32,
    /// The name in the spelling of its creation.
    pub(crate) name: String,
    /// The query.
    pub(crate) query: String,
    /// The comment.
    pub(crate) comment: Option<String>,
    catalog: String,
    schema: String,
    /// The pipeline that publishes it; `None` for a client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline_id: Option<String>,
    /// The names of its columns, if they are not those of the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<String>,
    /// What `:name` stands for in the query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<String, String>,
    /// The settings under which it was published.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    conf: BTreeMap<String, String>,
}

impl StoredView {
    /// A view whose query is read in `namespace`.
    pub(crate) fn new(name: &str, query: &str, comment: Option<&str>, namespace: &Namespace) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            query: query.to_owned(),
            comment: comment.map(str::to_owned),
            catalog: namespace.catalog.clone(),
            schema: namespace.schema.clone(),
            pipeline_id: None,
            columns: Vec::new(),
            parameters: BTreeMap::new(),
            conf: BTreeMap::new(),
        }
    }

    /// The view that a pipeline publishes as `output`.
    fn published(output: &Output, flow: &Flow, query: &SqlQuery, environment: &Environment) -> Result<Self> {
        let mut conf = environment.conf.clone();
        for (key, value) in &flow.conf {
            conf.set(key, value)?;
        }
        let mut settings: BTreeMap<String, String> =
            conf.all.iter().filter(|(key, _)| key.starts_with(MEANING)).map(|(k, v)| (k.clone(), v.clone())).collect();
        settings.insert("spark.sql.ansi.enabled".to_owned(), conf.ansi.to_string());
        settings.insert("spark.sql.session.timeZone".to_owned(), conf.time_zone.to_string());
        // The values of a pipeline's parameters are text.
        let text = |(name, value): (&String, &ScalarValue)| match value {
            ScalarValue::Utf8(Some(value)) => Some((name.clone(), value.clone())),
            _ => None,
        };
        Ok(Self {
            pipeline_id: Some(environment.pipeline_id.clone()),
            columns: output.labels.clone(),
            parameters: environment.parameters.named.iter().filter_map(text).collect(),
            conf: settings,
            ..Self::new(&output.name.name, &query.text, output.comment.as_deref(), &flow.namespace)
        })
    }

    /// What the unqualified names in the query mean.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace { catalog: self.catalog.clone(), schema: self.schema.clone() }
    }

    /// Its query with the values of its parameters. Positions are those in its text.
    ///
    /// # Errors
    /// `PARSE_SYNTAX_ERROR` if this version of the program does not read it as SQL.
    pub(crate) fn parsed(&self) -> Result<SqlQuery> {
        let mut query = parse_query(&self.query, &SourceLocation::new(format!("<view {}>", self.name), 1, 1))?;
        let named = self.parameters.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        Parameters { named, positional: Vec::new() }.bind(&mut query)?;
        Ok(query)
    }

    /// `conf` with the settings under which the view was published.
    pub(crate) fn conf(&self, conf: &SparkConf) -> Result<SparkConf> {
        let mut conf = conf.clone();
        for (key, value) in &self.conf {
            conf.set(key, value)?;
        }
        Ok(conf)
    }

    /// Whether its settings are those of `conf`.
    pub(crate) fn agrees_with(&self, conf: &SparkConf) -> bool {
        self.conf.iter().all(|(key, value)| conf.get(key).as_ref() == Some(value))
    }
}

/// Stores the views that a pipeline publishes. With `retire`, those that it does not define any more go.
///
/// # Errors
/// `TABLE_OR_VIEW_ALREADY_EXISTS` (`User`) if a client has a view of the same name.
pub(crate) fn publish(definitions: &Definitions, environment: &Environment, retire: bool) -> Result<()> {
    let storage = &environment.storage;
    let views: Vec<&Output> =
        definitions.outputs.iter().filter(|output| output.kind == OutputKind::PersistedView).collect();
    if retire {
        let defined = views.iter().map(|view| storage.view(&view.name)).collect::<Result<Vec<_>>>()?;
        for path in files(&storage.all_views())? {
            let ours =
                from_file(&path)?.is_some_and(|view| view.pipeline_id.as_ref() == Some(&environment.pipeline_id));
            if ours && !defined.contains(&path) {
                std::fs::remove_file(&path)?;
            }
        }
    }
    for output in views {
        let Some(flow) = definitions.flows.iter().find(|flow| flow.target == output.name) else { continue };
        let FlowQuery::Sql(query) = &flow.query else { continue };
        if let Some(name) = calls(query).iter().find(|name| definitions.sql_functions.get(name).is_some()) {
            // Who reads the view does not know the pipeline's functions.
            return Err(Error::user(format!("view `{}` calls `{name}`, a function of the pipeline", output.name.name))
                .with_condition("INVALID_TEMP_OBJ_REFERENCE")
                .with_help("Make it a temporary or materialized view, or create the function in the catalog.")
                .at(output.location.clone()));
        }
        let view = StoredView::published(output, flow, query, environment)?;
        match read(storage, &output.name)? {
            Some(stored) if stored == view => continue,
            Some(stored) if stored.pipeline_id.is_none() => {
                return Err(Error::user(format!(
                    "a client of Spark Connect has created a view `{}`",
                    output.name.name
                ))
                .with_condition("TABLE_OR_VIEW_ALREADY_EXISTS")
                .with_help("Drop it (DROP VIEW), or give the pipeline's view another name.")
                .at(output.location.clone()));
            }
            _ => write(storage, &output.name, &view)?,
        }
    }
    Ok(())
}

/// The files below a folder, none if it does not exist.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The view of that name.
pub(crate) fn read(storage: &Storage, name: &DatasetName) -> Result<Option<StoredView>> {
    from_file(&storage.view(name)?)
}

fn from_file(path: &Path) -> Result<Option<StoredView>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let broken = |why: String| Error::new(Kind::Data, format!("the view `{}` {why}", path.display()));
    let view: StoredView = serde_json::from_str(&text).map_err(|error| broken(format!("cannot be read: {error}")))?;
    if view.version > VERSION {
        return Err(broken("was written by a newer version of this program".to_owned()));
    }
    Ok(Some(view))
}

/// Stores a view in place of the one that is there.
pub(crate) fn write(storage: &Storage, name: &DatasetName, view: &StoredView) -> Result<()> {
    let path = storage.view(name)?;
    let folder = path.parent().ok_or_else(|| Error::internal("a view outside of a folder"))?;
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&file, view).map_err(|error| Error::internal(error.to_string()))?;
    file.persist(&path).map_err(|error| Error::from(error.error))?;
    Ok(())
}

/// Removes the view of that name; whether there was one.
pub(crate) fn remove(storage: &Storage, name: &DatasetName) -> Result<bool> {
    match std::fs::remove_file(storage.view(name)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names of the views in a folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned());
    Ok(entries(folder)?.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn views_are_kept_with_their_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let root = crate::storage::directory_url(folder.path()).unwrap();
        let storage = Storage::new(&root, Namespace::default()).unwrap();
        let name = DatasetName { catalog: "spark_catalog".into(), schema: "s".into(), name: "V".into() };
        assert_eq!(read(&storage, &name).unwrap(), None);
        let view = StoredView::new("V", "SELECT 1", None, &Namespace::default());
        write(&storage, &name, &view).unwrap();
        assert_eq!(read(&storage, &name).unwrap().as_ref(), Some(&view));
        assert_eq!(names(&storage.views("spark_catalog", "s").unwrap()).unwrap(), ["v"]);
        assert!(remove(&storage, &name).unwrap());
        assert!(!remove(&storage, &name).unwrap());
    }
}
