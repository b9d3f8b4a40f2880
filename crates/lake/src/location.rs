//! Where tables lie: between paths and URLs, and never outside the root that was asked for.

use std::path::{Component, Path, PathBuf};

use deltaworks_spark::error::{Error, Result};
use url::Url;

/// The URL of a folder on the local file system. A relative path starts at the working directory.
///
/// # Errors
/// `User` if the path cannot be written as a URL.
pub fn from_path(path: &Path) -> Result<Url> {
    let absolute = std::path::absolute(path)?;
    Url::from_directory_path(normalize(&absolute))
        .map_err(|()| Error::user(format!("`{}` is not a usable path", path.display())))
}

/// The local path of a location, or `None` if it is in another store.
pub fn to_path(location: &Url) -> Option<PathBuf> {
    if location.scheme() == "file" { location.to_file_path().ok() } else { None }
}

/// The folder `relative` below `root`.
///
/// # Errors
/// `User` if `relative` is empty, absolute, or leads out of `root`.
pub fn below(root: &Url, relative: &str) -> Result<Url> {
    let outside = || Error::user(format!("`{relative}` is not a folder below `{root}`"));
    let mut segments = Vec::new();
    for component in Path::new(relative).components() {
        match component {
            Component::Normal(segment) => segments.push(segment.to_str().ok_or_else(outside)?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    if segments.is_empty() {
        return Err(outside());
    }
    let mut url = root.clone();
    url.path_segments_mut().map_err(|()| outside())?.pop_if_empty().extend(segments).push("");
    Ok(url)
}

/// Creates the folder of a location and its parents where the store has folders.
pub(crate) fn create_folder(location: &Url) -> Result<()> {
    match to_path(location) {
        Some(path) => std::fs::create_dir_all(&path)
            .map_err(|error| Error::from(error).context(format!("while creating the folder `{}`", path.display()))),
        None => Ok(()),
    }
}

fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn folder_below_a_root_is_encoded() {
        let root = Url::parse("file:///data/lake").unwrap();
        assert_eq!(below(&root, "a b/ü").unwrap().as_str(), "file:///data/lake/a%20b/%C3%BC/");
    }

    #[test]
    fn folder_outside_the_root_is_refused() {
        let root = Url::parse("file:///data/lake/").unwrap();
        for relative in ["../x", "a/../../x", "/etc", "", "."] {
            assert!(below(&root, relative).is_err(), "{relative}");
        }
    }

    #[test]
    fn path_with_parent_components_is_normalized() {
        let url = from_path(Path::new("/data/x/../y")).unwrap();
        assert_eq!(url.as_str(), "file:///data/y/");
        assert_eq!(to_path(&url).unwrap(), Path::new("/data/y/"));
    }
}
