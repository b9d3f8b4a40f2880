//! One update of a pipeline at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use deltaworks_spark::{Error, Kind, Result};

/// Held while an update is active; released when dropped, or by the system when the process dies.
#[derive(Debug)]
pub struct UpdateLock {
    _file: File,
}

impl UpdateLock {
    /// Takes the lock for `update_id`.
    ///
    /// # Errors
    /// `Conflict` if another update is active; its id is named.
    pub fn acquire(path: &Path, update_id: &str) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unwritable("storage folder", folder, "created", error))?;
        }
        let open = File::options().create(true).read(true).write(true).truncate(false).open(path);
        let mut file = open.map_err(|error| unwritable("storage file", path, "written", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut active = String::new();
                file.read_to_string(&mut active)?;
                return Err(Error::new(Kind::Conflict, format!("update {} of this pipeline is active", active.trim()))
                    .with_condition("UPDATE_ALREADY_ACTIVE")
                    .with_help("Wait until it ends, or stop it."));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(update_id.as_bytes())?;
        file.flush()?;
        Ok(Self { _file: file })
    }
}

fn unwritable(what: &str, path: &Path, done: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("{what} `{}` cannot be {done}: {error}", path.display()))
        .with_help("Check that `storage` names a folder that can be written.")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = UpdateLock::acquire(folder.path(), "first").unwrap_err();
        assert!(error.message().starts_with(&format!("storage file `{}` cannot be written", folder.path().display())));
    }

    #[test]
    fn a_second_update_is_refused_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("system/update.lock");
        let first = UpdateLock::acquire(&path, "first").unwrap();
        let error = UpdateLock::acquire(&path, "second").unwrap_err();
        assert_eq!(error.condition(), Some("UPDATE_ALREADY_ACTIVE"));
        assert!(error.message().contains("first"));
        drop(first);
        UpdateLock::acquire(&path, "third").unwrap();
    }
}
