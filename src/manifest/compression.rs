//! Compression of text manifests: detected by file extension or first bytes, decoded while reading,
//! encoded while writing. The magic numbers are three; a detection crate would add more formats
//! than manifests can have.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::error::{Error, Result};

/// How a CSV, TSV or JSON Lines manifest is compressed. Parquet compresses its columns itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestCompression {
    /// Not compressed.
    #[default]
    Plain,
    /// gzip (RFC 1952), of any number of members.
    Gzip,
    /// Zstandard (RFC 8878), of any number of frames.
    Zstd,
}

const BUFFER_BYTES: usize = 1 << 17;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The length of the longest magic number.
const MAGIC_BYTES: u64 = 4;

impl ManifestCompression {
    /// Every compression.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Zstd];

    /// Returns the name: `plain`, `gzip` or `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the compression that a file name's last extension means: `gz` or `zst`; plain for
    /// any other.
    #[must_use]
    pub fn from_path(path: impl AsRef<Path>) -> Self {
        let extension = path.as_ref().extension().unwrap_or_default();
        match extension.to_string_lossy().to_lowercase().as_str() {
            "gz" => Self::Gzip,
            "zst" => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Returns the compression that begins with these bytes. No text format that we read begins
    /// like that.
    fn from_magic(first: &[u8]) -> Self {
        // A Zstandard file may begin with a skippable frame.
        let skippable = |it: &[u8]| it[0] & 0xf0 == 0x50 && it[1..] == [0x2a, 0x4d, 0x18];
        if first.starts_with(GZIP_MAGIC) {
            Self::Gzip
        } else if first.starts_with(ZSTD_MAGIC) || first.len() == 4 && skippable(first) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

impl fmt::Display for ManifestCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ManifestCompression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("compression: expected one of {names}, got `{name}`"))
        })
    }
}

/// Damage that a decoder has found, as opposed to an error of the file system.
#[derive(Debug)]
pub(super) struct Damaged {
    what: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Damaged {}

/// Returns whether a failed read came from the decoder.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Damaged>)
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damaged { what: what.into() })
}

/// Decodes a stream whose first bytes tell its compression. If its name tells one too, they must
/// agree.
pub(super) fn decode<'a>(
    mut stream: Box<dyn Read + 'a>,
    named: ManifestCompression,
) -> io::Result<(ManifestCompression, Box<dyn Read + 'a>)> {
    let mut first = Vec::new();
    (&mut stream).take(MAGIC_BYTES).read_to_end(&mut first)?;
    let found = ManifestCompression::from_magic(&first);
    if named != ManifestCompression::Plain && named != found {
        return Err(damaged(if first.is_empty() {
            format!("expected {named}, got an empty file")
        } else {
            format!("is named as {named}, but its contents are not")
        }));
    }
    let stream = Cursor::new(first).chain(stream);
    let failed = Rc::new(Cell::new(false));
    let source = Source { stream, failed: Rc::clone(&failed) };
    let decoder: Box<dyn Read + 'a> = match found {
        ManifestCompression::Plain => return Ok((found, Box::new(source))),
        ManifestCompression::Gzip => {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, source)))
        }
        ManifestCompression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(
            BufReader::with_capacity(BUFFER_BYTES, source),
        )?),
    };
    Ok((found, Box::new(Decoder { stream: decoder, failed, compression: found })))
}

/// Remembers whether the compressed bytes themselves could not be read.
struct Source<R> {
    stream: R,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        let refused = |error: &io::Error| error.kind() != io::ErrorKind::Interrupted;
        self.failed.set(read.as_ref().is_err_and(refused));
        read
    }
}

struct Decoder<'a> {
    stream: Box<dyn Read + 'a>,
    failed: Rc<Cell<bool>>,
    compression: ManifestCompression,
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).map_err(|error| {
            if self.failed.get() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let compression = self.compression;
            damaged(match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("is truncated in the middle of its {compression} data")
                }
                _ => format!("its {compression} data is damaged: {error}"),
            })
        })
    }
}

/// Compresses what is written to it. Incomplete before [`finish`](Self::finish).
pub(super) enum Encoder<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(output: W, compression: ManifestCompression) -> io::Result<Self> {
        Ok(match compression {
            ManifestCompression::Plain => Self::Plain(output),
            ManifestCompression::Gzip => {
                Self::Gzip(GzEncoder::new(output, flate2::Compression::default()))
            }
            ManifestCompression::Zstd => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                let mut encoder = zstd::stream::write::Encoder::new(output, level)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }?
        .flush()
    }
}
