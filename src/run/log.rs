//! The log of a segment: checksummed frames, each with the rows of all tables of whole batches.
//!
//! ```text
//! file    := "DDLOG\0\0\1" frame*
//! frame   := header payload
//! header  := "FRAM"  payload bytes: u32  rows: u32  crc32c(payload): u32  crc32c of these 16 bytes: u32
//!            0: u32
//! payload := section*
//! section := table: u8  phase: u8  0: u16  bytes: u32  Arrow IPC stream padded to 8 bytes
//! ```
//!
//! All numbers are little-endian. A truncated frame ends the log: a crash interrupted the write.
//! The header has its own checksum, so that a damaged length is not mistaken for truncation.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use super::pending_rows::Section;
use super::schema::Table;
use crate::error::{Error, Result};
use crate::observe::Phase;
use crate::storage::{Disk, DiskFile};

const MAGIC: &[u8; 8] = b"DDLOG\0\0\x01";
const FRAME: &[u8; 4] = b"FRAM";
const HEADER: usize = 24;
const SECTION_HEADER: usize = 8;

/// A log that frames are appended to.
#[derive(Debug)]
pub(crate) struct OpenLog {
    path: PathBuf,
    number: u32,
    file: Box<dyn DiskFile>,
    /// The length of the whole frames.
    committed: u64,
}

impl OpenLog {
    pub(crate) fn create(disk: &dyn Disk, path: PathBuf, number: u32) -> Result<Self> {
        let mut file = disk.create_new(&path).map_err(|error| Error::io("create", &path, error))?;
        if let Err(error) = file.write_all_at(MAGIC, 0) {
            drop(file);
            // A log without its first bytes would read as foreign, and there is nothing in it to
            // lose.
            let _ = disk.remove(&path);
            return Err(Error::io("write to", &path, error));
        }
        Ok(Self { path, number, file, committed: MAGIC.len() as u64 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the length of the whole frames in bytes.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// Appends a whole frame, or leaves the committed length unchanged.
    pub(crate) fn append(&mut self, frame: &[u8]) -> Result<()> {
        match self.file.write_all_at(frame, self.committed) {
            Ok(()) => {
                self.committed += frame.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Truncating only frees space: the checksum rejects what was written of the frame,
                // and the next attempt overwrites it.
                let _ = self.file.set_len(self.committed);
                Err(Error::io("append to", &self.path, error))
            }
        }
    }

    /// Makes every appended frame survive a power cut.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Removes the last appended frame, whose sync failed.
    pub(crate) fn undo_append(&mut self, frame: &[u8]) {
        self.committed -= frame.len() as u64;
        // If this fails too, or does not survive a power cut, the frame is still there and whole.
        // So that its rows are not found twice, the caller publishes this log, up to its committed
        // length, before it commits them elsewhere.
        let _ = self.file.set_len(self.committed);
    }
}

/// Encodes the sections of one flush.
pub(crate) fn encode_frame(sections: &[Section]) -> Result<Vec<u8>> {
    let unencodable =
        |what: &dyn std::fmt::Display| Error::invalid(format!("batch: cannot be encoded: {what}"));
    let bytes = sections.iter().map(|section| section.rows.get_array_memory_size()).sum::<usize>();
    let mut frame = Vec::with_capacity(bytes + bytes / 8 + 4096);
    frame.resize(HEADER, 0);
    let mut rows = 0_u32;
    for section in sections {
        if section.table.is_counted() {
            rows += section.rows.num_rows() as u32;
        }
        let start = frame.len();
        frame.extend_from_slice(&[section.table as u8, section.phase as u8, 0, 0, 0, 0, 0, 0]);
        let body = frame.len();
        let mut writer = StreamWriter::try_new(&mut frame, &section.rows.schema())
            .map_err(|error| unencodable(&error))?;
        writer.write(&section.rows).map_err(|error| unencodable(&error))?;
        writer.finish().map_err(|error| unencodable(&error))?;
        drop(writer);
        frame.resize(frame.len().next_multiple_of(8), 0);
        let bytes = u32::try_from(frame.len() - body).map_err(|error| unencodable(&error))?;
        frame[start + 4..body].copy_from_slice(&bytes.to_le_bytes());
    }
    let bytes = u32::try_from(frame.len() - HEADER).map_err(|error| unencodable(&error))?;
    frame[..4].copy_from_slice(FRAME);
    frame[4..8].copy_from_slice(&bytes.to_le_bytes());
    frame[8..12].copy_from_slice(&rows.to_le_bytes());
    let checksum = crc32c::crc32c(&frame[HEADER..]);
    frame[12..16].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32c::crc32c(&frame[..16]);
    frame[16..20].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

/// Reads the whole frames of a log, front to back.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    input: BufReader<File>,
    /// Bytes of the file that are not read yet.
    left: u64,
    damaged: bool,
}

impl LogReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_up_to(path, u64::MAX)
    }

    /// Opens a log that is known to end at this length, whatever follows.
    pub(crate) fn open_up_to(path: &Path, length: u64) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len().min(length);
        let mut reader = Self {
            path: path.to_owned(),
            input: BufReader::with_capacity(1 << 16, file),
            left: length.saturating_sub(MAGIC.len() as u64),
            damaged: false,
        };
        let mut magic = [0; MAGIC.len()];
        if length < MAGIC.len() as u64 {
            // The crash came between the creation and the first bytes.
            reader.left = 0;
            return Ok(reader);
        }
        reader.input.read_exact(&mut magic).map_err(failed)?;
        if &magic != MAGIC {
            return Err(Error::unsupported_format(
                path,
                "is not a log of this version of data-diet",
            ));
        }
        Ok(reader)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the log ended in a frame of full length whose checksum is wrong. A crash
    /// truncates frames; this is damage, or a power cut.
    pub(crate) fn damaged(&self) -> bool {
        self.damaged
    }

    /// Returns the sections of the next whole frame, or `None` at the end of what can be trusted.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<Section>>> {
        let mut header = [0; HEADER];
        if self.left < HEADER as u64 {
            return Ok(None);
        }
        self.read(&mut header)?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let bytes = number(4) as usize;
        let is_sound = crc32c::crc32c(&header[..16]) == number(16) && number(20) == 0;
        if &header[..4] != FRAME || !is_sound {
            self.damaged = true;
            self.left = 0;
            return Ok(None);
        }
        if bytes as u64 > self.left {
            self.left = 0;
            return Ok(None);
        }
        let mut payload = vec![0; bytes];
        self.read(&mut payload)?;
        if crc32c::crc32c(&payload) != number(12) {
            self.damaged = true;
            self.left = 0;
            return Ok(None);
        }
        self.sections(payload).map(Some)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.left -= bytes.len() as u64;
        self.input.read_exact(bytes).map_err(|error| Error::io("read", &self.path, error))
    }

