//! How far a Delta table has been read.

use deltaworks_lake::{DataFile, Table};
use deltaworks_spark::streaming::Offset;
use deltaworks_spark::{Error, Result};
use serde::{Deserialize, Serialize};

/// The next thing to read: file `index` of commit `version`, or of the snapshot of `version` (`initial`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) version: u64,
    pub(crate) index: usize,
    pub(crate) initial: bool,
}

impl Position {
    /// Before the first file of the commit `version`.
    pub(crate) fn commit(version: u64) -> Self {
        Self { version, index: 0, initial: false }
    }

    /// Before the first file of the snapshot of `version`.
    pub(crate) fn snapshot(version: u64) -> Self {
        Self { version, index: 0, initial: true }
    }

    /// The files of this position's version that have not been read, each with the position after it.
    ///
    /// After the last one comes the next commit, so that a position tells by itself whether anything is new.
    pub(crate) fn rest(self, files: Vec<DataFile>) -> impl Iterator<Item = PendingFile> {
        let count = files.len();
        files.into_iter().enumerate().skip(self.index).map(move |(index, file)| {
            let last = index + 1 == count;
            let after = if last { Self::commit(self.version + 1) } else { Self { index: index + 1, ..self } };
            PendingFile { file, after }
        })
    }
}

/// A file to read, and where reading goes on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingFile {
    pub(crate) file: DataFile,
    pub(crate) after: Position,
}

/// A position as it is stored with a batch.
#[derive(Debug, Serialize, Deserialize)]
struct StoredOffset {
    table_id: String,
    version: u64,
    index: usize,
    initial: bool,
}

/// The stored form of a position in the table with `table_id`.
pub(crate) fn to_offset(table_id: &str, position: Position) -> Result<Offset> {
    let Position { version, index, initial } = position;
    serde_json::to_value(StoredOffset { table_id: table_id.to_owned(), version, index, initial })
        .map_err(|error| Error::internal(format!("the offset cannot be written: {error}")))
}

/// The position of a stored offset, if `table` is still the table it was written for.
pub(crate) fn from_offset(offset: &Offset, table: &Table) -> Result<Position> {
    let stored: StoredOffset = serde_json::from_value(offset.clone()).map_err(|error| {
        Error::data(format!("`{offset}` is not an offset of a Delta table: {error}"))
            .with_condition("DELTA_INVALID_SOURCE_OFFSET_FORMAT")
            .with_help("Run a full refresh of the reading table.")
    })?;
    let id = table.id()?;
    if stored.table_id != id {
        return Err(Error::user(format!(
            "the table at `{}` was deleted and created again: its id is `{id}` and was `{}` when it was read before",
            table.location(),
            stored.table_id
        ))
        .with_condition("DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE")
        .with_help("Run a full refresh of the reading table."));
    }
    let Position { version, index, initial } =
        Position { version: stored.version, index: stored.index, initial: stored.initial };
    if version > table.version() + 1 {
        return Err(Error::data(format!(
            "the table at `{}` was read up to version {}, but its latest version is {}",
            table.location(),
            version - 1,
            table.version()
        ))
        .with_condition("DELTA_VERSIONS_NOT_CONTIGUOUS")
        .with_help("Its log was replaced; run a full refresh of the reading table."));
    }
    Ok(Position { version, index, initial })
}
