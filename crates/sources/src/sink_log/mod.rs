//! Which files of a folder count: the log that a file sink keeps there, `_spark_metadata`, in Spark's format.
//!
//! Each batch adds an entry, a file with a number: a line with the version, then a line of JSON for each file of the batch.
//! Files that no entry names are leftovers of attempts that failed. Every tenth entry (`9.compact`) repeats all before it,
//! so that a reader needs the last of those and what came after. Entries that two others have repeated are removed.
//!
//! # Source
//! Spark's `FileStreamSinkLog`, "v1"; what Spark 4.2 writes.

mod counted;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};

use deltaworks_spark::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use self::counted::{IGNORE_SINK_LOGS, counted};

/// The folder of the log, in that of the sink.
const LOG_FOLDER: &str = "_spark_metadata";

/// The first line of an entry.
const VERSION: &str = "v1";
/// Every so many entries, one repeats all before it.
const COMPACT_INTERVAL: u64 = 10;
const COMPACT_SUFFIX: &str = ".compact";
/// How often a log is read that may be changing.
const ATTEMPTS: u32 = 10;
/// What Spark says of files that have no blocks.
const BLOCK_SIZE: u64 = 32 << 20;

/// A file as the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedFile {
    /// Its URL.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Never: folders are not logged.
    pub is_dir: bool,
    /// Milliseconds since the epoch.
    pub modification_time: i64,
    /// Of no meaning to local files.
    pub block_replication: i32,
    /// Of no meaning to local files.
    pub block_size: u64,
    /// `add`, or, by old versions of Spark, `delete`.
    pub action: String,
}

impl LoggedFile {
    /// A file that counts.
    pub fn added(path: String, size: u64, modified_ms: i64) -> Self {
        let action = "add".to_owned();
        Self {
            path,
            size,
            is_dir: false,
            modification_time: modified_ms,
            block_replication: 1,
            block_size: BLOCK_SIZE,
            action,
        }
    }
}

/// The log of a sink in a local folder, to be written.
#[derive(Debug, Clone)]
pub struct SinkLog {
    target: PathBuf,
}

impl SinkLog {
    /// The log of the sink that writes to `target`. There need not be one yet.
    pub fn new(target: &FilePath) -> Self {
        Self { target: target.to_owned() }
    }

    /// The files that count.
    ///
    /// # Errors
    /// `Data` if the log is damaged.
    pub fn files(&self) -> Result<Vec<LoggedFile>> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.read() {
                // Entries that came or were removed while the folder was listed.
                Err(_) if attempts < ATTEMPTS => {}
                read => return read.map_err(|error| self.of_log(error)),
            }
        }
    }

    fn read(&self) -> Result<Vec<LoggedFile>> {
        let names = entries_to_read(&self.names()?)?;
        let texts = names.into_iter().map(|name| -> Result<_> {
            let text = fs::read_to_string(self.folder().join(&name))?;
            Ok((name, text))
        });
        files(texts.collect::<Result<Vec<_>>>()?)
    }

    /// Adds an entry with files in the folder: from now on they count, all or none. Nobody who adds at the same time is lost.
    ///
    /// # Errors
    /// `Data` if the log is damaged; those of the disk.
    pub fn add(&self, new: &[LoggedFile]) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(&folder)?;
        // What is going to be named must be there after a power cut, too.
        fs::File::open(&self.target)?.sync_all()?;
        loop {
            let number = self.names()?.iter().filter_map(|name| number_of(name)).max().map_or(0, |last| last + 1);
            let is_compact = (number + 1) % COMPACT_INTERVAL == 0;
            let (name, text) = match is_compact {
                true => (format!("{number}{COMPACT_SUFFIX}"), text_of(self.files()?.iter().chain(new))?),
                false => (number.to_string(), text_of(new.iter())?),
            };
            let mut file = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(&folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            readable_by_all(file.as_file())?;
            match file.persist_noclobber(folder.join(name)) {
                Ok(_) => {}
                Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => continue,
                Err(failed) => return Err(self.of_log(failed.error.into())),
            }
            fs::File::open(&folder)?.sync_all()?;
            if is_compact {
                self.remove_repeated(number);
            }
            return Ok(());
        }
    }

    fn folder(&self) -> PathBuf {
        self.target.join(LOG_FOLDER)
    }

    /// What is in the log's folder.
    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Removes what the entry before `compact` that repeats all has repeated: a reader that has just listed the log needs no
    /// more than that one.
    fn remove_repeated(&self, compact: u64) {
        let Ok(names) = self.names() else { return };
        let old = |name: &String| number_of(name).is_some_and(|number| number + COMPACT_INTERVAL < compact);
        for name in names.iter().filter(|name| old(name)) {
            if let Err(error) = fs::remove_file(self.folder().join(name)) {
                tracing::debug!(%error, name, "an old entry of a sink's log stays");
            }
        }
    }

    fn of_log(&self, error: Error) -> Error {
        error.context(format!("in the log of the sink, `{}`", self.folder().display()))
    }
}

