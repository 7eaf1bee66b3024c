//! Parquet written to anything that takes bytes, losing none silently.
//!
//! The writers of the Parquet crate can swallow a failed write of the file that they own and go on as
//! if nothing had happened. [`ParquetGroups`] lets them write into memory only, and hands each finished
//! row group on by a write of its own, whose failure ends everything; under a writer that has to own
//! its file lies an [`Unforgiving`] one.

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

/// A Parquet file that is written from columns that others have encoded, row group by row group;
/// unreadable until [`finish`](Self::finish).
pub(crate) struct ParquetGroups<W> {
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    output: W,
}

impl<W: Write> ParquetGroups<W> {
    pub(crate) fn new(
        output: W,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> ParquetResult<Self> {
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        let (writer, factory) = writer.into_serialized_writer()?;
        Ok(Self { writer, factory, output })
    }

    /// Encoders for the columns of a row group: for each column one for each of its leaves.
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

    /// Writes a row group of all its leaves.
    pub(crate) fn write(&mut self, leaves: Vec<ArrowColumnChunk>) -> ParquetResult<()> {
        let mut group = self.writer.next_row_group()?;
        for leaf in leaves {
            leaf.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.hand_on()?;
        Ok(())
    }

    /// Whether the columns of another file can be copied as they are encoded there.
    pub(crate) fn takes_columns_of(&self, schema: &SchemaDescriptor) -> bool {
        self.writer.schema_descr().columns() == schema.columns()
    }

    /// Takes over a row group of another file as it is encoded there, for [`flush`](Self::flush) to
    /// write. Only reading can fail.
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

    /// Writes what has been taken over.
    pub(crate) fn flush(&mut self) -> ParquetResult<()> {
        Ok(self.hand_on()?)
    }

    /// Writes the footer and gives the output back.
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
