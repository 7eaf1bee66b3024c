//! The Parquet file that is written: row groups of encoded or copied columns, and a footer like the
//! manifest's.
//!
//! The writers of the Parquet crate can swallow a failed write to the file that they own and
//! continue as if nothing had happened. Here they write to memory only, and each finished row group
//! is written to the output in this file; a failure ends everything.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

use super::footer::Footer;
use super::leaf::{EncodedLeaf, LeafWriter, needs_levels};
use super::source::Source;

/// A Parquet file in the making. It is unreadable until [`finish`](Self::finish).
pub(super) struct OutputFile<W> {
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    output: W,
    /// The number of bytes that the output has.
    written: u64,
}

impl<W: Write> OutputFile<W> {
    /// `schema` is the file's; `columns` are its physical types in Arrow.
    pub(super) fn new(
        output: W,
        schema: TypePtr,
        columns: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, columns);
        Ok(Self { writer, factory, output, written: 0 })
    }

    /// Returns encoders for the columns of a row group.
    pub(super) fn leaf_writers(&self, group: usize) -> Result<Vec<LeafWriter>> {
        let columns = self.writer.schema_descr().columns();
        let writers = self.factory.create_column_writers(group)?.into_iter();
        let properties = self.writer.properties();
        let chosen = writers.zip(columns).map(|(writer, column)| {
            if needs_levels(column) {
                LeafWriter::Levels(Arc::clone(column), Arc::clone(properties))
            } else {
                LeafWriter::Arrow(Box::new(writer))
            }
        });
        Ok(chosen.collect())
    }

    /// Writes a row group, given all its columns.
    pub(super) fn write(&mut self, leaves: Vec<EncodedLeaf>) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for leaf in leaves {
            match leaf {
                EncodedLeaf::Arrow(chunk) => chunk.append_to_row_group(&mut group)?,
                EncodedLeaf::Pages(bytes, close) => group.append_column(&bytes, *close)?,
            }
        }
        group.close()?;
        Ok(self.hand_on()?)
    }

    /// Copies a row group of the manifest as it lies; [`flush`](Self::flush) writes it. Only
    /// reading can fail.
    pub(super) fn copy(&mut self, source: &Source, footer: &Footer, number: usize) -> Result<()> {
        let group = footer.metadata.row_group(number);
        let indexes = footer.metadata.page_index_for_row_group(number);
        let mut copy = self.writer.next_row_group()?;
        for (place, column) in group.columns().iter().enumerate() {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().max(0) as u64,
                rows_written: group.num_rows().max(0) as u64,
                metadata: column.clone(),
                bloom_filter: Sbbf::read_from_column_chunk(column, source)?,
                column_index: indexes.column_index(place).cloned(),
                offset_index: indexes.offset_index(place).cloned(),
            };
            copy.append_column(source, close)?;
        }
        copy.close().map(drop)
    }

    /// Writes what was copied.
    pub(super) fn flush(&mut self) -> Result<()> {
        Ok(self.hand_on()?)
    }

    /// Writes the footer.
    pub(super) fn finish(mut self, footer: &Footer) -> Result<()> {
        self.hand_on()?;
        self.writer.finish()?;
        self.writer.flush()?;
        let tail = std::mem::take(self.writer.inner_mut());
        self.output.write_all(&footer.describe(&tail, self.written)?)?;
        Ok(self.output.flush()?)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let bytes = std::mem::take(self.writer.inner_mut());
        self.written += bytes.len() as u64;
        self.output.write_all(&bytes)
    }
}
