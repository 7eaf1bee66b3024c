//! What is wrong with a row, and where it is.

use std::fmt;

/// Where a row is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// In its file, from 0.
    pub(super) row: u64,
    /// In its file, from 1; in text files.
    pub(super) line: Option<u64>,
    /// The name of the file, if there are several.
    pub(super) file: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} (row {}, from 0)", self.row)?,
            None => write!(f, "row {} (from 0)", self.row)?,
        }
        match &self.file {
            Some(file) => write!(f, " of {file}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with the next row. Whoever knows its line makes an error of it, with
/// `RowFilter::refuse`.
#[derive(Debug)]
pub(in super::super) struct BadRow {
    pub(super) what: String,
    pub(super) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BadRow {
    pub(in super::super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    pub(in super::super) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}
