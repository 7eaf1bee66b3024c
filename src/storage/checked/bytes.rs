//! Ranges of a file in memory, for decoders that ask for bytes by their offset in the file.

use bytes::{Buf, Bytes, buf::Reader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

/// Ranges of a file, by their offsets in the file.
#[derive(Clone, Debug)]
pub(crate) struct FileBytes {
    stretches: Vec<(u64, Bytes)>,
    /// The length of the whole file, which the decoder asks for.
    length: u64,
}

impl FileBytes {
    pub(super) fn new(stretches: Vec<(u64, Bytes)>, length: u64) -> Self {
        Self { stretches, length }
    }

    fn slice(&self, offset: u64, length: Option<usize>) -> ParquetResult<Bytes> {
        let found = self.stretches.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            // The end of one range is the start of the next.
            let left = bytes.len().checked_sub(from).filter(|&left| left > 0)?;
            let taken = length.unwrap_or(left);
            (taken <= left).then(|| bytes.slice(from..from + taken))
        });
        found.ok_or_else(|| ParquetError::EOF(format!("offset {offset} is outside its row group")))
    }
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for FileBytes {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.slice(start, None)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.slice(start, Some(length))
    }
}