/// The URL of a local file, as the log has it.
///
/// # Errors
/// `Internal` unless the path is absolute.
pub fn logged_path(file: &FilePath) -> Result<String> {
    let url = Url::from_file_path(file);
    url.map(String::from).map_err(|()| Error::internal(format!("`{}` is not absolute", file.display())))
}

/// Temporary files are their owner's alone; those who may read the folder may read its log.
#[cfg(unix)]
fn readable_by_all(file: &fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.set_permissions(fs::Permissions::from_mode(0o644))?)
}

#[cfg(not(unix))]
fn readable_by_all(_: &fs::File) -> Result<()> {
    Ok(())
}

/// The number of an entry; `None` for anything else in the folder.
fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(COMPACT_SUFFIX).unwrap_or(name).parse().ok()
}

/// Those of the names that must be read, in their order: the last entry that repeats all before it, and those after it.
///
/// # Errors
/// `Data` if one is missing.
fn entries_to_read(names: &[String]) -> Result<Vec<String>> {
    let is_compact = |name: &str| name.ends_with(COMPACT_SUFFIX);
    let mut entries: Vec<(u64, &String)> =
        names.iter().filter_map(|name| number_of(name).map(|number| (number, name))).collect();
    let first = entries.iter().filter(|(_, name)| is_compact(name)).map(|(number, _)| *number).max().unwrap_or(0);
    entries.retain(|(number, name)| *number > first || (*number == first && (is_compact(name) || first == 0)));
    entries.sort();
    for ((number, _), expected) in entries.iter().zip(first..) {
        if *number != expected {
            return Err(Error::new(Kind::Data, format!("entry {expected} is missing"))
                .with_help(format!("Restore it, or set `{IGNORE_SINK_LOGS}` to true to read whatever is there.")));
        }
    }
    Ok(entries.into_iter().map(|(_, name)| name.clone()).collect())
}

/// The files that count after these entries, in their order, each with its name.
///
/// # Errors
/// `Data` if an entry is damaged; `Unsupported` if it has another version.
fn files(entries: Vec<(String, String)>) -> Result<Vec<LoggedFile>> {
    let mut all: Vec<LoggedFile> = Vec::new();
    for (name, text) in entries {
        let mut lines = text.lines();
        match lines.next() {
            Some(VERSION) => {}
            Some(other) if other.starts_with('v') => {
                return Err(Error::unsupported(format!("entry `{name}` of version `{other}`")));
            }
            _ => return Err(Error::new(Kind::Data, format!("entry `{name}` is not one of a sink's log"))),
        }
        for line in lines.filter(|line| !line.is_empty()) {
            let file: LoggedFile = serde_json::from_str(line)
                .map_err(|error| Error::new(Kind::Data, format!("entry `{name}` is damaged: {error}")))?;
            match file.action.as_str() {
                "delete" => all.retain(|known| known.path != file.path),
                _ => all.push(file),
            }
        }
    }
    Ok(all)
}

