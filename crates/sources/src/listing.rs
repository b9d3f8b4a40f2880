//! Which files a path stands for: globs, recursion, hidden names, the logs of sinks, filters, one deterministic order.

use std::sync::Arc;

use deltaworks_spark::{Error, Kind, Result};
use futures::TryStreamExt;
use globset::GlobMatcher;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::context::{Location, SourceContext};
use crate::errors::path_not_found;
use crate::options::{FileOptions, glob};
use crate::sink_log::{IGNORE_SINK_LOGS, counted};

/// A file as it was listed.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    /// The URL users see.
    pub(crate) url: String,
    /// By which a stream knows it: below the load path as the user wrote it, so that neither moving the pipeline's
    /// folder nor another path mapping makes it a new file.
    pub(crate) key: String,
    pub(crate) size: u64,
    /// Microseconds since the epoch.
    pub(crate) modified_us: i64,
    /// Folders of the form `key=value` between the load path and the file, decoded, in order.
    pub(crate) partition: Vec<(String, Option<String>)>,
}

impl FileEntry {
    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.filename().unwrap_or_default()
    }
}

/// How folders below the load path are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Auto Loader: all folders; `key=value` anywhere below the part of the path without globs.
    All,
    /// Spark: only `key=value` folders, unless `recursiveFileLookup`.
    Partitions,
}

/// Lists the files of all `paths`, ordered by modification time and path. What was written to `badRecordsPath` is not input.
///
/// # Errors
/// `PATH_NOT_FOUND` (`User`) if a path without globs does not exist.
pub(crate) async fn list_files(
    context: &SourceContext,
    paths: &[String],
    options: &FileOptions,
    depth: Depth,
) -> Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    let bad_records = options.bad_records.as_deref().map(|path| context.locate(path)).transpose()?;
    for path in paths {
        let location = context.locate(path)?;
        let pattern = Pattern::new(&location, options.strict_glob)?;
        let mut listed = list_location(context, &location, &pattern, options, depth).await?;
        if let Some(bad_records) = bad_records.as_ref().filter(|bad_records| bad_records.base == location.base) {
            listed.retain(|file| below(file.path.as_ref(), &bad_records.key).is_none());
        }
        files.extend(listed);
    }
    files.retain(|file| accepts(file, options));
    files.sort_by(|a, b| (a.modified_us, &a.url).cmp(&(b.modified_us, &b.url)));
    files.dedup_by(|a, b| a.url == b.url);
    if options.latest_first {
        files.reverse();
    }
    Ok(files)
}

fn accepts(file: &FileEntry, options: &FileOptions) -> bool {
    options.name_pattern.as_ref().is_none_or(|pattern| pattern.is_match(file.name()))
        && options.modified_after.is_none_or(|after| file.modified_us > after)
        && options.modified_before.is_none_or(|before| file.modified_us < before)
}

async fn list_location(
    context: &SourceContext,
    location: &Location,
    pattern: &Pattern,
    options: &FileOptions,
    depth: Depth,
) -> Result<Vec<FileEntry>> {
    let unavailable = |error: object_store::Error| {
        Error::new(Kind::Unavailable, format!("cannot list `{}`: {error}", location.written)).with_source(error)
    };
    if pattern.globs.is_empty()
        && !pattern.root.is_empty()
        && let Ok(meta) = location.store.head(&location.object(&pattern.root)?).await
    {
        return Ok(vec![entry(location, meta, location.written.clone(), Vec::new())]);
    }
    if !location.may_exist(&pattern.root) {
        return Err(path_not_found(&location.written));
    }
    let prefix = location.object(&pattern.root)?;
    let mut metas: Vec<ObjectMeta> = location.store.list(Some(&prefix)).try_collect().await.map_err(unavailable)?;
    if pattern.globs.is_empty() && !ignores_sink_logs(context) {
        let missing = options.ignore_missing || options.bad_records.is_some();
        if let Some(counted) = counted(location, &prefix, &metas, missing).await? {
            refuse_cleaning(location, options)?;
            metas = counted;
        }
    }
    let root_depth = segments(&pattern.root).count();
    let written_root = without_last(&location.written, pattern.globs.len());
    let mut files = Vec::new();
    for meta in metas {
        let parts: Vec<String> = segments(meta.location.as_ref()).skip(root_depth).map(str::to_owned).collect();
        if parts.iter().any(|part| hidden(part)) {
            continue;
        }
        let Some(matched) = pattern.matched(&parts) else { continue };
        let below = match depth {
            Depth::All => 0,
            Depth::Partitions => matched,
        };
        let folders = parts.len().saturating_sub(1);
        let folders = parts.get(below..folders).unwrap_or_default();
        let partition: Vec<_> = folders.iter().filter_map(|folder| key_value(folder)).collect();
        if depth == Depth::Partitions && !options.recursive && partition.len() < folders.len() {
            continue;
        }
        let partition = if depth == Depth::Partitions && options.recursive { Vec::new() } else { partition };
        let key = format!("{written_root}/{}", parts.join("/"));
        files.push(entry(location, meta, key, partition));
    }
    Ok(files)
}

