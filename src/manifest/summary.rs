//! How many rows of a manifest were kept and dropped, for people and for programs.

use std::fmt;

/// How many rows of a manifest were kept and dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestSummary {
    /// Rows that were read.
    pub rows: u64,
    /// Rows that were kept.
    pub kept: u64,
    /// The number of files of a [directory](crate::manifest::ManifestDirectory); 0 for a single
    /// manifest.
    pub files: u64,
    /// Rows whose key is not in the [key map](crate::manifest::KeyMap), kept or pruned as the
    /// policy for rows without a score says.
    pub unmapped: u64,
    /// Rows whose example has no score, kept or pruned as the policy says.
    pub unscored: u64,
    /// Rows that repeat the id of an earlier one.
    pub duplicates: u64,
    /// Rows whose id is not spelled by its digits alone (`007`, ` 8`, `+9`, `3.0`), and was read as
    /// that integer.
    pub respelled: u64,
    /// Bytes behind the end of gzip data, which are ignored as gunzip does.
    pub ignored_bytes: u64,
    /// Examples that the selection keeps and that are in no row.
    pub missing: u64,
    /// The rows that have a score, by the recorded class of their example, ascending.
    pub classes: Vec<ClassCounts>,
}

/// The rows of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// The class index.
    pub label: i32,
    /// Rows that were kept.
    pub kept: u64,
    /// Rows that were pruned.
    pub pruned: u64,
}

impl ManifestSummary {
    /// Rows that were pruned.
    #[must_use]
    pub fn pruned(&self) -> u64 {
        self.rows - self.kept
    }
}

impl fmt::Display for ManifestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.kept as f64 / (self.rows.max(1)) as f64;
        let (kept, rows, pruned) = (self.kept, self.rows, self.pruned());
        write!(f, "kept {kept} of {rows} rows ({share:.1} %), pruned {pruned}")?;
        if self.files > 0 {
            write!(f, " in {} files", self.files)?;
        }
        for (rows, what) in [
            (self.unmapped, "with a key that is not in the key map"),
            (self.unscored, "without a score"),
            (self.duplicates, "with an id that an earlier row has"),
            (
                self.respelled,
                "with an id that is spelled like 007, +8 or 9.0 and read as that integer",
            ),
        ] {
            if rows > 0 {
                write!(f, ", {rows} {what}")?;
            }
        }
        if self.ignored_bytes > 0 {
            write!(f, "; ignored {} bytes behind the gzip data", self.ignored_bytes)?;
        }
        if self.missing > 0 {
            write!(f, "; {} examples to keep are not in the manifest", self.missing)?;
        }
        Ok(())
    }
}
