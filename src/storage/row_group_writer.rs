//! Writes Parquet to anything that takes bytes without losing any silently.
//!
//! The writers of the Parquet crate can swallow a failed write to the file that they own and
//! continue as if nothing had happened. [`RowGroupWriter`] lets them write to memory only, and
//! writes each finished row group itself; a failure ends everything. Where a writer has to own its
//! file, the file is wrapped in [`StickyErrorWriter`].

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory,
};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;

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

/// A Parquet file written from encoded columns, row group by row group. It is unreadable until
/// [`finish`](Self::finish).
pub(crate) struct RowGroupWriter<W> {
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    output: W,
}

impl<W: Write> RowGroupWriter<W> {
    pub(crate) fn new(
        output: W,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> ParquetResult<Self> {
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        let (writer, factory) = writer.into_serialized_writer()?;
        Ok(Self { writer, factory, output })
    }

    /// Returns encoders for the columns of a row group: one for each leaf of each column.
    pub(crate) fn column_writers(
        &self,
        group: usize,
    ) -> ParquetResult<Vec<Vec<ArrowColumnWriter>>> {
        let mut columns: Vec<Vec<_>> = Vec::new();
        for (leaf, writer) in self.factory.create_column_writers(group)?.into_iter().enumerate() {
            let column = self.writer.schema_descr().get_column_root_idx(leaf);
            columns.resize_with(columns.len().max(column + 1), Vec::new);
            columns[column].push(writer);
        }
        Ok(columns)
    }

    /// Writes a row group, given all its leaves.
    pub(crate) fn write(&mut self, leaves: Vec<ArrowColumnChunk>) -> ParquetResult<()> {
        let mut group = self.writer.next_row_group()?;
        for leaf in leaves {
            leaf.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.hand_on()?;
        Ok(())
    }

    /// Returns whether the columns of another file can be copied without re-encoding.
    pub(crate) fn can_copy_columns_of(&self, schema: &SchemaDescriptor) -> bool {
        self.writer.schema_descr().columns() == schema.columns()
    }

    /// Copies a row group of another file without re-encoding; [`flush`](Self::flush) writes it.
    /// Only reading can fail.
    pub(crate) fn copy(
        &mut self,
        source: &impl ChunkReader,
        group: &RowGroupMetaData,
    ) -> ParquetResult<()> {
        let mut copy = self.writer.next_row_group()?;
        for column in group.columns() {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().max(0) as u64,
                rows_written: group.num_rows().max(0) as u64,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            copy.append_column(source, close)?;
        }
        copy.close().map(drop)
    }

    /// Writes what was copied.
    pub(crate) fn flush(&mut self) -> ParquetResult<()> {
        Ok(self.hand_on()?)
    }

    /// Writes the footer and returns the output.
    pub(crate) fn finish(mut self) -> ParquetResult<W> {
        self.writer.finish()?;
        self.hand_on()?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let bytes = std::mem::take(self.writer.inner_mut());
        self.output.write_all(&bytes)
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