    /// The checksum was right, so what does not parse was written wrongly, or by another version.
    fn sections(&self, payload: Vec<u8>) -> Result<Vec<Section>> {
        let corrupt = |what: String| Error::corrupt(&self.path, what);
        let payload = Buffer::from_vec(payload);
        let (mut at, mut sections) = (0, Vec::new());
        while at < payload.len() {
            let header = payload.get(at..at + SECTION_HEADER);
            let header = header.ok_or_else(|| corrupt("a section has no header".into()))?;
            let table = Table::ALL.into_iter().find(|&table| table as u8 == header[0]);
            let phase = Phase::ALL.into_iter().find(|&phase| phase as u8 == header[1]);
            let (Some(table), Some(phase)) = (table, phase) else {
                return Err(corrupt("a section names an unknown table or phase".into()));
            };
            let bytes = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            at += SECTION_HEADER;
            if bytes > payload.len() - at {
                return Err(corrupt("a section is longer than its frame".into()));
            }
            let mut stream = payload.slice_with_length(at, bytes);
            at += bytes;
            let mut decoder = StreamDecoder::new();
            let rows = decoder
                .decode(&mut stream)
                .map_err(|error| corrupt("a section does not decode".into()).with_source(error))?
                .ok_or_else(|| corrupt("a section holds no rows".into()))?;
            sections.push(Section { table, phase, rows });
        }
        Ok(sections)
    }
}
