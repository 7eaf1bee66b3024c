//! The hook crate's error type.

use std::error::Error as StdError;
use std::fmt;

use data_diet::ErrorKind;

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Converts into [`candle_core::Error`], so that `?` works in a training loop
/// that returns candle's results.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An argument is not what the documentation asks for. Nothing of the batch was recorded.
    Argument(String),
    /// The recorder failed or refused; see [`data_diet::Error::kind`].
    Record(data_diet::Error),
    /// candle could not compute or read a tensor.
    Candle(candle_core::Error),
}

impl Error {
    /// Adds a prefix to the message if an argument is at fault, to say where.
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Argument(message) => Self::Argument(format!("{what}: {message}")),
            Self::Record(error) if error.kind() == ErrorKind::InvalidArgument => {
                Self::Argument(format!("{what}: {error}"))
            }
            error => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(message) => f.write_str(message),
            Self::Record(error) => error.fmt(f),
            Self::Candle(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Argument(_) => None,
            Self::Record(error) => error.source(),
            Self::Candle(error) => error.source(),
        }
    }
}

impl From<data_diet::Error> for Error {
    fn from(error: data_diet::Error) -> Self {
        Self::Record(error)
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            error => Self::wrap(error),
        }
    }
}
