//! Whose storage it is. The ids of transactions contain the pipeline's id: under another one, every flow would
//! begin anew and write its rows a second time.

use std::path::{Path, PathBuf};

use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::spec::PipelineSpec;

/// The only format there is.
const VERSION: u32 = 1;

/// The content of `system/pipeline.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    version: u32,
    id: String,
}

/// Gives `spec` the id its storage knows it by, where the settings do not say one: it would otherwise change
/// when the folder is moved or a settings file is added.
///
/// # Errors
/// `PIPELINE_STORAGE_IN_USE` (`User`) if the settings say an id and the storage belongs to another one; `Data` if
/// the file that says so cannot be read.
pub fn adopt(spec: &mut PipelineSpec, storage: &Path) -> Result<()> {
    match read(storage)? {
        Some(id) if spec.id_is_derived => spec.id = id,
        Some(id) if id != spec.id => {
            return Err(Error::user(format!(
                "storage `{}` belongs to the pipeline with id `{id}`, not to `{}`",
                storage.display(),
                spec.id
            ))
            .with_condition("PIPELINE_STORAGE_IN_USE")
            .with_help(format!("Set `id` to `{id}` to go on with its tables, or choose another `storage`.")));
        }
        _ => {}
    }
    Ok(())
}

/// Says in the storage whose it is, once. To be called while the update lock is held.
///
/// # Errors
/// `Unavailable` if the file cannot be written.
pub fn claim(storage: &Path, id: &str) -> Result<()> {
    let path = file(storage);
    if path.exists() {
        return Ok(());
    }
    let unavailable = |error: std::io::Error| {
        Error::new(Kind::Unavailable, format!("`{}` cannot be written: {error}", path.display())).with_source(error)
    };
    let text = serde_json::to_string(&Owner { version: VERSION, id: id.to_owned() })
        .map_err(|error| Error::internal("the owner of the storage has no JSON form").with_source(error))?;
    let unfinished = path.with_extension("json.tmp");
    std::fs::write(&unfinished, text).map_err(unavailable)?;
    std::fs::rename(&unfinished, &path).map_err(unavailable)
}

fn read(storage: &Path) -> Result<Option<String>> {
    let path = file(storage);
    let broken = |why: String| {
        Error::data(format!("`{}` cannot be read: {why}", path.display()))
            .with_help("It says which pipeline the storage belongs to: restore it, or remove it if `id` is set.")
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A storage that is a file has no owner either; writing to it will say so.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(broken(error.to_string())),
    };
    let owner: Owner = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    if owner.version > VERSION {
        return Err(broken(format!("it has format {}; this program knows up to {VERSION}", owner.version)));
    }
    Ok(Some(owner.id))
}

fn file(storage: &Path) -> PathBuf {
    storage.join("system").join("pipeline.json")
}
