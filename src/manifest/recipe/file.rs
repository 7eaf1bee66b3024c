//! Recipe files: JSON that people can read and write, with the origin of the scores.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ManifestOrigin, Outcome, Recipe, ScoresOrigin};
use crate::error::{Error, Result};
use crate::storage::AtomicFile;

/// The version of the file. A reader refuses a version that it does not know.
const SCHEMA_VERSION: u32 = 1;

/// A recipe file: the steps and, as far as they are known, the scores and the manifest that they
/// were applied to, and the outcome.
///
/// ```json
/// {
///   "schema_version": 1,
///   "data_diet": "0.1.0",
///   "steps": [
///     { "drop": { "lowest": { "fraction": 0.05 } }, "by": "aum" },
///     { "keep": { "highest": { "fraction": 0.5 } }, "by": "el2n", "classes": "balanced" }
///   ],
///   "scores": { "path": "scores.parquet", "bytes": 28144, "crc32c": "8f3a0c51" },
///   "manifest": { "path": "train.csv", "read_as": { "format": "csv", "key": "id" } }
/// }
/// ```
///
/// `schema_version` and `steps` are enough. Infinite numbers and numbers of 17 digits are strings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RecipeFile {
    schema_version: u32,
    /// The version of the crate that wrote the file, if one did.
    #[serde(rename = "data_diet", default, skip_serializing_if = "Option::is_none")]
    pub data_diet_version: Option<String>,
    /// The steps.
    #[serde(rename = "steps")]
    pub recipe: Recipe,
    /// The scores that they were applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoresOrigin>,
    /// The manifest that they were applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestOrigin>,
    /// The outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl RecipeFile {
    /// Makes a file with the steps only.
    #[must_use]
    pub fn new(recipe: Recipe) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            data_diet_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            recipe,
            scores: None,
            manifest: None,
            outcome: None,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be read;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not JSON, or a field does not have the form
    /// that its version requires; [`UnsupportedFormat`](crate::ErrorKind::UnsupportedFormat) for JSON without a schema
    /// version, or with one that this crate does not know;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for invalid steps, naming the step
    /// and the argument.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        /// Read first, so that a newer file is not taken for a damaged one.
        #[derive(Deserialize)]
        struct Version {
            schema_version: serde_json::Value,
        }
        let path = path.as_ref();
        let text = fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let json: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| Error::corrupt(path, "is not JSON").with_source(error))?;
        let version = Version::deserialize(&json).map_err(|_no_version| {
            Error::unsupported_format(path, "is not a recipe: it has no `schema_version`")
        })?;
        if version.schema_version != SCHEMA_VERSION {
            return Err(Error::unsupported_format(
                path,
                format!(
                    "has schema version {}, this crate knows {SCHEMA_VERSION}",
                    version.schema_version
                ),
            ));
        }
        // Parsed from the text once more, so that messages say where.
        let file: Self = serde_json::from_slice(&text)
            .map_err(|error| Error::corrupt(path, "is not a valid recipe").with_source(error))?;
        file.recipe.validate().map_err(|error| error.context(path.display()))?;
        Ok(file)
    }

    /// Writes the file, which appears when it is complete.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for invalid steps;
    /// [`Io`](crate::ErrorKind::Io) if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.recipe.validate()?;
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::invalid("recipe").with_source(error))?;
        text.push(b'\n');
        let mut file = AtomicFile::create(path)?;
        file.write_all(&text).map_err(|error| Error::io("write", path, error))?;
        file.commit()
    }
}
