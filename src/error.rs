//! The crate's one error type.
//!
//! The message is for people: it names the argument or the path, what was expected and what came.
//! [`ErrorKind`] is for programs. Errors of the file-format crates are kept as the source only, so
//! that their releases never change this crate's API.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Cheap to clone: a recorder keeps its first failure and returns it again
/// from every later call.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is not what its documentation asks for. Nothing was changed or recorded.
    InvalidArgument,
    /// A run, a column or an example that was asked for does not exist.
    NotFound,
    /// Something that must be new already exists.
    AlreadyExists,
    /// Another process or recorder is using the run.
    Busy,
    /// A file system operation failed.
    Io,
    /// A file is damaged: a checksum, a length or an encoding is wrong.
    Corrupt,
    /// A file is sound but was not written by this crate, or by a later version of it.
    UnsupportedFormat,
    /// A manifest's rows do not parse, or their ids do not match the scores.
    Manifest,
    /// A selection would keep no row, or there is nothing to read.
    Empty,
    /// The recorder stopped recording earlier; the message carries its first failure.
    Stopped,
    /// Copying rows or weights from a device failed.
    Device,
}

impl Error {
    /// Returns the kind of error, for programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Makes the error of a device that rows or weights have to come from, for hooks. `action` is a
    /// verb phrase such as "wait for the batch".
    #[must_use]
    pub fn device(action: &str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(ErrorKind::Device, format!("device: cannot {action}")).with_source(source)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn corrupt(path: &Path, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{}: {what}", path.display()))
    }

    pub(crate) fn unsupported_format(path: &Path, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::UnsupportedFormat, format!("{}: {what}", path.display()))
    }

    /// Makes the error of a failed file system operation. `action` is a verb phrase such as
    /// "create" or "append to".
    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {action} {}", path.display())).with_source(source)
    }

    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn StdError + Send + Sync + 'static>>,
    ) -> Self {
        let (kind, message) = (self.0.kind, self.0.message.clone());
        Self(Arc::new(Inner { kind, message, source: Some(source.into()) }))
    }

    /// Returns the same error with a prefix to its message.
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        // The whole message, with the source that only the innermost error displays.
        let message = format!("{what}: {self}");
        let kind = self.0.kind;
        Self(Arc::new(Inner { kind, message, source: Some(Box::new(self)) }))
    }

    /// Returns the operating system's error at the root of this one, if any.
    pub(crate) fn io_error(&self) -> Option<&std::io::Error> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref() {
                return Some(io);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // A source from another crate belongs on the line that a person reads. A chain of our own
        // errors already has it in the message.
        match &self.0.source {
            Some(source) if !source.is::<Error>() => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
