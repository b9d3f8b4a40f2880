//! What reading needs from outside: settings, path mapping, storage, the clock, where schemas are kept.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use deltaworks_lake::Lake;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::{Error, Result};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

/// Maps a path as the user wrote it to where the data lies: `/Volumes/x` to `/home/me/sample/x`.
pub type PathMapper = Arc<dyn Fn(&str) -> Result<String> + Send + Sync>;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What all sources of a flow share.
#[derive(Clone)]
pub struct SourceContext {
    /// SQL settings of the pipeline.
    pub conf: SparkConf,
    /// Path prefixes that lie elsewhere.
    pub path_mapper: PathMapper,
    /// The folder that keeps inferred schemas of reads that name no `schemaLocation`; `None`: they are
    /// inferred anew each time.
    pub schema_store: Option<Url>,
    /// Whether inferred schemas are stored, there or in a `schemaLocation`; otherwise stored ones are only read.
    pub store_schemas: bool,
    /// The time of discovery, and of `rate`.
    pub clock: Clock,
    /// Storage by URL.
    pub stores: Arc<dyn ObjectStoreRegistry>,
}

impl fmt::Debug for SourceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceContext").field("schema_store", &self.schema_store).finish_non_exhaustive()
    }
}

impl SourceContext {
    /// Paths as they are, the local file system, the wall clock, no stored schemas.
    pub fn new(conf: SparkConf) -> Self {
        Self {
            conf,
            path_mapper: Arc::new(|path| Ok(path.to_owned())),
            schema_store: None,
            store_schemas: true,
            clock: Arc::new(Utc::now),
            stores: Arc::new(DefaultObjectStoreRegistry::new()),
        }
    }

    /// The Delta tables of the same stores.
    pub(crate) fn lake(&self) -> Lake {
        Lake::new(Arc::clone(&self.stores))
    }

    /// Where `path`, as the user wrote it, lies.
    pub(crate) fn locate(&self, path: &str) -> Result<Location> {
        let mapped = (self.path_mapper)(path)?;
        let (base, key) = split_url(&mapped)?;
        let store = self
            .stores
            .get_store(&base)
            .map_err(|error| Error::unsupported(format!("storage of `{mapped}`")).with_source(error))?;
        Ok(Location { store, base, key, written: path.to_owned() })
    }

    /// Where a folder given as URL lies.
    pub(crate) fn locate_url(&self, url: &Url) -> Result<Location> {
        let mapped = match url.scheme() {
            "file" => url
                .to_file_path()
                .map(|path| path.to_string_lossy().into_owned())
                .map_err(|()| Error::user(format!("`{url}` is not a file path")))?,
            _ => url.to_string(),
        };
        let (base, key) = split_url(&mapped)?;
        Ok(Location { store: self.stores.get_store(&base)?, base, key, written: url.to_string() })
    }
}

/// A place in storage; its key may hold glob characters.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Scheme and authority.
    pub(crate) base: Url,
    /// The path below `base`, not percent-encoded, without slashes at its ends.
    pub(crate) key: String,
    /// The path as the user wrote it.
    pub(crate) written: String,
}

impl Location {
    /// The URL of an object of the same store.
    pub(crate) fn url_of(&self, path: &Path) -> String {
        if self.base.scheme() == "file"
            && let Ok(url) = Url::from_file_path(format!("/{path}"))
        {
            return url.to_string();
        }
        let mut url = self.base.clone();
        url.set_path(path.as_ref());
        url.to_string()
    }

    /// The URL of the folder this is, with a slash at its end.
    pub(crate) fn folder_url(&self) -> Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::user(format!("`{}` is not a path", self.written)))?
            .clear()
            .extend(self.key.split('/').filter(|segment| !segment.is_empty()))
            .push("");
        Ok(url)
    }

    /// Whether something exists here. Object stores have no folders, so there any key may.
    pub(crate) fn may_exist(&self, key: &str) -> bool {
        self.base.scheme() != "file" || FilePath::new("/").join(key).exists()
    }

    /// A key as an object path.
    pub(crate) fn object(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|error| Error::user(format!("`{}` is not a path: {error}", self.written)))
    }
}

fn split_url(mapped: &str) -> Result<(Url, String)> {
    let invalid = || Error::user(format!("`{mapped}` is not a path or URL"));
    let local = match mapped.strip_prefix("file:") {
        Some(rest) => Some(format!("/{}", rest.trim_start_matches('/'))),
        None if mapped.contains("://") => None,
        None if mapped.contains(":/") => {
            let scheme = mapped.split(':').next().unwrap_or_default();
            return Err(Error::unsupported(format!("path `{mapped}` with scheme `{scheme}:`"))
                .with_help("Map the prefix to a folder in the pipeline's path mapping."));
        }
        None => Some(mapped.to_owned()),
    };
    match local {
        Some(path) => {
            let absolute = std::path::absolute(&path).map_err(|_| invalid())?;
            let key = normalised(&absolute.to_string_lossy());
            Ok((Url::parse("file:///").map_err(|_| invalid())?, key))
        }
        None => {
            let (scheme, rest) = mapped.split_once("://").ok_or_else(invalid)?;
            let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
            let base = Url::parse(&format!("{scheme}://{authority}/")).map_err(|_| invalid())?;
            Ok((base, normalised(key)))
        }
    }
}

/// Without empty and `.` segments; `..` goes up.
fn normalised(key: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in key.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.join("/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_into_store_and_key() {
        let check = |path: &str, base: &str, key: &str| {
            let (got_base, got_key) = split_url(path).unwrap();
            assert_eq!((got_base.as_str(), got_key.as_str()), (base, key), "{path}");
        };
        check("/data/x/*.json", "file:///", "data/x/*.json");
        check("file:/data//x/", "file:///", "data/x");
        check("file:///data/{a,b}/../x", "file:///", "data/x");
        check("s3://bucket/a b/c", "s3://bucket/", "a b/c");
        assert!(split_url("dbfs:/mnt/x").unwrap_err().help().is_some());
    }
}
