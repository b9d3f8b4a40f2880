//! How files are compressed, by the names that Spark has for it.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use bzip2::write::BzEncoder;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use flate2::write::{GzEncoder, ZlibEncoder};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};

/// The setting that says how Parquet files are compressed unless the option does.
const PARQUET_CODEC: &str = "spark.sql.parquet.compression.codec";

/// The compression of a file of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Gzip,
    Deflate,
    Bzip2,
    Zstd,
}

fn option(options: &ReadOptions) -> Option<String> {
    options.get("compression").or_else(|| options.get("codec")).map(str::to_ascii_lowercase)
}

fn not_available(name: &str, available: &str) -> Error {
    Error::user(format!("the codec `{name}` is not available"))
        .with_condition("CODEC_NOT_AVAILABLE.WITH_AVAILABLE_CODECS_SUGGESTION")
        .with_help(format!("Use {available}."))
}

impl Codec {
    /// The one that options name.
    ///
    /// # Errors
    /// `User` for a name that is none; `Unsupported` for codecs in frames that only Hadoop knows.
    pub(super) fn new(options: &ReadOptions) -> Result<Self> {
        match option(options).as_deref() {
            None | Some("none" | "uncompressed") => Ok(Self::None),
            Some("gzip") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some("bzip2") => Ok(Self::Bzip2),
            Some("zstd") => Ok(Self::Zstd),
            Some(name @ ("snappy" | "lz4")) => Err(Error::unsupported(format!("text files with compression `{name}`"))
                .with_help("Use gzip, zstd, bzip2, deflate or none.")),
            Some(name) => Err(not_available(name, "gzip, zstd, bzip2, deflate or none")),
        }
    }

    /// What names of files have after that of the format.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Deflate => ".deflate",
            Self::Bzip2 => ".bz2",
            Self::Zstd => ".zst",
        }
    }

    pub(super) fn encoder(self, file: File) -> io::Result<Encoder> {
        let file = BufWriter::new(file);
        Ok(match self {
            Self::None => Encoder::None(file),
            Self::Gzip => Encoder::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Self::Deflate => Encoder::Deflate(ZlibEncoder::new(file, flate2::Compression::default())),
            Self::Bzip2 => Encoder::Bzip2(BzEncoder::new(file, bzip2::Compression::best())),
            Self::Zstd => Encoder::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }
}

/// A file that takes bytes as they are and keeps them compressed.
pub(super) enum Encoder {
    None(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Deflate(ZlibEncoder<BufWriter<File>>),
    Bzip2(BzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Encoder {
    pub(super) fn finish(self) -> io::Result<File> {
        let file = match self {
            Self::None(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Deflate(encoder) => encoder.finish()?,
            Self::Bzip2(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::None(file) => file,
            Self::Gzip(encoder) => encoder,
            Self::Deflate(encoder) => encoder,
            Self::Bzip2(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

/// The compression of Parquet files by options and settings, and what names of files have before `parquet`.
///
/// # Errors
/// `User` for a name that is none; `Unsupported` for codecs that cannot be written.
pub(super) fn parquet_compression(options: &ReadOptions, conf: &SparkConf) -> Result<(Compression, &'static str)> {
    let set = || conf.get(PARQUET_CODEC).map(|name| name.to_ascii_lowercase());
    match option(options).or_else(set).as_deref() {
        None | Some("snappy") => Ok((Compression::SNAPPY, "snappy")),
        Some("none" | "uncompressed") => Ok((Compression::UNCOMPRESSED, "")),
        Some("gzip") => Ok((Compression::GZIP(GzipLevel::default()), "gz")),
        Some("zstd") => Ok((Compression::ZSTD(ZstdLevel::default()), "zstd")),
        Some("lz4_raw") => Ok((Compression::LZ4_RAW, "lz4raw")),
        Some(name @ ("lz4" | "lzo" | "brotli")) => {
            Err(Error::unsupported(format!("Parquet files with compression `{name}`"))
                .with_help("Use snappy, zstd, gzip, lz4_raw or none."))
        }
        Some(name) => Err(not_available(name, "snappy, zstd, gzip, lz4_raw or none")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    fn named(name: &str) -> ReadOptions {
        ReadOptions::from_iter([("compression", name)])
    }

    #[test]
    fn what_was_compressed_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let path = folder.path().join(name);
            let mut encoder = Codec::new(&named(name)).unwrap().encoder(File::create(&path).unwrap()).unwrap();
            encoder.write_all(b"line\n").unwrap();
            encoder.finish().unwrap();
            File::open(path).unwrap()
        };
        let check = |mut decoder: Box<dyn Read>| {
            let mut text = String::new();
            decoder.read_to_string(&mut text).unwrap();
            assert_eq!(text, "line\n");
        };
        check(Box::new(read("none")));
        check(Box::new(flate2::read::GzDecoder::new(read("gzip"))));
        check(Box::new(flate2::read::ZlibDecoder::new(read("deflate"))));
        check(Box::new(bzip2::read::BzDecoder::new(read("bzip2"))));
        check(Box::new(zstd::Decoder::new(read("zstd")).unwrap()));
    }

    #[test]
    fn other_names_are_refused() {
        assert!(Codec::new(&named("snappy")).unwrap_err().to_string().contains("compression `snappy`"));
        let unknown = "CODEC_NOT_AVAILABLE.WITH_AVAILABLE_CODECS_SUGGESTION";
        assert_eq!(Codec::new(&named("x")).unwrap_err().condition(), Some(unknown));
        let conf = SparkConf::pipeline_defaults();
        assert_eq!(parquet_compression(&named("x"), &conf).unwrap_err().condition(), Some(unknown));
        assert_eq!(parquet_compression(&ReadOptions::new(), &conf).unwrap(), (Compression::SNAPPY, "snappy"));
    }
}
