//! Checksums over every byte of a Parquet file. Parquet's own page checksums are optional, cover
//! pages only, and are not written or checked by arrow-rs.
//!
//! The footer holds the CRC-32C of each row group's byte range under [`ROW_GROUPS_KEY`], where
//! other tools can see it. A wide table, of which readers take a few columns, has one checksum per
//! column chunk under [`CHUNKS_KEY`] instead. The footer's own checksum is in the eight bytes
//! before it, which no offset in the file refers to and readers therefore skip:
//!
//! ```text
//! "PAR1" row group* "DDFC" crc32c(tail): u32 tail      tail := footer, its length: u32, "PAR1"
//! ```

use std::ops::Range;
use std::path::Path;

use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData, RowGroupMetaData};

use crate::error::{Error, Result};

const ROW_GROUPS_KEY: &str = "data_diet.row_group_crc32c";
const CHUNKS_KEY: &str = "data_diet.column_chunk_crc32c";
const MARK: &[u8; 4] = b"DDFC";
pub(super) const MAGIC: &[u8; 4] = b"PAR1";
/// The length of the mark and the checksum before the footer.
pub(super) const GUARD: usize = 8;
/// The length of the footer's length and the closing magic.
pub(super) const CLOSING: usize = 8;

fn chunk_range(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, length) = chunk.byte_range();
    start..start.saturating_add(length)
}

/// Returns the byte range of a row group.
pub(super) fn row_group_range(row_group: &RowGroupMetaData) -> Range<u64> {
    let ranges = row_group.columns().iter().map(chunk_range);
    let union = |a: Range<u64>, b: Range<u64>| a.start.min(b.start)..a.end.max(b.end);
    ranges.reduce(union).unwrap_or_default()
}

/// What one checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    RowGroups,
    /// The column chunks of all row groups, in the order of the file.
    Chunks,
}

/// Returns the footer's entry with the checksums of all units.
pub(super) fn entry(unit: Unit, checksums: &[u32]) -> KeyValue {
    let key = match unit {
        Unit::RowGroups => ROW_GROUPS_KEY,
        Unit::Chunks => CHUNKS_KEY,
    };
    let list: Vec<String> = checksums.iter().map(|checksum| format!("{checksum:08x}")).collect();
    KeyValue::new(key.to_owned(), list.join(","))
}

/// Returns the eight bytes that precede a tail.
pub(super) fn guard(tail: &[u8]) -> [u8; GUARD] {
    let mut guard = [0; GUARD];
    guard[..4].copy_from_slice(MARK);
    guard[4..].copy_from_slice(&crc32c::crc32c(tail).to_le_bytes());
    guard
}

/// Returns how many bytes at the end of a file of this length hold the guard and the tail, from the
/// last eight bytes of the file.
pub(super) fn guarded_tail(path: &Path, closing: [u8; CLOSING], length: u64) -> Result<usize> {
    let (footer, magic) = closing.split_at(4);
    if magic != MAGIC {
        return Err(Error::unsupported_format(
            path,
            "is not a Parquet file, or was cut off: it does not end with the Parquet magic",
        ));
    }
    let footer = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
    let tail = footer + CLOSING + GUARD;
    if (tail + MAGIC.len()) as u64 > length {
        return Err(Error::corrupt(path, "the footer is longer than the file"));
    }
    Ok(tail)
}

/// Returns whether guard and tail begin like those of a checked file. The footer alone does not
/// tell: a program that rewrites a table may keep its entries.
pub(super) fn is_marked(guarded: &[u8]) -> bool {
    guarded.starts_with(MARK)
}

/// Checks a footer against its guard. `bytes` holds guard and tail.
pub(super) fn check_tail(path: &Path, bytes: &[u8]) -> Result<()> {
    let (guard_bytes, tail) = bytes.split_at(GUARD.min(bytes.len()));
    if !is_marked(guard_bytes) {
        return Err(Error::unsupported_format(
            path,
            "was not written by data-diet, or is damaged: the mark before its footer is missing",
        ));
    }
    if guard_bytes != guard(tail) {
        return Err(Error::corrupt(path, "the checksum of the footer is wrong"));
    }
    Ok(())
}

/// The units of a file that have checksums.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) unit: Unit,
    /// The byte range and the checksum of each unit.
    pub(super) ranges: Vec<(Range<u64>, u32)>,
}

/// Parses what a footer says about checksums. The units must cover the file without gaps up to the
/// guard.
pub(super) fn units(path: &Path, metadata: &ParquetMetaData, guard_start: u64) -> Result<Units> {
    let entries = metadata.file_metadata().key_value_metadata();
    let list = |key: &str| {
        let entry = entries.into_iter().flatten().find(|entry| entry.key == key);
        entry.and_then(|entry| entry.value.as_deref())
    };
    let row_groups = metadata.row_groups().iter();
    let (unit, list, ranges): (_, _, Vec<Range<u64>>) =
        match (list(ROW_GROUPS_KEY), list(CHUNKS_KEY)) {
            (Some(list), _) => (Unit::RowGroups, list, row_groups.map(row_group_range).collect()),
            (None, Some(list)) => {
                let chunks = row_groups.flat_map(RowGroupMetaData::columns).map(chunk_range);
                (Unit::Chunks, list, chunks.collect())
            }
            (None, None) => {
                return Err(Error::unsupported_format(
                    path,
                    "its footer holds no checksums of data-diet",
                ));
            }
        };
    let checksums: Option<Vec<u32>> = list
        .split(',')
        .filter(|checksum| !checksum.is_empty())
        .map(|checksum| u32::from_str_radix(checksum, 16).ok())
        .collect();
    let checksums = checksums.ok_or_else(|| Error::corrupt(path, "its checksums do not parse"))?;
    let mut end = MAGIC.len() as u64;
    for range in &ranges {
        if range.start != end {
            return Err(Error::corrupt(
                path,
                format!("bytes {end}..{} belong to no row group", range.start),
            ));
        }
        end = range.end;
    }
    if end != guard_start || checksums.len() != ranges.len() {
        return Err(Error::corrupt(path, "its row groups and checksums do not cover the file"));
    }
    Ok(Units { unit, ranges: ranges.into_iter().zip(checksums).collect() })
}

/// Checks the first bytes of a file.
pub(super) fn check_head(path: &Path, head: &[u8]) -> Result<()> {
    if head == MAGIC {
        return Ok(());
    }
    Err(Error::unsupported_format(
        path,
        "is not a Parquet file: it does not begin with the Parquet magic",
    ))
}
