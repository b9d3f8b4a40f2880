//! Functions in SQL in the catalog, which clients create: one JSON file each.

use std::path::Path;

use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::name::DatasetName;
use crate::storage::Storage;
use crate::views;

/// The version of the file's layout.
const VERSION: u32 = 1;

/// A function as it lies in its file.
#[derive(Debug, Serialize, Deserialize)]
struct StoredFunction {
    version: u32,
    function: SqlFunction,
}

/// The function of that name.
///
/// # Errors
/// `Data` if its file cannot be read.
pub(crate) fn read(storage: &Storage, name: &DatasetName) -> Result<Option<SqlFunction>> {
    from_file(&storage.function(name)?)
}

fn from_file(path: &Path) -> Result<Option<SqlFunction>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let broken = |why: String| Error::new(Kind::Data, format!("the function `{}` {why}", path.display()));
    let stored: StoredFunction =
        serde_json::from_str(&text).map_err(|error| broken(format!("cannot be read: {error}")))?;
    if stored.version > VERSION {
        return Err(broken("was written by a newer version of this program".to_owned()));
    }
    Ok(Some(stored.function))
}

/// Stores a function in place of the one that is there.
pub(crate) fn write(storage: &Storage, name: &DatasetName, function: &SqlFunction) -> Result<()> {
    let path = storage.function(name)?;
    let folder = path.parent().ok_or_else(|| Error::internal("a function outside of a folder"))?;
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let stored = StoredFunction { version: VERSION, function: function.clone() };
    serde_json::to_writer_pretty(&file, &stored).map_err(|error| Error::internal(error.to_string()))?;
    file.persist(&path).map_err(|error| Error::from(error.error))?;
    Ok(())
}

/// Removes the function of that name; whether there was one.
pub(crate) fn remove(storage: &Storage, name: &DatasetName) -> Result<bool> {
    match std::fs::remove_file(storage.function(name)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The functions in a schema, in order of their names.
pub(crate) fn all(storage: &Storage, catalog: &str, schema: &str) -> Result<Vec<SqlFunction>> {
    let folder = storage.functions(catalog, schema)?;
    let mut functions = Vec::new();
    for name in views::names(&folder)? {
        functions.extend(from_file(&folder.join(format!("{name}.json")))?);
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(functions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use deltaworks_spark::sql_function::FunctionResult;

    use super::*;
    use crate::name::Namespace;

    fn name() -> DatasetName {
        DatasetName { catalog: "spark_catalog".into(), schema: "s".into(), name: "F".into() }
    }

    #[test]
    fn functions_are_kept_by_schema() {
        let folder = tempfile::tempdir().unwrap();
        let storage =
            Storage::new(&crate::storage::directory_url(folder.path()).unwrap(), Namespace::default()).unwrap();
        let function = SqlFunction {
            name: "F".into(),
            stored_in: Some(("spark_catalog".into(), "s".into())),
            parameters: Vec::new(),
            returns: FunctionResult::Value(Some("int".into())),
            body: "1".into(),
            comment: None,
            deterministic: true,
            reads_data: false,
            namespace: None,
            temporary_views: Vec::new(),
            settings: Default::default(),
            created_ms: 7,
        };
        assert_eq!(read(&storage, &name()).unwrap(), None);
        write(&storage, &name(), &function).unwrap();
        assert_eq!(read(&storage, &name()).unwrap().as_ref(), Some(&function));
        assert_eq!(all(&storage, "spark_catalog", "s").unwrap(), std::slice::from_ref(&function));
        assert!(all(&storage, "spark_catalog", "other").unwrap().is_empty());
        assert!(remove(&storage, &name()).unwrap());
        assert!(!remove(&storage, &name()).unwrap());
    }

    #[test]
    fn the_first_layout_stays_readable() {
        let text = r#"{"version": 1, "function": {"name": "F", "stored_in": ["spark_catalog", "s"],
            "parameters": [{"name": "x", "data_type": "int", "default": "1", "comment": null}],
            "returns": {"Rows": [{"name": "a", "data_type": "string", "comment": null}]}, "body": "SELECT x",
            "comment": "c", "deterministic": true, "reads_data": false, "namespace": ["spark_catalog", "s"],
            "temporary_views": [], "settings": {"spark.sql.ansi.enabled": "true"}, "created_ms": 7}}"#;
        let folder = tempfile::tempdir().unwrap();
        let storage =
            Storage::new(&crate::storage::directory_url(folder.path()).unwrap(), Namespace::default()).unwrap();
        let path = storage.function(&name()).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let function = read(&storage, &name()).unwrap().unwrap();
        assert_eq!((function.body.as_str(), function.parameters.len()), ("SELECT x", 1));
        std::fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert_eq!(read(&storage, &name()).unwrap_err().kind(), Kind::Data);
    }
}
