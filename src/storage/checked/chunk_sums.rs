//! Checksums column chunks as they are written, for files too wide to encode in memory.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use parquet::file::metadata::KeyValue;

use super::checksum::{self, MAGIC, Unit};

/// An output for a Parquet writer, which is told the length of each column chunk before the chunk
/// arrives. What follows the last chunk is the footer, which is held back until
/// [`finish`](Self::finish).
#[derive(Debug)]
pub(crate) struct ChunkChecksumWriter<W> {
    output: W,
    lengths: Receiver<u64>,
    /// Bytes still to come of the current chunk, or of the magic before the first one.
    left: u64,
    /// The checksum of the current chunk so far; `None` for the magic.
    open: Option<u32>,
    checksums: Vec<u32>,
    tail: Vec<u8>,
}

impl<W: Write> ChunkChecksumWriter<W> {
    /// Wraps an output. Returns where to send the lengths of chunks, too.
    pub(crate) fn new(output: W) -> (Self, Sender<u64>) {
        let (sender, lengths) = channel();
        let left = MAGIC.len() as u64;
        let sums =
            Self { output, lengths, left, open: None, checksums: Vec::new(), tail: Vec::new() };
        (sums, sender)
    }

    /// Returns the footer's entry with the checksums, once all chunks have been written.
    pub(crate) fn entry(&self) -> KeyValue {
        checksum::entry(Unit::Chunks, &self.checksums)
    }

    /// Writes the footer that was held back, and its guard.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.output.write_all(&checksum::guard(&self.tail))?;
        self.output.write_all(&self.tail)?;
        self.output.flush()
    }

    /// Starts the next chunk if the current one is complete; returns `false` after the last one.
    fn begin(&mut self) -> bool {
        while self.left == 0 {
            let Ok(length) = self.lengths.try_recv() else { return false };
            self.left = length;
            self.open = Some(0);
            self.close_if_over();
        }
        true
    }

    fn close_if_over(&mut self) {
        if self.left == 0 {
            self.checksums.extend(self.open.take());
        }
    }
}

impl<W: Write> Write for ChunkChecksumWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.begin() {
            self.tail.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let written = self.output.write(&bytes[..most])?;
        if let Some(checksum) = &mut self.open {
            *checksum = crc32c::crc32c_append(*checksum, &bytes[..written]);
        }
        self.left -= written as u64;
        self.close_if_over();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, as a full pipe does.
    struct ShortWriter(Vec<u8>);

    impl Write for ShortWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(&bytes[..bytes.len().min(3)]);
            Ok(bytes.len().min(3))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn chunks_are_told_apart_however_their_bytes_come() {
        for piece in 1..9 {
            let (mut sums, lengths) = ChunkChecksumWriter::new(ShortWriter(Vec::new()));
            for length in [5, 0, 7] {
                lengths.send(length).unwrap();
            }
            for bytes in b"PAR1first seconds".chunks(piece) {
                sums.write_all(bytes).unwrap();
            }
            let expected = [&b"first"[..], b"", b" second"].map(crc32c::crc32c);
            assert_eq!(sums.checksums, expected, "{piece}");
            sums.write_all(b" footer").unwrap();
            assert_eq!(sums.output.0, b"PAR1first second");
            sums.finish().unwrap();
            let guard = checksum::guard(b"s footer");
            assert_eq!(sums.output.0, [b"PAR1first second", &guard[..], b"s footer"].concat());
        }
    }
}
