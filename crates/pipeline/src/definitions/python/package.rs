//! Our Python package, which this program carries, unpacked to where an interpreter finds it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deltaworks_spark::{Error, Result};
use include_dir::{Dir, DirEntry, include_dir};
use tempfile::TempDir;

/// The same version as this program.
static PACKAGE: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../python/deltaworks");
/// Its name in Python.
const NAME: &str = "deltaworks";

/// Where the package lies.
pub enum Unpacked {
    /// In the user's cache, for the next time, too: Python keeps beside it what it has compiled.
    Kept(PathBuf),
    /// In a folder of its own that goes with this value: there is no cache to write to.
    Once(TempDir),
}

impl Unpacked {
    /// The folder to be put on the interpreter's path.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Kept(folder) => folder,
            Self::Once(folder) => folder.path(),
        }
    }
}

/// Unpacks the package, unless `cache`, the user's folder for such things, has it.
///
/// # Errors
/// If there is no room for it anywhere.
pub fn unpack(cache: Option<&Path>) -> Result<Unpacked> {
    if let Some(folder) = cache.and_then(|cache| keep(&cache.join(NAME).join("python")).ok().flatten()) {
        return Ok(Unpacked::Kept(folder));
    }
    let folder = tempfile::Builder::new().prefix("deltaworks-python-").tempdir()?;
    write(folder.path()).map_err(|error| Error::internal(format!("the Python package cannot be unpacked: {error}")))?;
    Ok(Unpacked::Once(folder))
}

/// The package below `parent`, in a folder named by what it holds. `None` if somebody has changed it there.
fn keep(parent: &Path) -> io::Result<Option<PathBuf>> {
    let mut digest = blake3::Hasher::new();
    visit(&PACKAGE, &mut |path, bytes| {
        digest.update(path.as_os_str().as_encoded_bytes()).update(&[0]).update(blake3::hash(bytes).as_bytes());
    });
    let folder = parent.join(&digest.finalize().to_hex()[..16]);
    if !folder.exists() {
        fs::create_dir_all(parent)?;
        let unpacked = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
        write(unpacked.path())?;
        // Another process may have been faster; what lies there is looked at below.
        let _renamed = fs::rename(unpacked.path(), &folder);
    }
    Ok(is_intact(&folder).then_some(folder))
}

fn write(folder: &Path) -> io::Result<()> {
    let mut written = Ok(());
    visit(&PACKAGE, &mut |path, bytes| {
        let path = folder.join(NAME).join(path);
        let parent = path.parent().unwrap_or(folder);
        if written.is_ok() {
            written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes));
        }
    });
    written
}

fn is_intact(folder: &Path) -> bool {
    let mut intact = true;
    visit(&PACKAGE, &mut |path, bytes| {
        intact &= fs::read(folder.join(NAME).join(path)).is_ok_and(|found| found == bytes);
    });
    intact
}

/// Calls `found` with the path and the bytes of every file. A checkout may have compiled ones beside them, which are left
/// out: they belong to one interpreter.
fn visit(folder: &'static Dir, found: &mut impl FnMut(&Path, &[u8])) {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(below) if below.path().ends_with("__pycache__") => {}
            DirEntry::Dir(below) => visit(below, found),
            DirEntry::File(file) => found(file.path(), file.contents()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_unpacked_once() {
        let cache = tempfile::tempdir().unwrap();
        let first = unpack(Some(cache.path())).unwrap();
        let file = first.folder().join("deltaworks/evaluate.py");
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let second = unpack(Some(cache.path())).unwrap();
        assert_eq!(first.folder(), second.folder());
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        let beside: Vec<_> = fs::read_dir(first.folder().parent().unwrap()).unwrap().collect();
        assert_eq!(beside.len(), 1, "{beside:?}");
    }

    #[test]
    fn what_was_changed_in_the_cache_is_not_run() {
        let cache = tempfile::tempdir().unwrap();
        let kept = unpack(Some(cache.path())).unwrap().folder().join("deltaworks/evaluate.py");
        fs::write(&kept, "raise SystemExit").unwrap();
        let other = unpack(Some(cache.path())).unwrap();
        assert!(matches!(other, Unpacked::Once(_)));
        assert!(is_intact(other.folder()));
    }

    #[test]
    fn does_without_a_cache() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for cache in [None, Some(file.path())] {
            assert!(is_intact(unpack(cache).unwrap().folder()));
        }
    }
}
