//! A checked file, open for reading: the footer is checked when it is opened, rows when they are
//! read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::checksum::{self, Unit, Units};
use super::{FileBytes, Identity, identity};
use crate::error::{Error, Result};

const READ_BATCH_ROWS: usize = 8192;
/// The length of the shortest valid Parquet file.
const MIN_FILE_BYTES: u64 = 12;

/// A file with checksums, whose footer has been checked.
#[derive(Debug)]
pub(crate) struct CheckedFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    units: Units,
    length: u64,
}

impl CheckedFile {
    /// Opens a file that must have checksums.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (guarded, length) = guarded_tail(path)?;
        checksum::check_tail(path, &guarded)?;
        Self::with_tail(path, &guarded, length)
    }

    /// Opens a file if it is marked as having checksums; returns `None` for any other readable
    /// file.
    pub(crate) fn open_if_marked(path: &Path) -> Result<Option<Self>> {
        let (guarded, length) = match guarded_tail(path) {
            Err(error) if error.io_error().is_none() => return Ok(None),
            tail => tail?,
        };
        if !checksum::is_marked(&guarded) {
            return Ok(None);
        }
        checksum::check_tail(path, &guarded)?;
        Self::with_tail(path, &guarded, length).map(Some)
    }

    fn with_tail(path: &Path, guarded: &[u8], length: u64) -> Result<Self> {
        let footer = &guarded[checksum::GUARD..guarded.len() - checksum::CLOSING];
        let metadata = catch_panic(path, || ParquetMetaDataReader::decode_metadata(footer))?;
        let units = checksum::units(path, &metadata, length - guarded.len() as u64)?;
        let metadata = catch_panic(path, || {
            ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
        })?;
        Ok(Self { path: path.to_owned(), metadata, units, length })
    }

    /// Checks that the file belongs to a table.
    pub(crate) fn check_identity(&self, identity: Identity) -> Result<()> {
        identity.check(&self.path, self.metadata())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the file in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub(crate) fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// Returns the number of rows according to the footer.
    pub(crate) fn rows(&self) -> u64 {
        self.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// Returns one entry of the footer.
    pub(crate) fn entry(&self, key: &str) -> Option<&str> {
        identity::value(self.metadata(), key)
    }

    /// Reads and checks every byte without decoding.
    pub(crate) fn check_bytes(&self) -> Result<()> {
        (0..self.units.ranges.len()).try_for_each(|unit| self.unit_bytes(unit).map(drop))
    }

    /// Reads and checks a row group, or the columns that `takes` selects by index, without
    /// decoding. Returns `None` after the last row group.
    ///
    /// Opened for every read: a reader of thousands of parts must not keep them all open, and parts
    /// are never replaced.
    pub(crate) fn row_group_bytes(
        &self,
        index: usize,
        takes: impl Fn(usize) -> bool,
    ) -> Result<Option<FileBytes>> {
        if index >= self.metadata().num_row_groups() {
            return Ok(None);
        }
        let stretches = match self.units.unit {
            Unit::RowGroups => vec![self.unit_bytes(index)?],
            Unit::Chunks => {
                let columns = self.metadata().file_metadata().schema_descr().num_columns();
                let taken = (0..columns).filter(|&column| takes(column));
                taken
                    .map(|column| self.unit_bytes(index * columns + column))
                    .collect::<Result<_>>()?
            }
        };
        Ok(Some(FileBytes::new(stretches, self.length)))
    }

    /// Reads, checks and decodes a row group: all columns, or only the named ones.
    pub(crate) fn read_row_group(
        &self,
        index: usize,
        columns: Option<&[&str]>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let schema = self.metadata().file_metadata().schema_descr();
        let mask = columns.map_or(ProjectionMask::all(), |columns| {
            ProjectionMask::columns(schema, columns.iter().copied())
        });
        let Some(bytes) = self.row_group_bytes(index, |column| mask.leaf_included(column))? else {
            return Ok(None);
        };
        let metadata = self.metadata.clone();
        let rows = catch_panic(&self.path, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
                .with_row_groups(vec![index])
                .with_projection(mask)
                .with_batch_size(READ_BATCH_ROWS)
                .build()?
                .collect::<Result<Vec<_>, _>>()
                .map_err(ParquetError::from)
        })?;
        Ok(Some(rows))
    }

    /// Reads the bytes of a unit. Returns its offset, too.
    fn unit_bytes(&self, unit: usize) -> Result<(u64, Bytes)> {
        let (range, expected) = self.units.ranges[unit].clone();
        let length = range.end - range.start;
        let mut bytes = Vec::with_capacity(length as usize);
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(range.start))?;
            match file.take(length).read_to_end(&mut bytes)? {
                read if read as u64 == length => Ok(()),
                _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
            }
        };
        read().map_err(|error| Error::io("read", &self.path, error))?;
        if crc32c::crc32c(&bytes) != expected {
            let what = match self.units.unit {
                Unit::RowGroups => format!("the checksum of row group {unit} is wrong"),
                Unit::Chunks => {
                    let schema = self.metadata().file_metadata().schema_descr();
                    let (group, column) =
                        (unit / schema.num_columns(), unit % schema.num_columns());
                    let column = schema.column(column).path().string();
                    format!("the checksum of column `{column}` in row group {group} is wrong")
                }
            };
            return Err(Error::corrupt(&self.path, what));
        }
        Ok((range.start, Bytes::from(bytes)))
    }
}

/// Reads the bytes from the guard to the end. Returns the length of the file, too.
fn guarded_tail(path: &Path) -> Result<(Vec<u8>, u64)> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length < MIN_FILE_BYTES {
        return Err(Error::unsupported_format(
            path,
            format!("is not a Parquet file: {length} bytes"),
        ));
    }
    let mut head = [0; 4];
    file.read_exact(&mut head).map_err(failed)?;
    checksum::check_head(path, &head)?;
    let mut closing = [0; checksum::CLOSING];
    file.seek(SeekFrom::End(-(closing.len() as i64))).map_err(failed)?;
    file.read_exact(&mut closing).map_err(failed)?;
    let tail = checksum::guarded_tail(path, closing, length)?;
    let mut guarded = vec![0; tail];
    file.seek(SeekFrom::End(-(tail as i64))).map_err(failed)?;
    file.read_exact(&mut guarded).map_err(failed)?;
    Ok((guarded, length))
}

/// Runs a decoder of the Parquet crate, turning a panic into an error: some decoders panic on
/// damaged input.
pub(crate) fn catch_panic<T>(path: &Path, decode: impl FnOnce() -> ParquetResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::corrupt(path, "does not decode").with_source(error)),
        Err(_panic) => Err(Error::corrupt(path, "is damaged: the Parquet decoder panicked")),
    }
}
