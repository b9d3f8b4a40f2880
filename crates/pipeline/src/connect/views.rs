//! Views that clients create: one JSON file each, the query as it was written.

use std::path::Path;

use deltaworks_spark::relation::ObjectName;
use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::name::{DatasetName, Namespace};
use crate::storage::Storage;

/// The version of the file's layout.
const VERSION: u32 = 1;

/// A stored view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredView {
    version: u32,
    /// The name in the spelling of its creation.
    pub(super) name: String,
    /// The query.
    pub(super) query: String,
    /// The comment.
    pub(super) comment: Option<String>,
    catalog: String,
    schema: String,
}

impl StoredView {
    /// A view whose query is read in `namespace`.
    pub(super) fn new(name: &str, query: &str, comment: Option<&str>, namespace: &Namespace) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            query: query.to_owned(),
            comment: comment.map(str::to_owned),
            catalog: namespace.catalog.clone(),
            schema: namespace.schema.clone(),
        }
    }

    /// What the unqualified names in the query mean.
    pub(super) fn namespace(&self) -> Namespace {
        Namespace { catalog: self.catalog.clone(), schema: self.schema.clone() }
    }
}

/// The view of that name.
pub(super) fn read(storage: &Storage, name: &DatasetName) -> Result<Option<StoredView>> {
    let path = storage.view(name)?;
    let text = match std::fs::read_to_string(&path) {
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
pub(super) fn write(storage: &Storage, name: &DatasetName, view: &StoredView) -> Result<()> {
    let path = storage.view(name)?;
    let folder = path.parent().ok_or_else(|| Error::internal("a view outside of a folder"))?;
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&file, view).map_err(|error| Error::internal(error.to_string()))?;
    file.persist(&path).map_err(|error| Error::from(error.error))?;
    Ok(())
}

/// Removes the view of that name; whether there was one.
pub(super) fn remove(storage: &Storage, name: &DatasetName) -> Result<bool> {
    match std::fs::remove_file(storage.view(name)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names of the views in a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    Ok(names)
}

/// The complete name that `name` stands for, if it can stand for a view.
pub(super) fn complete(name: &ObjectName, namespace: &Namespace) -> Option<DatasetName> {
    DatasetName::resolve(name, namespace).ok().filter(|name| !name.name.is_empty())
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
