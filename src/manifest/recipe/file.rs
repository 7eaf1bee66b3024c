//! A recipe on disk: JSON that people can read and write, with where it came from.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ManifestOrigin, Outcome, Recipe, ScoresOrigin};
use crate::error::{Error, Result};
use crate::storage::AtomicFile;

/// The version of the file; a reader refuses one that it does not know.
const SCHEMA_VERSION: u32 = 1;

/// A recipe's file: the steps, and, as far as they are known, the scores and the manifest that they
/// were applied to and what came of it.
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
/// `schema_version` and `steps` are enough. Infinite numbers and such as need 17 digits are texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RecipeFile {
    schema_version: u32,
    /// The version of the crate that wrote it, if one did.
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
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl RecipeFile {
    /// A file that holds the steps alone.
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
    /// [`Io`](crate::ErrorKind::Io) if it cannot be read; [`Corrupt`](crate::ErrorKind::Corrupt) if it
    /// is not JSON, or something in it has not the form that its version asks for;
    /// [`Foreign`](crate::ErrorKind::Foreign) for JSON without a schema version, or of one that this
    /// crate does not know; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for steps that make
    /// no sense, with the step and the argument.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        /// Read first, so that a newer file is told apart from a damaged one.
        #[derive(Deserialize)]
        struct Version {
            schema_version: serde_json::Value,
        }
        let path = path.as_ref();
        let text = fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let json: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| Error::corrupt(path, "is not JSON").with_source(error))?;
        let version = Version::deserialize(&json).map_err(|_no_version| {
            Error::foreign(path, "is not a recipe: it has no `schema_version`")
        })?;
        if version.schema_version != SCHEMA_VERSION {
            return Err(Error::foreign(
                path,
                format!(
                    "has schema version {}, this crate knows {SCHEMA_VERSION}",
                    version.schema_version
                ),
            ));
        }
        // From the text once more: messages then say where in it.
        let file: Self = serde_json::from_slice(&text)
            .map_err(|error| Error::corrupt(path, "is not a sound recipe").with_source(error))?;
        file.recipe.validate().map_err(|error| error.context(path.display()))?;
        Ok(file)
    }

    /// Writes the file, which appears when it is complete.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for steps that make no sense;
    /// [`Io`](crate::ErrorKind::Io) if it cannot be written.
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
