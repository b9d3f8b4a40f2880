//! `cleanSource`: what becomes of files once a stream has read them for good.

use deltaworks_spark::cast::delay_us;
use deltaworks_spark::{Error, Kind, Result};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::context::{Location, SourceContext};
use crate::errors::invalid_option;
use crate::listing::{FileEntry, below, literal_root};
use crate::options::Options;
use crate::relation::Reader;

const DAY_US: i64 = 86_400_000_000;
/// Auto Loader deletes no file earlier: what was deleted cannot be read again by a full refresh.
const SHORTEST_DELETE_US: i64 = 7 * DAY_US;

/// What the options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CleanSource {
    action: Action,
    /// How long after it was read a file stays.
    retention_us: i64,
    /// Whether the files of a batch may go with the batch itself, as with Spark's own streams of files.
    at_once: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Delete,
    /// To a folder, the user's path.
    Move(String),
}

impl CleanSource {
    /// Reads the options; `None` if files stay where they are.
    pub(crate) fn parse(options: &Options<'_>, reader: Reader) -> Result<Option<Self>> {
        let Some(value) = options.get("cleanSource") else { return Ok(None) };
        let plain = reader == Reader::Plain;
        let expected = if plain { "off, delete or archive" } else { "OFF, DELETE or MOVE" };
        let action = match value.trim().to_ascii_lowercase().as_str() {
            "off" => return Ok(None),
            "delete" => Action::Delete,
            "move" if !plain => Action::Move(destination(options, "cleanSource.moveDestination")?),
            "archive" if plain => Action::Move(destination(options, "sourceArchiveDir")?),
            _ => return Err(invalid_option("cleanSource", value, expected)),
        };
        if plain {
            return Ok(Some(Self { action, retention_us: 0, at_once: true }));
        }
        let key = "cleanSource.retentionDuration";
        let retention_us = match options.get(key) {
            None => 30 * DAY_US,
            Some(text) => delay_us(text).map_err(|_| invalid_option(key, text, "an interval such as `30 days`"))?,
        };
        if action == Action::Delete && retention_us < SHORTEST_DELETE_US {
            return Err(invalid_option(key, options.get(key).unwrap_or_default(), "at least `7 days` with DELETE")
                .with_help("MOVE may be earlier: what was moved can be brought back."));
        }
        Ok(Some(Self { action, retention_us, at_once: false }))
    }

    /// Fails unless files that were read from `paths` can go where they are to go.
    pub(crate) fn check(&self, context: &SourceContext, paths: &[String]) -> Result<()> {
        let Action::Move(to) = &self.action else { return Ok(()) };
        let destination = context.locate(to)?;
        for path in paths {
            let source = context.locate(path)?;
            let wrong = |why: &str| {
                Err(Error::user(format!("files of `{path}` cannot be moved to `{to}`: {why}"))
                    .with_condition("INVALID_PARAMETER_VALUE"))
            };
            if source.base != destination.base {
                return wrong("that is another storage");
            }
            let root = literal_root(&source.key);
            if destination.key == root || below(&destination.key, root).is_some() {
                return wrong("they would be found there again")
                    .map_err(|error: Error| error.with_help("Name a folder that is not below the one that is read."));
            }
        }
        Ok(())
    }
}

fn failed(error: object_store::Error) -> Error {
    Error::new(Kind::Unavailable, error.to_string()).with_source(error)
}

fn destination(options: &Options<'_>, key: &str) -> Result<String> {
    options.get(key).map(str::to_owned).ok_or_else(|| {
        Error::user(format!("option `{key}` is required where `cleanSource` moves files"))
            .with_condition("CF_MISSING_REQUIRED_OPTION")
            .with_help(format!("Set `{key}` to a folder that is not below the one that is read."))
    })
}

/// Clears away what a reader names, whenever one of its batches counts.
pub(super) struct Cleaner {
    clean: CleanSource,
    /// The folders that are read.
    roots: Vec<Location>,
    destination: Option<Location>,
    /// What may go with the next batch that counts.
    pending: Vec<FileEntry>,
}

impl Cleaner {
    pub(super) fn new(clean: &CleanSource, context: &SourceContext, paths: &[String]) -> Result<Self> {
        let destination = match &clean.action {
            Action::Delete => None,
            Action::Move(to) => Some(context.locate(to)?),
        };
        let roots = paths.iter().map(|path| context.locate(path)).collect::<Result<_>>()?;
        Ok(Self { clean: clean.clone(), roots, destination, pending: Vec::new() })
    }

    /// Takes note of a file of an earlier batch, which was found at `discovered_us`.
    pub(super) fn was_read(&mut self, file: &FileEntry, discovered_us: i64, now_us: i64) {
        if now_us.saturating_sub(discovered_us) >= self.clean.retention_us {
            self.pending.push(file.clone());
        }
    }

    /// Takes note of the files of the batch that comes next.
    pub(super) fn is_read(&mut self, files: &[FileEntry]) {
        if self.clean.at_once {
            self.pending.extend_from_slice(files);
        }
    }

    /// Clears away what is pending. The rows are stored, so a file that cannot go does not fail the flow: it is tried
    /// again after the first batch of the next update.
    pub(super) async fn clean(&mut self) {
        for file in std::mem::take(&mut self.pending) {
            let cleaned = match &self.destination {
                None => file.store.delete(&file.path).await.map_err(failed),
                Some(destination) => self.move_to(&file, destination).await,
            };
            if let Err(error) = cleaned {
                tracing::warn!(file = file.url, %error, "a file that was read could not be cleared away");
            }
        }
    }

    /// Moves a file to the same place below `destination`; nothing is overwritten there.
    async fn move_to(&self, file: &FileEntry, destination: &Location) -> Result<()> {
        let below = self.roots.iter().find_map(|root| below(file.path.as_ref(), literal_root(&root.key)));
        let target = Path::parse(format!("{}/{}", destination.key, below.unwrap_or(file.name())))
            .map_err(|error| Error::user(error.to_string()))?;
        if file.store.head(&target).await.is_ok() {
            return Err(Error::user(format!("`{}` exists", destination.url_of(&target))));
        }
        file.store.rename(&file.path, &target).await.map_err(failed)
    }
}
