//! Which of the files that are listed below a folder count, if a sink keeps a log there.

use std::collections::HashMap;

use deltaworks_spark::{Error, Kind, Result};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::{LOG_FOLDER, LoggedFile, entries_to_read, files};
use crate::context::Location;
use crate::listing::{below, percent_decoded};

/// The setting by which files count whatever the log of a sink says.
pub(crate) const IGNORE_SINK_LOGS: &str = "spark.sql.streaming.fileStreamSink.ignoreMetadata";

/// Of the objects that were listed below `folder`, those that the log of a sink names; `None` if there is no log.
///
/// # Errors
/// `Data` if the log is damaged, or (unless `ignore_missing`) names a file that is gone.
pub(crate) async fn counted(
    location: &Location,
    folder: &Path,
    listed: &[ObjectMeta],
    ignore_missing: bool,
) -> Result<Option<Vec<ObjectMeta>>> {
    // What is listed may have changed meanwhile: entries or files that came one after the other are not all there, and
    // entries that were repeated are gone. The second time, what was logged the first time is there.
    let again = async || -> Result<Vec<ObjectMeta>> {
        location.store.list(Some(folder)).try_collect().await.map_err(|error| unavailable(location, error))
    };
    let logged = match logged_files(location, folder, listed).await {
        Err(_) => logged_files(location, folder, &again().await?).await?,
        Ok(logged) => logged,
    };
    let Some(logged) = logged else { return Ok(None) };
    let (mut counted, mut missing) = matched(folder, listed, logged.clone());
    if !missing.is_empty() {
        (counted, missing) = matched(folder, &again().await?, logged);
    }
    match missing.first() {
        Some(gone) if !ignore_missing => Err(Error::data(format!(
            "file `{}` is not there, but the log of the sink that has written it names it",
            gone.path
        ))
        .with_condition("FAILED_READ_FILE.FILE_NOT_EXIST")
        .with_help(format!(
            "Restore it, set the option `ignoreMissingFiles` to true, or `{IGNORE_SINK_LOGS}` to true to read whatever is there."
        ))),
        _ => Ok(Some(counted)),
    }
}

async fn logged_files(location: &Location, folder: &Path, listed: &[ObjectMeta]) -> Result<Option<Vec<LoggedFile>>> {
    let log = format!("{folder}/{LOG_FOLDER}");
    let entries = listed.iter().filter_map(|meta| {
        let name = below(meta.location.as_ref(), log.trim_start_matches('/'))?;
        (!name.contains('/')).then(|| (name.to_owned(), &meta.location))
    });
    let entries: HashMap<String, &Path> = entries.collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let of_log = |error: Error| error.context(format!("in the log of the sink that writes `{}`", location.written));
    let names: Vec<String> = entries.keys().cloned().collect();
    let mut texts = Vec::new();
    for name in entries_to_read(&names).map_err(of_log)? {
        let path = entries.get(&name).copied().ok_or_else(|| Error::internal("an entry that was not listed"))?;
        let read = async { location.store.get(path).await?.bytes().await };
        let bytes = read.await.map_err(|error| of_log(unavailable(location, error)))?;
        texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
    }
    files(texts).map(Some).map_err(of_log)
}

/// The objects that are logged, and the logged files that are no objects. The folder may lie elsewhere than when it was
/// written, so what counts is the path below it.
fn matched(folder: &Path, listed: &[ObjectMeta], logged: Vec<LoggedFile>) -> (Vec<ObjectMeta>, Vec<LoggedFile>) {
    let mut by_name: HashMap<String, Vec<(String, LoggedFile)>> = HashMap::new();
    for file in logged {
        let path = percent_decoded(&file.path);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        by_name.entry(name).or_default().push((path, file));
    }
    let mut counted = Vec::new();
    for meta in listed {
        let Some(path) = below(meta.location.as_ref(), folder.as_ref()) else { continue };
        let Some(candidates) = meta.location.filename().and_then(|name| by_name.get_mut(name)) else { continue };
        let ending = format!("/{path}");
        if let Some(found) = candidates.iter().position(|(logged, _)| logged.ends_with(&ending)) {
            candidates.swap_remove(found);
            counted.push(meta.clone());
        }
    }
    let mut missing: Vec<LoggedFile> = by_name.into_values().flatten().map(|(_, file)| file).collect();
    missing.sort_by(|a, b| a.path.cmp(&b.path));
    (counted, missing)
}

fn unavailable(location: &Location, error: object_store::Error) -> Error {
    Error::new(Kind::Unavailable, format!("cannot read below `{}`: {error}", location.written)).with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_found_wherever_the_folder_lies() {
        let logged = |path: &str| LoggedFile::added(path.to_owned(), 1, 1);
        let meta = |path: &str| ObjectMeta {
            location: Path::parse(path).unwrap(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        let all = vec![logged("s3://bucket/out/day=a%20b/part-1.json"), logged("file:///out/part-2.json")];
        let listed = ["x/y/day=a b/part-1.json", "x/y/day=c/part-1.json", "x/y/part-3.json"].map(meta);
        let (counted, missing) = matched(&Path::parse("x/y").unwrap(), &listed, all.clone());
        assert_eq!(counted, listed[..1]);
        assert_eq!(missing, all[1..]);
    }
}
