//! Text files as blocks of whole lines, by byte range, decompressed and as UTF-8.

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use deltaworks_spark::{Error, Result};
use encoding_rs::Encoding;
use object_store::ObjectStoreExt;

use super::FileTask;
use crate::errors::{corrupt_file, invalid_option, storage};
use crate::listing::FileEntry;
use crate::options::Options;

/// How much is read at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// How the bytes of a text file become lines.
#[derive(Clone, Debug)]
pub(crate) struct TextLayout {
    encoding: &'static Encoding,
    /// Lines end with this; `None`: with `\n` or `\r\n`.
    pub(crate) separator: Option<String>,
    /// Records may span lines: the file is one block.
    pub(crate) whole_file: bool,
    codec: Option<FileCompressionType>,
}

impl TextLayout {
    /// Reads `encoding`, `lineSep` and `compression`.
    pub(crate) fn parse(options: &Options<'_>, whole_file: bool) -> Result<Self> {
        let encoding = match options.any(&["encoding", "charset"]) {
            None => encoding_rs::UTF_8,
            Some(label) => Encoding::for_label(label.as_bytes())
                .ok_or_else(|| invalid_option("encoding", label, "the name of an encoding such as `UTF-8`"))?,
        };
        let separator = options.get("lineSep").map(|text| text.replace("\\n", "\n").replace("\\r", "\r"));
        if separator.as_deref() == Some("") {
            return Err(invalid_option("lineSep", "", "at least one character"));
        }
        let separator = separator.filter(|text| text != "\n");
        let codec = options.any(&["compression", "codec"]).map(compression_by_name).transpose()?;
        Ok(Self { encoding, separator, whole_file, codec })
    }

    fn codec(&self, file: &FileEntry) -> FileCompressionType {
        self.codec.unwrap_or_else(|| compression_by_extension(file.name()))
    }

    /// Whether byte ranges of the file can be read on their own.
    pub(crate) fn splittable(&self, file: &FileEntry) -> bool {
        !self.whole_file
            && self.separator.is_none()
            && self.encoding == encoding_rs::UTF_8
            && !self.codec(file).is_compressed()
    }
}

fn compression_by_name(name: &str) -> Result<FileCompressionType> {
    match name.to_ascii_lowercase().as_str() {
        "none" | "uncompressed" => Ok(FileCompressionType::UNCOMPRESSED),
        "gzip" | "gz" => Ok(FileCompressionType::GZIP),
        "bzip2" | "bz2" => Ok(FileCompressionType::BZIP2),
        "zstd" | "zst" => Ok(FileCompressionType::ZSTD),
        "xz" => Ok(FileCompressionType::XZ),
        "deflate" | "lz4" | "snappy" => Err(Error::unsupported(format!("compression `{name}`"))),
        _ => Err(invalid_option("compression", name, "none, gzip, bzip2, zstd or xz")),
    }
}

fn compression_by_extension(name: &str) -> FileCompressionType {
    match name.rsplit('.').next().map(str::to_ascii_lowercase).as_deref() {
        Some("gz" | "gzip") => FileCompressionType::GZIP,
        Some("bz2") => FileCompressionType::BZIP2,
        Some("zst" | "zstd") => FileCompressionType::ZSTD,
        Some("xz") => FileCompressionType::XZ,
        _ => FileCompressionType::UNCOMPRESSED,
    }
}

/// Reads a whole file as it is.
pub(crate) async fn read_file(file: &FileEntry) -> Result<Bytes> {
    let read = async { file.store.get(&file.path).await?.bytes().await };
    read.await.map_err(|error| storage(&file.url, error))
}

/// The blocks of one task.
#[derive(Debug)]
pub(crate) struct Blocks {
    task: FileTask,
    layout: TextLayout,
    position: u64,
    carry: Vec<u8>,
    pending: Option<SpawnedTask<object_store::Result<Bytes>>>,
    done: bool,
}

impl Blocks {
    pub(crate) fn open(task: FileTask, layout: &TextLayout) -> Self {
        // One byte more before the range: if it ends a line, the first line of the range is ours.
        let position = task.start.saturating_sub(1);
        let done = task.end <= task.start;
        Self { task, layout: layout.clone(), position, carry: Vec::new(), pending: None, done }
    }

    /// Whether the first line of the next block is the first of the file.
    pub(crate) fn at_file_start(&self) -> bool {
        self.task.start == 0 && self.position == 0
    }

