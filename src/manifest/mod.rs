//! Applies a selection to a data set's manifest: rows of kept examples are copied, all others are
//! dropped.
//!
//! Memory use does not depend on the length of the manifest: it is the selection itself, four bytes
//! for each example that it has considered, and some buffers. Text formats copy the bytes of kept
//! rows, so that quoting, line ends and unrelated columns stay as they were.
//!
//! ```text
//! ManifestInput -> (pipeline -> delimited | jsonl) | columnar (finds rows and their ids) -> output
//!                              RowFilter (decides about each id, counts) -> ManifestSummary
//! ```
//!
//! A [`ManifestDirectory`] is filtered file by file, with one row filter for all files.

mod added_scores;
mod columnar;
mod compression;
mod delimited;
mod directory;
mod example_states;
mod filter_directory;
mod format;
mod input;
mod jsonl;
mod key_map;
mod key_map_reader;
mod pipeline;
pub mod recipe;
mod row_filter;
mod summary;
#[cfg(test)]
mod tests;

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
use crate::storage::{AtomicFile, BackgroundSync};
use added_scores::AddedScore;
use row_filter::RowFilter;

/// What to do with rows whose example the selection has not considered, whose score is NaN, or
/// whose key is not in the key map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unscored {
    /// Fail, and say how many there are.
    #[default]
    Fail,
    /// Keep them.
    Keep,
    /// Prune them.
    Prune,
}

/// What to do if several rows have the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Fail, and say how many there are. Ids outside the selection are not compared.
    #[default]
    Fail,
    /// Treat each of them alike, as a manifest with several views of an example needs.
    Allow,
}

/// How to read a manifest: its format, where the example id of a row is, and what is tolerated.
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
/// Serialized without the contents of the key map, the added scores and the compression, which a
/// recipe stores separately.
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

/// The columns of a manifest's files, as far as they are known.
#[derive(Debug, Default)]
struct KnownColumns {
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
    /// A manifest of this format whose rows are the examples 0, 1, 2 and so on.
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

    /// Returns the format.
    #[must_use]
    pub fn format(&self) -> ManifestFormat {
        self.format
    }

    /// Sets the column (in JSON Lines, the field) with the example id of a row. The columns of
    /// delimited text without a header are named 0, 1, 2 and so on.
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Maps the keys in the key column, which are text, to example ids. Keys are compared byte for
    /// byte (an integer by its decimal digits). A row whose key is not in the map has no score.
    pub fn key_map(mut self, map: impl Into<Arc<KeyMap>>) -> Self {
        self.key_map = Some(map.into());
        self
    }

    /// Adds a score to every kept row as a further column of this name. Examples without a score,
    /// or with NaN, get an empty field (CSV, TSV) or null. Text has the shortest digits that parse
    /// as the same number.
    pub fn with_score(
        mut self,
        name: impl Into<String>,
        scores: impl Into<Arc<ScoreColumn>>,
    ) -> Self {
        self.added.push(AddedScore { name: name.into(), scores: scores.into() });
        self
    }

    /// Sets how [`filter`](Self::filter) compresses text; `None` means like the manifest. Default:
    /// plain. [`filter_to_file`](Self::filter_to_file) compresses a file as its name says.
    pub fn compression(mut self, compression: Option<ManifestCompression>) -> Self {
        self.compression = compression;
        self
    }

    /// Sets whether delimited text begins with a header. Default: `true`.
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// Sets whether `"` quotes fields of delimited text. Default: `true`. Some TSV files use it as
    /// an ordinary character.
    pub fn quotes(mut self, quotes: bool) -> Self {
        self.quotes = quotes;
        self
    }

    /// Sets what to do with rows that have no score. Default: [`Unscored::Fail`].
    pub fn unscored(mut self, policy: Unscored) -> Self {
        self.unscored = policy;
        self
    }

    /// Sets what to do with ids that occur twice. Default: [`Duplicates::Fail`].
    pub fn duplicates(mut self, policy: Duplicates) -> Self {
        self.duplicates = policy;
        self
    }

    /// Writes the kept rows in their order, and returns how many rows were kept and dropped. Write
    /// to [`std::io::sink`] to only count them.
    ///
    /// Reading, deciding and writing run on a thread each, and the columns of Parquet on as many
    /// threads as there are processors.
    ///
    /// If this fails, the output so far is not a valid manifest; use
    /// [`filter_to_file`](Self::filter_to_file) where that matters.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such column, listing the columns;
    /// [`Manifest`](crate::ErrorKind::Manifest), with the row, for an id that is missing, not an
    /// integer, repeated or without a score (unless that is allowed), and for rows that do not
    /// parse; [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if a column has the name of an
    /// added score; [`Corrupt`](crate::ErrorKind::Corrupt) for damaged Parquet or compression;
    /// [`Empty`](crate::ErrorKind::Empty) if no row is kept; [`Io`](crate::ErrorKind::Io) if
    /// reading or writing fails; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if options
    /// contradict each other.
    pub fn filter(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        output: &mut (dyn Write + Send),
    ) -> Result<ManifestSummary> {
        self.check()?;
        let mut row_filter = RowFilter::new(selection, self, input.name());
        self.filter_one(input, output, &mut row_filter, &mut KnownColumns::default())?;
        row_filter.finish()
    }

    /// Like [`filter`](Self::filter), but writes a file that appears only when it is complete. It
    /// may replace the manifest itself.
    ///
    /// # Errors
    ///
    /// As for [`filter`](Self::filter); an existing file is then untouched.
    pub fn filter_to_file(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        path: impl AsRef<Path>,
    ) -> Result<ManifestSummary> {
        let mut file = AtomicFile::create(path.as_ref())?;
        let mut output = BufWriter::with_capacity(1 << 18, BackgroundSync::new(file.file()));
        let manifest = self.clone().compression(Some(ManifestCompression::from_path(path)));
        let summary = manifest.filter(selection, input, &mut output)?;
        // The filter has flushed it.
        let (early, _) = output.into_parts();
        early.finish().map_err(|error| Error::io("write", file.path(), error))?;
        file.commit()?;
        Ok(summary)
    }

    /// Checks options that contradict each other.
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
        row_filter: &mut RowFilter<'_>,
        known: &mut KnownColumns,
    ) -> Result<()> {
        match self.format {
            ManifestFormat::Csv => {
                delimited::filter(self, b',', input, output, row_filter, &mut known.delimited)?;
            }
            ManifestFormat::Tsv => {
                delimited::filter(self, b'\t', input, output, row_filter, &mut known.delimited)?;
            }
            ManifestFormat::Jsonl => jsonl::filter(self, input, output, row_filter)?,
            ManifestFormat::Parquet => {
                columnar::filter(self, input, output, row_filter, &mut known.columnar)?;
            }
        }
        output.flush().map_err(write_failed)
    }
}

fn write_failed(error: std::io::Error) -> Error {
    Error::new(crate::error::ErrorKind::Io, "cannot write the kept rows").with_source(error)
}
