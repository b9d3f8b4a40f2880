//! Where a pipeline keeps things: tables, checkpoints, inferred schemas, the event log.
//!
//! The layout is specified in `docs/formats.md`; this is the only place that knows it.

use std::path::{Path, PathBuf};

use deltaworks_spark::{Error, Result};
use url::Url;

use crate::locations::ExternalLocations;
use crate::name::{DatasetName, Namespace};

/// The folder of a pipeline and what lies in it.
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
    namespace: Namespace,
}

impl Storage {
    /// The storage below `root`, a `file:` URL.
    ///
    /// # Errors
    /// `Unsupported` for other schemes.
    pub fn new(root: &Url, namespace: Namespace) -> Result<Self> {
        let path = root.to_file_path().map_err(|()| {
            Error::unsupported(format!("storage `{root}`"))
                .with_help("Set `storage` to a local folder, or map its prefix with `path_mappings`.")
        })?;
        Ok(Self { root: path, namespace })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a table lies: `tables/<name>` in the pipeline's own namespace, else
    /// `catalogs/<catalog>/<schema>/<name>`. Names are stored in lower case, as they compare.
    pub fn table(&self, name: &DatasetName) -> Result<Url> {
        let mut path = self.root.clone();
        if name.is_in(&self.namespace) {
            path.push("tables");
        } else {
            path.push("catalogs");
            path.push(component(&name.catalog)?);
            path.push(component(&name.schema)?);
        }
        path.push(component(&name.name)?);
        directory_url(&path)
    }

    /// The namespace whose tables lie in `tables`.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The folder of the catalogs.
    pub fn catalogs(&self) -> PathBuf {
        self.root.join("catalogs")
    }

    /// The folder of a catalog, whose folders are schemas.
    pub fn catalog(&self, catalog: &str) -> Result<PathBuf> {
        Ok(self.catalogs().join(component(catalog)?))
    }

    /// The folder of a schema, whose folders are tables.
    pub fn schema(&self, catalog: &str, schema: &str) -> Result<PathBuf> {
        let own = &self.namespace;
        if own.catalog.eq_ignore_ascii_case(catalog) && own.schema.eq_ignore_ascii_case(schema) {
            return Ok(self.root.join("tables"));
        }
        Ok(self.catalog(catalog)?.join(component(schema)?))
    }

    /// Names of the tables in the pipeline's own schema, as they are stored.
    pub fn own_tables(&self) -> Vec<String> {
        let folders = std::fs::read_dir(self.root.join("tables")).into_iter().flatten().flatten();
        folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The folder below which all views lie.
    pub fn all_views(&self) -> PathBuf {
        self.root.join("views")
    }

    /// The folder of the views in a schema.
    pub fn views(&self, catalog: &str, schema: &str) -> Result<PathBuf> {
        Ok(self.all_views().join(component(catalog)?).join(component(schema)?))
    }

    /// The file of a view.
    pub fn view(&self, name: &DatasetName) -> Result<PathBuf> {
        Ok(self.views(&name.catalog, &name.schema)?.join(format!("{}.json", component(&name.name)?)))
    }

    /// The folder of the functions in a schema.
    pub fn functions(&self, catalog: &str, schema: &str) -> Result<PathBuf> {
        Ok(self.root.join("functions").join(component(catalog)?).join(component(schema)?))
    }

    /// The file of a function.
    pub fn function(&self, name: &DatasetName) -> Result<PathBuf> {
        Ok(self.functions(&name.catalog, &name.schema)?.join(format!("{}.json", component(&name.name)?)))
    }

    /// Where a flow keeps the progress of its batches, its state and its ledgers.
    pub fn checkpoint(&self, flow: &DatasetName, target: &DatasetName) -> Result<PathBuf> {
        Ok(self.checkpoints(target)?.join(component(&flow.name)?))
    }

    /// Where it is remembered what changes have been applied to `target`, in a folder per generation. No flow has
    /// that name.
    pub fn change_ledgers(&self, target: &DatasetName) -> Result<PathBuf> {
        Ok(self.checkpoints(target)?.join("~changes"))
    }

    /// The table that counts the batches delivered to `sink`, which has no rows. No flow has that name.
    pub fn deliveries(&self, sink: &DatasetName) -> Result<Url> {
        directory_url(&self.checkpoints(sink)?.join("~delivered"))
    }

    fn checkpoints(&self, target: &DatasetName) -> Result<PathBuf> {
        let mut path = self.root.join("checkpoints");
        if !target.is_in(&self.namespace) {
            path.push(component(&target.catalog)?);
            path.push(component(&target.schema)?);
        }
        path.push(component(&target.name)?);
        Ok(path)
    }

    /// Where a flow's inferred schemas are kept when the user names no `schemaLocation`.
    pub fn schemas(&self, flow: &DatasetName, target: &DatasetName, generation: i64) -> Result<PathBuf> {
        Ok(self.checkpoint(flow, target)?.join(generation.to_string()).join("schemas"))
    }

    /// The event log, a Delta table.
    pub fn event_log(&self) -> Result<Url> {
        directory_url(&self.root.join("system").join("events"))
    }

    /// The note of tables that lie elsewhere.
    pub fn locations_file(&self) -> PathBuf {
        self.root.join("system").join("locations.json")
    }

    /// Where a table lies that is only known by its name: where it was noted, else in the storage.
    pub fn find_table(&self, name: &DatasetName) -> Result<Url> {
        match ExternalLocations::read(&self.locations_file())?.get(name) {
            Some(location) => Ok(location.clone()),
            None => self.table(name),
        }
    }

    /// The file whose lock says that an update is active.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("system").join("update.lock")
    }
}

/// A directory as a `file:` URL that ends with a slash.
pub fn directory_url(path: &Path) -> Result<Url> {
    Url::from_directory_path(path)
        .map_err(|()| Error::internal(format!("storage path `{}` is not absolute", path.display())))
}

/// Writes through a temporary file and a rename, and makes both durable.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write;
    let folder = path.parent().ok_or_else(|| Error::internal("a file has no folder"))?;
    std::fs::create_dir_all(folder)?;
    let temporary = path.with_extension("json.tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// A name as one path component: lower case, with everything that could leave the folder escaped.
///
/// Not by percent signs: table locations are URLs, and readers differ in how often they decode them.
fn component(name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::user("a dataset name has an empty part"));
    }
    let mut escaped = String::with_capacity(name.len());
    for c in name.to_lowercase().chars() {
        if c.is_alphanumeric() || matches!(c, '_' | '-' | ' ') || (c == '.' && !escaped.is_empty()) {
            escaped.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                escaped.push_str(&format!("~{byte:02x}"));
            }
        }
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        assert_eq!(component("Orders").unwrap(), "orders");
        assert_eq!(component("..").unwrap(), "~2e.");
        assert_eq!(component("a/../../b").unwrap(), "a~2f..~2f..~2fb");
        assert!(component("").is_err());
    }

    #[test]
    fn tables_outside_the_namespace_lie_under_their_catalog() {
        let root = Url::from_directory_path("/data/p").unwrap();
        let storage = Storage::new(&root, Namespace::default()).unwrap();
        let own = DatasetName { catalog: "spark_catalog".into(), schema: "default".into(), name: "Orders".into() };
        assert_eq!(storage.table(&own).unwrap().path(), "/data/p/tables/orders/");
        let other = DatasetName { catalog: "main".into(), schema: "gold".into(), name: "orders".into() };
        assert_eq!(storage.table(&other).unwrap().path(), "/data/p/catalogs/main/gold/orders/");
    }

    #[test]
    fn a_file_replaces_an_earlier_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("0.json");
        write_atomically(&path, b"first attempt, longer").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