fn text_of<'a>(files: impl Iterator<Item = &'a LoggedFile>) -> Result<String> {
    let mut text = VERSION.to_owned();
    for file in files {
        let line = serde_json::to_string(file)
            .map_err(|error| Error::internal(format!("a file of a sink's log cannot be written: {error}")))?;
        text.push('\n');
        text.push_str(&line);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(number: i64) -> LoggedFile {
        LoggedFile::added(format!("file:///out/part-{number}.json"), 26, number)
    }

    fn names(log: &SinkLog) -> Vec<String> {
        let mut names = log.names().unwrap();
        names.sort_by_key(|name| number_of(name));
        names
    }

    #[test]
    fn entries_are_those_that_spark_writes() {
        let folder = tempfile::tempdir().unwrap();
        let log = SinkLog::new(folder.path());
        assert_eq!(log.files().unwrap(), []);
        log.add(&[file(1_795_378_529_682), file(2)]).unwrap();
        let expected = r#"v1
{"path":"file:///out/part-1795378529682.json","size":26,"isDir":false,"modificationTime":1795378529682,"blockReplication":1,"blockSize":33554432,"action":"add"}
{"path":"file:///out/part-2.json","size":26,"isDir":false,"modificationTime":2,"blockReplication":1,"blockSize":33554432,"action":"add"}"#;
        assert_eq!(fs::read_to_string(folder.path().join("_spark_metadata/0")).unwrap(), expected);
    }

    #[test]
    fn every_tenth_entry_repeats_all_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = SinkLog::new(folder.path());
        for number in 0..31 {
            log.add(&[file(number)]).unwrap();
            assert_eq!(log.files().unwrap(), (0..=number).map(file).collect::<Vec<_>>());
        }
        let kept = (19..31).map(|number| format!("{number}{}", if number % 10 == 9 { ".compact" } else { "" }));
        assert_eq!(names(&log), kept.collect::<Vec<_>>());
        // Who has listed the log before the last entry that repeats all finds what it needs.
        let before: Vec<String> = names(&log).into_iter().filter(|name| number_of(name).unwrap() < 29).collect();
        assert_eq!(entries_to_read(&before).unwrap()[0], "19.compact");
    }

    #[test]
    fn a_missing_or_damaged_entry_is_an_error() {
        let of = |names: &[&str]| entries_to_read(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["1", "0", ".0.crc", ".x.tmp"]).unwrap(), ["0", "1"]);
        assert_eq!(of(&["8", "9.compact", "10"]).unwrap(), ["9.compact", "10"]);
        assert_eq!(of(&[]).unwrap(), [""; 0]);
        for names in [&["9.compact", "11"][..], &["1"], &["0", "2"]] {
            assert!(of(names).unwrap_err().to_string().contains("is missing"), "{names:?}");
        }
        let parsed = |text: &str| files(vec![("0".to_owned(), text.to_owned())]);
        assert!(parsed("v2\n").unwrap_err().to_string().contains("version `v2`"));
        assert!(parsed("v1\n{").unwrap_err().to_string().contains("is damaged"));
        assert!(parsed("").is_err());
        let gone = LoggedFile { action: "delete".to_owned(), ..file(1) };
        let text = text_of([file(1), file(2), gone].iter()).unwrap();
        assert_eq!(parsed(&text).unwrap(), [file(2)]);
    }

    #[test]
    fn who_adds_at_the_same_time_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = SinkLog::new(folder.path());
                scope.spawn(move || (0..15).for_each(|number| log.add(&[file(writer * 100 + number)]).unwrap()));
            }
        });
        let mut files: Vec<i64> =
            SinkLog::new(folder.path()).files().unwrap().iter().map(|file| file.modification_time).collect();
        files.sort();
        assert_eq!(files, (0..4).flat_map(|writer| (0..15).map(move |n| writer * 100 + n)).collect::<Vec<i64>>());
    }
}
