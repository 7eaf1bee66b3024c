//! What a recipe was applied to, and the outcome.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, ManifestSummary};
use crate::scores::ScoreInfo;
use crate::selection::Selection;

/// The file of scores that a recipe was applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScoresOrigin {
    /// Its path, as given.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The CRC-32C of its bytes, as eight hexadecimal digits. It detects a changed file, not a
    /// forged one.
    pub crc32c: String,
    /// Where its scores come from, if the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<ScoreInfo>,
}

impl ScoresOrigin {
    /// Reads a whole file of scores, once.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be read;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not Parquet.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (bytes, crc32c) = digest(path).map_err(|error| Error::io("read", path, error))?;
        let info = ScoreInfo::read(path)?;
        let path = path.display().to_string();
        Ok(Self { path, bytes, crc32c: format!("{crc32c:08x}"), info })
    }

    /// Returns whether the other file had the same content.
    #[must_use]
    pub fn has_content_of(&self, other: &Self) -> bool {
        (self.bytes, &self.crc32c) == (other.bytes, &other.crc32c)
    }
}

fn digest(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, crc)),
            Ok(read) => {
                crc = crc32c::crc32c_append(crc, &buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The manifest that a recipe was applied to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ManifestOrigin {
    /// Its path, as given; `None` for a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How it was read: format, key and policies.
    pub read_as: Manifest,
    /// Whether the path is a directory of images and their metadata.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_folder: bool,
    /// The key map, if its keys were text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_map: Option<KeyMapOrigin>,
    /// The scores that were added to kept rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with_scores: Vec<String>,
}

/// The table that maps a manifest's keys to example ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyMapOrigin {
    /// Its path, as given.
    pub path: String,
    /// Its column of keys.
    pub key: String,
    /// Its column of example ids.
    pub example: String,
}

impl ManifestOrigin {
    /// Describes a manifest that was read in this way, from this file or from a stream.
    #[must_use]
    pub fn new(path: Option<&Path>, read_as: Manifest) -> Self {
        Self {
            path: path.map(|path| path.display().to_string()),
            read_as,
            image_folder: false,
            key_map: None,
            with_scores: Vec::new(),
        }
    }
}

/// The outcome of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Outcome {
    /// Examples that the recipe considered.
    pub examples: u64,
    /// Examples among them that it keeps.
    pub examples_kept: u64,
    /// Examples among them that lack one of its scores.
    pub examples_without_score: u64,
    /// Rows of the manifest.
    pub rows: u64,
    /// Rows that were kept.
    pub rows_kept: u64,
    /// Rows that were pruned.
    pub rows_pruned: u64,
    /// Rows that have a score, by class.
    pub classes: Vec<ClassOutcome>,
}

/// The rows of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassOutcome {
    label: i32,
    kept: u64,
    pruned: u64,
}

impl Outcome {
    /// Describes what a selection did to a manifest.
    #[must_use]
    pub fn new(selection: &Selection, summary: &ManifestSummary) -> Self {
        let classes = summary.classes.iter().map(|class| ClassOutcome {
            label: class.label,
            kept: class.kept,
            pruned: class.pruned,
        });
        Self {
            examples: selection.considered() as u64,
            examples_kept: selection.len() as u64,
            examples_without_score: selection.without_score() as u64,
            rows: summary.rows,
            rows_kept: summary.kept,
            rows_pruned: summary.pruned(),
            classes: classes.collect(),
        }
    }
}