fn ignores_sink_logs(context: &SourceContext) -> bool {
    context.conf.get(IGNORE_SINK_LOGS).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn refuse_cleaning(location: &Location, options: &FileOptions) -> Result<()> {
    match options.clean_source {
        None => Ok(()),
        Some(_) => Err(Error::unsupported(format!("`cleanSource` for `{}`, which a sink writes,", location.written))
            .with_help("Leave the option out: the log of the sink would name files that are gone.")),
    }
}

fn entry(location: &Location, meta: ObjectMeta, key: String, partition: Vec<(String, Option<String>)>) -> FileEntry {
    FileEntry {
        key,
        store: Arc::clone(&location.store),
        url: location.url_of(&meta.location),
        size: meta.size,
        modified_us: meta.last_modified.timestamp_micros(),
        path: meta.location,
        partition,
    }
}

/// A path without its last `count` segments and without a slash at its end.
fn without_last(path: &str, count: usize) -> &str {
    (0..count).fold(path.trim_end_matches('/'), |path, _| {
        path.rsplit_once('/').map_or("", |(parent, _)| parent.trim_end_matches('/'))
    })
}

fn segments(key: &str) -> impl Iterator<Item = &str> {
    key.split('/').filter(|segment| !segment.is_empty())
}

fn hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

fn key_value(folder: &str) -> Option<(String, Option<String>)> {
    let (key, value) = folder.split_once('=')?;
    if key.is_empty() {
        return None;
    }
    let value = percent_decoded(value);
    Some((percent_decoded(key), (value != "__HIVE_DEFAULT_PARTITION__").then_some(value)))
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%')
            .then(|| tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()))
            .flatten()
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The folder that all files of a load path are below: what stands before its first segment with a glob.
pub(crate) fn literal_root(key: &str) -> &str {
    let Some(glob) = key.find(['*', '?', '[', '{']) else { return key };
    key[..glob].rfind('/').map_or("", |slash| &key[..slash])
}

/// The part of `path` below the folder `root`; `None` if there is none.
pub(crate) fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    if root.is_empty() { Some(path) } else { path.strip_prefix(root)?.strip_prefix('/') }
}

/// A load path: a folder without globs, and below it what must match.
struct Pattern {
    root: String,
    globs: Vec<String>,
    matcher: Option<GlobMatcher>,
}

impl Pattern {
    fn new(location: &Location, strict: bool) -> Result<Self> {
        let root = literal_root(&location.key);
        let globs: Vec<String> = segments(&location.key[root.len()..]).map(str::to_owned).collect();
        let matcher = (!globs.is_empty()).then(|| glob("path", &globs.join("/"), strict)).transpose()?;
        Ok(Self { root: root.to_owned(), globs, matcher })
    }

    /// How many of the parts below the root the path itself stands for, if the file is under it.
    fn matched(&self, parts: &[String]) -> Option<usize> {
        let Some(matcher) = &self.matcher else { return Some(0) };
        (1..=parts.len()).find(|&length| matcher.is_match(parts[..length].join("/")))
    }
}
