//! Encodes rows as the bytes of a checked file, in memory.

use std::io;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::Identity;
use super::checksum::{self, Unit};

/// Encodes a file piece by piece; the caller writes the pieces in order.
///
/// The Parquet writer gets memory only: one that owns a file loses rows silently when a write
/// fails.
#[derive(Debug)]
pub(crate) struct CheckedEncoder {
    encoder: ArrowWriter<Vec<u8>>,
    /// Bytes taken so far.
    taken: u64,
    /// Checksums of the row groups among them.
    checksums: Vec<u32>,
}

impl CheckedEncoder {
    /// `properties` must not ask for a page index: it would lie between row groups and footer,
    /// where no checksum covers it.
    pub(crate) fn new(
        identity: Identity,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> ParquetResult<Self> {
        let mut encoder = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        for entry in identity.entries() {
            encoder.append_key_value_metadata(entry);
        }
        Ok(Self { encoder, taken: 0, checksums: Vec::new() })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> ParquetResult<()> {
        self.encoder.write(rows)
    }

    /// Ends the current row group.
    pub(crate) fn end_row_group(&mut self) -> ParquetResult<()> {
        self.encoder.flush()
    }

    /// Returns the bytes of row groups that were completed since the last call.
    pub(crate) fn take(&mut self) -> io::Result<Vec<u8>> {
        let row_groups = self.encoder.flushed_row_groups();
        if row_groups.len() == self.checksums.len() {
            return Ok(Vec::new());
        }
        self.encoder.sync()?;
        let bytes = std::mem::take(self.encoder.inner_mut());
        for row_group in &self.encoder.flushed_row_groups()[self.checksums.len()..] {
            let range = checksum::row_group_range(row_group);
            let start = (range.start - self.taken) as usize;
            let end = (range.end - self.taken) as usize;
            self.checksums.push(crc32c::crc32c(&bytes[start..end]));
        }
        self.taken += bytes.len() as u64;
        Ok(bytes)
    }

    /// Returns all remaining bytes, to the end of the file.
    pub(crate) fn finish(mut self, entries: Vec<KeyValue>) -> ParquetResult<Vec<u8>> {
        self.encoder.flush()?;
        let mut bytes = self.take()?;
        // A file without rows begins with the magic.
        self.encoder.sync()?;
        bytes.append(self.encoder.inner_mut());
        for entry in entries {
            self.encoder.append_key_value_metadata(entry);
        }
        self.encoder.append_key_value_metadata(checksum::entry(Unit::RowGroups, &self.checksums));
        self.encoder.finish()?;
        let tail = std::mem::take(self.encoder.inner_mut());
        bytes.extend_from_slice(&checksum::guard(&tail));
        bytes.extend_from_slice(&tail);
        Ok(bytes)
    }
}
