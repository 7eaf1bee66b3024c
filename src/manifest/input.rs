//! The input of a filter: a file, or any stream of bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use same_file::Handle;

use super::compression::{self, Decoded, ManifestCompression};
use crate::error::{Error, Result};

/// A manifest to read, from a file or a stream, with an optional callback for progress.
pub struct ManifestInput<'a> {
    source: Source<'a>,
    name: String,
    bytes: Option<u64>,
    /// The compression that the name tells.
    compression: ManifestCompression,
    progress: Progress<'a>,
    /// Tells whether another name means the same file.
    identity: Option<Handle>,
}

type Progress<'a> = Box<dyn FnMut(u64) + 'a>;

enum Source<'a> {
    File(File),
    Stream(Box<dyn Read + 'a>),
}

impl<'a> ManifestInput<'a> {
    /// Opens a file. A file whose name says that it is compressed must be; other files are
    /// decompressed if their first bytes say that they are compressed.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be opened;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is a directory.
    pub fn file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| Error::io("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            let message =
                format!("manifest: expected a file, got the directory {}", path.display());
            return Err(Error::invalid(message));
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        let name = path.display().to_string();
        Ok(Self {
            source: Source::File(file),
            name,
            bytes,
            compression: ManifestCompression::from_path(path),
            progress: Box::new(|_bytes| {}),
            identity: Handle::from_path(path).ok(),
        })
    }

    /// Reads a stream, such as standard input. Compression is detected by the first bytes. Parquet,
    /// which is read from its end, is copied to a temporary file first.
    pub fn stream(stream: impl Read + 'a) -> Self {
        Self {
            source: Source::Stream(Box::new(stream)),
            name: "manifest".to_owned(),
            bytes: None,
            compression: ManifestCompression::Plain,
            progress: Box::new(|_bytes| {}),
            identity: None,
        }
    }

    /// Calls `progress` now and then with the bytes read since the last call.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Returns the length in bytes, if it is known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Returns whether this is the file at a path, by whatever name.
    pub(super) fn is_file_at(&self, path: &Path) -> bool {
        let there = Handle::from_path(path).ok();
        self.identity.is_some() && there.is_some_and(|there| self.identity == Some(there))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the decompressed bytes. Every read is reported to `progress`.
    pub(super) fn into_reader(self, memory: u64) -> io::Result<Decoded<'a>> {
        let stream: Box<dyn Read + 'a> = match self.source {
            Source::File(file) => Box::new(file),
            Source::Stream(stream) => stream,
        };
        let watched = Watched { stream, progress: self.progress };
        compression::decode(Box::new(watched), self.compression, memory)
    }

    /// Returns a file that can be read at any offset, and the callback for progress.
    pub(super) fn into_file(self) -> Result<(File, Progress<'a>)> {
        match self.source {
            Source::File(file) if self.bytes.is_some() => Ok((file, self.progress)),
            source => {
                let failed = |error| {
                    Error::new(
                        crate::error::ErrorKind::Io,
                        "cannot copy the manifest to a temporary file",
                    )
                    .with_source(error)
                };
                let mut stream: Box<dyn Read + 'a> = match source {
                    Source::File(file) => Box::new(file),
                    Source::Stream(stream) => stream,
                };
                let mut file = tempfile::tempfile().map_err(failed)?;
                io::copy(&mut stream, &mut file).map_err(failed)?;
                Ok((file, self.progress))
            }
        }
    }
}

impl fmt::Debug for ManifestInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestInput")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

struct Watched<'a> {
    stream: Box<dyn Read + 'a>,
    progress: Progress<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}
