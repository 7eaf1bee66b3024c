//! Compression of text manifests: detected by file extension or first bytes, decoded while reading,
//! encoded while writing. The magic numbers are three; a detection crate would add more formats
//! than manifests can have.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

use flate2::bufread::GzDecoder;
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
/// The length of the longest header that is looked at: that of a Zstandard frame.
const HEADER_BYTES: u64 = 18;
/// A decoder may take this much memory unless more is allowed.
pub(super) const DEFAULT_MEMORY: u64 = 1 << 30;

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
        let skippable = matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if first.starts_with(GZIP_MAGIC) {
            Self::Gzip
        } else if first.starts_with(ZSTD_MAGIC) || skippable {
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

/// A stream of decompressed bytes.
pub(super) struct Decoded<'a> {
    pub(super) compression: ManifestCompression,
    pub(super) stream: Box<dyn Read + 'a>,
    /// After the end: how many bytes behind the compressed data were ignored.
    pub(super) ignored: Rc<Cell<u64>>,
}

/// Decodes a stream whose first bytes tell its compression. If its name tells one too, they must
/// agree. The decoder may take so much `memory`.
pub(super) fn decode<'a>(
    mut stream: Box<dyn Read + 'a>,
    named: ManifestCompression,
    memory: u64,
) -> io::Result<Decoded<'a>> {
    let mut first = Vec::new();
    (&mut stream).take(HEADER_BYTES).read_to_end(&mut first)?;
    let compression = ManifestCompression::from_magic(&first);
    if named != ManifestCompression::Plain && named != compression {
        return Err(damaged(if first.is_empty() {
            format!("expected {named}, got an empty file")
        } else {
            format!("is named as {named}, but its contents are not")
        }));
    }
    let ignored = Rc::new(Cell::new(0));
    let window = window_bytes(&first);
    let failed = Rc::new(Cell::new(false));
    let source = Source { stream: Cursor::new(first).chain(stream), failed: Rc::clone(&failed) };
    let source = BufReader::with_capacity(BUFFER_BYTES, source);
    let stream: Box<dyn Read + 'a> = match compression {
        ManifestCompression::Plain => {
            return Ok(Decoded { compression, stream: Box::new(source), ignored });
        }
        ManifestCompression::Gzip => {
            let ignored = Rc::clone(&ignored);
            Box::new(GzipMembers { member: Some(GzDecoder::new(source)), ignored })
        }
        ManifestCompression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            // 10 and 31 are the limits of the library.
            decoder.window_log_max(memory.max(1).ilog2().clamp(10, 31))?;
            Box::new(decoder)
        }
    };
    let decoder = Decoder { stream, failed, compression, window, memory };
    Ok(Decoded { compression, stream: Box::new(decoder), ignored })
}

/// Returns how much memory a decoder needs for the window of the Zstandard frame that begins with
/// these bytes (RFC 8878, section 3.1.1.1.2); `None` if it depends on the frame's length.
fn window_bytes(first: &[u8]) -> Option<u64> {
    match first.strip_prefix(ZSTD_MAGIC)? {
        // Without a window there is no descriptor of one.
        [descriptor, window, ..] if descriptor & 0x20 == 0 => {
            let base = 1 << (10 + (window >> 3));
            Some(base + base / 8 * u64::from(window & 7))
        }
        _ => None,
    }
}

/// Decodes gzip of any number of members. Zeros after the last one, as tapes and some stores leave
/// them, and anything else behind it are ignored, as gunzip does; what is not zeros is counted.
struct GzipMembers<R> {
    member: Option<GzDecoder<R>>,
    ignored: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(member) = self.member.take() else { break };
            self.member = after_member(member.into_inner(), &self.ignored)?.map(GzDecoder::new);
        }
        Ok(0)
    }
}

/// Returns the source if another gzip member follows.
fn after_member<R: BufRead>(mut source: R, ignored: &Cell<u64>) -> io::Result<Option<R>> {
    let mut at_start = true;
    loop {
        let bytes = source.fill_buf()?;
        let Some(&byte) = bytes.first() else { return Ok(None) };
        // The second byte may not be there yet; the decoder checks it.
        if at_start && byte == GZIP_MAGIC[0] && bytes.get(1).is_none_or(|&it| it == GZIP_MAGIC[1]) {
            return Ok(Some(source));
        }
        at_start = false;
        let garbage = bytes.iter().filter(|&&byte| byte != 0).count();
        ignored.set(ignored.get() + garbage as u64);
        let length = bytes.len();
        source.consume(length);
    }
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
    /// What the first Zstandard frame needs, and what is allowed.
    window: Option<u64>,
    memory: u64,
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).map_err(|error| {
            if self.failed.get() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let compression = self.compression;
            damaged(match error.kind() {
                _ if error.to_string().contains("too much memory") => {
                    let [window, memory] = [self.window, Some(self.memory)].map(|bytes| {
                        bytes
                            .map_or("more".to_owned(), |it| format!("{} MiB", it.div_ceil(1 << 20)))
                    });
                    format!(
                        "its zstd window takes {window} of memory and {memory} are allowed; allow \
                         more with `memory`"
                    )
                }
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
