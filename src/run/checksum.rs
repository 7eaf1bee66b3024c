//! What makes every byte of a part checkable, since Parquet itself checks none of them.
//!
//! Each row group's byte range has its CRC-32C in the footer, under [`ROW_GROUPS_KEY`], where other
//! tools can see it. The footer has its own in eight bytes right before it, which no offset in the
//! file points at and which readers therefore pass over:
//!
//! ```text
//! "PAR1" row group* "DDFC" crc32c(tail): u32 tail      tail := footer, its length: u32, "PAR1"
//! ```

use std::ops::Range;
use std::path::Path;

use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};

use crate::error::{Error, Result};

pub(crate) const ROW_GROUPS_KEY: &str = "data_diet.row_group_crc32c";
const MARK: &[u8; 4] = b"DDFC";
const MAGIC: &[u8; 4] = b"PAR1";
/// The mark and the checksum before the tail.
pub(crate) const GUARD: usize = 8;
/// The footer's length and the closing magic.
const CLOSING: usize = 8;

/// The bytes of the file that a row group takes.
pub(crate) fn row_group_range(row_group: &RowGroupMetaData) -> Range<u64> {
    let ranges = row_group.columns().iter().map(|column| {
        let (start, length) = column.byte_range();
        start..start.saturating_add(length)
    });
    let union = |a: Range<u64>, b: Range<u64>| a.start.min(b.start)..a.end.max(b.end);
    ranges.reduce(union).unwrap_or_default()
}

/// The footer's entry for the checksums of the row groups.
pub(crate) fn row_group_entry(checksums: &[u32]) -> KeyValue {
    let list: Vec<String> = checksums.iter().map(|checksum| format!("{checksum:08x}")).collect();
    KeyValue::new(ROW_GROUPS_KEY.to_owned(), list.join(","))
}

/// The eight bytes that go before a tail.
pub(crate) fn guard(tail: &[u8]) -> [u8; GUARD] {
    let mut guard = [0; GUARD];
    guard[..4].copy_from_slice(MARK);
    guard[4..].copy_from_slice(&crc32c::crc32c(tail).to_le_bytes());
    guard
}

/// How many bytes at the end of a file of this length hold the guard and the tail, from the file's
/// last eight bytes.
pub(crate) fn guarded_tail(path: &Path, closing: [u8; CLOSING], length: u64) -> Result<usize> {
    let (footer, magic) = closing.split_at(4);
    if magic != MAGIC {
        return Err(Error::foreign(
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

/// Checks a footer against its guard; `bytes` is guard and tail.
pub(crate) fn check_tail(path: &Path, bytes: &[u8]) -> Result<()> {
    let (guard_bytes, tail) = bytes.split_at(GUARD.min(bytes.len()));
    if !guard_bytes.starts_with(MARK) {
        return Err(Error::foreign(
            path,
            "was not written by data-diet, or is damaged: the mark before its footer is missing",
        ));
    }
    if guard_bytes != guard(tail) {
        return Err(Error::corrupt(path, "the checksum of the footer does not hold"));
    }
    Ok(())
}

/// The checksums of the row groups, which have to tile the file up to its guard.
pub(crate) fn row_groups(
    path: &Path,
    metadata: &ParquetMetaData,
    guard_start: u64,
) -> Result<Vec<(Range<u64>, u32)>> {
    let missing = || Error::foreign(path, "its footer holds no checksums of data-diet");
    let entries = metadata.file_metadata().key_value_metadata().ok_or_else(missing)?;
    let list = entries
        .iter()
        .find(|entry| entry.key == ROW_GROUPS_KEY)
        .and_then(|entry| entry.value.as_deref())
        .ok_or_else(missing)?;
    let checksums: Option<Vec<u32>> = list
        .split(',')
        .filter(|checksum| !checksum.is_empty())
        .map(|checksum| u32::from_str_radix(checksum, 16).ok())
        .collect();
    let checksums = checksums.ok_or_else(|| Error::corrupt(path, "its checksums do not parse"))?;
    let ranges: Vec<Range<u64>> = metadata.row_groups().iter().map(row_group_range).collect();
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
    Ok(ranges.into_iter().zip(checksums).collect())
}

/// Checks the first bytes of a file.
pub(crate) fn check_head(path: &Path, head: &[u8]) -> Result<()> {
    if head == MAGIC {
        return Ok(());
    }
    Err(Error::foreign(path, "is not a Parquet file: it does not begin with the Parquet magic"))
}
