//! What can go wrong, as one opaque type.
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

/// An error of this crate. Cheap to clone: a recorder keeps its first failure and tells it again on
/// every later call.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What class of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is not what its documentation asks for. Nothing was changed or recorded.
    InvalidArgument,
    /// Something that was asked for (a run, a column, an example) is not there.
    NotFound,
    /// Something that would have to be new is there already.
    AlreadyExists,
    /// Another process or recorder is using the run.
    Busy,
    /// The file system refused.
    Io,
    /// A file is damaged: a checksum, a length or an encoding does not hold.
    Corrupt,
    /// A file is sound but not one of ours, or of a version this crate does not know.
    Foreign,
    /// A manifest's rows do not parse, or their ids do not fit the scores.
    Manifest,
    /// A selection would keep no row.
    Empty,
    /// The recorder stopped recording earlier; the message carries its first failure.
    Stopped,
    /// A device that rows or weights had to come from refused.
    Device,
}

impl Error {
    /// The class of the error, for programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The refusal of a device that rows or weights have to come from, for hooks: what `source` says
    /// about `action`, a verb phrase ("wait for the batch").
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

    pub(crate) fn foreign(path: &Path, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Foreign, format!("{}: {what}", path.display()))
    }

    /// An operating system's refusal: `action` is a verb phrase ("create", "append to").
    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {action} {}", path.display())).with_source(source)
    }

    pub(crate) fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        let (kind, message) = (self.0.kind, self.0.message.clone());
        Self(Arc::new(Inner { kind, message, source: Some(Box::new(source)) }))
    }

    /// The same error with words in front of its message.
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        // Whole, with the reason of a refusal, which only the innermost error shows by itself.
        let message = format!("{what}: {self}");
        let kind = self.0.kind;
        Self(Arc::new(Inner { kind, message, source: Some(Box::new(self)) }))
    }

    /// The operating system's error this one stems from, if any.
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
        // The reason of a refusal belongs to the line a person reads; a chain of our own errors
        // carries it in the message already.
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
