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
//! A [`ManifestDirectory`] is filtered file by file, with one row filter for all files; images and
//! tar shards are filtered by modules of their own. [`IdList`] writes a selection without any
//! manifest.

mod added_scores;
mod columnar;
mod compression;
mod delimited;
mod directory;
mod example_states;
mod filter_directory;
mod format;
mod id_list;
mod images;
mod input;
mod jsonl;
mod key_map;
mod key_map_reader;
mod key_text;
mod lines;
mod pipeline;
pub mod recipe;
mod row_filter;
mod summary;
#[cfg(test)]
mod tests;
mod webdataset;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use compression::ManifestCompression;
pub use directory::ManifestDirectory;
pub use format::ManifestFormat;
pub use id_list::{IdFormat, IdList};
pub use images::ImageFiles;
pub use input::ManifestInput;
pub use key_map::KeyMap;
pub use summary::{ClassCounts, ManifestSummary};

use crate::error::{Error, ErrorKind, Result};
use crate::selection::{ScoreColumn, Selection};
use crate::storage::{AtomicFile, BackgroundSync};
use added_scores::AddedScore;
use pipeline::TextOptions;
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
    /// `None` means as the format has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quotes: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delimiter: Option<char>,
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
    #[serde(skip, default = "default_memory")]
    memory: u64,
    #[serde(skip)]
    overwrite: bool,
    #[serde(skip)]
    rejected: bool,
    #[serde(skip)]
    images: ImageFiles,
}

fn default_memory() -> u64 {
    compression::DEFAULT_MEMORY
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
            quotes: None,
            delimiter: None,
            unscored: Unscored::default(),
            duplicates: Duplicates::default(),
            key_map: None,
            added: Vec::new(),
            compression: plain(),
            memory: default_memory(),
            overwrite: false,
            rejected: false,
            images: ImageFiles::default(),
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

    /// Sets whether `"` quotes fields of delimited text. Default: yes in CSV, and no in TSV, where it
    /// is an ordinary character.
    pub fn quotes(mut self, quotes: bool) -> Self {
        self.quotes = Some(quotes);
        self
    }

    /// Sets what separates the columns of delimited text: an ASCII character. Default: a comma in
    /// CSV, a tab in TSV.
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.delimiter = Some(delimiter);
        self
    }

    /// Sets how much memory a decoder of compressed text may take, in bytes. Zstandard needs that
    /// of the window that the file was compressed with, which can be 2 GiB (`zstd --long=31`).
    /// Default: 1 GiB.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets whether [`filter_to_file`](Self::filter_to_file) replaces a file that exists. Default:
    /// `false`. The manifest itself is never replaced.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Sets whether the rows that are not kept are written in place of those that are. Default:
    /// `false`. The summary is the same.
    pub fn rejected(mut self, rejected: bool) -> Self {
        self.rejected = rejected;
        self
    }

    /// Sets how the kept images of an [image folder](Self::filter_directory) get into the output.
    /// Default: [`ImageFiles::Link`].
    pub fn images(mut self, images: ImageFiles) -> Self {
        self.images = images;
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
        self.filter_one(input, output, &mut row_filter)?;
        row_filter.finish()
    }

    /// Like [`filter`](Self::filter), but writes a file that appears only when it is complete.
    ///
    /// # Errors
    ///
    /// As for [`filter`](Self::filter); also [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if
    /// the file exists and is not to be [overwritten](Self::overwrite), and
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is the manifest. An existing
    /// file is then untouched.
    pub fn filter_to_file(
        &self,
        selection: &Selection,
        input: ManifestInput<'_>,
        path: impl AsRef<Path>,
    ) -> Result<ManifestSummary> {
        let path = path.as_ref();
        self.check_output(&input, path)?;
        let mut file = AtomicFile::create(path)?;
        let mut output = BufWriter::with_capacity(1 << 18, BackgroundSync::new(file.file()));
        let manifest = self.clone().compression(Some(ManifestCompression::from_path(path)));
        let summary = manifest.filter(selection, input, &mut output)?;
        // The filter has flushed it.
        let (early, _) = output.into_parts();
        early.finish().map_err(|error| Error::io("write", file.path(), error))?;
        if self.overwrite {
            file.commit()?;
        } else {
            file.commit_new()?;
        }
        Ok(summary)
    }

    fn check_output(&self, input: &ManifestInput<'_>, path: &Path) -> Result<()> {
        let shown = path.display();
        if input.is_file_at(path) {
            return Err(Error::invalid(format!(
                "output: expected another file than the manifest {}, got {shown}",
                input.name()
            )));
        }
        if path.exists() && !self.overwrite {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("output: {shown} exists; set `overwrite` to replace it"),
            ));
        }
        Ok(())
    }

    fn has_quotes(&self) -> bool {
        self.quotes.unwrap_or(self.format == ManifestFormat::Csv)
    }

    fn delimiter_byte(&self) -> u8 {
        let usual = if self.format == ManifestFormat::Tsv { '\t' } else { ',' };
        // `check` has seen that it is ASCII.
        self.delimiter.unwrap_or(usual) as u8
    }

    fn text_options(&self) -> TextOptions {
        TextOptions { compression: self.compression, memory: self.memory }
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
        if matches!(self.format, ManifestFormat::ClassFolders | ManifestFormat::WebDataset)
            && let Some(score) = self.added.first()
        {
            return Err(Error::invalid(format!(
                "score: expected none to add to {}, which has no columns, got `{}`",
                self.format, score.name
            )));
        }
        if let Some(delimiter) = self.delimiter
            && (!delimiter.is_ascii() || "\"\r\n".contains(delimiter))
        {
            return Err(Error::invalid(format!(
                "delimiter: expected an ASCII character, no quote and no line break, got \
                 {delimiter:?}"
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

    /// Filters one file of a manifest, and returns the names of its columns, if a format has them.
    fn filter_one(
        &self,
        input: ManifestInput<'_>,
        output: &mut (dyn Write + Send),
        row_filter: &mut RowFilter<'_>,
    ) -> Result<Option<Vec<String>>> {
        let columns = match self.format {
            ManifestFormat::Csv | ManifestFormat::Tsv => {
                Some(delimited::filter(self, input, output, row_filter)?)
            }
            ManifestFormat::Jsonl => {
                jsonl::filter(self, input, output, row_filter)?;
                None
            }
            ManifestFormat::Parquet => Some(columnar::filter(self, input, output, row_filter)?),
            ManifestFormat::ClassFolders | ManifestFormat::WebDataset => {
                return Err(Error::invalid(format!(
                    "manifest: expected a directory of the format {}, got one file or stream",
                    self.format
                )));
            }
        };
        output.flush().map_err(write_failed)?;
        Ok(columns)
    }
}

fn write_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the kept rows").with_source(error)
}
