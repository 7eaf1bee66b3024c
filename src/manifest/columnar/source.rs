//! A file that several threads read at once, each at its own offset.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

/// Clones of a [`File`] share one position, which `parquet` moves before it reads; this has none.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: Arc<File>,
    length: u64,
    #[cfg(not(any(unix, windows)))]
    position: Arc<std::sync::Mutex<()>>,
}

const BUFFER_BYTES: usize = 1 << 16;

impl Source {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            length,
            #[cfg(not(any(unix, windows)))]
            position: Arc::default(),
        }
    }

    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&*self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use std::io::{Seek, SeekFrom};
        let _one_at_a_time = self.position.lock();
        (&*self.file).seek(SeekFrom::Start(offset))?;
        (&*self.file).read(buffer)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Source {
    type T = BufReader<Reader>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let reader = Reader { source: self.clone(), offset: start };
        Ok(BufReader::with_capacity(BUFFER_BYTES, reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let reader = Reader { source: self.clone(), offset: start };
        // No more than there is: a damaged file may claim any length.
        let there = length.min(self.length.saturating_sub(start) as usize);
        let mut bytes = Vec::with_capacity(there);
        if reader.take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes.into())
    }
}

/// Reads on from an offset.
#[derive(Debug)]
pub(super) struct Reader {
    source: Source,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
