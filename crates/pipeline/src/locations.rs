//! Where tables lie that have a place of their own (`LOCATION`, `path=`) instead of one in the storage.
//!
//! The places are in the definitions. They are noted in the storage as well, because queries by name find
//! the tables without reading the definitions. The format of the note is specified in `docs/formats.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::definitions::Output;
use crate::name::DatasetName;
use crate::spec::PathMappings;
use crate::storage::directory_url;

/// The format of the note, in its `version` field.
const FORMAT_VERSION: u32 = 1;

/// The tables of a storage that have a place of their own, as noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalLocations {
    version: u32,
    /// By qualified name in lower case.
    tables: BTreeMap<String, Url>,
}

impl ExternalLocations {
    /// Reads the note at `file`; there are none if there is no file.
    ///
    /// # Errors
    /// `Data` if the file is damaged; `Unsupported` if a newer version wrote it.
    pub fn read(file: &Path) -> Result<Self> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { version: FORMAT_VERSION, tables: BTreeMap::new() });
            }
            Err(error) => return Err(Error::from(error).context(format!("while reading `{}`", file.display()))),
        };
        let locations: Self = serde_json::from_slice(&text).map_err(|error| {
            Error::new(Kind::Data, format!("`{}` is not valid: {error}", file.display()))
                .with_help("Delete the file; the next update writes it anew.")
        })?;
        if locations.version > FORMAT_VERSION {
            return Err(Error::unsupported(format!(
                "`{}` of format {}, written by a newer version,",
                file.display(),
                locations.version
            )));
        }
        Ok(locations)
    }

    /// Where `name` lies, if not in the storage.
    pub fn get(&self, name: &DatasetName) -> Option<&Url> {
        self.tables.get(&key(name))
    }

    /// Notes where `tables` lie, `None` meaning in the storage. Other notes stay; nothing is written if nothing differs.
    pub fn update<'a>(file: &Path, tables: impl Iterator<Item = (&'a DatasetName, Option<&'a Url>)>) -> Result<()> {
        let before = Self::read(file)?;
        let mut now = before.clone();
        for (name, location) in tables {
            match location {
                Some(location) => drop(now.tables.insert(key(name), location.clone())),
                None => drop(now.tables.remove(&key(name))),
            }
        }
        if now == before {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&now)
            .map_err(|error| Error::internal(format!("locations cannot be serialised: {error}")))?;
        crate::storage::write_atomically(file, &text)
    }
}

fn key(name: &DatasetName) -> String {
    name.to_string().to_lowercase()
}

/// The place that `output` names for itself, on this machine; a relative path starts where those of sources do.
///
/// # Errors
/// As [`PathMappings::map`].
pub fn own_location(output: &Output, mappings: &PathMappings) -> Result<Option<Url>> {
    let Some(path) = &output.path else { return Ok(None) };
    local_location(path, mappings)
        .map(Some)
        .map_err(|error| error.context(format!("in the location of `{}`", output.name.name)))
}

/// The folder that a path written by the user means.
///
/// # Errors
/// `User` if no mapping makes it local.
pub fn local_location(path: &str, mappings: &PathMappings) -> Result<Url> {
    let absolute = std::path::absolute(PathBuf::from(mappings.map(path)?))?;
    let url = directory_url(&absolute)?;
    // As URLs `a/./b` and `a/c/../b` become one spelling.
    Url::parse(url.as_str()).map_err(|error| Error::user(format!("`{path}` is not a usable path: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(name: &str) -> DatasetName {
        DatasetName { catalog: "C".into(), schema: "s".into(), name: name.into() }
    }

    #[test]
    fn notes_are_kept_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("system").join("locations.json");
        let (a, b) = (Url::parse("file:///x/a/").unwrap(), Url::parse("file:///x/b/").unwrap());
        assert_eq!(ExternalLocations::read(&file).unwrap().get(&name("t")), None);
        ExternalLocations::update(&file, [(&name("t"), None)].into_iter()).unwrap();
        assert!(!file.exists());
        ExternalLocations::update(&file, [(&name("T"), Some(&a)), (&name("u"), Some(&b))].into_iter()).unwrap();
        assert_eq!(ExternalLocations::read(&file).unwrap().get(&name("t")), Some(&a));
        ExternalLocations::update(&file, [(&name("t"), None)].into_iter()).unwrap();
        let noted = ExternalLocations::read(&file).unwrap();
        assert_eq!((noted.get(&name("t")), noted.get(&name("u"))), (None, Some(&b)));
    }
}
