//! A choice applied to a data set's manifest: rows whose example stays come through as they are, all
//! others do not.
//!
//! Streaming: what is held is the selection, one bit per selected example and a buffer, however long
//! the manifest is. Text formats copy the bytes of kept rows, so that quoting, line ends and columns
//! that nobody asked about stay what they were.
//!
//! ```text
//! ManifestInput -> delimited | jsonl | columnar (finds rows and their ids) -> output
//!                              Sieve (decides about each id, counts) -> ManifestSummary
//! ```

mod columnar;
mod delimited;
mod format;
mod input;
mod jsonl;
mod sieve;
mod summary;
#[cfg(test)]
mod tests;

use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use format::ManifestFormat;
pub use input::ManifestInput;
pub use summary::{ClassCounts, ManifestSummary};

use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::selection::Selection;
use sieve::Sieve;

/// What to do with rows whose example the selection never saw, or whose score is NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unscored {
    /// Refuse the manifest, and say how many there are.
    #[default]
    Fail,
    /// Keep them.
    Keep,
    /// Prune them.
    Prune,
}

/// What to do when several rows carry the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Refuse the manifest, and say how many there are. Ids that have no score are not compared.
    #[default]
    Fail,
    /// Decide about each of them alike, as a manifest with several views of an example needs.
    Allow,
}

/// How a manifest is read: its format, where a row's example id stands, and what is tolerated.
///
/// # Examples
///
/// ```
/// use data_diet::{Amount, Manifest, ManifestFormat, ManifestInput, Rule, ScoreColumn};
///
/// let el2n = ScoreColumn::new(vec![0, 1, 2], vec![7, 7, 3], vec![0.9, 0.1, 0.4])?;
/// let hard = el2n.select(Rule::Highest(Amount::Count(2)))?;
///
/// let csv = "id,file\n2,\"c, final.png\"\n1,b.png\n0,a.png\n";
/// let mut kept = Vec::new();
/// let summary = Manifest::new(ManifestFormat::Csv)
///     .key("id")
///     .filter(&hard, ManifestInput::stream(csv.as_bytes()), &mut kept)?;
/// assert_eq!(kept, b"id,file\n2,\"c, final.png\"\n0,a.png\n");
/// assert_eq!((summary.kept, summary.rows), (2, 3));
/// # Ok::<(), data_diet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "nothing is filtered before `filter` or `filter_to_file`"]
pub struct Manifest {
    format: ManifestFormat,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default = "yes")]
    header: bool,
    #[serde(default = "yes")]
    quotes: bool,
    #[serde(default)]
    unscored: Unscored,
    #[serde(default)]
    duplicates: Duplicates,
}

fn yes() -> bool {
    true
}

impl Manifest {
    /// A manifest of a format whose rows are the examples 0, 1, 2 and so on.
    pub fn new(format: ManifestFormat) -> Self {
        Self {
            format,
            key: None,
            header: true,
            quotes: true,
            unscored: Unscored::default(),
            duplicates: Duplicates::default(),
        }
    }

    /// The column (JSON Lines: the field) that holds a row's example id. A manifest of delimited text
    /// without a header names its columns 0, 1, 2 and so on.
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Whether delimited text begins with the names of its columns. Default: it does.
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// Whether `"` quotes fields of delimited text. Default: it does; some TSV files use it as an
    /// ordinary character.
    pub fn quotes(mut self, quotes: bool) -> Self {
        self.quotes = quotes;
        self
    }

    /// What to do with rows that have no score. Default: [`Unscored::Fail`].
    pub fn unscored(mut self, policy: Unscored) -> Self {
        self.unscored = policy;
        self
    }

    /// What to do with ids that occur twice. Default: [`Duplicates::Fail`].
    pub fn duplicates(mut self, policy: Duplicates) -> Self {
        self.duplicates = policy;
        self
    }

    /// Writes the kept rows, in their order, and tells what became of all of them. To learn only that,
    /// give [`std::io::sink`] as the output.
    ///
    /// What has been written when an error is met is not a manifest: use
    /// [`filter_to_file`](Self::filter_to_file) where that matters.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such column, with those there are;
    /// [`Manifest`](crate::ErrorKind::Manifest), with the row, for an id that is missing, no integer,
    /// repeated or without a score (unless that is allowed), and for rows that do not parse;
    /// [`Empty`](crate::ErrorKind::Empty) if no row is kept; [`Io`](crate::ErrorKind::Io) for what
    /// reading and writing meet.
    pub fn filter(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        output: &mut (dyn Write + Send),
    ) -> Result<ManifestSummary> {
        let mut sieve = Sieve::new(selection, self, input.name().to_owned());
        match self.format {
            ManifestFormat::Csv => delimited::filter(self, b',', input, output, &mut sieve)?,
            ManifestFormat::Tsv => delimited::filter(self, b'\t', input, output, &mut sieve)?,
            ManifestFormat::Jsonl => jsonl::filter(self, input, output, &mut sieve)?,
            ManifestFormat::Parquet => columnar::filter(self, input, output, &mut sieve)?,
        }
        output.flush().map_err(write_failed)?;
        sieve.finish()
    }

    /// Like [`filter`](Self::filter), into a file that appears only when it is complete; it may be the
    /// manifest itself.
    ///
    /// # Errors
    ///
    /// As for [`filter`](Self::filter); a file that was there before is untouched then.
    pub fn filter_to_file(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        path: impl AsRef<Path>,
    ) -> Result<ManifestSummary> {
        let mut file = AtomicFile::create(path.as_ref())?;
        let mut output = BufWriter::with_capacity(1 << 18, file.file());
        let summary = self.filter(selection, input, &mut output)?;
        drop(output);
        file.commit()?;
        Ok(summary)
    }
}

fn write_failed(error: std::io::Error) -> Error {
    Error::new(crate::ErrorKind::Io, "cannot write the kept rows").with_source(error)
}
