//! Counts the lines of text manifests, so that messages name the line that an editor shows. Line
//! breaks are counted in bulk, and the place of a row only when it is asked for.

use super::row_filter::{BadRow, RowFilter};
use crate::error::Error;

/// How many lines lie before the bytes that are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    before: u64,
}

impl Lines {
    /// Counts bytes that have been taken.
    pub(super) fn pass(&mut self, taken: &[u8]) {
        self.before += breaks(taken);
    }

    /// Returns the line of the row that begins after these bytes, which are not taken yet; `row`
    /// begins with it. Blank lines belong to the row after them.
    pub(super) fn of(&self, skipped: &[u8], row: &[u8]) -> u64 {
        let blank = row.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.before + breaks(skipped) + breaks(&row[..blank]) + 1
    }

    /// Makes an error about the next row, which begins with `row`.
    pub(super) fn refuse(
        &self,
        row_filter: &RowFilter<'_>,
        bad: BadRow,
        skipped: &[u8],
        row: &[u8],
    ) -> Error {
        row_filter.refuse(bad, Some(self.of(skipped, row)))
    }
}

fn breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
