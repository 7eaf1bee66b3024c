//! The formats that a manifest can have.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::compression::ManifestCompression;
use crate::error::{Error, Result};

/// The format of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ManifestFormat {
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Tab-separated values.
    Tsv,
    /// One JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// A directory for each class with its images, as torchvision's `ImageFolder` reads them. Only
    /// as a [directory](crate::manifest::ManifestDirectory).
    ClassFolders,
    /// Tar files of samples, as the webdataset library reads them. Only as a
    /// [directory](crate::manifest::ManifestDirectory).
    #[serde(rename = "webdataset")]
    WebDataset,
}

impl ManifestFormat {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Csv, Self::Tsv, Self::Jsonl, Self::Parquet, Self::ClassFolders, Self::WebDataset];

    /// Returns the name: `csv`, `tsv`, `jsonl`, `parquet`, `class_folders` or `webdataset`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::ClassFolders => "class_folders",
            Self::WebDataset => "webdataset",
        }
    }

    /// Returns the format that a file name's extension means: `csv`, `tsv` or `tab`, `jsonl` or
    /// `ndjson`, `parquet` or `pq`, `tar`. A text format and `tar` may be followed by their
    /// compression, `gz` or `zst`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for any other extension.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let compressed = ManifestCompression::from_path(path) != ManifestCompression::Plain;
        let inner = if compressed { path.with_extension("") } else { path.to_owned() };
        let extension = inner.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "parquet" | "pq" if compressed => Err(Error::invalid(format!(
                "manifest: expected Parquet without compression around it, got {}",
                path.display()
            ))),
            "csv" => Ok(Self::Csv),
            "tsv" | "tab" => Ok(Self::Tsv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "parquet" | "pq" => Ok(Self::Parquet),
            "tar" | "tgz" => Ok(Self::WebDataset),
            _ => Err(Error::invalid(format!(
                "manifest: expected a name that ends in csv, tsv, jsonl, tar (.gz or .zst) or \
                 parquet, got {}; name the format",
                path.display()
            ))),
        }
    }
}

impl fmt::Display for ManifestFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ManifestFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("format: expected one of {names}, got `{name}`"))
        })
    }
}