    /// Whole lines, or `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        if self.done {
            return Ok(None);
        }
        let first = self.at_file_start();
        let bytes =
            if self.layout.splittable(&self.task.file) { self.next_lines().await? } else { self.whole().await? };
        if first
            && self.layout.encoding == encoding_rs::UTF_8
            && let Some((marked, _)) = bytes.as_deref().and_then(Encoding::for_bom)
            && marked != encoding_rs::UTF_8
        {
            let why = format!("its byte order mark says {}, but it is read as UTF-8", marked.name());
            return Err(corrupt_file(&self.task.file.url, why).with_help("Set option `encoding` to `UTF-16`."));
        }
        Ok(bytes.map(|bytes| self.text(bytes, first)))
    }

    fn text(&self, bytes: Vec<u8>, first: bool) -> String {
        if self.layout.encoding != encoding_rs::UTF_8 {
            return self.layout.encoding.decode(&bytes).0.into_owned();
        }
        let mut text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        if first && text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        text
    }

    async fn whole(&mut self) -> Result<Option<Vec<u8>>> {
        self.done = true;
        self.position = self.task.end;
        let file = Arc::clone(&self.task.file);
        let bytes = read_file(&file).await?;
        let codec = self.layout.codec(&file);
        if !codec.is_compressed() {
            return Ok(Some(bytes.into()));
        }
        let mut unpacked = Vec::new();
        codec
            .convert_read(Cursor::new(bytes))?
            .read_to_end(&mut unpacked)
            .map_err(|error| corrupt_file(&file.url, error))?;
        Ok(Some(unpacked))
    }

    async fn next_lines(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let before = self.position;
            let Some(bytes) = self.fetch().await? else {
                self.done = true;
                let rest = std::mem::take(&mut self.carry);
                return Ok((!rest.is_empty()).then_some(rest));
            };
            let mut bytes = &bytes[..];
            if self.task.start > 0 && before < self.task.start && self.carry.is_empty() {
                match self.skip_first_line(bytes) {
                    Some(rest) => bytes = rest,
                    None => continue,
                }
                if self.done {
                    return Ok(None);
                }
            }
            if let Some(lines) = self.cut(bytes) {
                return Ok(Some(lines));
            }
        }
    }

    /// The line that began before the range is another task's. `None`: it goes on.
    fn skip_first_line<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        match memchr::memchr(b'\n', bytes) {
            Some(at) => {
                let line_start = self.position - (bytes.len() - at - 1) as u64;
                self.done = line_start >= self.task.end;
                Some(&bytes[at + 1..])
            }
            None => {
                // Move the start: the next fetch goes on with the same line.
                self.task.start = self.position + 1;
                self.done = self.position >= self.task.end;
                None
            }
        }
    }

    /// Adds bytes that end at `position`; gives the lines that are complete.
    fn cut(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let base = self.position - bytes.len() as u64;
        if self.position >= self.task.end {
            // The line that holds the last byte of the range is ours; what follows it is not.
            let from = (self.task.end - 1).saturating_sub(base) as usize;
            if let Some(at) = bytes.get(from..).and_then(|tail| memchr::memchr(b'\n', tail)) {
                self.done = true;
                return Some(self.with_carry(&bytes[..=from + at]));
            }
            self.carry.extend_from_slice(bytes);
            return None;
        }
        match memchr::memrchr(b'\n', bytes) {
            Some(at) => {
                let lines = self.with_carry(&bytes[..=at]);
                self.carry.extend_from_slice(&bytes[at + 1..]);
                Some(lines)
            }
            None => {
                self.carry.extend_from_slice(bytes);
                None
            }
        }
    }

    fn with_carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.carry);
        all.extend_from_slice(bytes);
        all
    }

    /// The next bytes of the file; the ones after them are being read meanwhile.
    async fn fetch(&mut self) -> Result<Option<Bytes>> {
        if self.done || self.position >= self.task.file.size {
            return Ok(None);
        }
        let reading = match self.pending.take() {
            Some(reading) => reading,
            None => self.start_reading(self.position),
        };
        let file = &self.task.file;
        let bytes = reading
            .join()
            .await
            .map_err(|error| Error::internal(format!("reading `{}` was aborted: {error}", file.url)))?
            .map_err(|error| storage(&file.url, error))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.position += bytes.len() as u64;
        if self.position < self.task.file.size && self.position < self.task.end {
            self.pending = Some(self.start_reading(self.position));
        }
        Ok(Some(bytes))
    }

    fn start_reading(&self, from: u64) -> SpawnedTask<object_store::Result<Bytes>> {
        let file = Arc::clone(&self.task.file);
        let to = from.saturating_add(BLOCK_BYTES).min(file.size);
        SpawnedTask::spawn(async move { file.store.get_range(&file.path, from..to).await })
    }
}

/// Cuts a block into lines without their ends; `None` separator: `\n` or `\r\n`.
pub(crate) fn next_line<'a>(block: &'a str, at: &mut usize, separator: Option<&str>) -> Option<&'a str> {
    let rest = block.get(*at..).filter(|rest| !rest.is_empty())?;
    let (end, width) = match separator {
        None => match memchr::memchr(b'\n', rest.as_bytes()) {
            Some(end) => (end, 1),
            None => (rest.len(), 0),
        },
        Some(separator) => match rest.find(separator) {
            Some(end) => (end, separator.len()),
            None => (rest.len(), 0),
        },
    };
    *at += end + width;
    let line = &rest[..end];
    Some(if separator.is_none() { line.strip_suffix('\r').unwrap_or(line) } else { line })
}
