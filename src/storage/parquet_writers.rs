//! What every writer of Parquet files needs: their name, and errors that are not lost.
//!
//! The writers of the Parquet crate can swallow a failed write to the file that they own and
//! continue as if nothing had happened. Where a writer has to own its file, the file is wrapped in
//! [`StickyErrorWriter`].

use std::io::{self, Write};

use parquet::errors::ParquetError;

/// What the Parquet files that we write say about their writer.
pub(crate) const CREATED_BY: &str = concat!("data-diet version ", env!("CARGO_PKG_VERSION"));

/// An output that takes no more bytes once a write has failed, so that a writer that ignores a
/// failed write fails at the next one, or when flushing.
#[derive(Debug)]
pub(crate) struct StickyErrorWriter<W> {
    output: W,
    failure: Option<io::ErrorKind>,
}

impl<W: Write> StickyErrorWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, failure: None }
    }

    fn keep<T>(&mut self, outcome: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if let Some(kind) = self.failure {
            return Err(io::Error::new(kind, "an earlier write has failed"));
        }
        outcome(&mut self.output).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure = Some(error.kind());
            }
        })
    }
}

impl<W: Write> Write for StickyErrorWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(|output| output.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.keep(Write::flush)
    }
}

/// Returns the operating system's error behind a Parquet error, if there is one.
pub(crate) fn io_error(error: ParquetError) -> Result<io::Error, ParquetError> {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => Ok(*error),
            Err(source) => Err(ParquetError::External(source)),
        },
        error => Err(error),
    }
}
