//! A choice applied to a data set's manifest: rows whose example stays come through as they are, all
//! others do not.
//!
//! Streaming: what is held is the selection, one bit per selected example and some buffers, however long
//! the manifest is. Text formats copy the bytes of kept rows, so that quoting, line ends and columns
//! that nobody asked about stay what they were.
//!
//! ```text
//! ManifestInput -> (pipeline -> delimited | jsonl) | columnar (finds rows and their ids) -> output
//!                              Sieve (decides about each id, counts) -> ManifestSummary
//! ```
//!
//! A [`ManifestDirectory`] is that for each of its files, with one sieve for all.

mod added;
mod columnar;
mod compression;
mod delimited;
mod directory;
mod format;
mod input;
mod jsonl;
mod key_file;
mod key_map;
mod pipeline;
pub mod recipe;
mod sieve;
mod states;
mod summary;
#[cfg(test)]
mod tests;
mod whole_directory;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

pub use compression::ManifestCompression;
pub use directory::ManifestDirectory;
pub use format::ManifestFormat;
pub use input::ManifestInput;
pub use key_map::KeyMap;
pub use summary::{ClassCounts, ManifestSummary};

use crate::error::{Error, Result};
use crate::selection::{ScoreColumn, Selection};
use crate::storage::{AtomicFile, EarlySync};
use added::AddedScore;
use sieve::Sieve;

/// What to do with rows whose example the selection never saw, whose score is NaN, or whose key the key
/// map lacks.
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
/// use data_diet::{Amount, Rule};
/// use data_diet::manifest::{Manifest, ManifestFormat, ManifestInput};
/// use data_diet::selection::ScoreColumn;
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
/// Serialized without the contents of its key map, the added scores and the compression, which are files
/// and choices of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    #[serde(skip)]
    key_map: Option<Arc<KeyMap>>,
    #[serde(skip)]
    added: Vec<AddedScore>,
    #[serde(skip, default = "plain")]
    compression: Option<ManifestCompression>,
}

/// The columns that the files of a manifest have, as far as they are known.
#[derive(Debug, Default)]
struct Known {
    delimited: Option<delimited::Columns>,
    columnar: Option<SchemaRef>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::unnecessary_wraps, reason = "serde takes the whole field from it")]
fn plain() -> Option<ManifestCompression> {
    Some(ManifestCompression::Plain)
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
            key_map: None,
            added: Vec::new(),
            compression: plain(),
        }
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> ManifestFormat {
        self.format
    }

    /// The column (JSON Lines: the field) that holds a row's example id. A manifest of delimited text
    /// without a header names its columns 0, 1, 2 and so on.
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Ties the keys of the key column, which are texts, to example ids. A key is compared byte for byte
    /// (an integer by its decimal digits), one that the map lacks counts as a row without a score.
    pub fn key_map(mut self, map: impl Into<Arc<KeyMap>>) -> Self {
        self.key_map = Some(map.into());
        self
    }

    /// Adds a score to every kept row, as a further column of this name: nothing (CSV, TSV) or null where
    /// an example has none or NaN. Text takes the shortest digits that read back as the same number.
    pub fn with_score(
        mut self,
        name: impl Into<String>,
        scores: impl Into<Arc<ScoreColumn>>,
    ) -> Self {
        self.added.push(AddedScore { name: name.into(), scores: scores.into() });
        self
    }

    /// How [`filter`](Self::filter) compresses text: in a given way, or `None` as the manifest is.
    /// Default: plain. A file that [`filter_to_file`](Self::filter_to_file) writes is compressed as its
    /// name says.
    pub fn compression(mut self, compression: Option<ManifestCompression>) -> Self {
        self.compression = compression;
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
    /// Reading, deciding and writing have a thread each while this runs, and the columns of Parquet as
    /// many as there are processors.
    ///
    /// What has been written when an error is met is not a manifest: use
    /// [`filter_to_file`](Self::filter_to_file) where that matters.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such column, with those there are;
    /// [`Manifest`](crate::ErrorKind::Manifest), with the row, for an id that is missing, no integer,
    /// repeated or without a score (unless that is allowed), and for rows that do not parse;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is a column by the name of an added
    /// score; [`Corrupt`](crate::ErrorKind::Corrupt) for damaged Parquet and compression;
    /// [`Empty`](crate::ErrorKind::Empty) if no row is kept; [`Io`](crate::ErrorKind::Io) for what
    /// reading and writing meet; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for options that
    /// do not fit each other.
    pub fn filter(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        output: &mut (dyn Write + Send),
    ) -> Result<ManifestSummary> {
        self.check()?;
        let mut sieve = Sieve::new(selection, self, input.name());
        self.filter_one(input, output, &mut sieve, &mut Known::default())?;
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
        let mut output = BufWriter::with_capacity(1 << 18, EarlySync::new(file.file()));
        let manifest = self.clone().compression(Some(ManifestCompression::of_path(path)));
        let summary = manifest.filter(selection, input, &mut output)?;
        // The rows have flushed it.
        let (early, _) = output.into_parts();
        early.finish().map_err(|error| Error::io("write", file.path(), error))?;
        file.commit()?;
        Ok(summary)
    }

    /// Options that do not fit each other.
    fn check(&self) -> Result<()> {
        if self.key_map.is_some() && self.key.is_none() {
            return Err(Error::invalid("key map: expected a key column beside it, got none"));
        }
        if self.format == ManifestFormat::Parquet
            && let Some(compression @ (ManifestCompression::Gzip | ManifestCompression::Zstd)) =
                self.compression
        {
            return Err(Error::invalid(format!(
                "compression: Parquet compresses its columns itself, as the manifest's are; got \
                 {compression} around it"
            )));
        }
        for (place, score) in self.added.iter().enumerate() {
            if self.added[..place].iter().any(|earlier| earlier.name == score.name) {
                let name = &score.name;
                return Err(Error::invalid(format!("score: `{name}` is to be added twice")));
            }
        }
        Ok(())
    }

    /// Filters one file of a manifest.
    fn filter_one(
        &self,
        input: ManifestInput<'_>,
        output: &mut (dyn Write + Send),
        sieve: &mut Sieve<'_>,
        known: &mut Known,
    ) -> Result<()> {
        match self.format {
            ManifestFormat::Csv => {
                delimited::filter(self, b',', input, output, sieve, &mut known.delimited)?;
            }
            ManifestFormat::Tsv => {
                delimited::filter(self, b'\t', input, output, sieve, &mut known.delimited)?;
            }
            ManifestFormat::Jsonl => jsonl::filter(self, input, output, sieve)?,
            ManifestFormat::Parquet => {
                columnar::filter(self, input, output, sieve, &mut known.columnar)?;
            }
        }
        output.flush().map_err(write_failed)
    }
}

fn write_failed(error: std::io::Error) -> Error {
    Error::new(crate::error::ErrorKind::Io, "cannot write the kept rows").with_source(error)
}
