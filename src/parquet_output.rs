//! A Parquet file written to anything that takes bytes, losing none silently.
//!
//! `ArrowWriter` can swallow a failed write of the file that it owns and go on as if nothing had
//! happened. Here it writes into memory only, and each finished row group is handed on by a write of
//! our own, whose failure ends everything.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;

/// A Parquet file that is being written; unreadable until [`finish`](Self::finish).
#[derive(Debug)]
pub(crate) struct ParquetOutput<W> {
    encoder: ArrowWriter<Vec<u8>>,
    output: W,
    row_groups: usize,
}

impl<W: Write> ParquetOutput<W> {
    pub(crate) fn new(
        output: W,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> ParquetResult<Self> {
        let encoder = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        Ok(Self { encoder, output, row_groups: 0 })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> ParquetResult<()> {
        self.encoder.write(rows)?;
        if self.encoder.flushed_row_groups().len() > self.row_groups {
            self.row_groups = self.encoder.flushed_row_groups().len();
            self.hand_on()?;
        }
        Ok(())
    }

    /// Writes the footer and gives the output back.
    pub(crate) fn finish(mut self) -> ParquetResult<W> {
        self.encoder.finish()?;
        self.hand_on()?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.encoder.sync()?;
        let bytes = std::mem::take(self.encoder.inner_mut());
        self.output.write_all(&bytes)
    }
}

/// An output that takes no byte more once it has failed to take one: whoever overlooks a failed write
/// meets it again at the next one, or when flushing.
#[derive(Debug)]
pub(crate) struct Unforgiving<W> {
    output: W,
    failure: Option<io::ErrorKind>,
}

impl<W: Write> Unforgiving<W> {
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

impl<W: Write> Write for Unforgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(|output| output.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.keep(Write::flush)
    }
}

/// The operating system's refusal behind a Parquet error, if that is what it was.
pub(crate) fn io_error(error: ParquetError) -> Result<io::Error, ParquetError> {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => Ok(*error),
            Err(source) => Err(ParquetError::External(source)),
        },
        error => Err(error),
    }
}
